-- The queue of a limit key: the jobs that wait for its limits, first in first out within a lane.
--
-- It is split into chunks, small enough for Redis to keep each in one piece of memory: a third of what one large set takes.
-- After the prefix `keys.queues`:
--   <limit key>           sorted set, the first chunk: job id -> place (host_queue_place.lua)
--   #<start> <limit key>  sorted set: the chunk of the places from `start` up to the next chunk's
--   #<limit key>          sorted set, the index: the starts of all chunks but the first, each its own score
-- The number of jobs is `waiting` in the key's record.

--#include clock
--#include host_record

local host_queue = {}

local last_place, last_text
function host_queue.text(place)
  if place ~= last_place then -- the jobs of a batch often share one place
    last_place, last_text = place, string.format('%.0f', place)
  end
  return last_text
end

function host_queue.index_key(key)
  return keys.queues .. '#' .. key
end

-- The chunk that starts at a place; the first one for nil.
function host_queue.chunk_key(key, start)
  return keys.queues .. (start and '#' .. host_queue.text(start) .. ' ' or '') .. key
end

-- Notes that a queue, or a chunk of one, is missing: another client deleted it, and its jobs are parked and in no queue.
function host_queue.mark_lost()
  redis.call('HSET', keys.hosts, '', string.format('%.0f', clock.now_ms))
end

-- Counts the jobs of a queue. Each chunk but the first counts as one job: to read the size of all would take too long. The second
-- value is the size of the first chunk.
function host_queue.count(key)
  local first = tonumber(redis.pcall('ZCARD', host_queue.chunk_key(key))) or 0
  return first + (first > 0 and tonumber(redis.pcall('ZCARD', host_queue.index_key(key))) or 0), first
end

-- Recounts the queue of a key whose record was lost.
function host_queue.count_if_record_lost(key, record)
  if not record.stored then
    record.waiting, record.stored = host_queue.count(key), true
  end
end

-- Makes the second chunk the first one, which is empty. Returns whether there is a second one.
function host_queue.advance(key)
  for _ = 1, 100 do
    local start = tonumber(redis.pcall('ZPOPMIN', host_queue.index_key(key))[1])
    if not start then
      return false
    end
    if not redis.pcall('RENAME', host_queue.chunk_key(key, start), host_queue.chunk_key(key)).err then
      return true
    end
    host_queue.mark_lost()
  end
  return false
end

-- Corrects the record after `count` jobs were removed from the queue, and with them perhaps its whole first chunk.
function host_queue.after_removal(key, record, count, is_first_chunk_gone)
  record.last_chunk = nil
  record.waiting = math.max(0, record.waiting - count)
  local has_more = not is_first_chunk_gone or host_queue.advance(key)
  if record.waiting == 0 and has_more then -- they were counted by chunks, after the record was lost
    record.waiting = host_queue.count(key)
  end
end

-- Removes at most `limit` jobs from the front of the queue and returns their ids.
function host_queue.pop(key, record, limit)
  local first = host_queue.chunk_key(key)
  local ids = redis.pcall('ZRANGE', first, 0, limit)
  if ids.err or #ids == 0 then
    host_queue.mark_lost()
    if not host_queue.advance(key) then
      return {}
    end
    ids = redis.call('ZRANGE', first, 0, limit)
  end
  local has_more = #ids > limit
  ids[limit + 1] = nil
  host_queue.after_removal(key, record, redis.call('ZREM', first, unpack(ids)), not has_more)
  return ids
end
