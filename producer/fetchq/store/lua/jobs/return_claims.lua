#!lua flags=allow-oom
-- Puts the jobs of claims whose reply was lost back on the queue: no worker runs them. Their tries are not counted.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  leases: hash of id -> lease record (lease_record.lua)
-- KEYS[3]  lease index: sorted set             KEYS[4]  wake: list of tokens      KEYS[5..10]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2..5]  prefixes of the payload, retry and in-progress keys, and of the queues of limit keys
-- ARGV[6...]  the tokens of these claims
--
-- Returns the number of jobs that were returned.
--
-- Atomic: the jobs must not be claimed in between. It reads every lease of the queue, one for each running job; it is
-- called only after a connection broke. `allow-oom`: returning jobs is part of how a full Redis drains.

--#include redis/clock
--#include redis/wake
--#include leases/lease_record
--#include leases/lease_index
--#include queue/retry_count
--#include hosts/runs

local FIRST = 6

local pending, leases = KEYS[1], KEYS[2]
local job_key, retry_key, progress_key = ARGV[2], ARGV[3], ARGV[4]

local is_unacknowledged = {}
for i = FIRST, #ARGV do
  is_unacknowledged[ARGV[i]] = true
end

-- Before the first write: a key of the whole queue that holds a wrong type fails the call while nothing has changed.
clock.read(ARGV[1])
wake.open(KEYS[4])
lease_index.open(KEYS[3])
hosts.open(pending, 5, ARGV[5])

local returned = {}
local flat = redis.call('HGETALL', leases)
for i = 1, #flat, 2 do
  local id, record = flat[i], flat[i + 1]
  local token, score, expires_at = lease_record.origin(record)
  if token and is_unacknowledged[token] and tonumber(score) then
    redis.call('ZADD', pending, 'XX', score, id)
    redis.call('HDEL', leases, id)
    lease_index.remove(lease_record.head(record))
    if redis.pcall('GET', progress_key .. id) == token then
      redis.call('DEL', progress_key .. id)
    end
    if expires_at ~= '' then
      redis.pcall('PEXPIREAT', job_key .. id, expires_at)
    end
    if retry_count.undo(retry_key .. id) then
      redis.call('DEL', retry_key .. id)
    end
    returned[#returned + 1] = id
  end
end
release_runs(returned, 'requeued')
lease_index.save()
hosts.save()
if #returned > 0 then
  wake.workers(1)
end
return #returned
