-- Adds jobs to the queue of a limit key.

--#include host_queues/host_queue

local CHUNK_SIZE = 127 -- Redis keeps up to 128 in one piece, unless `zset-max-listpack-entries` is lower

-- Adds a job, usually at the end; a new chunk follows a full last one, and a chunk in the middle that becomes full is
-- split. Returns 1, or 0 if the job was in the queue. The first call creates the functions.
local function insert_waiting(key, record, place, id)
  local queue = host_queue()

  -- ZADD. Replaces a key of another type, which only another client can have written, so that it does not block jobs.
  local function add_or_replace(name, ...)
    local reply = redis.pcall('ZADD', name, ...)
    if type(reply) == 'table' and reply.err then
      redis.call('DEL', name)
      reply = redis.call('ZADD', name, ...)
    end
    return reply
  end

  -- Moves the upper half of the chunk `name` into a new one.
  local function split_chunk(key, name)
    local lower = math.ceil(CHUNK_SIZE / 2)
    local upper = redis.call('ZRANGE', name, lower - 1, -1, 'WITHSCORES')
    local before, start = tonumber(upper[2]), tonumber(upper[4])
    if start == before then -- jobs that became due in the same ms differ only by the start of their chunk
      start = start + 1
      if start % PLACES_PER_MS == 0 then
        return
      end
    end
    if add_or_replace(queue.index_key(key), 'NX', queue.text(start), queue.text(start)) == 0 then
      return
    end
    local moved = {}
    for i = 3, #upper, 2 do
      moved[i - 2], moved[i - 1] = queue.text(math.max(start, tonumber(upper[i + 1]))), upper[i]
    end
    redis.call('ZREMRANGEBYRANK', name, lower, -1)
    add_or_replace(queue.chunk_key(key, start), unpack(moved))
  end

  -- The last chunk of a queue: its start (nil for the first chunk), name and size.
  local function last_chunk(key, record)
    if not record.last_chunk then
      local start = record.waiting > 0 and queue.chunk_start(key, '+inf') or nil
      local name = queue.chunk_key(key, start)
      local size = start and tonumber(redis.pcall('ZCARD', name)) or record.waiting
      record.last_chunk = {start = start, name = name, size = size}
    end
    return record.last_chunk
  end

  -- Starts a new chunk if a job with this place can begin one. If more jobs become due in the same ms than there are
  -- places for chunks, the last chunk grows beyond its size instead.
  local function start_chunk(key, last, place)
    local greatest = tonumber(redis.pcall('ZRANGE', last.name, -1, -1, 'WITHSCORES')[2])
    local start = greatest and math.max(place, greatest + 1)
    local in_one_ms = start and place > greatest - PLACES_PER_MS and start % PLACES_PER_MS > 0
    if start and (start == place or in_one_ms) then
      add_or_replace(queue.index_key(key), queue.text(start), queue.text(start))
      last.start, last.name, last.size = start, queue.chunk_key(key, start), 0
    end
  end

  function insert_waiting(key, record, place, id)
    local last = last_chunk(key, record)
    local start, name, is_last = last.start, last.name, true
    if start and place < start - start % PLACES_PER_MS then
      start, is_last = queue.chunk_start(key, queue.text(place + PLACES_PER_MS - 1)), false
      name = queue.chunk_key(key, start)
    elseif last.size >= CHUNK_SIZE then
      start_chunk(key, last, place)
      start, name = last.start, last.name
    end
    local added = add_or_replace(name, queue.text((start and start > place) and start or place), id)
    if is_last then
      last.size = last.size + added
    end
    if not is_last or last.size > CHUNK_SIZE then
      local size = redis.call('ZCARD', name)
      if size > CHUNK_SIZE and size <= 2 * CHUNK_SIZE then
        split_chunk(key, name)
        record.last_chunk = nil
      end
    end
    return added
  end

  return insert_waiting(key, record, place, id)
end
