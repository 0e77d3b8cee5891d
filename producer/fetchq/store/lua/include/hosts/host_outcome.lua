-- Records in the record of a limit key how one of its jobs ended.

--#include hosts/cooldown

local TRIP_AFTER = 5 -- failed connections in a row that open the circuit: a cooldown
local BREAKER_BASE_MS = 10000
local BREAKER_MAX_MS = 60000
local MAX_DELAY_MS = 3600000

-- `host_outcome` is a sign ('+' healthy, '-' connection failed, '=' neither), a text to display, and, if the host's
-- robots.txt was read, ' d=' and its crawl delay in ms. Returns whether the failure opened the circuit.
local function record_outcome(key, host_outcome)
  local record, sign = host_record.get(key), string.sub(host_outcome, 1, 1)
  local word, delay = string.match(host_outcome, '^.(.-) d=(%d+)$')
  record.last = word or string.sub(host_outcome, 2)
  if delay then
    record.delay = math.min(tonumber(delay), MAX_DELAY_MS)
  end
  if sign == '+' and record.cooldown_until <= clock.now_ms then
    record.consecutive_throttles, record.consecutive_failures = 0, 0
  elseif sign == '-' then
    record.consecutive_failures = record.consecutive_failures + 1
    if record.consecutive_failures >= TRIP_AFTER or record.consecutive_throttles > 0 then
      local doubles = record.consecutive_failures < admission.UNREACHABLE_AFTER
      local is_open = record.cooldown_until > clock.now_ms
      start_cooldown(key, record, not doubles and BREAKER_BASE_MS or nil, BREAKER_BASE_MS, BREAKER_MAX_MS)
      return not is_open
    end
  end
end
