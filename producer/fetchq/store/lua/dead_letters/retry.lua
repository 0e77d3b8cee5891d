-- Puts the jobs of dead letters back on the queue under the ids that they had, due now, and takes the letters away.
--
-- KEYS[1]  pending: sorted set of job ids by the ms at which they are due
-- KEYS[2]  dead: sorted set of the ids of dead letters by the ms at which they ended
-- KEYS[3]  wake: list of at most 8 tokens, each of which wakes one idle worker      KEYS[4..9]  the frontier's
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2..5]  prefixes of the payload, result, retry and attempts keys      ARGV[6]  prefix of the dead letters
-- ARGV[7]  prefix of the queues of limit keys
-- ARGV[8...]  five a letter: id, when it ended in ms, payload ('' the one that the letter holds), limit key ('' none, or one
--     that only a worker can know), lane ('', 'h', 'l')
--
-- Returns a number for each: 0 there is no such letter, 1 it is on the queue, 2 there is such a job again already, or
-- another letter by now, 3 the letter does not hold the whole payload.
--
-- Atomic, since a job must be in one place: with its payload on the queue, or with its letter among the dead. Its old
-- result, its attempts and its tries go, so that who waits for it waits for the new one. What comes first is what a full
-- Redis refuses, so that nothing has changed then.

--#include frontier

local WAKE_CAP = 8
local WIDTH, FIRST = 5, 8

local pending, dead, wake = KEYS[1], KEYS[2], KEYS[3]
local job_key, letter_key = ARGV[2], ARGV[6]

local now_us = frontier.clock(ARGV[1])
local now = math.floor(now_us / 1000)

-- A key of the whole queue that holds a wrong type fails the call while nothing has changed yet.
local wakes = redis.call('LLEN', wake)
redis.call('ZCARD', pending)
frontier.open(4, ARGV[7], pending, now_us)

local function uint32(text, at)
  local a, b, c, d = string.byte(text, at, at + 3)
  return d and ((a * 256 + b) * 256 + c) * 256 + d or -1
end

-- The payload in a letter as the engine's commit writes it; nil if it is not all there.
local function payload_in(letter)
  if string.sub(letter, 1, 2) ~= '\148\198' then
    return nil
  end
  local length = uint32(letter, 3)
  if string.sub(letter, 7 + length, 14 + length) == '\166string\206' and uint32(letter, 15 + length) == length then
    return string.sub(letter, 7, 6 + length)
  end
end

local soon = 0

-- As `enqueue.lua` does with a job that is due: a million of them for one host stand in nobody's way.
local function place(id, key, lane)
  if key ~= '' then
    local record = frontier.record(key)
    if record.waiting > 0 or frontier.room(key, record, record.standing) <= 0 then
      frontier.park(key, record, id, lane, now, '')
      return
    end
    record.standing = record.standing + 1
  end
  redis.call('ZADD', pending, frontier.standing_score(lane, now), id)
  soon = soon + 1
end

local function retry(id, ended, rewritten, key, lane)
  local letter = redis.pcall('GET', letter_key .. id)
  if type(letter) ~= 'string' then
    return 0
  end
  local score = redis.call('ZSCORE', dead, id)
  if not score or tonumber(score) ~= tonumber(ended) then
    return score and 2 or 0
  end
  if redis.call('ZSCORE', pending, id) or redis.call('EXISTS', job_key .. id) == 1 then
    return 2
  end
  local payload = payload_in(letter)
  if not payload then
    return 3
  end
  redis.call('SET', job_key .. id, rewritten ~= '' and rewritten or payload)
  place(id, key, lane)
  redis.call('ZREM', dead, id)
  redis.call('DEL', letter_key .. id, ARGV[3] .. id, ARGV[4] .. id, ARGV[5] .. id)
  return 1
end

local limit_keys = {}
for i = FIRST, #ARGV, WIDTH do
  local key = frontier.told(ARGV[i + 3])
  if key ~= '' then
    limit_keys[#limit_keys + 1] = key
  end
end
frontier.load(limit_keys)

local outcomes = {}
for i = FIRST, #ARGV, WIDTH do
  outcomes[#outcomes + 1] = retry(ARGV[i], ARGV[i + 1], ARGV[i + 2], frontier.told(ARGV[i + 3]), ARGV[i + 4])
end
soon = soon + frontier.save()
for _ = wakes + 1, math.min(WAKE_CAP, soon) do
  redis.call('RPUSH', wake, '1')
end
return outcomes
