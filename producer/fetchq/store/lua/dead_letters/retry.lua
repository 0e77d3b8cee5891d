-- Puts the jobs of dead letters back on the queue under their old ids, due now, and removes the dead letters.
--
-- KEYS[1]  pending: sorted set of job ids by score
-- KEYS[2]  dead: sorted set of the ids of dead letters by the ms of their end
-- KEYS[3]  wake: list of tokens (wake.lua)      KEYS[4..9]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2..5]  prefixes of the payload, result, retry and attempts keys      ARGV[6]  prefix of the dead letters
-- ARGV[7]  prefix of the queues of limit keys
-- ARGV[8]  the queue's totals     ARGV[9]  prefix of its minutes (figures.lua)
-- ARGV[10...]  five a dead letter: id, ms of its end, payload ('' for the one that the dead letter holds),
--     limit key ('' none, or one that only a worker can determine), lane ('', 'h', 'l')
--
-- Returns a number for each: 0 no such dead letter, 1 the job is on the queue, 2 a job with this id, or a newer dead
-- letter, exists, 3 the dead letter does not hold the whole payload.
--
-- Atomic: a job must be in one place, on the queue with its payload or among the dead letters. Its old result, attempts
-- and tries are removed, so that callers wait for the new result. The commands that a full Redis refuses come first:
-- then nothing has changed.

--#include redis/clock
--#include redis/wake
--#include hosts/hosts
--#include hosts/limit_key
--#include queue/new_job
--#include queue/dead_letter
--#include queue/figures

local WIDTH, FIRST = 5, 10
local NOT_FOUND, QUEUED, REPLACED, INCOMPLETE = 0, 1, 2, 3

local pending, dead = KEYS[1], KEYS[2]
local job_key, dead_letter_key = ARGV[2], ARGV[6]

-- Before the first write: a key of the whole queue that holds a wrong type fails the call while nothing has changed.
clock.read(ARGV[1])
wake.open(KEYS[3])
redis.call('ZCARD', pending)
hosts.open(pending, 4, ARGV[7])

local ready, retried = 0, 0

local function retry(id, ended_at, payload, key, lane)
  local data = redis.pcall('GET', dead_letter_key .. id)
  local score = redis.call('ZSCORE', dead, id)
  if type(data) ~= 'string' or not score then
    return NOT_FOUND
  end
  if tonumber(score) ~= tonumber(ended_at) then
    return REPLACED
  end
  if redis.call('ZSCORE', pending, id) or redis.call('EXISTS', job_key .. id) == 1 then
    return REPLACED
  end
  local stored = dead_letter.payload(data)
  if not stored then
    return INCOMPLETE
  end
  redis.call('SET', job_key .. id, payload ~= '' and payload or stored)
  if key == '' or place_new_job(key, id, lane, clock.now_ms, '') then
    redis.call('ZADD', pending, scores.ready(lane, clock.now_ms), id)
    ready = ready + 1
  end
  redis.call('ZREM', dead, id)
  redis.call('DEL', dead_letter_key .. id, ARGV[3] .. id, ARGV[4] .. id, ARGV[5] .. id)
  retried = retried + 1
  return QUEUED
end

local names = {}
for i = FIRST, #ARGV, WIDTH do
  local key = known_limit_key(ARGV[i + 3])
  if key ~= '' then
    names[#names + 1] = key
  end
end
host_record.load(names)

local outcomes = {}
for i = FIRST, #ARGV, WIDTH do
  outcomes[#outcomes + 1] = retry(ARGV[i], ARGV[i + 1], ARGV[i + 2], known_limit_key(ARGV[i + 3]), ARGV[i + 4])
end
save_parked()
local promoted = hosts.save()
wake.workers(ready + promoted)
if retried > 0 then
  save_figures({dead_retried = retried}, ARGV[8], ARGV[9])
end
return outcomes
