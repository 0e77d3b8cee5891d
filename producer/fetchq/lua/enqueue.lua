-- Puts a batch of jobs on the queue, each unless its id is taken, and wakes idle workers.
--
-- KEYS[1]  pending: sorted set of job ids by the ms at which they are due
-- KEYS[2]  wake: list of at most 8 tokens, each of which wakes one idle worker      KEYS[3..8]  the frontier's
-- ARGV[1]  prefix of the payload keys      ARGV[2]  prefix of the result keys
-- ARGV[3]  now in ms, for tests; '' for Redis's own clock      ARGV[4]  prefix of the queues of limit keys
-- ARGV[5...] five a job: id, payload, due ('' at once, '+N' in N ms, 'N' at N ms since the epoch),
--     limit key ('' none, or one that only a worker can know), lane ('', 'h', 'l') followed by the deadline in ms, if any
--
-- Returns a flat list of pairs, one for each id that was taken: its place in the batch from 1, and what holds it (the
-- payload of the job, or the result; '' if that is no string). An empty list: all are new.
--
-- Atomic, since two producers with one idempotency key must not both add, and since a payload without its place in the
-- queue (or the reverse) would be a lost job. The keys of the jobs are made from prefixes: all of a namespace are in one slot.
-- A job whose host is full goes to that host's queue at once: a million of them stand in nobody's way.

--#include frontier

local WAKE_CAP = 8
local WAKE_AHEAD_MS = 60000 -- an idle worker that sleeps must hear of a job due sooner than it would look again
local WIDTH, FIRST = 5, 5

local pending, wake = KEYS[1], KEYS[2]

local now_us
if ARGV[3] == '' then
  local time = redis.call('TIME')
  now_us = time[1] * 1000000 + time[2]
else
  now_us = tonumber(ARGV[3]) * 1000
end
local now = math.floor(now_us / 1000)

-- What fails, fails here: an error after the first payload would leave it without its place in the queue.
local wakes = redis.call('LLEN', wake)
redis.call('ZCARD', pending)
frontier.open(3, ARGV[4], pending, now_us)

local function string_at(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end

-- Where limits belong to something else than the host, a producer cannot know the key: the first claimer finds it out.
local by = frontier.any_limits and redis.call('HGET', frontier.limits, '@by')
local host_counts = not by or by == 'host'

local function limit_key(key)
  return (host_counts or string.sub(key, 1, 4) == 'key:') and key or ''
end

local limit_keys = {}
for i = FIRST, #ARGV, WIDTH do
  local key = limit_key(ARGV[i + 3])
  if key ~= '' then
    limit_keys[#limit_keys + 1] = key
  end
end
frontier.load(limit_keys)

local taken, scores, soon = {}, {}, 0
for i = FIRST, #ARGV, WIDTH do
  local id, due, key, note = ARGV[i], ARGV[i + 2], limit_key(ARGV[i + 3]), ARGV[i + 4]
  local job_key, result_key = ARGV[1] .. id, ARGV[2] .. id
  if redis.call('EXISTS', job_key, result_key) > 0 then
    taken[#taken + 1] = (i - FIRST) / WIDTH + 1
    taken[#taken + 1] = string_at(result_key) or string_at(job_key) or ''
  else
    local at = now
    if due ~= '' then
      at = string.sub(due, 1, 1) == '+' and now + tonumber(due) or tonumber(due)
    end
    local lane, deadline = '', ''
    if note ~= '' then
      lane, deadline = string.match(note, '^([hl]?)(%d*)$')
    end
    redis.call('SET', job_key, ARGV[i + 1])
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
      scores[#scores + 1] = frontier.standing_score(lane, at)
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
soon = soon + frontier.save()
for _ = wakes + 1, math.min(WAKE_CAP, soon) do
  redis.call('RPUSH', wake, '1')
end
return taken
