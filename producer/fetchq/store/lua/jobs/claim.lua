#!lua flags=allow-oom
-- Claims due jobs for one worker: each gets a lease, and its payload is part of the reply.
--
-- KEYS[1]  pending: sorted set of job ids by score      KEYS[2]  leases: hash of id -> lease record (lease_record.lua)
-- KEYS[3]  lease index: sorted set (lease_index.lua)
-- KEYS[4]  abort: sorted set of the ids of jobs to be cancelled      KEYS[5]  wake: list of wake tokens
-- KEYS[6]  paused: exists while the queue is paused      KEYS[7..12]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  the fencing token of all jobs that this call claims; each call has its own
-- ARGV[3]  duration of the lease in ms
-- ARGV[4]  maximum number of jobs        ARGV[5]  bytes of payloads after which no further job is claimed
-- ARGV[6]  number of due jobs to skip: an earlier call found them held by others
-- ARGV[7]  the default TTL of a stock client's payload, in ms after the job is due
-- ARGV[8]  '1' to look up which jobs are to be cancelled
-- ARGV[9..12]  prefixes of the payload, retry and in-progress keys, and of the queues of limit keys
-- ARGV[13]  lanes in the order in which they are read: 'h' high, 'd' default, 'l' low
-- ARGV[14...]  ids: only these are claimed; without any, the jobs that have been due longest
--
-- Returns {number of jobs pending or running, 1 if due jobs are left for another call,
--          ms until the next job, lease end or limit key is due (-1: none), ARGV[6] for the next call,
--          Redis's clock in ms, ids of the jobs, their payloads (nil: missing, or not a string), their original scores
--          (one, if it is the same for all), details of the jobs that have a retry key or are to be cancelled, flat:
--          index in `ids` from 0, number of this try (1 for all others), 1 if to be cancelled}.
--
-- Atomic: a job must not be claimed twice, and its lease, its in-progress key (which makes stock workers skip it) and
-- its score must change together. Keys of one job that hold a wrong type do not fail the call: MGET reads them as nil
-- and SET replaces them, so that one bad job harms no other. The lease record alone counts a first try; the
-- retry key is written for later tries, and for stock workers when a lease ends. `allow-oom`: claiming is how a full
-- Redis drains.

--#include redis/clock
--#include redis/wake
--#include leases/lease_record_parse
--#include leases/lease_index_add
--#include leases/ended_leases
--#include queue/retry_count
--#include queue/payload_ttl
--#include hosts/due_hosts
--#include hosts/runs

local PAGE = 128 -- payloads read at a time, so that few are read beyond the limit in bytes
local MAX_PAGES = 40
local MAX_ENDED = 500
local MIN_SAME_SCORE = 16 -- jobs with one score: for fewer, the additional command does not pay
local MAX_TRIES = 2 ^ 31
local MIN_DUE_HOSTS = 100
local FIRST_ID = 14

local pending, leases, abort = KEYS[1], KEYS[2], KEYS[4]
local token, limit, max_bytes = ARGV[2], math.min(tonumber(ARGV[4]), lease_index.MAX_LEASES), tonumber(ARGV[5])
local skip_next, default_ttl_ms = tonumber(ARGV[6]), tonumber(ARGV[7])
local job_key, retry_key, progress_key = ARGV[9], ARGV[10], ARGV[11]

clock.read(ARGV[1])
local now = clock.now_ms

-- Before the first write: a key of the whole queue that holds a wrong type fails the call while nothing has changed. A
-- worker could not know which jobs a call had claimed that failed later.
wake.open(KEYS[5])
lease_index.open(KEYS[3])
hosts.open(pending, 7, ARGV[12])

local function integer(number) -- much faster than the conversion of a number argument by Redis
  return string.format('%.0f', number)
end

local find_aborts = ARGV[8] == '1' and redis.call('ZCARD', abort) > 0
local lease_end = integer(now + tonumber(ARGV[3]))
local progress_end = integer(clock.server_ms + tonumber(ARGV[3])) -- PXAT, since Redis rewrites each command with PX
local head = token .. '|' .. lease_end .. '|'
local claimed, payloads_claimed, original_scores, details = {}, {}, {}, {}
local claimed_count, bytes = 0, 0
local is_one_score = true

local function prefixed(prefix, ids)
  local names = {}
  for i = 1, #ids do
    names[i] = prefix .. ids[i]
  end
  return names
end

local function reply(due_left, wait_ms, skip)
  return {redis.call('ZCARD', pending), due_left, wait_ms, skip, clock.server_ms, claimed, payloads_claimed,
    is_one_score and {original_scores[1]} or original_scores, details}
end

-- Restores the original scores of jobs whose leases have ended, so that a dead worker's jobs run next, not last. The
-- record stays: until another worker claims the job, its old run can renew the lease or commit.
local function requeue_ended()
  local ended, records = pop_ended_leases(leases, pending, now, MAX_ENDED)
  if #ended == 0 then
    return
  end
  local requeued, over = {}, {}
  local progress = redis.call('MGET', unpack(prefixed(progress_key, ended)))
  local tries = redis.call('MGET', unpack(prefixed(retry_key, ended)))
  for i = 1, #ended do
    local id, holder, its_end, score = ended[i], lease_record.parse(records[i])
    if holder and tonumber(its_end) <= now then
      local runs_elsewhere = progress[i] and progress[i] ~= holder -- by a stock worker
      if runs_elsewhere or not redis.call('ZSCORE', pending, id) then
        redis.call('HDEL', leases, id)
        over[#over + 1] = id
      else
        redis.call('ZADD', pending, 'XX', score, id)
        requeued[#requeued + 1] = id
        if not tries[i] then
          redis.call('SET', retry_key .. id, '1', 'EX', retry_count.TTL_S) -- for a stock worker that may claim it next
        end
      end
    end
  end
  release_runs(requeued, 'lease_ended')
  release_runs(over, 'ended')
end

local function save_leases()
  if claimed_count > 0 then
    add_to_lease_index(head, lease_end, claimed_count)
    lease_index.save()
  end
end

-- Removes the TTL of a payload while the job is leased. Returns the expiry to restore if the job returns to the queue:
-- one that a client chose, '' for the default of a stock client.
local function persist_payload(payload_key, score, expires_at)
  local ttl = redis.call('PTTL', payload_key)
  if ttl <= 0 then
    return expires_at
  end
  redis.call('PERSIST', payload_key)
  return is_default_expiry(now + ttl, tonumber(score), default_ttl_ms) and '' or integer(now + ttl)
end

-- Selects the jobs of a page that are free. Returns how many jobs are held by others, and as parallel lists: the free
-- ids, their in-progress keys, original scores, payload expiries and, where a lease has ended, its head.
local function select_free(ids, ids_scores)
  local records = redis.call('HMGET', leases, unpack(ids))
  local progress_keys = prefixed(progress_key, ids)
  local progress = redis.call('MGET', unpack(progress_keys))
  local free, free_keys, scores, expiries, heads, skipped = {}, {}, {}, {}, {}, 0
  local wanted, at = limit - claimed_count, 0
  for i = 1, #ids do
    if at == wanted then
      break
    end
    local score = ids_scores[i]
    local holder, its_end, original, expires_at
    if records[i] then
      holder, its_end, original, expires_at = lease_record.parse(records[i])
    end
    if holder and tonumber(its_end) > now then
      redis.call('ZADD', pending, 'XX', its_end, ids[i]) -- it is leased; a stock client's abort moved it to the front
    elseif progress[i] and progress[i] ~= holder then
      skipped = skipped + 1 -- a stock worker runs it, or it is a cron job that has just run
    else
      at = at + 1
      free[at], free_keys[at], expiries[at] = ids[i], progress_keys[i], expires_at
      scores[at] = (holder and tonumber(score) == tonumber(its_end)) and original or score
      if holder then
        heads[at] = lease_record.head(records[i])
      end
    end
  end
  return skipped, free, free_keys, scores, expiries, heads
end

-- Leases jobs that are free, up to the limit in bytes.
local function lease(ids, progress_keys, scores, expiries, heads)
  local leased = 0
  local payload_keys, retry_keys = prefixed(job_key, ids), prefixed(retry_key, ids)
  local payloads = redis.call('MGET', unpack(payload_keys))
  local tries = redis.call('MGET', unpack(retry_keys))
  local lease_args, pending_args = {}, {}
  for i = 1, #ids do
    if bytes >= max_bytes then
      break
    end
    local id, payload, score, expires_at = ids[i], payloads[i], scores[i], expiries[i] or ''
    local tried = tries[i] and tonumber(tries[i]) or 0
    local try = (tried >= 0 and tried < MAX_TRIES) and math.floor(tried) + 1 or 1
    if heads[i] then
      lease_index.remove(heads[i])
      try = math.max(try, 2) -- the first try was counted only in the lease that ended
    end
    if payload then
      bytes = bytes + #payload
      expires_at = persist_payload(payload_keys[i], score, expires_at)
    end
    if try > 1 or tries[i] then
      redis.call('SET', retry_keys[i], integer(try), 'EX', retry_count.TTL_S)
    end
    redis.call('SET', progress_keys[i], token, 'PXAT', progress_end)
    leased = i
    lease_args[2 * i - 1], lease_args[2 * i] = id, head .. score .. '|' .. expires_at
    pending_args[2 * i - 1], pending_args[2 * i] = lease_end, id
    local at = claimed_count + i
    claimed[at], payloads_claimed[at], original_scores[at] = id, payload, score
    is_one_score = is_one_score and score == original_scores[1]
    local is_aborted = find_aborts and redis.call('ZSCORE', abort, id)
    if try > 1 or tries[i] or is_aborted then
      local n = #details
      details[n + 1], details[n + 2], details[n + 3] = at - 1, try, is_aborted and 1 or 0
    end
  end
  if leased > 0 then
    redis.call('HSET', leases, unpack(lease_args))
    redis.call('ZADD', pending, unpack(pending_args))
    claimed_count = claimed_count + leased
  end
end

-- Claims the free jobs of a page of ids and scores. Returns how many jobs of it are held by others.
local function claim_page(ids, ids_scores)
  local skipped, free, free_keys, scores, expiries, heads = select_free(ids, ids_scores)
  if #free > 0 then
    lease(free, free_keys, scores, expiries, heads)
  end
  return skipped
end

requeue_ended()
due_hosts.process(math.max(limit, MIN_DUE_HOSTS))
hosts.save()

if redis.call('EXISTS', KEYS[6]) == 1 then
  return reply(0, -1, 0)
end

if #ARGV >= FIRST_ID then
  local ids, ids_scores = {}, {}
  for i = FIRST_ID, #ARGV do
    local score = redis.call('ZSCORE', pending, ARGV[i])
    if score and tonumber(score) <= now and #ids < limit then
      ids[#ids + 1] = ARGV[i]
      ids_scores[#ids] = score
    end
  end
  if #ids > 0 then
    claim_page(ids, ids_scores)
  end
  save_leases()
  return reply(0, -1, 0)
end

local same_score = {}
same_score.__index = function(page)
  return page.score
end

-- Reads a page of ids and scores of a range. Jobs that were enqueued together share a score, which is then read once:
-- Redis takes long to format a score.
local function read_page(from, to, skip, size)
  if skip == 0 and size > MIN_SAME_SCORE then
    local first = redis.call('ZRANGEBYSCORE', pending, from, to, 'WITHSCORES', 'LIMIT', 0, 1)
    if #first == 0 then
      return first
    end
    local ids = redis.call('ZRANGEBYSCORE', pending, first[2], first[2], 'LIMIT', 0, size)
    if #ids > MIN_SAME_SCORE then
      return ids, setmetatable({score = first[2]}, same_score)
    end
  end
  local ids, ids_scores = {}, {}
  local page = redis.call('ZRANGEBYSCORE', pending, from, to, 'WITHSCORES', 'LIMIT', skip, size)
  for i = 1, #page, 2 do
    ids[#ids + 1] = page[i]
    ids_scores[#ids] = page[i + 1]
  end
  return ids, ids_scores
end

local pages = 0

-- Claims from one range of scores, after `skip` jobs of it. Returns whether its end was reached, and the `skip` for the
-- next call.
local function claim_range(from, to, skip)
  while claimed_count < limit and bytes < max_bytes and pages < MAX_PAGES do
    local size = pages == 0 and math.min(PAGE, limit) or PAGE
    local ids, ids_scores = read_page(from, to, skip, size)
    if #ids == 0 then
      return true, skip
    end
    skip = skip + claim_page(ids, ids_scores)
    pages = pages + 1
  end
  return #redis.call('ZRANGEBYSCORE', pending, from, to, 'LIMIT', skip, 1) == 0, skip
end

local is_exhausted
local in_other_lanes = redis.call('ZRANGEBYSCORE', pending, '-inf', integer(scores.LOW_BELOW), 'LIMIT', 0, 1)
if #in_other_lanes == 0 then
  is_exhausted, skip_next = claim_range('-inf', integer(now), skip_next)
else
  is_exhausted = true
  for lane in string.gmatch(ARGV[13], '%a') do
    local from, to = ready_range(lane, now)
    local is_end
    if lane == 'd' then
      is_end, skip_next = claim_range(from, to, skip_next)
    else
      is_end = claim_range(from, to, 0)
    end
    is_exhausted = is_exhausted and is_end
  end
end

save_leases()

-- While claimable jobs remain, each worker wakes the next. Jobs held by others wake none.
local due_left = 0
if is_exhausted then
  skip_next = 0
  redis.call('DEL', KEYS[5])
else
  due_left = 1
  if claimed_count > 0 then
    wake.workers(1)
  end
  if claimed_count == limit or bytes >= max_bytes then -- otherwise all jobs read are leased: the next call skips them
    skip_next = 0
  end
end
local before_parked = '(' .. integer(scores.PARKED)
local next_due = redis.call('ZRANGEBYSCORE', pending, '(' .. integer(now), before_parked, 'WITHSCORES', 'LIMIT', 0, 1)
local wait_ms = next_due[2] and math.ceil(tonumber(next_due[2]) - now)
local next_host_ms = due_hosts.next_ms()
if next_host_ms and (not wait_ms or next_host_ms < wait_ms) then
  wait_ms = next_host_ms
end
return reply(due_left, wait_ms or -1, skip_next)
