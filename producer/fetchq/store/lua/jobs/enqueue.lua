-- Puts a batch of jobs on the queue: each whose id is new, as far as there is capacity. Wakes idle workers.
--
-- KEYS[1]  pending: sorted set of job ids by score
-- KEYS[2]  wake: list of tokens (wake.lua)      KEYS[3..8]  see keys.lua
-- ARGV[1]  prefix of the payload keys      ARGV[2]  prefix of the result keys
-- ARGV[3]  now in ms, for tests; '' for Redis's own clock      ARGV[4]  prefix of the queues of limit keys
-- ARGV[5]  maximum number of jobs of the queue, running jobs included; '' for no limit
-- ARGV[6]  share of maxmemory at which no job is added any more; '' to skip this check
-- ARGV[7]  the queue's totals      ARGV[8]  prefix of its minutes (figures.lua)
-- ARGV[9...]  five a job: id, payload, due ('' at once, '+N' in N ms, 'N' at N ms since the epoch),
--     limit key ('' none, or one that only a worker can determine), lane ('', 'h', 'l') followed by the deadline in ms,
--     if any, and by '~' and the payload's TTL in ms, if any
--
-- Returns {existing, stopped, why, measured, limit}:
--   existing  a flat list of pairs, one for each id that exists: its place in the batch from 1, and the payload or the
--             result under that id ('' if that is not a string). An empty list: all are new.
--   stopped   the place of the first job for which there was no capacity; 0 for none. It and the later ones were not
--             added. With 'queue', `existing` also has those of them that exist: they need no capacity
--   why       'queue' or 'memory', with the measured value and its limit; '', 0, 0 if none was stopped
--
-- Atomic: two producers with one idempotency key must not both add a job, a payload without its entry in the queue (or
-- the reverse) would be a lost job, and concurrent producers must not exceed the limit together.

--#include redis/clock
--#include redis/wake
--#include hosts/hosts
--#include hosts/limit_key
--#include queue/new_job
--#include queue/defer
--#include queue/figures

local WAKE_AHEAD_MS = 60000 -- an idle worker must be woken for a job that is due before its next claim
local WIDTH, FIRST = 5, 9
local MAX_CHECKED_AT_ONCE = 2000 -- `unpack` fails at 8000 values

local pending, job_key, result_key, cap = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[5])

clock.read(ARGV[3])
local now = clock.now_ms

-- All commands that can fail come first: an error after the first payload is written would leave it without a queue
-- entry.
wake.open(KEYS[2])
local queued = redis.call('ZCARD', pending)
hosts.open(pending, 3, ARGV[4])

if ARGV[6] ~= '' then
  local info = redis.pcall('INFO', 'memory') -- without INFO, or permission for it, Redis itself refuses when it is full
  if type(info) == 'string' then
    local used, limit = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
    if used and limit and tonumber(limit) > 0 and tonumber(used) >= tonumber(limit) * tonumber(ARGV[6]) then
      return {{}, 1, 'memory', tonumber(used), tonumber(limit)}
    end
  end
end

-- Usually all jobs of a batch are new and there is capacity for them: then two commands check and store all of them.
local names, job_and_result_keys, payloads, is_seen = {}, {}, {}, {}
local are_all_new = #ARGV < FIRST + WIDTH * MAX_CHECKED_AT_ONCE
for i = FIRST, #ARGV, WIDTH do
  local id, key = ARGV[i], known_limit_key(ARGV[i + 3])
  if key ~= '' then
    names[#names + 1] = key
  end
  local n = #payloads
  payloads[n + 1], payloads[n + 2] = job_key .. id, ARGV[i + 1]
  job_and_result_keys[n + 1], job_and_result_keys[n + 2] = job_key .. id, result_key .. id
  are_all_new = are_all_new and not is_seen[id]
  is_seen[id] = true
end
host_record.load(names)
are_all_new = are_all_new and #payloads > 0 and not (cap and queued + #payloads / 2 > cap)
  and redis.call('EXISTS', unpack(job_and_result_keys)) == 0
if are_all_new then
  redis.call('MSET', unpack(payloads))
end

local function string_at(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end

local scores_now = {}
local function ready_score(lane, due)
  if due ~= now then
    return scores.ready(lane, due)
  end
  local score = scores_now[lane]
  if not score then
    score = scores.ready(lane, due)
    scores_now[lane] = score
  end
  return score
end

local added, soon = {}, 0

local function add(id, due, key, lane, deadline)
  local is_ready = due <= now and (key == '' or place_new_job(key, id, lane, due, deadline))
  if is_ready then
    added[#added + 1] = ready_score(lane, due)
    added[#added + 1] = id
  elseif due > now and lane ~= '' then
    defer(id, lane, due)
  elseif due > now then
    added[#added + 1] = string.format('%.0f', due)
    added[#added + 1] = id
  end
  if due <= now + WAKE_AHEAD_MS and (is_ready or due > now) then
    soon = soon + 1
  end
end

local existing, stopped, queued_before = {}, 0, queued
for i = FIRST, #ARGV, WIDTH do
  local id, due = ARGV[i], ARGV[i + 2]
  local place = (i - FIRST) / WIDTH + 1
  if not are_all_new and redis.call('EXISTS', job_key .. id, result_key .. id) > 0 then
    existing[#existing + 1] = place
    existing[#existing + 1] = string_at(result_key .. id) or string_at(job_key .. id) or ''
  elseif cap and queued >= cap then
    stopped = stopped > 0 and stopped or place
  else
    queued = queued + 1
    if not are_all_new then
      redis.call('SET', job_key .. id, ARGV[i + 1])
    end
    local at = now
    if due ~= '' then
      at = string.sub(due, 1, 1) == '+' and now + tonumber(due) or tonumber(due)
    end
    local lane, deadline, ttl_ms = '', '', ''
    if ARGV[i + 4] ~= '' then
      lane, deadline, ttl_ms = string.match(ARGV[i + 4], '^([hl]?)(%d*)~?(%d*)$')
    end
    if ttl_ms ~= '' then
      redis.call('PEXPIRE', job_key .. id, ttl_ms)
    end
    add(id, at, known_limit_key(ARGV[i + 3]), lane, deadline)
  end
end

if #added > 0 then
  redis.call('ZADD', pending, unpack(added))
end
save_parked()
local promoted, earlier = hosts.save()
wake.workers(soon + promoted + earlier)
if queued > queued_before then
  save_figures({enqueued = queued - queued_before}, ARGV[7], ARGV[8])
end
if stopped > 0 then
  return {existing, stopped, 'queue', queued, cap}
end
return {existing, 0, '', 0, 0}
