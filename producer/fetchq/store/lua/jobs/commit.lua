#!lua flags=allow-oom
-- Commits what became of a batch of jobs: finished, to be run again, or given back with the try not counted.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  leases: hash of id -> token|lease end|original score|expires at
-- KEYS[3]  lease ends: sorted set               KEYS[4]  abort: sorted set of ids      KEYS[5]  wake: list of tokens
-- KEYS[6..11]  the frontier's      KEYS[12]  dead: sorted set of the ids of dead letters by the ms at which they ended
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2..6]  prefixes of the payload, retry, in-progress, result and attempts keys
-- ARGV[7]  prefix of the push channels     ARGV[8]  how many characters of an id name its channel
-- ARGV[9]  prefix of the queues of limit keys
-- ARGV[10]  prefix of the dead letters      ARGV[11]  how long one is kept, in ms      ARGV[12]  how many are, at most
-- ARGV[13...]  what became of some jobs alike: how many they are, token, verb, time, marker, note, letter; then of each of
--     them: id, result. And again of others.
--     verb 'finish'  store `result` for `time` ms ('' for ever, '0' not at all), then remove the job
--     verb 'clean'   the same for a job that has no retry key and no record of attempts, which the worker knows of a first try
--     verb 'missing' the same for a job without a payload: a result that is there already stays
--     verb 'retry'   due `time` ms from now ('' at its original score)
--     verb 'release' the same, and the try is not counted
--     verb 'release_traced' the same, and the next claim is to know that there is more of the job than payload and lease: it
--             keeps a retry key, which may say '0'
--     marker  how long the in-progress key is to outlast the job, in ms ('' not at all): arq's guard of cron jobs
--     note    what the run says of its limit key ('+' it is well, '-' a connection to it failed, '=' neither) and a word for
--             people; '' nothing
--     letter  with 'finish' and 'missing': what a dead letter is to say beside the payload, msgpack ('' there is none)
--
-- Returns {ids of which another owner holds the job or nobody any more: nothing of theirs was changed,
--          ids whose result or letter Redis would not store: they keep their lease, error of the last of these or '',
--          ms until a job that waited for its limit key may be claimed, if that has changed (-1: not)}.
--
-- Atomic, since only the run whose token the lease holds may change anything, and a job must not be removed before its
-- result and its letter are there. The letter is made here, where the payload stands, which need not travel again.
-- Committing twice is harmless: the second finds no lease. An outage longer than the lease is, too: the record outlives the
-- lease's end until somebody else claims the job. It runs in a Redis that is full: committing drains.

--#include lease_index
--#include frontier

local FIRST, HEAD_WIDTH = 13, 7
local RETRY_TTL_S = '88400' -- arq's
local MAX_PAYLOAD = 4194304 -- of a longer payload, longer than any fetch's, a letter keeps the beginning
local PAYLOAD_CUT = 65536
local MAX_TRIMMED = 2000 -- twice as many as a call can add

local pending, leases, abort, wake, dead = KEYS[1], KEYS[2], KEYS[4], KEYS[5], KEYS[12]
local job_key, retry_key, progress_key = ARGV[2], ARGV[3], ARGV[4]
local result_key, attempts_key, prefix_len = ARGV[5], ARGV[6], tonumber(ARGV[8])
local letter_key, letter_ttl, max_letters = ARGV[10], ARGV[11], tonumber(ARGV[12])

local time_now = redis.call('TIME')
local clock_us = time_now[1] * 1000000 + time_now[2]
local now_us = ARGV[1] == '' and clock_us or tonumber(ARGV[1]) * 1000
local clock, now = math.floor(clock_us / 1000), math.floor(now_us / 1000)

-- A key of the whole queue that holds a wrong type fails the call while nothing has changed yet.
local aborts_asked, wakes = redis.call('ZCARD', abort), redis.call('LLEN', wake)
ends.open(KEYS[3])
local letters_before = redis.call('ZCARD', dead)
frontier.open(6, ARGV[9], pending, now_us)

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
local finished, moved, settled, garbage, pushes, channels = {}, {}, {}, {}, {}, {}
local standing_again, over, notes, deferred = {}, {}, {}, {}
local unburied, buried = {}, 0
local due_again = false
local live_token, live_head -- how the records of one claim's leases begin, once the first of them is known to last

-- What the lease's record begins with, if the lease is this run's, and whether it has ended. Only after its end can a stock
-- worker, which knows no token, have taken the job over (its in-progress key is there) or finished it (it is not pending):
-- while the lease lasts, our own key keeps it away.
local function is_held(id, token, record)
  if record and token == live_token and string.sub(record, 1, #live_head) == live_head then
    return live_head
  end
  if not record or string.find(record, token .. '|', 1, true) ~= 1 then
    return false
  end
  local its_end = string.match(record, '^%d+|', #token + 2)
  if its_end and tonumber(string.sub(its_end, 1, -2)) > now then
    live_token, live_head = token, token .. '|' .. its_end
    return live_head
  end
  local progress = redis.call('MGET', progress_key .. id)[1]
  if (progress and progress ~= token) or not redis.call('ZSCORE', pending, id) then
    settled[#settled + 1] = id
    over[#over + 1] = id
    ends.drop(ends.head(record))
    return false
  end
  return ends.head(record) or '', true
end

-- When what is kept for `time` ms expires. Asked for in ms from now, Redis would work that out and rewrite the command for
-- each job.
local expiries = {}
local function expiry(time)
  local at = expiries[time]
  if not at then
    at = string.format('%.0f', clock + tonumber(time))
    expiries[time] = at
  end
  return at
end

local function uint32(number)
  return string.char(math.floor(number / 16777216) % 256, math.floor(number / 65536) % 256,
    math.floor(number / 256) % 256, number % 256)
end

-- The letter in msgpack: an array of the payload, what type of key that was, its size, and what the worker says. A key of
-- another type is kept as DUMP writes it. Returns the error where Redis does not store it.
local function bury(id, said)
  local kind = redis.call('TYPE', job_key .. id)
  kind = kind.ok or kind
  local payload = ''
  if kind ~= 'none' then
    payload = redis.pcall(kind == 'string' and 'GET' or 'DUMP', job_key .. id)
    payload = type(payload) == 'string' and payload or ''
  end
  local size = #payload
  if size > MAX_PAYLOAD then
    payload = string.sub(payload, 1, PAYLOAD_CUT)
  end
  local letter = '\148\198' .. uint32(#payload) .. payload .. string.char(160 + #kind) .. kind
    .. '\206' .. uint32(size) .. said
  local reply = redis.pcall('SET', letter_key .. id, letter, 'PX', letter_ttl)
  if not reply.err then
    reply = redis.pcall('ZADD', dead, string.format('%.0f', now), id)
    buried = buried + 1
  end
  return type(reply) == 'table' and reply.err
end

local function refuse(id, error)
  refused[#refused + 1] = id
  refusal = error
  return false
end

local function finish(id, time, result, missing, said, clean)
  local was_finished = missing and redis.call('EXISTS', result_key .. id) == 1
  if said ~= '' and not was_finished then
    local error = bury(id, said)
    if error then
      return refuse(id, error)
    end
  end
  if time ~= '0' and result ~= '' and not was_finished then
    local reply
    if time == '' then
      reply = redis.pcall('SET', result_key .. id, result)
    else
      reply = redis.pcall('SET', result_key .. id, result, 'PXAT', expiry(time))
    end
    if reply.err then
      return refuse(id, reply.err)
    end
  end
  if said == '' and not was_finished and letters_before > 0 then
    unburied[#unburied + 1] = id
  end
  finished[#finished + 1] = id
  over[#over + 1] = id
  local at = #garbage
  garbage[at + 1] = job_key .. id
  if not clean then
    garbage[at + 2], garbage[at + 3] = retry_key .. id, attempts_key .. id
  end
  local channel = string.sub(id, 1, prefix_len)
  local push = pushes[channel]
  if push then
    push[#push + 1] = id
  else
    pushes[channel] = {id}
    channels[#channels + 1] = channel
  end
  return true
end

local function give_back(id, time, record, counted, traced)
  local score, expires_at = string.match(record, '^[^|]*|[^|]*|([-+.%dinfe]+)|(%d*)$')
  local place = tonumber(score)
  if not place or place ~= place or #expires_at > 16 then -- not as a worker wrote it: the job is due now
    score, expires_at = string.format('%.0f', now), ''
  end
  local lane = frontier.read_score(tonumber(score))
  if time ~= '' then
    score = string.format('%.0f', now + tonumber(time))
  end
  if time ~= '' and lane ~= '' then
    deferred[#deferred + 1] = {id, lane, tonumber(score)}
  else
    moved[#moved + 1] = score
    moved[#moved + 1] = id
  end
  if tonumber(score) <= now then
    due_again = true
    standing_again[#standing_again + 1] = id
  else
    over[#over + 1] = id
  end
  if expires_at ~= '' then
    redis.call('PEXPIREAT', job_key .. id, expires_at)
  end
  if counted then
    if not redis.call('MGET', retry_key .. id)[1] then -- the claim writes down every try but the first
      redis.call('SET', retry_key .. id, '1', 'EX', RETRY_TTL_S)
    end
  else
    local left = redis.pcall('DECR', retry_key .. id)
    if traced and left == -1 then
      redis.call('SET', retry_key .. id, '0', 'EX', RETRY_TTL_S)
    elseif type(left) ~= 'number' or left < 0 then
      redis.call('DEL', retry_key .. id)
    end
  end
  return true
end

local function settle(id, result, record, token, verb, time, marker, note, letter)
  local head, ended = is_held(id, token, record)
  if not head then
    lost[#lost + 1] = id
    return
  end
  local done
  if verb == 'clean' or verb == 'finish' or verb == 'missing' then
    -- Whoever saw the lease end has written its try down, for a stock worker.
    done = finish(id, time, result, verb == 'missing', letter, verb == 'clean' and not ended)
  else
    done = give_back(id, time, record, verb == 'retry', verb == 'release_traced')
  end
  if done then
    settled[#settled + 1] = id
    ends.drop(head)
    if note ~= '' then
      notes[id] = note
    end
    if marker == '' then
      garbage[#garbage + 1] = progress_key .. id
    else
      redis.call('SET', progress_key .. id, token, 'PX', marker)
    end
  end
end

local done, at = 0, FIRST
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  for i = done + 1, done + count do
    settle(ids[i], results[i], records[i], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6])
  end
  done, at = done + count, at + HEAD_WIDTH + 2 * count
end

if #finished > 0 then
  redis.call('ZREM', pending, unpack(finished))
  if aborts_asked > 0 then
    redis.call('ZREM', abort, unpack(finished))
  end
end
if #moved > 0 then
  redis.call('ZADD', pending, 'XX', unpack(moved))
end
for i = 1, #deferred do
  frontier.defer(unpack(deferred[i]))
end
if #garbage > 0 then
  redis.call('DEL', unpack(garbage))
end
if #settled > 0 then
  redis.call('HDEL', leases, unpack(settled))
end
local noted = {}
local function release(released, stands)
  local keys = frontier.release(released, stands, true)
  for i = 1, #released do
    if keys[i] and notes[released[i]] then
      noted[released[i]] = keys[i]
    end
  end
end
release(over, false)
release(standing_again, true)
if next(noted) then -- in the order in which the runs ended, since failures in a row are counted
  for i = 1, #settled do
    local id = settled[i]
    if noted[id] then
      frontier.note(noted[id], notes[id])
    end
  end
end
ends.save()
local promoted, nearer = frontier.save()

-- A job that has ended well has no letter: one from before, under the same idempotency key, must not be run again.
if #unburied > 0 and redis.call('ZREM', dead, unpack(unburied)) > 0 then
  for i = 1, #unburied do
    redis.call('DEL', letter_key .. unburied[i])
  end
end
local too_many = buried > 0 and redis.call('ZCARD', dead) - max_letters or 0
if too_many > 0 then
  local oldest = redis.call('ZRANGE', dead, 0, math.min(too_many, MAX_TRIMMED) - 1)
  redis.call('ZREM', dead, unpack(oldest))
  for i = 1, #oldest do
    redis.call('DEL', letter_key .. oldest[i])
  end
end
for i = 1, #channels do
  redis.call('PUBLISH', ARGV[7] .. channels[i], table.concat(pushes[channels[i]], '\n'))
end
if (due_again or promoted > 0 or nearer) and wakes == 0 then
  redis.call('RPUSH', wake, '1')
end
return {lost, refused, refusal, frontier.news()}
