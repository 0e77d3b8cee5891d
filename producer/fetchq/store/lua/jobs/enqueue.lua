-- Puts a batch of jobs on the queue, each unless its id is taken, as far as there is room, and wakes idle workers.
--
-- KEYS[1]  pending: sorted set of job ids by the ms at which they are due
-- KEYS[2]  wake: list of at most 8 tokens, each of which wakes one idle worker      KEYS[3..8]  the frontier's
-- ARGV[1]  prefix of the payload keys      ARGV[2]  prefix of the result keys
-- ARGV[3]  now in ms, for tests; '' for Redis's own clock      ARGV[4]  prefix of the queues of limit keys
-- ARGV[5]  how many jobs the queue may hold, those that run included; '' for any number
-- ARGV[6]  the share of maxmemory from which on nothing is added; '' where memory is not to be looked at now
-- ARGV[7...] five a job: id, payload, due ('' at once, '+N' in N ms, 'N' at N ms since the epoch),
--     limit key ('' none, or one that only a worker can know), lane ('', 'h', 'l') followed by the deadline in ms, if any,
--     and by '~' with the payload's TTL in ms, if any
--
-- Returns {taken, stopped, why, measured, limit}:
--   taken    a flat list of pairs, one for each id that was taken: its place in the batch from 1, and what holds it (the
--            payload of the job, or the result; '' if that is no string). An empty list: all are new.
--   stopped  the place of the first job for which there was no room: neither it nor any after it was looked at; 0: none
--   why      'queue' or 'memory', and of that what was measured and the limit; '', 0, 0 where nothing was stopped
--
-- Atomic, since two producers with one idempotency key must not both add, since a payload without its place in the
-- queue (or the reverse) would be a lost job, and since producers beside each other must not together pass the limit.
-- The keys of the jobs are made from prefixes: all of a namespace are in one slot.
-- A job whose host is full goes to that host's queue at once: a million of them stand in nobody's way.

--#include frontier

local WAKE_CAP = 8
local WAKE_AHEAD_MS = 60000 -- an idle worker that sleeps must hear of a job due sooner than it would look again
local WIDTH, FIRST = 5, 7
local MAX_AT_ONCE = 2000 -- Lua's `unpack` gives up at 8000 values

local pending, wake = KEYS[1], KEYS[2]

local now_us = frontier.clock(ARGV[3])
local now = math.floor(now_us / 1000)

-- What fails, fails here: an error after the first payload would leave it without its place in the queue.
local wakes = redis.call('LLEN', wake)
local queued = redis.call('ZCARD', pending)
frontier.open(3, ARGV[4], pending, now_us)

if ARGV[6] ~= '' then
  local info = redis.pcall('INFO', 'memory') -- a server that does not say (no INFO, no permission) refuses by itself
  if type(info) == 'string' then
    local used, limit = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
    if used and limit and tonumber(limit) > 0 and tonumber(used) >= tonumber(limit) * tonumber(ARGV[6]) then
      return {{}, 1, 'memory', tonumber(used), tonumber(limit)}
    end
  end
end

local function string_at(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end

local limit_keys, ids_keys, payloads, seen = {}, {}, {}, {}
local cap = tonumber(ARGV[5])
local all_new = #ARGV < FIRST + WIDTH * MAX_AT_ONCE
for i = FIRST, #ARGV, WIDTH do
  local id, key = ARGV[i], frontier.told(ARGV[i + 3])
  if key ~= '' then
    limit_keys[#limit_keys + 1] = key
  end
  local at, job_key = #payloads, ARGV[1] .. id
  payloads[at + 1], payloads[at + 2] = job_key, ARGV[i + 1]
  ids_keys[at + 1], ids_keys[at + 2] = job_key, ARGV[2] .. id
  all_new = all_new and not seen[id]
  seen[id] = true
end
frontier.load(limit_keys)

-- As a rule all of a batch are new and there is room for them: two commands see to that, and not two for each job.
all_new = all_new and #payloads > 0 and not (cap and queued + #payloads / 2 > cap)
  and redis.call('EXISTS', unpack(ids_keys)) == 0
if all_new then
  redis.call('MSET', unpack(payloads))
end

local now_scores = {}
local function standing_score(lane, at)
  if at ~= now then
    return frontier.standing_score(lane, at)
  end
  local score = now_scores[lane]
  if not score then
    score = frontier.standing_score(lane, at)
    now_scores[lane] = score
  end
  return score
end

local taken, scores, soon, stopped = {}, {}, 0, 0
for i = FIRST, #ARGV, WIDTH do
  local id, due, key, note = ARGV[i], ARGV[i + 2], frontier.told(ARGV[i + 3]), ARGV[i + 4]
  local job_key, result_key = ARGV[1] .. id, ARGV[2] .. id
  local place = (i - FIRST) / WIDTH + 1
  if not all_new and redis.call('EXISTS', job_key, result_key) > 0 then
    taken[#taken + 1] = place
    taken[#taken + 1] = string_at(result_key) or string_at(job_key) or ''
  elseif cap and queued >= cap then
    stopped = place
    break
  else
    queued = queued + 1
    local at = now
    if due ~= '' then
      at = string.sub(due, 1, 1) == '+' and now + tonumber(due) or tonumber(due)
    end
    local lane, deadline, ttl = '', '', ''
    if note ~= '' then
      lane, deadline, ttl = string.match(note, '^([hl]?)(%d*)~?(%d*)$')
    end
    if not all_new then
      redis.call('SET', job_key, ARGV[i + 1])
    end
    if ttl ~= '' then
      redis.call('PEXPIRE', job_key, ttl)
    end
    local stands = at <= now
    if stands and key ~= '' then
      local record = frontier.record(key)
      stands = record.waiting == 0 and frontier.room(key, record, record.standing) > 0
      if stands then
        record.standing = record.standing + 1
      else
        frontier.park(key, record, id, lane, at, deadline)
      end
    end
    if stands then
      scores[#scores + 1] = standing_score(lane, at)
      scores[#scores + 1] = id
    elseif at > now and lane ~= '' then
      frontier.defer(id, lane, at)
    elseif at > now then
      scores[#scores + 1] = string.format('%.0f', at)
      scores[#scores + 1] = id
    end
    if at <= now + WAKE_AHEAD_MS and (stands or at > now) then
      soon = soon + 1
    end
  end
end

if #scores > 0 then
  redis.call('ZADD', pending, unpack(scores))
end
local promoted, nearer = frontier.save()
soon = soon + promoted + (nearer and 1 or 0)
for _ = wakes + 1, math.min(WAKE_CAP, soon) do
  redis.call('RPUSH', wake, '1')
end
if stopped > 0 then
  return {taken, stopped, 'queue', queued, cap}
end
return {taken, 0, '', 0, 0}
