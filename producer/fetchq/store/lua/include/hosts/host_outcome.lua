-- Records what a job's end says of its limit key.

--#include hosts/cooldown

local TRIP_AFTER = 5 -- failed connections in a row that open the circuit: a cooldown
local BREAKER_BASE_MS = 10000
local BREAKER_MAX_MS = 60000
local MAX_DELAY_MS = 3600000

-- `note` is a sign: '+' healthy, '-' a connection failed, '=' neither; a word for people; and, if the host's robots.txt
-- was read, ' d=' and its crawl delay in ms.
local function record_outcome(key, note)
  local record, sign = host_record.get(key), string.sub(note, 1, 1)
  local word, delay = string.match(note, '^.(.-) d=(%d+)$')
  record.last = word or string.sub(note, 2)
  if delay then
    record.delay = math.min(tonumber(delay), MAX_DELAY_MS)
  end
  if sign == '+' and record.cooldown_until <= clock.now_ms then
    record.consecutive_throttles, record.consecutive_failures = 0, 0
  elseif sign == '-' then
    record.consecutive_failures = record.consecutive_failures + 1
    if record.consecutive_failures >= TRIP_AFTER or record.consecutive_throttles > 0 then
      local doubles = record.consecutive_failures < admission.UNREACHABLE_AFTER
      start_cooldown(key, record, not doubles and BREAKER_BASE_MS or nil, BREAKER_BASE_MS, BREAKER_MAX_MS)
    end
  end
end
