-- The ready job that has been due longest.

--#include redis/clock
--#include redis/keys
--#include queue/ready_range

local ABORTED = 1 -- the score that a stock client's abort gives to a job that is not due: its due time is not known

-- The ms at which it was due; nil if there is none, or none whose due time is known.
local function oldest_ready()
  local oldest
  for _, lane in ipairs({'', 'h', 'l'}) do
    local _, to = ready_range(lane, clock.now_ms)
    local from = '(' .. scores.ready(lane, ABORTED) -- below are scores that fetchq does not write, such as -inf
    local head = redis.call('ZRANGEBYSCORE', keys.pending, from, to, 'WITHSCORES', 'LIMIT', 0, 1)
    if head[2] then
      local _, due = scores.read(tonumber(head[2]))
      oldest = math.min(oldest or due, due)
    end
  end
  return oldest
end
