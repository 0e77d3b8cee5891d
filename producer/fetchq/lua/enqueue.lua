-- Puts a batch of jobs on the queue, each unless its id is taken, as far as there is room, and wakes idle workers.
--
-- KEYS[1]  pending: sorted set of job ids by the ms at which they are due
-- KEYS[2]  wake: list of at most 8 tokens, each of which wakes one idle worker
-- ARGV[1]  prefix of the payload keys      ARGV[2]  prefix of the result keys
-- ARGV[3]  now in ms, for tests; '' for Redis's own clock
-- ARGV[4]  how many jobs the queue may hold, those that run included; '' for any number
-- ARGV[5]  the share of maxmemory from which on nothing is added; '' where memory is not to be looked at now
-- ARGV[6...] three a job: id, payload, due ('' at once, '+N' in N ms, 'N' at N ms since the epoch)
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

local WAKE_CAP = 8
local WAKE_AHEAD_MS = 60000 -- an idle worker that sleeps must hear of a job due sooner than it would look again
local FIRST, WIDTH = 6, 3

local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- What fails, fails here: an error after the first payload would leave it without its place in the queue.
local wakes = redis.call('LLEN', KEYS[2])
local queued = redis.call('ZCARD', KEYS[1])

if ARGV[5] ~= '' then
  local info = redis.pcall('INFO', 'memory') -- a server that does not say (no INFO, no permission) refuses by itself
  if type(info) == 'string' then
    local used, limit = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
    if used and limit and tonumber(limit) > 0 and tonumber(used) >= tonumber(limit) * tonumber(ARGV[5]) then
      return {{}, 1, 'memory', tonumber(used), tonumber(limit)}
    end
  end
end

local function string_at(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end

local cap = tonumber(ARGV[4])
local taken, added, scores, soon, stopped = {}, {}, {}, 0, 0
for i = FIRST, #ARGV, WIDTH do
  local id, due = ARGV[i], ARGV[i + 2]
  local job_key, result_key = ARGV[1] .. id, ARGV[2] .. id
  local place = (i - FIRST) / WIDTH + 1
  if redis.call('EXISTS', job_key, result_key) > 0 then
    taken[#taken + 1] = place
    taken[#taken + 1] = string_at(result_key) or string_at(job_key) or ''
  elseif cap and queued + #added >= cap then
    stopped = place
    break
  else
    redis.call('SET', job_key, ARGV[i + 1])
    added[#added + 1] = job_key
    local score = now
    if due ~= '' then
      score = string.sub(due, 1, 1) == '+' and now + tonumber(due) or tonumber(due)
    end
    scores[#scores + 1] = string.format('%.0f', score)
    scores[#scores + 1] = id
    if score <= now + WAKE_AHEAD_MS then
      soon = soon + 1
    end
  end
end

if #added > 0 then
  local reply = redis.pcall('ZADD', KEYS[1], unpack(scores))
  if type(reply) == 'table' and reply.err then
    redis.call('DEL', unpack(added))
    return reply
  end
  for _ = wakes + 1, math.min(WAKE_CAP, soon) do
    redis.call('RPUSH', KEYS[2], '1')
  end
end
if stopped > 0 then
  return {taken, stopped, 'queue', queued + #added, cap}
end
return {taken, 0, '', 0, 0}
