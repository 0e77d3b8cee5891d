#!lua flags=allow-oom
-- Commits the outcomes of a batch of runs: jobs that are finished, to be retried, or returned with the try not counted.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  leases: hash of id -> lease record (lease_record.lua)
-- KEYS[3]  lease index: sorted set             KEYS[4]  abort: sorted set of ids      KEYS[5]  wake: list of tokens
-- KEYS[6..11]  see keys.lua
-- KEYS[12]  dead: sorted set of the ids of dead letters by the ms of their end
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2..6]  prefixes of the payload, retry, in-progress, result and attempts keys
-- ARGV[7]  prefix of the push channels     ARGV[8]  number of an id's leading characters that name its channel
-- ARGV[9]  prefix of the queues of limit keys
-- ARGV[10]  prefix of the dead letters     ARGV[11]  their TTL in ms      ARGV[12]  maximum number of dead letters
-- ARGV[13]  the queue's totals     ARGV[14]  prefix of its minutes (figures.lua)
-- ARGV[15...]  groups of jobs with equal outcomes. Of each group: number of jobs, token, action, time, marker,
--     host outcome, details, figure; then of each job: id, result.
--     action 'finish'   store `result` for `time` ms ('' forever, '0' not at all), then remove the job
--     action 'clean'    the same for a first try that has neither a retry key nor a record of attempts
--     action 'missing'  the same for a job without a payload: an existing result stays
--     action 'retry'    due `time` ms from now ('' at its original score)
--     action 'requeue'  the same, and the try is not counted
--     action 'requeue_with_keys'  the same for a job with more keys than payload and lease: its retry key stays,
--              at least '0', so that the next claim reports them
--     marker  ms for which the in-progress key outlasts the job ('' none): arq's guard of cron jobs
--     host outcome  what the run says of its limit key (host_outcome.lua); '' none
--     details with 'finish' and 'missing': the worker's part of a dead letter, msgpack (dead_letter.lua); '' none
--     figure  the field that counts each job that this call ends; '' none
--
-- Returns {ids whose lease belongs to another run, or is missing: nothing of these jobs was changed,
--          ids whose result or dead letter Redis refused to store: they keep their lease, error of the last of these
--          or '',
--          ms until a job that waited for its limit key can be claimed, if this call changed that; else -1,
--          and only if this call opened circuits: of each its limit key, its failures in a row, ms until it closes}.
--
-- Atomic: only the run whose token is in the lease may change anything, and a job must not be removed before its result
-- and its dead letter are stored. The dead letter is built here, next to the payload, which need not be sent again.
-- Committing twice is harmless: the second call finds no lease. So is an outage longer than the lease: the record
-- outlives the lease's end until another worker claims the job. `allow-oom`: committing is how a full Redis drains.

--#include redis/clock
--#include redis/wake
--#include leases/lease_record
--#include leases/lease_index
--#include queue/retry_count
--#include hosts/runs
--#include queue/defer
--#include hosts/host_outcome
--#include queue/earliest_claim
--#include queue/dead_letter
--#include queue/dead_letters
--#include queue/figures

local FIRST, HEAD_WIDTH = 15, 8
local MAX_TRIMMED = 2000 -- twice as many as a call can add

local pending, leases, abort, dead = KEYS[1], KEYS[2], KEYS[4], KEYS[12]
local job_key, retry_key, progress_key = ARGV[2], ARGV[3], ARGV[4]
local result_key, attempts_key, channel_length = ARGV[5], ARGV[6], tonumber(ARGV[8])
local dead_letter_key, dead_letter_ttl_ms, max_dead_letters = ARGV[10], ARGV[11], tonumber(ARGV[12])

clock.read(ARGV[1])
local now = clock.now_ms

-- Before the first write: a key of the whole queue that holds a wrong type fails the call while nothing has changed.
wake.open(KEYS[5])
lease_index.open(KEYS[3])
local any_aborts, any_dead_letters = redis.call('ZCARD', abort) > 0, redis.call('ZCARD', dead) > 0
hosts.open(pending, 6, ARGV[9])

local ids, results, first = {}, {}, FIRST
while first <= #ARGV do
  local last = first + HEAD_WIDTH + 2 * tonumber(ARGV[first]) - 1
  for i = first + HEAD_WIDTH, last, 2 do
    ids[#ids + 1] = ARGV[i]
    results[#ids] = ARGV[i + 1]
  end
  first = last + 1
end
local records = redis.call('HMGET', leases, unpack(ids))

local lost, refused, refusal = {}, {}, ''
local finished, moved, completed, garbage, pushes, channels = {}, {}, {}, {}, {}, {}
local requeued, ended, host_outcomes, deferred = {}, {}, {}, {}
local stale_dead_letters, dead_letters_stored = {}, 0
local jobs_ended, counted = 0, {}
local is_any_due = false
local live_token, live_head -- token and record head of a claim whose lease has not ended: checked once for its jobs

-- Returns whether the lease is this run's, the head of its record, and whether the lease has ended. Only after its end
-- can a stock worker, which has no tokens, have claimed the job (its in-progress key differs) or finished it (it is not
-- pending).
local function check_lease(id, token, record)
  if record and token == live_token and string.sub(record, 1, #live_head) == live_head then
    return true, live_head, false
  end
  if not record or string.find(record, token .. '|', 1, true) ~= 1 then
    return false
  end
  local head = lease_record.head(record)
  if head and tonumber(string.sub(head, #token + 2, -2)) > now then
    live_token, live_head = token, head
    return true, head, false
  end
  local progress = redis.call('MGET', progress_key .. id)[1]
  if (progress and progress ~= token) or not redis.call('ZSCORE', pending, id) then
    completed[#completed + 1] = id
    ended[#ended + 1] = id
    lease_index.remove(head)
    return false
  end
  return true, head, true
end

-- The ms at which a key with this TTL expires, as PXAT takes it: PX would make Redis rewrite the command for each job.
local expiries = {}
local function expiry(ttl_ms)
  local at = expiries[ttl_ms]
  if not at then
    at = string.format('%.0f', clock.server_ms + tonumber(ttl_ms))
    expiries[ttl_ms] = at
  end
  return at
end

-- The value of a job's key that is not a string is stored as DUMP returns it. Returns the error if Redis refuses to
-- store the dead letter.
local function store_dead_letter(id, details)
  local kind = redis.call('TYPE', job_key .. id)
  kind = kind.ok or kind
  local payload = ''
  if kind ~= 'none' then
    payload = redis.pcall(kind == 'string' and 'GET' or 'DUMP', job_key .. id)
    payload = type(payload) == 'string' and payload or ''
  end
  local data = dead_letter.encode(payload, kind, details)
  local reply = redis.pcall('SET', dead_letter_key .. id, data, 'PX', dead_letter_ttl_ms)
  if not reply.err then
    reply = redis.pcall('ZADD', dead, string.format('%.0f', now), id)
    dead_letters_stored = dead_letters_stored + 1
  end
  return type(reply) == 'table' and reply.err
end

-- Returns the error if Redis refuses to store the result.
local function store_result(id, result, ttl_ms)
  if ttl_ms == '' then
    return redis.pcall('SET', result_key .. id, result).err
  end
  return redis.pcall('SET', result_key .. id, result, 'PXAT', expiry(ttl_ms)).err
end

local function push(id)
  local channel = string.sub(id, 1, channel_length)
  local pushed = pushes[channel]
  if pushed then
    pushed[#pushed + 1] = id
  else
    pushes[channel] = {id}
    channels[#channels + 1] = channel
  end
end

-- Returns whether the result and the dead letter are stored, and the job can be removed.
local function finish(id, ttl_ms, result, is_missing, details, is_clean)
  local was_finished = is_missing and redis.call('EXISTS', result_key .. id) == 1
  local error
  if details ~= '' and not was_finished then
    error = store_dead_letter(id, details)
  end
  if not error and ttl_ms ~= '0' and result ~= '' and not was_finished then
    error = store_result(id, result, ttl_ms)
  end
  if error then
    refused[#refused + 1] = id
    refusal = error
    return false
  end
  if details == '' and not was_finished and any_dead_letters then
    stale_dead_letters[#stale_dead_letters + 1] = id
  end
  -- An id without a payload that has a result: the job ended before, and was counted then.
  if not was_finished or redis.call('EXISTS', job_key .. id) == 1 then
    jobs_ended = jobs_ended + 1
  end
  finished[#finished + 1] = id
  ended[#ended + 1] = id
  local n = #garbage
  garbage[n + 1] = job_key .. id
  if not is_clean then
    garbage[n + 2], garbage[n + 3] = retry_key .. id, attempts_key .. id
  end
  push(id)
  return true
end

local function save_try(id, is_counted, has_extra_keys)
  local key = retry_key .. id
  if is_counted then
    if not redis.call('MGET', key)[1] then -- the claim counts every try but the first here
      redis.call('SET', key, '1', 'EX', retry_count.TTL_S)
    end
    return
  end
  local is_over, count = retry_count.undo(key)
  if has_extra_keys and count == -1 then
    redis.call('SET', key, '0', 'EX', retry_count.TTL_S)
  elseif is_over then
    redis.call('DEL', key)
  end
end

-- Puts a job back among the pending jobs, due in `delay_ms` or, for '', at its original score.
local function requeue(id, delay_ms, record, is_counted, has_extra_keys)
  local _, score, expires_at = lease_record.origin(record)
  if not tonumber(score) or #expires_at > 16 then -- no worker wrote this: the job is due now
    score, expires_at = string.format('%.0f', now), ''
  end
  local lane = scores.read(tonumber(score))
  if delay_ms ~= '' then
    score = string.format('%.0f', now + tonumber(delay_ms))
  end
  if delay_ms ~= '' and lane ~= '' then
    deferred[#deferred + 1] = {id, lane, tonumber(score)}
  else
    moved[#moved + 1] = score
    moved[#moved + 1] = id
  end
  if tonumber(score) <= now then
    is_any_due = true
    requeued[#requeued + 1] = id
  else
    ended[#ended + 1] = id
  end
  if expires_at ~= '' then
    redis.call('PEXPIREAT', job_key .. id, expires_at)
  end
  save_try(id, is_counted, has_extra_keys)
  return true
end

local function complete(id, result, record, token, action, time, marker, host_outcome, details)
  local is_held, head, has_ended = check_lease(id, token, record)
  if not is_held then
    lost[#lost + 1] = id
    return
  end
  local is_done
  if action == 'clean' or action == 'finish' or action == 'missing' then
    -- A claim that processed the lease's end has written a retry key, for stock workers.
    is_done = finish(id, time, result, action == 'missing', details, action == 'clean' and not has_ended)
  else
    is_done = requeue(id, time, record, action == 'retry', action == 'requeue_with_keys')
  end
  if is_done then
    completed[#completed + 1] = id
    lease_index.remove(head)
    if host_outcome ~= '' then
      host_outcomes[id] = host_outcome
    end
    if marker == '' then
      garbage[#garbage + 1] = progress_key .. id
    else
      redis.call('SET', progress_key .. id, token, 'PX', marker)
    end
  end
end

local opened = nil

-- Ends the runs under their limit keys, and records their host outcomes in the order in which the runs ended, since
-- failures in a row are counted.
local function release_and_record()
  local keys_of_ended, keys_of_requeued = release_runs(ended, 'ended'), release_runs(requeued, 'requeued')
  if not next(host_outcomes) then
    return
  end
  local key_of = {}
  for i = 1, #ended do
    key_of[ended[i]] = keys_of_ended[i]
  end
  for i = 1, #requeued do
    key_of[requeued[i]] = keys_of_requeued[i]
  end
  for i = 1, #completed do
    local id = completed[i]
    if host_outcomes[id] and key_of[id] and record_outcome(key_of[id], host_outcomes[id]) then
      local record = host_record.get(key_of[id])
      opened = opened or {}
      opened[#opened + 1] = key_of[id]
      opened[#opened + 1] = record.consecutive_failures
      opened[#opened + 1] = record.cooldown_until - now
    end
  end
end

local done, at = 0, FIRST
while at <= #ARGV do
  local count, token, action, time, marker, host_outcome, details, figure =
    tonumber(ARGV[at]), unpack(ARGV, at + 1, at + 7)
  local ended_before = jobs_ended
  for i = done + 1, done + count do
    complete(ids[i], results[i], records[i], token, action, time, marker, host_outcome, details)
  end
  if figure ~= '' and jobs_ended > ended_before then
    counted[figure] = (counted[figure] or 0) + jobs_ended - ended_before
  end
  done, at = done + count, at + HEAD_WIDTH + 2 * count
end

if #finished > 0 then
  redis.call('ZREM', pending, unpack(finished))
  if any_aborts then
    redis.call('ZREM', abort, unpack(finished))
  end
end
if #moved > 0 then
  redis.call('ZADD', pending, 'XX', unpack(moved))
end
for i = 1, #deferred do
  defer(unpack(deferred[i]))
end
if #garbage > 0 then
  redis.call('DEL', unpack(garbage))
end
if #completed > 0 then
  redis.call('HDEL', leases, unpack(completed))
end
release_and_record()
lease_index.save()
local promoted, earlier = hosts.save()

-- A job that succeeds leaves no dead letter: an older one under the same id must not be retried.
if #stale_dead_letters > 0 and redis.call('ZREM', dead, unpack(stale_dead_letters)) > 0 then
  for i = 1, #stale_dead_letters do
    redis.call('DEL', dead_letter_key .. stale_dead_letters[i])
  end
end
local excess = dead_letters_stored > 0 and redis.call('ZCARD', dead) - max_dead_letters or 0
if excess > 0 then
  remove_oldest_dead_letters(dead, dead_letter_key, math.min(excess, MAX_TRIMMED))
end
for i = 1, #channels do
  redis.call('PUBLISH', ARGV[7] .. channels[i], table.concat(pushes[channels[i]], '\n'))
end
if is_any_due or promoted + earlier > 0 then
  wake.workers(1)
end
if next(counted) then
  save_figures(counted, ARGV[13], ARGV[14])
end
return {lost, refused, refusal, claim_in_ms(), opened}
