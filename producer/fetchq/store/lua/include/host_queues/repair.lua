-- Repairs records and queues of limit keys: other clients that delete a key, or claim a job, do not update the records.

--#include hosts/hosts
--#include queue/parked_score

local repair = {}

local MAX_COUNTED_RUNS = 1000 -- with more running jobs, they are not counted
local LANES = {'', 'h', 'l'}

-- The number of running jobs of each key; nil where there are too many to count.
local function count_runs()
  if redis.call('HLEN', keys.running) <= MAX_COUNTED_RUNS then
    local counts, names = {}, redis.call('HVALS', keys.running)
    for i = 1, #names do
      counts[names[i]] = (counts[names[i]] or 0) + 1
    end
    return counts
  end
end

-- Corrects the number of waiting jobs from the queue.
local function recount_waiting(key, record)
  local depth, first = host_queue().count(key)
  if first == 0 then
    host_queue().mark_lost()
    depth = host_queue().advance(key) and host_queue().count(key) or 0
  end
  if depth == first or record.waiting < depth then -- otherwise there are several chunks, and `depth` is a lower bound
    record.waiting = depth
  end
  record.backlog = -1 -- so that it is written again
end

-- Marks queues as lost if jobs have been parked for long although no key has waiting jobs.
local function find_lost_jobs()
  local before = clock.now_ms - admission.RECHECK_MS
  for _, lane in ipairs(LANES) do
    local from, to = scores.parked(lane, 0), scores.parked(lane, before)
    if #redis.call('ZRANGEBYSCORE', keys.pending, from, to, 'LIMIT', 0, 1) > 0 then
      host_queue().mark_lost()
    end
  end
end

-- Corrects some records, picked at random.
function repair.records(count)
  local waiting = redis.call('ZRANDMEMBER', keys.backlog, count)
  host_record.load(waiting)
  for i = 1, #waiting do
    recount_waiting(waiting[i], host_record.get(waiting[i]))
  end
  local picked = redis.call('HRANDFIELD', keys.hosts, count) or {}
  host_record.load(picked)
  local running = count_runs()
  for i = 1, #picked do
    local record = host_record.by_key[picked[i]]
    if running and record.running > (running[picked[i]] or 0) then
      host_record.get(picked[i]).running = running[picked[i]] or 0
    end
    if record.ready > 0 and record.running == 0 then -- admission counts those that are ready
      host_record.get(picked[i]).ready = 0
    end
  end
  if #waiting == 0 then
    find_lost_jobs()
  end
end

-- Makes at most `count` jobs ready that were parked before a queue was lost. Jobs that are in another queue are parked
-- again when they are claimed, with a later time, so this comes to an end.
function repair.requeue_lost(count)
  local before = tonumber(redis.call('HGET', keys.hosts, '') or '')
  if not before then
    return
  end
  for _, lane in ipairs(LANES) do
    local from, to = scores.parked(lane, 0), '(' .. scores.parked(lane, before)
    local ids = redis.call('ZRANGEBYSCORE', keys.pending, from, to, 'LIMIT', 0, count)
    for i = 1, #ids do
      redis.call('ZADD', keys.pending, 'XX', scores.ready(lane, clock.now_ms), ids[i])
    end
    promotion.count = promotion.count + #ids
    count = count - #ids
    if count == 0 then
      return
    end
  end
  redis.call('HDEL', keys.hosts, '')
end
