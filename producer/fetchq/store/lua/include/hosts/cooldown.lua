-- Starts cooldowns: until its cooldown ends, no job of a limit key starts.

--#include hosts/hosts

local MAX_THROTTLES = 32 -- the count stops here, so that the time stays finite
local MAX_MS = 86400000

-- Starts a cooldown of `for_ms`, which the server asked for; without it of `first_ms`, doubled with each further
-- cooldown until a success. Never longer than `max_ms`.
local function start_cooldown(key, record, for_ms, first_ms, max_ms)
  if record.cooldown_until <= clock.now_ms then -- failures of jobs that started before the cooldown do not count again
    record.consecutive_throttles = math.min(record.consecutive_throttles + 1, MAX_THROTTLES)
  end
  if not for_ms then
    local jitter = 0.8 + 0.4 * (clock.now_us % 1000) / 1000
    for_ms = first_ms * 2 ^ (record.consecutive_throttles - 1) * jitter
  end
  for_ms = math.min(for_ms, max_ms or MAX_MS)
  record.cooldown_until = math.max(record.cooldown_until, math.floor(clock.now_ms + for_ms))
  redis.call('ZADD', keys.cooldowns, string.format('%.0f', record.cooldown_until), key)
end
