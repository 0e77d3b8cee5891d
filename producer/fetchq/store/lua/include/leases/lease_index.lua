-- The index of leases by their end. All leases that one call granted share one entry.
--
-- Sorted set. Member: the head that their records share (lease_record.lua). Score: the lease end in ms, plus the number
-- of these leases in 1024ths after the point. A double holds both exactly until the year 2248. One score, since two
-- keys could disagree.

--#include leases/lease_record

local lease_index = {MAX_LEASES = 1000, FRACTION = 1024, removed = {}}

-- Called before the first write: a key of another type fails the call while nothing has changed.
function lease_index.open(key)
  lease_index.key = key
  redis.call('ZCARD', key)
end

-- Subtracts one lease from the entry of this head (nil: no entry). `lease_index.save` writes it.
function lease_index.remove(head)
  if head then
    lease_index.removed[head] = (lease_index.removed[head] or 0) + 1
  end
end

function lease_index.save()
  for head, count in pairs(lease_index.removed) do
    local share = string.format('-%.10f', count / lease_index.FRACTION)
    local score = redis.call('ZADD', lease_index.key, 'XX', 'INCR', share, head)
    if score and (tonumber(score) or 0) <= tonumber(string.match(head, '|(%d+)|$')) then
      redis.call('ZREM', lease_index.key, head)
    end
  end
end
