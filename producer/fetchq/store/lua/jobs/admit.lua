#!lua flags=allow-oom
-- Decides for each claimed job whether its limit key permits it to start now. One that must wait goes to its key's
-- queue: its lease ends, and the try is not counted.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  leases: hash of id -> lease record (lease_record.lua)
-- KEYS[3]  lease index: sorted set             KEYS[4]  wake: list of tokens      KEYS[5..10]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2..5]  prefixes of the payload, retry and in-progress keys, and of the queues of limit keys
-- ARGV[6...]  five a job: id, token, limit key, deadline in ms ('' none; a job whose deadline has passed starts without
--     limits and takes no slot, since it only ends: '0' for a job to be cancelled), a second limit key whose cooldown
--     and pause also apply, but under which the job is not counted ('' none)
--
-- Returns {ids that must not start, ms until a waiting job can be claimed (-1: no earlier than before this call),
--          ids whose deadline has passed}.
--
-- Atomic: two workers must not both take the last slot of a host, and a job whose lease ends must be in its key's queue
-- at once. `allow-oom`: a full Redis must still park the jobs that it holds.

--#include redis/clock
--#include redis/wake
--#include leases/lease_record
--#include leases/lease_index
--#include queue/retry_count
--#include hosts/hosts
--#include host_queues/parking
--#include host_queues/host_queue_find
--#include hosts/run_entry
--#include queue/earliest_claim

local WIDTH, FIRST = 5, 6

local pending, leases = KEYS[1], KEYS[2]
local job_key, retry_key, progress_key = ARGV[2], ARGV[3], ARGV[4]

clock.read(ARGV[1])
wake.open(KEYS[4])
lease_index.open(KEYS[3])
hosts.open(pending, 5, ARGV[5])

local ids, names, also_respected = {}, {}, {}
for i = FIRST, #ARGV, WIDTH do
  ids[#ids + 1] = ARGV[i]
  names[#ids] = ARGV[i + 2]
  if ARGV[i + 4] ~= '' then
    also_respected[#also_respected + 1] = ARGV[i + 4]
  end
end
local records = redis.call('HMGET', leases, unpack(ids))
local entries = redis.call('HMGET', keys.running, unpack(ids))
host_record.load(names)
host_record.load(also_respected)

local refused, parked, expired, garbage, started = {}, {}, {}, {}, {}

-- Whether a cooldown or a pause of the limit key forbids starts.
local function is_closed(key)
  return host_record.by_key[key].cooldown_until > clock.now_ms or limits.of(key).p == 1
end

-- Starts a job: `tat` advances by one start.
local function start(key, record, id)
  record.running = record.running + 1
  local interval_us, _, catch_up_us = rate_of(record, limits.of(key))
  if interval_us > 0 then
    local from_us = record.tat
    if from_us < clock.now_us - catch_up_us then
      from_us = clock.now_us
    end
    record.tat = math.floor(from_us + interval_us)
  end
  started[#started + 1] = id
  started[#started + 1] = key
end

-- Ends an earlier run of a job whose lease has ended without a claim that processed it.
local function end_old_run(entry)
  local key, is_counted = parse_run_entry(entry)
  if is_counted then
    local record = host_record.get(key)
    record.running = math.max(0, record.running - 1)
  end
end

-- Ends the lease of a job that is parked.
local function end_lease(id, record, expires_at)
  refused[#refused + 1] = id
  parked[#parked + 1] = id
  lease_index.remove(lease_record.head(record))
  garbage[#garbage + 1] = progress_key .. id
  if expires_at ~= '' then
    redis.call('PEXPIREAT', job_key .. id, expires_at)
  end
  if retry_count.undo(retry_key .. id) then
    garbage[#garbage + 1] = retry_key .. id
  end
end

-- Whether the job waited, and is counted as ready, under its second limit key.
local function is_ready_under(other, id, score, was_parked)
  return find_waiting(other, id, score) or (was_parked and host_record.by_key[other].ready > 0)
end

local function admit(id, lease, expires_at, score, key, deadline, other)
  local lane, due, was_parked = scores.read(score)
  local counted_under = (other ~= '' and is_ready_under(other, id, score, was_parked)) and other or key
  local ready_record = host_record.get(counted_under)
  if (tonumber(deadline) or math.huge) * 1000 <= clock.now_us then -- it ends without doing its work
    if not remove_waiting(counted_under, ready_record, id, score) then
      ready_record.ready = math.max(0, ready_record.ready - 1)
    end
    expired[#expired + 1] = id
    return
  end
  ready_record.ready = math.max(0, ready_record.ready - 1)
  local is_other_closed = other ~= '' and is_closed(other)
  local waits_for = is_other_closed and other or key
  local record = waits_for == counted_under and ready_record or host_record.get(waits_for)
  if not is_other_closed and admission.free_slots(key, record, 0) > 0 then
    start(key, record, id)
  else
    park(waits_for, record, id, lane, due, deadline, was_parked)
    end_lease(id, lease, expires_at)
  end
end

for i = 1, #ids do
  local at = FIRST + (i - 1) * WIDTH
  local holder, score, expires_at = lease_record.origin(records[i] or '')
  if holder ~= ARGV[at + 1] then
    refused[#refused + 1] = ids[i]
  else
    if entries[i] then
      end_old_run(entries[i])
    end
    admit(ids[i], records[i], expires_at, tonumber(score) or 0, names[i], ARGV[at + 3], ARGV[at + 4])
  end
end

if #started > 0 then
  redis.call('HSET', keys.running, unpack(started))
end
if #expired > 0 then
  redis.call('HDEL', keys.running, unpack(expired))
end
if #parked > 0 then
  redis.call('HDEL', leases, unpack(parked))
  redis.call('HDEL', keys.running, unpack(parked))
  redis.call('DEL', unpack(garbage))
end
lease_index.save()
save_parked()
local promoted, earlier = hosts.save()
if promoted + earlier > 0 then
  wake.workers(1)
end
return {refused, claim_in_ms(), expired}
