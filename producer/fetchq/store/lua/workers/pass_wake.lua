#!lua flags=allow-oom
-- Passes a wake token on: its taker has no slot free for the job that it announced.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  wake: list of tokens
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
--
-- Returns 1 if a token was put back. Atomic, so that no token is put back for a job that somebody has taken since.

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
if #redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1) == 0 or redis.call('LLEN', KEYS[2]) > 0 then
  return 0
end
redis.call('RPUSH', KEYS[2], '1')
return 1
