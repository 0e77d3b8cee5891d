-- Tells a worker when to claim next.

--#include host_queues/promotion

-- ms until a job that waited can be claimed, if this call has changed that; -1 if it has not.
local function claim_in_ms()
  if promotion.count > 0 then
    return 0
  end
  return promotion.next_at and math.max(0, math.ceil(promotion.next_at - clock.now_ms)) or -1
end
