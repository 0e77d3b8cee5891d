-- Reads dead letters, as many as fit in one reply.
--
-- KEYS[1]  dead: sorted set of the ids of dead letters by the ms at which they ended
-- ARGV[1]  prefix of the dead letters      ARGV[2]  how many bytes of letters after which no more are read
-- ARGV[3...]  ids
--
-- Returns two for each id that was come to: when it ended, and the letter; nil for what is not there, or no string.
--
-- Atomic, so that each letter comes with its own time; and since letters can be large, in a script, which sees their size.

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
