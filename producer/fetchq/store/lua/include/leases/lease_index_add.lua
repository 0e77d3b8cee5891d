-- Adds leases to the index of leases.

--#include leases/lease_index

-- Adds `count` leases whose records begin with `head`.
local function add_to_lease_index(head, lease_end, count)
  local share = string.format('%.10f', count / lease_index.FRACTION)
  if not redis.call('ZADD', lease_index.key, 'XX', 'INCR', share, head) then
    redis.call('ZADD', lease_index.key, lease_end .. string.sub(share, 2), head)
  end
end
