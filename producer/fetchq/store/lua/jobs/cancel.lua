-- Cancels a batch of jobs: one that waits ends here and now, one that runs is marked for its worker.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  abort: sorted set that workers look at (arq's own)
-- KEYS[3]  leases: hash of the running jobs' leases            KEYS[4..9]  the frontier's
-- KEYS[10]  wake: list of tokens
-- ARGV[1..5]  prefixes of the payload, result, in-progress, retry and attempts keys
-- ARGV[6]  prefix of the push channels     ARGV[7]  how many characters of an id name its channel
-- ARGV[8]  now in ms, for tests; '' for Redis's own clock      ARGV[9]  prefix of the queues of limit keys
-- ARGV[10...] four a job: id, the result to store, its life in ms ('0' stores none), its limit key ('' none or not known)
--
-- Returns one number a job: 0 there is no such job on this queue, 1 cancelled, 2 it runs and its worker was asked, 3 it is finished.
--
-- Atomic, since between the look and the removal a worker could claim the job. A lease left by a dead worker goes too,
-- so that its run, should it wake up, has no token to commit with.

--#include frontier

local now_us = frontier.clock(ARGV[8])
local now = math.floor(now_us / 1000)
local wakes = redis.call('LLEN', KEYS[10])
frontier.open(4, ARGV[9], KEYS[1], now_us)

local function leave_frontier(id, key)
  frontier.release({id}, false, true)
  if key == '' then
    return -- its entry in a key's queue, if there is one, is passed over when its turn comes
  end
  local record = frontier.record(key)
  local score = tonumber(redis.call('ZSCORE', KEYS[1], id) or 0)
  if score >= frontier.PARKED then
    frontier.take_out(key, record, id, score)
  elseif score <= now then
    record.standing = math.max(0, record.standing - 1)
  end
end

local outcome = {}
for i = 10, #ARGV, 4 do
  local id, ttl = ARGV[i], tonumber(ARGV[i + 2])
  if redis.call('EXISTS', ARGV[2] .. id) == 1 then
    outcome[#outcome + 1] = 3
  elseif redis.call('EXISTS', ARGV[3] .. id) == 1 then
    redis.call('ZADD', KEYS[2], now, id)
    outcome[#outcome + 1] = 2
  elseif redis.call('EXISTS', ARGV[1] .. id) == 1 and redis.call('ZSCORE', KEYS[1], id) then
    if ttl > 0 then
      redis.call('SET', ARGV[2] .. id, ARGV[i + 1], 'PX', ttl)
    end
    redis.call('DEL', ARGV[1] .. id, ARGV[4] .. id, ARGV[5] .. id)
    leave_frontier(id, ARGV[i + 3])
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
    redis.call('PUBLISH', ARGV[6] .. string.sub(id, 1, ARGV[7]), id)
    outcome[#outcome + 1] = 1
  else
    outcome[#outcome + 1] = 0
  end
end
local promoted, nearer = frontier.save()
if (promoted > 0 or nearer) and wakes == 0 then
  redis.call('RPUSH', KEYS[10], '1')
end
return outcome
