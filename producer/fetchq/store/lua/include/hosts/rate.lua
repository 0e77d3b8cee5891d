-- The rate of a limit key, by GCRA (ITU-T I.371): one number a key, `tat` in its record, and no window to clean up.

local SLOWDOWN = 1.03 -- starts are slower than the limit by this factor: network delays must not turn them into a burst
local CATCH_UP_US = 20000 -- by how much a late start may bring the next one forward

-- Returns us between two starts (0: no rate), how many may start at once, and by how many us a late start may bring the
-- next one forward.
local function rate_of(record, key_limits)
  local rate_us, delay_us = key_limits.r or 0, math.max(key_limits.d or 0, record.delay) * 1000
  if delay_us >= rate_us then
    return delay_us, 1, 0
  end
  local burst = math.max(key_limits.b or 1, 1)
  if burst > 1 then
    return rate_us, burst, 0
  end
  rate_us = rate_us * SLOWDOWN
  return rate_us, 1, math.min(rate_us / 2, CATCH_UP_US)
end
