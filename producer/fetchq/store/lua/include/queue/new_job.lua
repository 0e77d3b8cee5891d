-- Places a new job that has a limit key.

--#include hosts/admission
--#include host_queues/parking

-- Counts the job as ready if its key has a free slot and no waiting jobs, and parks it otherwise, so that a million
-- jobs of one key do not delay others. Returns whether it is ready: then the caller adds it to the pending jobs.
local function place_new_job(key, id, lane, due, deadline)
  local record = host_record.get(key)
  if record.waiting == 0 and admission.free_slots(key, record, record.ready) > 0 then
    record.ready = record.ready + 1
    return true
  end
  park(key, record, id, lane, due, deadline)
  return false
end
