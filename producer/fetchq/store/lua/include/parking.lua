-- Parks jobs: they wait in the queue of their limit key, and no worker claims them.

--#include host_queue_insert
--#include scores

local parking = {places = {}}

local MAX_BUFFERED = 4000 -- `unpack` fails at 8000 values

-- Writes the scores of parked jobs. Called before `hosts.save`.
function parking.save()
  if #parking.places > 0 then
    redis.call('ZADD', keys.pending, unpack(parking.places))
    parking.places = {}
  end
end

-- The time at which a job of this lane would have become due that is first in the queue; nil for an empty queue.
local function first_due(key, lane)
  local first = redis.pcall('ZRANGE', host_queue.chunk_key(key), 0, 0, 'WITHSCORES')
  return first[2] and math.floor(tonumber(first[2]) / host_queue.PLACES_PER_MS) + host_queue.head_start(lane)
end

-- Adds a job to its key's queue; one that was parked before, to the front. `deadline` is in ms since the epoch, '' for none.
function parking.add(key, record, id, lane, due, deadline, was_parked)
  host_queue.count_if_record_lost(key, record)
  if was_parked and record.waiting > 0 then
    due = math.min(due, first_due(key, lane) or due)
  end
  record.waiting = record.waiting + host_queue.insert(key, record, host_queue.place_of(lane, due), id)
  local places = parking.places
  places[#places + 1] = scores.parked(lane, due)
  places[#places + 1] = id
  if #places >= MAX_BUFFERED then
    parking.save()
  end
  if deadline ~= '' then
    redis.call('ZADD', keys.due_hosts, deadline, '#' .. id)
  end
end
