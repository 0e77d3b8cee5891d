-- How many jobs of a limit key its limits permit to start.

--#include redis/clock
--#include hosts/limits
--#include hosts/rate

local admission = {
  RECHECK_MS = 1000, -- how often ready jobs are checked: a stock worker claims them without updating the record
  UNREACHABLE_AFTER = 20, -- failed connections in a row after which jobs run within their limits, and fail
}

-- Returns the free slots of a key with this many ready jobs (0 to admit one of them). Without a free slot it also
-- returns the ms at which to check again (nil: when a run ends), and whether that only verifies the count of ready
-- jobs.
function admission.free_slots(key, record, ready)
  local key_limits = limits.of(key)
  if key_limits.p == 1 then
    return 0
  end
  if record.cooldown_until > clock.now_ms then
    return 0, record.cooldown_until
  end
  local concurrency = key_limits.c
  if record.consecutive_throttles > 0 and record.consecutive_failures < admission.UNREACHABLE_AFTER then
    concurrency = math.min(concurrency, 1) -- the circuit is half open: one job probes the host
  end
  local free = concurrency - record.running - ready
  if free <= 0 then
    return 0, ready > 0 and clock.now_ms + admission.RECHECK_MS or nil, true
  end
  local interval_us, burst = rate_of(record, key_limits)
  if interval_us > 0 then
    -- No later than a start now would set it: the rate may have been slower when `tat` was set.
    record.tat = math.min(record.tat, math.floor(clock.now_us + burst * interval_us))
    local starts_at = record.tat - (burst - 1) * interval_us
    if starts_at > clock.now_us then
      return 0, math.ceil(starts_at / 1000)
    end
    local permitted = math.min(burst, math.floor((clock.now_us - starts_at) / interval_us) + 1) - ready
    if permitted <= 0 then
      return 0, clock.now_ms + admission.RECHECK_MS, true
    end
    free = math.min(free, permitted)
  end
  return free
end
