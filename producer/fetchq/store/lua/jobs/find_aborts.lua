#!lua flags=allow-oom
-- Checks the jobs to be cancelled: finds those that this worker runs, moves waiting ones to the front of the queue, and
-- removes the entries of jobs that do not exist.
--
-- KEYS[1]  abort: sorted set of ids by the ms of the cancel request      KEYS[2]  pending: sorted set of job ids
-- KEYS[3]  leases: hash of id -> lease record (lease_record.lua)
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  the prefix of this worker's tokens
-- ARGV[3..4]  prefixes of the payload and in-progress keys
-- ARGV[5]  ms for which an entry without a job is kept
-- ARGV[6]  number of entries to skip      ARGV[7]  number of entries to check
--
-- Returns {ARGV[6] for the next call, 1 if a waiting job was moved to the front, ids that this worker runs}.
--
-- Atomic: a waiting job may be moved only while no worker holds it. The entries of other queues are checked by their
-- workers; arq never removes any. A running job that a stock client's abort moved to the front gets its lease's end as
-- its score again.
-- `allow-oom`: jobs must be cancellable in a full Redis.

--#include redis/clock
--#include leases/lease_record

local FRONT = '1' -- the score that a stock client's abort sets

local abort, pending, leases = KEYS[1], KEYS[2], KEYS[3]
local token_prefix, job_key, progress_key = ARGV[2], ARGV[3], ARGV[4]
local max_age_ms, skip, count = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

clock.read(ARGV[1])
local entries = redis.call('ZRANGE', abort, skip, skip + count - 1, 'WITHSCORES')
if #entries == 0 then
  return {0, 0, {}}
end

local running, gone, moved = {}, {}, 0
for i = 1, #entries, 2 do
  local id, asked_at = entries[i], tonumber(entries[i + 1])
  local record = redis.call('HGET', leases, id)
  local lease_end = record and lease_record.lease_end(record)
  local score = redis.call('ZSCORE', pending, id)
  if score and lease_end and tonumber(lease_end) > clock.now_ms then
    if string.sub(record, 1, #token_prefix) == token_prefix then
      running[#running + 1] = id
    end
    redis.call('ZADD', pending, 'XX', lease_end, id)
  elseif score then
    if tonumber(score) ~= tonumber(FRONT) and redis.call('EXISTS', progress_key .. id) == 0 then
      redis.call('ZADD', pending, 'XX', FRONT, id)
      moved = 1
    end
  elseif asked_at < clock.now_ms - max_age_ms and redis.call('EXISTS', job_key .. id) == 0 then
    gone[#gone + 1] = id
  end
end
if #gone > 0 then
  redis.call('ZREM', abort, unpack(gone))
end
local is_last_page = #entries / 2 < count
return {is_last_page and 0 or skip + #entries / 2 - #gone, moved, running}
