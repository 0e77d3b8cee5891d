-- Puts a value into the shared cache, and evicts others until all fit into its limit in bytes.
--
-- KEYS  1 the value's own key
--       2 index: sorted set of the keys in the cache, by the ms at which each expires
--       3 sizes: hash of their bytes; the field '' holds the sum
-- ARGV  1 the value
--       2 its TTL in ms
--       3 maximum bytes of the whole cache
--
-- Returns 1 if the value was stored; 0 if there was no space for it.
--
-- Atomic: the sum must match the stored values, and workers must not exceed the maximum together. All keys of the cache
-- share a namespace, and with it a slot of a cluster.

--#include redis/clock

local MAX_EVICTED = 200 -- in one call, so that no call takes long

local index, sizes, max_bytes = KEYS[2], KEYS[3], tonumber(ARGV[3])

clock.read('')
local size = #ARGV[1]
if size > max_bytes then
  return 0 -- it would empty the cache and still not fit
end
local sum = tonumber(redis.call('HGET', sizes, '') or '0')

local function evict(key)
  sum = sum - tonumber(redis.call('HGET', sizes, key) or '0')
  redis.call('HDEL', sizes, key)
  redis.call('ZREM', index, key)
  redis.call('DEL', key)
end

evict(KEYS[1])
local expired = redis.call('ZRANGEBYSCORE', index, '-inf', clock.now_ms, 'LIMIT', 0, MAX_EVICTED)
for _, key in ipairs(expired) do
  evict(key)
end
if sum + size > max_bytes then
  local next_to_expire = redis.call('ZRANGE', index, 0, MAX_EVICTED - 1)
  for _, key in ipairs(next_to_expire) do
    if sum + size <= max_bytes then
      break
    end
    evict(key)
  end
end

local fits = sum + size <= max_bytes
if fits then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('ZADD', index, clock.now_ms + ARGV[2], KEYS[1])
  redis.call('HSET', sizes, KEYS[1], size)
  sum = sum + size
end
redis.call('HSET', sizes, '', sum)
local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
local ttl_ms = last[2] and math.ceil(tonumber(last[2])) - clock.now_ms or 0
if ttl_ms > 0 then
  redis.call('PEXPIRE', index, ttl_ms)
  redis.call('PEXPIRE', sizes, ttl_ms)
else
  redis.call('DEL', index, sizes)
end
return fits and 1 or 0
