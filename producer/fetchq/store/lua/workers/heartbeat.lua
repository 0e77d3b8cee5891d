#!lua flags=allow-oom
-- Says that a worker is alive, and forgets those that have not said so for long.
--
-- KEYS[1]  workers: sorted set of worker ids by their last heartbeat in ms      KEYS[2]  this worker's record: string
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  the worker's id       ARGV[3]  its record, a JSON object
-- ARGV[4]  how long a heartbeat is good for, in ms
--
-- Returns nothing. Atomic, so that set and record agree; the time is Redis's own, so that readers may compare.

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - tonumber(ARGV[4])))
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
