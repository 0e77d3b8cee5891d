-- Throws dead letters away.
--
-- KEYS[1]  dead: sorted set of the ids of dead letters by the ms at which they ended
-- ARGV[1]  prefix of the dead letters
-- ARGV[2...]  two a letter: id, when it ended in ms ('' whenever)
--
-- Returns for each whether it was there: 1 or 0. Atomic, since a letter and its place among the others go together, and
-- since one that has come anew under the same id is not the one that was meant.

local outcomes = {}
for i = 2, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local there = 0
  if score and (ARGV[i + 1] == '' or tonumber(score) == tonumber(ARGV[i + 1])) then
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('DEL', ARGV[1] .. ARGV[i])
    there = 1
  end
  outcomes[#outcomes + 1] = there
end
return outcomes
