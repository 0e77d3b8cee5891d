-- The queue of a limit key: the jobs that wait for its limits, first in first out within a lane.
--
-- It is split into chunks, small enough for Redis to keep each in one piece of memory: a third of what one large set
-- takes. After the prefix `keys.queues`:
--   <limit key>           sorted set, the first chunk: job id -> place
--   #<start> <limit key>  sorted set: the chunk of the places from `start` up to the next chunk's
--   #<limit key>          sorted set, the index: the starts of all chunks but the first, each its own score
-- A place is the time at which the job became due, in 1/16 ms, shifted by the head start of its lane. The number of
-- jobs is `waiting` in the key's record.

--#include redis/clock
--#include hosts/host_record

local PLACES_PER_MS = 16 -- so that jobs that became due in the same ms can be split into chunks
local HEAD_START_MS = 600000 -- of one lane over the next: a job of the low lane waits longer, but not forever

-- The functions of queues. They are created on first use, since most script calls touch no queue and creating them
-- takes a tenth of a call's time.
local function host_queue()
  local queue, last_place, last_text = {}, nil, nil
  function host_queue()
    return queue
  end

  function queue.text(place)
    if place ~= last_place then -- the jobs of a batch often share one place
      last_place, last_text = place, string.format('%.0f', place)
    end
    return last_text
  end

  function queue.index_key(key)
    return keys.queues .. '#' .. key
  end

  -- The chunk that starts at a place; the first one for nil.
  function queue.chunk_key(key, start)
    return keys.queues .. (start and '#' .. queue.text(start) .. ' ' or '') .. key
  end

  -- In ms. It is subtracted from the time at which a job of this lane became due.
  local function head_start(lane)
    return (lane == 'h' and HEAD_START_MS) or (lane == 'l' and -HEAD_START_MS) or 0
  end

  function queue.place_of(lane, due)
    return (math.min(math.max(math.floor(due), 0), 2 ^ 44) - head_start(lane)) * PLACES_PER_MS
  end

  -- The due time that would put a job of this lane at the front of the queue; nil for an empty queue.
  function queue.first_due(key, lane)
    local first = redis.pcall('ZRANGE', queue.chunk_key(key), 0, 0, 'WITHSCORES')
    return first[2] and math.floor(tonumber(first[2]) / PLACES_PER_MS) + head_start(lane)
  end

  -- The start of the chunk that holds a place (given as text); nil for the first chunk.
  function queue.chunk_start(key, place)
    return tonumber(redis.pcall('ZREVRANGEBYSCORE', queue.index_key(key), place, '-inf', 'LIMIT', 0, 1)[1])
  end

  -- Records that a queue, or a chunk of one, was deleted by another client: its jobs are parked but in no queue.
  function queue.mark_lost()
    redis.call('HSET', keys.hosts, '', string.format('%.0f', clock.now_ms))
  end

  -- A lower bound of the number of jobs of a queue: each chunk but the first counts as one, since reading all sizes
  -- would take too long. The second value is the size of the first chunk.
  function queue.count(key)
    local first = tonumber(redis.pcall('ZCARD', queue.chunk_key(key))) or 0
    return first + (first > 0 and tonumber(redis.pcall('ZCARD', queue.index_key(key))) or 0), first
  end

  -- Renames the second chunk to the first, which is empty. Returns whether there was a second one.
  function queue.advance(key)
    for _ = 1, 100 do
      local start = tonumber(redis.pcall('ZPOPMIN', queue.index_key(key))[1])
      if not start then
        return false
      end
      if not redis.pcall('RENAME', queue.chunk_key(key, start), queue.chunk_key(key)).err then
        return true
      end
      queue.mark_lost()
    end
    return false
  end

  -- Updates the record after `count` jobs were removed from the queue.
  function queue.after_removal(key, record, count, is_first_chunk_gone)
    record.last_chunk = nil
    record.waiting = math.max(0, record.waiting - count)
    local has_more = not is_first_chunk_gone or queue.advance(key)
    if record.waiting == 0 and has_more then -- `waiting` was a lower bound, counted after the record was lost
      record.waiting = queue.count(key)
    end
  end

  -- Removes at most `limit` jobs from the front of the queue and returns their ids.
  function queue.pop(key, record, limit)
    local first = queue.chunk_key(key)
    local ids = redis.pcall('ZRANGE', first, 0, limit)
    if ids.err or #ids == 0 then
      queue.mark_lost()
      if not queue.advance(key) then
        return {}
      end
      ids = redis.call('ZRANGE', first, 0, limit)
    end
    local has_more = #ids > limit
    ids[limit + 1] = nil
    queue.after_removal(key, record, redis.call('ZREM', first, unpack(ids)), not has_more)
    return ids
  end

  return queue
end
