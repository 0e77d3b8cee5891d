#!lua flags=allow-oom
-- Puts a wake token back: the worker that popped it has no free slot.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  wake: list of tokens (wake.lua)
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
--
-- Returns 1 if a token was put back.
--
-- Atomic: no token is put back for a job that another worker has claimed since. `allow-oom`: a full Redis must wake the
-- workers that drain it.

--#include redis/clock
--#include redis/wake

clock.read(ARGV[1])
wake.open(KEYS[2])
if wake.tokens > 0 or #redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', clock.now_ms, 'LIMIT', 0, 1) == 0 then
  return 0
end
wake.workers(1)
return 1
