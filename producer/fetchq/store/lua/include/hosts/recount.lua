-- Corrects a record from the queue of its limit key.

--#include host_queues/host_queue

-- Recounts the queue of a key whose record was lost.
local function recount_if_record_lost(key, record)
  if not record.stored then
    record.waiting, record.stored = host_queue().count(key), true
  end
end
