-- Finds and removes a job anywhere in the queue of a limit key.

--#include host_queues/host_queue
--#include queue/scores

-- Returns the chunk that holds a job, and the chunk's start (nil for the first chunk); nothing if no chunk does. The
-- place follows from the job's pending score. A stock client's abort overwrites that score: then the job is found in
-- the first chunk only, and an entry in another chunk is skipped when it reaches the front.
local function find_waiting(key, id, score)
  local queue = host_queue()
  local name = queue.chunk_key(key)
  if type(redis.pcall('ZSCORE', name, id)) == 'string' then
    return name
  end
  local place = queue.place_of(scores.read(score))
  local start = queue.chunk_start(key, queue.text(place + PLACES_PER_MS - 1))
  while start do
    name = queue.chunk_key(key, start)
    if type(redis.pcall('ZSCORE', name, id)) == 'string' then
      return name, start
    end
    start = start > place and queue.chunk_start(key, '(' .. queue.text(start)) or nil
  end
end

-- Removes a job. Returns whether it was found.
local function remove_waiting(key, record, id, score)
  local name, start = find_waiting(key, id, score)
  if not name then
    return false
  end
  redis.call('ZREM', name, id)
  local is_gone = redis.call('EXISTS', name) == 0
  if is_gone and start then
    redis.call('ZREM', host_queue().index_key(key), host_queue().text(start))
  end
  host_queue().after_removal(key, record, 1, is_gone and not start)
  return true
end
