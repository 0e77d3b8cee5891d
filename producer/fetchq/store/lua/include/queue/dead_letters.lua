-- The sorted set of dead letters: job id -> ms at which the job ended. Each dead letter is a string under a prefix and
-- the id.

-- Removes the `count` oldest dead letters. Returns how many there were.
local function remove_oldest_dead_letters(set, prefix, count)
  local oldest = redis.call('ZRANGE', set, 0, count - 1)
  redis.call('ZREM', set, unpack(oldest))
  for i = 1, #oldest do
    redis.call('DEL', prefix .. oldest[i])
  end
  return #oldest
end
