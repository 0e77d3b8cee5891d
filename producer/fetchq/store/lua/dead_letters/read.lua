-- Reads dead letters, as many as fit in one reply.
--
-- KEYS[1]  dead: sorted set of the ids of dead letters by the ms of their end
-- ARGV[1]  prefix of the dead letters      ARGV[2]  number of bytes after which no further dead letter is read
-- ARGV[3...]  ids
--
-- Returns two values for each id that was reached: the ms of its end, and the dead letter; nil for a missing one, or a
-- key that is not a string.
--
-- Atomic: a dead letter and its time belong together. A script, since dead letters can be large and a client cannot
-- know their sizes before.

local found, bytes = {}, 0
for i = 3, #ARGV do
  if bytes >= tonumber(ARGV[2]) then
    break
  end
  local data = redis.pcall('GET', ARGV[1] .. ARGV[i])
  data = type(data) == 'string' and data
  found[#found + 1] = redis.call('ZSCORE', KEYS[1], ARGV[i])
  found[#found + 1] = data
  bytes = bytes + (data and #data or 0)
end
return found
