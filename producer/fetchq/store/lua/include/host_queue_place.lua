-- The place of a job in its limit key's queue: when it became due, in 1/16 ms, moved by a head start for its lane.

--#include host_queue

host_queue.PLACES_PER_MS = 16 -- so that the chunks of jobs that became due in one ms have starts of their own

local HEAD_START_MS = 600000 -- of one lane over the next: the low lane waits longer, but not forever

-- In ms. It is subtracted from the time at which a job of this lane became due.
function host_queue.head_start(lane)
  return (lane == 'h' and HEAD_START_MS) or (lane == 'l' and -HEAD_START_MS) or 0
end

function host_queue.place_of(lane, due)
  return (math.min(math.max(math.floor(due), 0), 2 ^ 44) - host_queue.head_start(lane)) * host_queue.PLACES_PER_MS
end

-- The start of the chunk that holds a place (given as text); nil for the first chunk.
function host_queue.chunk_start(key, place)
  return tonumber(redis.pcall('ZREVRANGEBYSCORE', host_queue.index_key(key), place, '-inf', 'LIMIT', 0, 1)[1])
end
