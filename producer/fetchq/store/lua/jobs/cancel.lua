-- Cancels a batch of jobs: a waiting job ends in this call, a running one is marked for its worker.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  abort: sorted set that workers check (arq's own)
-- KEYS[3]  leases: hash of id -> lease record   KEYS[4..9]  see keys.lua
-- KEYS[10]  wake: list of tokens
-- ARGV[1..5]  prefixes of the payload, result, in-progress, retry and attempts keys
-- ARGV[6]  prefix of the push channels     ARGV[7]  number of an id's leading characters that name its channel
-- ARGV[8]  now in ms, for tests; '' for Redis's own clock      ARGV[9]  prefix of the queues of limit keys
-- ARGV[10]  the queue's totals     ARGV[11]  prefix of its minutes (figures.lua)
-- ARGV[12...]  five a job: id, the result to store, its TTL in ms ('0' stores none), its limit key ('' none or unknown),
--     the field that counts it if it ends here
--
-- Returns one number a job: 0 not on this queue, 1 cancelled, 2 running: its worker will cancel it, 3 finished.
--
-- Atomic: a worker could claim the job between the check and the removal. An ended lease is removed too: if its run
-- continues, it cannot commit.

--#include redis/clock
--#include redis/wake
--#include hosts/runs
--#include host_queues/host_queue_find
--#include queue/figures

local WIDTH, FIRST = 5, 12
local NOT_FOUND, CANCELLED, RUNNING, FINISHED = 0, 1, 2, 3

local pending, abort, leases = KEYS[1], KEYS[2], KEYS[3]
local job_key, result_key, progress_key, retry_key, attempts_key = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

clock.read(ARGV[8])
wake.open(KEYS[10])
hosts.open(pending, 4, ARGV[9])

-- Removes the job from its limit key's queue and counts. Without the limit key its entry in that queue stays, and is
-- skipped when it reaches the front.
local function leave_host(id, key)
  release_runs({id}, 'ended')
  if key == '' then
    return
  end
  local record = host_record.get(key)
  local score = tonumber(redis.call('ZSCORE', pending, id) or 0)
  if score >= scores.PARKED then
    remove_waiting(key, record, id, score)
  elseif score <= clock.now_ms then
    record.ready = math.max(0, record.ready - 1)
  end
end

local counted = {}

local function cancel(id, result, ttl_ms, key, figure)
  if redis.call('EXISTS', result_key .. id) == 1 then
    return FINISHED
  elseif not redis.call('ZSCORE', pending, id) then  -- the other keys of a job do not name its queue
    return NOT_FOUND
  elseif redis.call('EXISTS', progress_key .. id) == 1 then
    redis.call('ZADD', abort, clock.now_ms, id)
    return RUNNING
  elseif redis.call('EXISTS', job_key .. id) == 0 then
    return NOT_FOUND
  end
  if tonumber(ttl_ms) > 0 then
    redis.call('SET', result_key .. id, result, 'PX', ttl_ms)
  end
  redis.call('DEL', job_key .. id, retry_key .. id, attempts_key .. id)
  leave_host(id, key)
  redis.call('ZREM', pending, id)
  redis.call('ZREM', abort, id)
  redis.call('HDEL', leases, id)
  redis.call('PUBLISH', ARGV[6] .. string.sub(id, 1, ARGV[7]), id)
  counted[figure] = (counted[figure] or 0) + 1
  return CANCELLED
end

local outcomes = {}
for i = FIRST, #ARGV, WIDTH do
  outcomes[#outcomes + 1] = cancel(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
local promoted, earlier = hosts.save()
if promoted + earlier > 0 then
  wake.workers(1)
end
save_figures(counted, ARGV[10], ARGV[11], true) -- any producer can choose the name of a function
return outcomes
