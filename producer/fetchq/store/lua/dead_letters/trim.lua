#!lua flags=allow-oom
-- Forgets the dead letters that are too old, and the oldest of those that are too many.
--
-- KEYS[1]  dead: sorted set of the ids of dead letters by the ms at which they ended
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock      ARGV[2]  prefix of the dead letters
-- ARGV[3]  how long one is kept, in ms      ARGV[4]  how many are, at most
-- ARGV[5]  how many are forgotten in one call, at most: others wait for Redis meanwhile
--
-- Returns how many were forgotten. Atomic, since a letter and its place among the others go together. A letter's own TTL
-- ends it too, but not its place.

local dead, letter_key, most = KEYS[1], ARGV[2], tonumber(ARGV[5])

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local over = redis.call('ZCARD', dead) - tonumber(ARGV[4])
local aged = redis.call('ZCOUNT', dead, '-inf', string.format('%.0f', now - tonumber(ARGV[3])))
local count = math.min(most, math.max(over, aged))
if count <= 0 then
  return 0
end
local oldest = redis.call('ZRANGE', dead, 0, count - 1)
redis.call('ZREM', dead, unpack(oldest))
for i = 1, #oldest do
  redis.call('DEL', letter_key .. oldest[i])
end
return #oldest
