-- Deletes dead letters.
--
-- KEYS[1]  dead: sorted set of the ids of dead letters by the ms of their end
-- ARGV[1]  prefix of the dead letters
-- ARGV[2...]  two a dead letter: id, ms of its end ('' for any)
--
-- Returns for each whether it was there: 1 or 0.
--
-- Atomic: a dead letter and its entry in the set are deleted together, and a newer one under the same id stays.

local outcomes = {}
for i = 2, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local is_there = score and (ARGV[i + 1] == '' or tonumber(score) == tonumber(ARGV[i + 1]))
  if is_there then
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('DEL', ARGV[1] .. ARGV[i])
  end
  outcomes[#outcomes + 1] = is_there and 1 or 0
end
return outcomes
