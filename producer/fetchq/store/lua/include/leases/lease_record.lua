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

-- As a string; nil for a record that no worker wrote.
function lease_record.lease_end(record)
  local lease_end = string.match(record, '^[^|]*|(%d+)|')
  return lease_end and #lease_end < 17 and lease_end or nil
end

-- Returns token, original score and payload expiry as strings, to restore the job when it returns to the queue. For a
-- record that no worker wrote: nothing, or a score or an expiry that is not a number.
function lease_record.origin(record)
  return string.match(record, '^([^|]*)|%d+|([-+.%dinfe]+)|(%d*)$')
end
