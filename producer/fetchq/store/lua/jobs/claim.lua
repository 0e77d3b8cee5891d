#!lua flags=allow-oom
-- Claims due jobs for one worker: each gets a lease, and its payload comes back in the same reply.
--
-- KEYS[1]  pending: sorted set of job ids by the ms at which they are due
-- KEYS[2]  leases: hash of id -> token|lease end|original score|when the payload was to expire ('' never)
-- KEYS[3]  lease ends: sorted set, that of ends.lua
-- KEYS[4]  abort: sorted set of the ids whose cancelling was asked for      KEYS[5]  wake: list of wake tokens
-- KEYS[6]  paused: there if nothing is to be claimed      KEYS[7..12]  the frontier's
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  token: the fencing token of all that this call claims, used by no other call
-- ARGV[3]  how long the lease lasts, in ms
-- ARGV[4]  how many jobs at most         ARGV[5]  how many bytes of payloads after which no more are taken
-- ARGV[6]  how many due jobs to pass over, since an earlier call found them held by others
-- ARGV[7]  the life in ms that a stock client gives a payload beyond the time at which its job is due
-- ARGV[8]  '1' to look for jobs whose cancelling was asked for
-- ARGV[9..12]  prefixes of the payload, retry and in-progress keys, and of the queues of limit keys
-- ARGV[13]  the lanes in the order in which to look: 'h' high, 'd' default, 'l' low
-- ARGV[14...]  ids, to claim only from among these; without any, the jobs that have been due longest
--
-- Returns {how many are pending or running, 1 if due jobs are left for another call,
--          ms until the next job is due, lease ends or turn comes (-1: none), ARGV[6] for the next call, Redis's clock in ms,
--          ids of the jobs, their payloads (nil: gone, or not a string), their original scores (one alone: it is that of all),
--          of those whose tries are counted in a retry key, or whose cancelling was asked for, flat: place in `ids` from 0,
--          which try this is (1 for all others), 1 if its cancelling was asked for}.
--
-- Atomic, since a job must not be taken twice, and its lease, its in-progress key (which tells stock workers to leave
-- it) and its place in the queue must change as one. Nothing here fails for keys of one job that hold the wrong type:
-- MGET reads those as nil and SET replaces them, so that one bad job harms no other. A job's first try stands in its lease
-- record only: its retry key is written where that is not enough, for a second try and for stock workers. It runs in a
-- Redis that is full, since claiming is how that drains.

--#include lease_index
--#include frontier

local PAGE = 128 -- payloads are read this many at a time, so that little is read beyond the bound in bytes
local MAX_PAGES = 40
local MAX_ENDED = 500
local FEW = 16 -- jobs of one score: fewer are not worth a command of their own
local RETRY_TTL_S = '88400' -- arq's
local MAX_TRIES = 2 ^ 31
local DEFAULT_LIFE_TOLERANCE_MS = 600000 -- between a stock client's clock and Redis's

local pending, leases, abort, wake = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
local token, want, max_bytes = ARGV[2], math.min(tonumber(ARGV[4]), ends.MOST), tonumber(ARGV[5])
local passed, default_life_ms = tonumber(ARGV[6]), tonumber(ARGV[7])
local job_key, retry_key, progress_key = ARGV[9], ARGV[10], ARGV[11]

local time = redis.call('TIME')
local clock_us = time[1] * 1000000 + time[2]
local now_us = ARGV[1] == '' and clock_us or tonumber(ARGV[1]) * 1000
local clock, now = math.floor(clock_us / 1000), math.floor(now_us / 1000)

local function ms(number)
  return string.format('%.0f', number)
end

local function prefixed(prefix, ids)
  local keys = {}
  for i = 1, #ids do
    keys[i] = prefix .. ids[i]
  end
  return keys
end

-- What a lease record says; nothing of one that no worker wrote, which must not stop the jobs of all others.
local function read(record)
  if record then
    local holder, its_end, score, expires_at = string.match(record, '^([^|]*)|(%d+)|([-+.%dinfe]+)|(%d*)$')
    local place = tonumber(score)
    if place and place == place and #its_end < 17 and #expires_at < 17 then
      return holder, its_end, score, expires_at
    end
  end
end

-- Leases that have ended: the job goes back to where it stood, so that a dead worker's job is next, not last. The record
-- stays: until somebody else claims the job, its old run may still renew the lease or commit.
local function restore_ended()
  local ended, records = ends.ended(leases, pending, now, MAX_ENDED)
  if #ended == 0 then
    return
  end
  local again, over = {}, {}
  local progress = redis.call('MGET', unpack(prefixed(progress_key, ended)))
  local tries = redis.call('MGET', unpack(prefixed(retry_key, ended)))
  for i = 1, #ended do
    local id, holder, its_end, score = ended[i], read(records[i])
    if holder and tonumber(its_end) <= now then
      local elsewhere = progress[i] and progress[i] ~= holder -- a stock worker runs it now
      if elsewhere or not redis.call('ZSCORE', pending, id) then
        redis.call('HDEL', leases, id)
        over[#over + 1] = id
      else
        redis.call('ZADD', pending, 'XX', score, id)
        again[#again + 1] = id
        if not tries[i] then
          redis.call('SET', retry_key .. id, '1', 'EX', RETRY_TTL_S) -- for a stock worker, should one be next
        end
      end
    end
  end
  frontier.release(again, true, false)
  frontier.release(over, false, true)
end

-- A key of the whole queue that holds a wrong type fails the call while nothing has changed yet: what was claimed by a
-- call that fails, nobody would hear of.
redis.call('LLEN', wake)
ends.open(KEYS[3])
frontier.open(7, ARGV[12], pending, now_us)

local look_at_aborts = ARGV[8] == '1' and redis.call('ZCARD', abort) > 0
local lease_end = ms(now + tonumber(ARGV[3])) -- numbers go to Redis as strings: it formats them at great length
local progress_end = ms(clock + tonumber(ARGV[3])) -- given in ms from now, Redis would rewrite the command for each job
local lease_head = token .. '|' .. lease_end .. '|'
local claimed, claimed_payloads, claimed_scores, unlike_most = {}, {}, {}, {}
local taken, bytes = 0, 0
local one_score = true

local function reply(due_left, wait_ms, to_pass)
  return {redis.call('ZCARD', pending), due_left, wait_ms, to_pass, clock, claimed, claimed_payloads,
    one_score and {claimed_scores[1]} or claimed_scores, unlike_most}
end

local function note_ends()
  if taken > 0 then
    ends.add(lease_head, lease_end, taken)
    ends.save()
  end
end

-- The life of the payload is the lease's from here on. One that a client limited on purpose gets that limit back if the
-- job returns to the queue; the default of a stock client limits nothing.
local function keep_payload(payload_key, score, expires_at)
  local ttl = redis.call('PTTL', payload_key)
  if ttl <= 0 then
    return expires_at
  end
  redis.call('PERSIST', payload_key)
  local at = now + ttl
  if math.abs(at - tonumber(score) - default_life_ms) <= DEFAULT_LIFE_TOLERANCE_MS then
    return ''
  end
  return ms(at)
end

-- Takes what may be taken of a page of ids and their scores. Returns how many of it stay where they are.
local function take(ids, their_scores)
  local records = redis.call('HMGET', leases, unpack(ids))
  local progress_keys = prefixed(progress_key, ids)
  local progress = redis.call('MGET', unpack(progress_keys))
  local free, free_progress_keys, scores, limits, started, left = {}, {}, {}, {}, {}, 0
  for i = 1, #ids do
    if #free == want - taken then
      break
    end
    local score = their_scores[i]
    local holder, its_end, original, expires_at
    if records[i] then
      holder, its_end, original, expires_at = read(records[i])
    end
    if holder and tonumber(its_end) > now then
      redis.call('ZADD', pending, 'XX', its_end, ids[i]) -- it runs; a stock client's abort had moved it to the front
    elseif progress[i] and progress[i] ~= holder then
      left = left + 1 -- a stock worker runs it, or it is a cron job that has just run
    else
      free[#free + 1] = ids[i]
      free_progress_keys[#free] = progress_keys[i]
      scores[#free] = (holder and tonumber(score) == tonumber(its_end)) and original or score
      limits[#free] = expires_at
      if holder then
        started[#free] = ends.head(records[i])
      end
    end
  end
  if #free == 0 then
    return left
  end
  local payload_keys, retry_keys = prefixed(job_key, free), prefixed(retry_key, free)
  local payloads = redis.call('MGET', unpack(payload_keys))
  local tries = redis.call('MGET', unpack(retry_keys))
  local lease_args, pending_args, moved = {}, {}, 0
  for i = 1, #free do
    if bytes >= max_bytes then
      break
    end
    local id, payload, score = free[i], payloads[i], scores[i]
    local tried = tries[i] and tonumber(tries[i]) or 0
    local try = (tried >= 0 and tried < MAX_TRIES) and math.floor(tried) + 1 or 1
    if started[i] then
      ends.drop(started[i])
      try = math.max(try, 2) -- the first try is not written down but by its lease, which ended
    end
    local expires_at = limits[i] or ''
    if payload then
      bytes = bytes + #payload
      expires_at = keep_payload(payload_keys[i], score, expires_at)
    end
    if try > 1 or tries[i] then
      redis.call('SET', retry_keys[i], ms(try), 'EX', RETRY_TTL_S)
    end
    redis.call('SET', free_progress_keys[i], token, 'PXAT', progress_end)
    moved = i
    lease_args[2 * i - 1] = id
    lease_args[2 * i] = lease_head .. score .. '|' .. expires_at
    pending_args[2 * i - 1] = lease_end
    pending_args[2 * i] = id
    local at = taken + i
    claimed[at], claimed_payloads[at], claimed_scores[at] = id, payload, score
    one_score = one_score and score == claimed_scores[1]
    local aborted = look_at_aborts and redis.call('ZSCORE', abort, id)
    if try > 1 or tries[i] or aborted then
      local place = #unlike_most
      unlike_most[place + 1], unlike_most[place + 2], unlike_most[place + 3] = at - 1, try, aborted and 1 or 0
    end
  end
  if moved > 0 then
    redis.call('HSET', leases, unpack(lease_args))
    redis.call('ZADD', pending, unpack(pending_args))
    taken = taken + moved
  end
  return left
end

restore_ended()
frontier.take_turns(math.max(want, 100))
frontier.save()

if redis.call('EXISTS', KEYS[6]) == 1 then
  return reply(0, -1, 0)
end

if #ARGV >= 14 then
  local ids, scores = {}, {}
  for i = 14, #ARGV do
    local score = redis.call('ZSCORE', pending, ARGV[i])
    if score and tonumber(score) <= now and #ids < want then
      ids[#ids + 1] = ARGV[i]
      scores[#ids] = score
    end
  end
  if #ids > 0 then
    take(ids, scores)
  end
  note_ends()
  return reply(0, -1, 0)
end

local pages = 0

local one_for_all = {}
one_for_all.__index = function(scores)
  return scores.of_all
end

-- Some ids of a range and their scores. Those of jobs that were enqueued together are one and the same, which is asked for
-- once: Redis spells out each score that it tells, with care.
local function page_of(from, to, skip, size)
  if skip == 0 and size > FEW then
    local head = redis.call('ZRANGEBYSCORE', pending, from, to, 'WITHSCORES', 'LIMIT', 0, 1)
    if #head == 0 then
      return head
    end
    local ids = redis.call('ZRANGEBYSCORE', pending, head[2], head[2], 'LIMIT', 0, size)
    if #ids > FEW then
      return ids, setmetatable({of_all = head[2]}, one_for_all)
    end
  end
  local page, ids, scores = redis.call('ZRANGEBYSCORE', pending, from, to, 'WITHSCORES', 'LIMIT', skip, size), {}, {}
  for i = 1, #page, 2 do
    ids[#ids + 1] = page[i]
    scores[#ids] = page[i + 1]
  end
  return ids, scores
end

-- Takes from one range of scores, beginning after `skip` of them. Returns whether it has been seen to its end, and where
-- to go on.
local function take_range(from, to, skip)
  while taken < want and bytes < max_bytes and pages < MAX_PAGES do
    local size = pages == 0 and math.min(PAGE, want) or PAGE
    local ids, scores = page_of(from, to, skip, size)
    if #ids == 0 then
      return true, skip
    end
    skip = skip + take(ids, scores)
    pages = pages + 1
  end
  return #redis.call('ZRANGEBYSCORE', pending, from, to, 'LIMIT', skip, 1) == 0, skip
end

local exhausted
local _, lowest = frontier.range('l', now)
if #redis.call('ZRANGEBYSCORE', pending, '-inf', lowest, 'LIMIT', 0, 1) == 0 then -- as a rule: nothing in the other lanes
  exhausted, passed = take_range('-inf', ms(now), passed)
else
  exhausted = true
  for lane in string.gmatch(ARGV[13], '%a') do
    local from, to = frontier.range(lane, now)
    local seen
    if lane == 'd' then
      seen, passed = take_range(from, to, passed)
    else
      seen = take_range(from, to, 0)
    end
    exhausted = exhausted and seen
  end
end

note_ends()

-- One worker wakes the next for as long as something is left. What is held by others is nothing to wake anybody for.
local due_left = 0
if exhausted then
  passed = 0
  redis.call('DEL', wake)
else
  due_left = 1
  if taken > 0 and redis.call('LLEN', wake) == 0 then
    redis.call('RPUSH', wake, '1')
  end
  if taken == want or bytes >= max_bytes then -- else all that was looked at was others', or taken: it looks on from there
    passed = 0
  end
end
local next_due = redis.call('ZRANGEBYSCORE', pending, '(' .. ms(now), '(' .. ms(frontier.PARKED), 'WITHSCORES', 'LIMIT', 0, 1)
local wait_ms = next_due[2] and math.ceil(tonumber(next_due[2]) - now)
local turn_ms = frontier.next_turn()
if turn_ms and (not wait_ms or turn_ms < wait_ms) then
  wait_ms = turn_ms
end
return reply(due_left, wait_ms or -1, passed)
