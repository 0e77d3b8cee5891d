-- Parks jobs: they wait in the queue of their limit key, and no worker claims them.

--#include host_queues/host_queue_insert
--#include queue/parked_score
--#include hosts/recount

local MAX_BUFFERED = 4000 -- `unpack` fails at 8000 values

local parked = {} -- scores and ids, to be written together

-- Writes the scores of parked jobs. Called before `hosts.save`.
local function save_parked()
  if #parked > 0 then
    redis.call('ZADD', keys.pending, unpack(parked))
    parked = {}
  end
end

-- Adds a job to its key's queue; a job that was parked before goes to the front. `deadline` is in ms since the epoch,
-- '' for none.
local function park(key, record, id, lane, due, deadline, was_parked)
  recount_if_record_lost(key, record)
  local queue = host_queue()
  if was_parked and record.waiting > 0 then
    due = math.min(due, queue.first_due(key, lane) or due)
  end
  record.waiting = record.waiting + insert_waiting(key, record, queue.place_of(lane, due), id)
  parked[#parked + 1] = scores.parked(lane, due)
  parked[#parked + 1] = id
  if #parked >= MAX_BUFFERED then
    save_parked()
  end
  if deadline ~= '' then
    redis.call('ZADD', keys.due_hosts, deadline, '#' .. id)
  end
end
