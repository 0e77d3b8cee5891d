-- The range of scores that ready jobs of a lane have, as the arguments of ZRANGEBYSCORE.

--#include queue/scores

local function ready_range(lane, now_ms)
  if lane == 'h' then
    return '-inf', string.format('%.0f', scores.HIGH_BELOW)
  elseif lane == 'l' then
    return string.format('(%.0f', scores.HIGH_BELOW), string.format('%.0f', scores.LOW_BELOW)
  end
  return string.format('(%.0f', scores.LOW_BELOW), string.format('%.0f', now_ms)
end
