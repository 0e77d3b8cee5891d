-- Reads dead letters, as many as fit in one reply.
--
-- KEYS[1]  dead: sorted set of the ids of dead letters by the ms of their end
-- ARGV[1]  prefix of the dead letters      ARGV[2]  number of bytes after which no further dead letter is read
-- ARGV[3...]  ids
--
-- Returns two values for each id that was reached: the ms of its end, and the dead letter; nil for what is missing or
-- no string.
--
-- Atomic: each dead letter comes with its own time. A script, since dead letters can be large and only it sees their
-- sizes.

local found, bytes = {}, 0
for i = 3, #ARGV do
  if bytes >= tonumber(ARGV[2]) then
    break
  end
  local letter = redis.pcall('GET', ARGV[1] .. ARGV[i])
  letter = type(letter) == 'string' and letter
  found[#found + 1] = redis.call('ZSCORE', KEYS[1], ARGV[i])
  found[#found + 1] = letter
  bytes = bytes + (letter and #letter or 0)
end
return found
