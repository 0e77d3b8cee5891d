-- Reads a whole lease record.

--#include leases/lease_record

-- Returns token, lease end, original score and payload expiry as strings; nothing for a record that no worker wrote, so
-- that it cannot fail a claim of other jobs.
function lease_record.parse(record)
  local lease_end, token, score, expires_at = lease_record.lease_end(record), lease_record.origin(record)
  if lease_end and tonumber(score) and #expires_at < 17 then
    return token, lease_end, score, expires_at
  end
end
