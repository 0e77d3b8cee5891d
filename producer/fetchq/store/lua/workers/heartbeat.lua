#!lua flags=allow-oom
-- Records that a worker is alive, and removes workers without a recent heartbeat.
--
-- KEYS[1]  workers: sorted set of worker ids by the ms of their last heartbeat
-- KEYS[2]  this worker's record: string
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  the worker's id       ARGV[3]  its record, a JSON object
-- ARGV[4]  ms for which a heartbeat counts
--
-- Returns nothing.
--
-- Atomic: the set and the record must agree. The time is Redis's own, so that readers can compare. `allow-oom`: workers
-- stay visible in a full Redis.

--#include redis/clock

clock.read(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', clock.now_ms - tonumber(ARGV[4])))
redis.call('ZADD', KEYS[1], string.format('%.0f', clock.now_ms), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
