-- Tells a worker when to claim next.

--#include host_queues/promotion

-- ms until a job that waited can be claimed, if this call changed that; else -1.
local function claim_in_ms()
  if promotion.count > 0 then
    return 0
  end
  return promotion.next_at and math.max(0, math.ceil(promotion.next_at - clock.now_ms)) or -1
end
