-- The record of a job's lease: `token|lease end|original score|payload expiry`.
--
--   token           fencing token of the claim
--   lease end       ms since the epoch
--   original score  the job's score among the pending jobs before it was claimed
--   payload expiry  ms since the epoch at which the payload would have expired, '' for never
--
-- The `head` of a record is `token|lease end|`: leases of one claim share it.

local lease_record = {}

function lease_record.head(record)
  return string.match(record, '^[^|]*|%d+|')
end

-- Returns token, lease end, original score and payload expiry as strings; nothing for a record that no worker wrote.
function lease_record.parse(record)
  local token, lease_end, score, expires_at = string.match(record, '^([^|]*)|(%d+)|([-+.%dinfe]+)|(%d*)$')
  local place = tonumber(score)
  if place and place == place and #lease_end < 17 and #expires_at < 17 then
    return token, lease_end, score, expires_at
  end
end
