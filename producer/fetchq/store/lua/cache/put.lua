-- Puts a value on the shelf, and takes others off it until all fit into its bytes.
--
-- KEYS  1 the value's own key
--       2 index: sorted set of the keys on the shelf, by the ms at which each ends
--       3 sizes: hash of their bytes; the field '' holds the sum
-- ARGV  1 the value
--       2 its time to live, ms
--       3 how many bytes the whole shelf may hold
-- Returns 1; 0 if there was no room and nothing was put.
--
-- Atomic, as the sum must agree with what is there: workers that counted for themselves would all overshoot.
-- Keys on the shelf share a namespace, and with it a cluster's slot.

local MOST = 200 -- taken off in one call, so that no call is long

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local size = #ARGV[1]
local limit = tonumber(ARGV[3])
if size > limit then
  return 0 -- it would empty the shelf and still find no room
end
local sum = tonumber(redis.call('HGET', KEYS[3], '') or '0')

local function take_off(key)
  sum = sum - tonumber(redis.call('HGET', KEYS[3], key) or '0')
  redis.call('HDEL', KEYS[3], key)
  redis.call('ZREM', KEYS[2], key)
  redis.call('DEL', key)
end

take_off(KEYS[1])
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, MOST)
for _, key in ipairs(ended) do
  take_off(key)
end
if sum + size > limit then
  local first = redis.call('ZRANGE', KEYS[2], 0, MOST - 1) -- those that would end soonest
  for _, key in ipairs(first) do
    if sum + size <= limit then
      break
    end
    take_off(key)
  end
end

local room = sum + size <= limit
if room then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
  redis.call('HSET', KEYS[3], KEYS[1], size)
  sum = sum + size
end
redis.call('HSET', KEYS[3], '', sum)
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
local left = last[2] and math.ceil(tonumber(last[2])) - now or 0
if left > 0 then
  redis.call('PEXPIRE', KEYS[2], left)
  redis.call('PEXPIRE', KEYS[3], left)
else
  redis.call('DEL', KEYS[2], KEYS[3])
end
return room and 1 or 0
