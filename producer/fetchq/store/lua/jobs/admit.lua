#!lua flags=allow-oom
-- Asks for each job that was claimed whether its limit key lets it start now. One that may not goes to its key's queue: its
-- lease ends, and the try is not counted.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  leases: hash of id -> token|lease end|original score|expires at
-- KEYS[3]  lease ends: sorted set               KEYS[4]  wake: list of tokens      KEYS[5..10]  the frontier's
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2..5]  prefixes of the payload, retry and in-progress keys, and of the queues of limit keys
-- ARGV[6...]  five a job: id, token, limit key, deadline in ms ('' none; one that has passed, as '0' of an aborted job: it starts,
--     comes under no limit, and its place goes to the next), another limit key that it does not count for, but whose
--     cooling-off and pause it heeds ('' none)
--
-- Returns {the ids that may not start, ms until a job that waits may be claimed (-1: no later than was known),
--          the ids whose deadline has passed}.
--
-- Atomic, since two workers must not both take the last slot of a host, and since a job that leaves its lease must be in its
-- key's queue at once. It runs in a Redis that is full: what waits is parked with it, not refused.

--#include lease_index
--#include frontier

local WIDTH, FIRST = 5, 6

local pending, leases, wake = KEYS[1], KEYS[2], KEYS[4]
local job_key, retry_key, progress_key = ARGV[2], ARGV[3], ARGV[4]

local now_us = frontier.clock(ARGV[1])

local wakes = redis.call('LLEN', wake)
ends.open(KEYS[3])
frontier.open(5, ARGV[5], pending, now_us)

local ids, keys = {}, {}
for i = FIRST, #ARGV, WIDTH do
  ids[#ids + 1] = ARGV[i]
  keys[#ids] = ARGV[i + 2]
end
local records = redis.call('HMGET', leases, unpack(ids))
local held = redis.call('HMGET', frontier.running, unpack(ids))
frontier.load(keys)
local heeded = {}
for i = FIRST + 4, #ARGV, WIDTH do
  if ARGV[i] ~= '' then
    heeded[#heeded + 1] = ARGV[i]
  end
end
frontier.load(heeded)

local refused, settled, passed, garbage, starts = {}, {}, {}, {}, {}
for i = 1, #ids do
  local at = FIRST + (i - 1) * WIDTH
  local id, token, key, deadline = ids[i], ARGV[at + 1], keys[i], ARGV[at + 3]
  local holder, score, expires_at = string.match(records[i] or '', '^([^|]*)|%d+|([-+.%dinfe]+)|(%d*)$')
  if holder ~= token then
    refused[#refused + 1] = id
  else
    if held[i] and string.sub(held[i], 1, 1) ~= '#' then -- of an old run, whose lease nobody has seen end
      local old = frontier.record(held[i])
      old.running = math.max(0, old.running - 1)
    end
    local place = tonumber(score) or 0
    local lane, due, had_its_turn = frontier.read_score(place)
    local other, passes, stood = ARGV[at + 4], (tonumber(deadline) or math.huge) * 1000 <= now_us, key
    if other ~= '' then
      if frontier.waits(other, id, place) or (had_its_turn and frontier.records[other].standing > 0) then
        stood = other
      end
      if not passes and frontier.is_closed(other) then
        key = other
      end
    end
    if not passes then
      frontier.record(stood).standing = math.max(0, frontier.record(stood).standing - 1)
    end
    local record = frontier.record(key)
    if passes then
      frontier.pass(stood, frontier.record(stood), id, place)
      passed[#passed + 1] = id
    elseif key ~= other and frontier.room(key, record, 0) > 0 then
      frontier.start(key, record)
      starts[#starts + 1] = id
      starts[#starts + 1] = key
    else
      frontier.park(key, record, id, lane, due, deadline, had_its_turn)
      refused[#refused + 1] = id
      settled[#settled + 1] = id
      ends.drop(ends.head(records[i]))
      garbage[#garbage + 1] = progress_key .. id
      if expires_at ~= '' then
        redis.call('PEXPIREAT', job_key .. id, expires_at)
      end
      local left = redis.pcall('DECR', retry_key .. id)
      if type(left) ~= 'number' or left < 0 then -- a '0' stays: it says that a run of the job has left something behind
        garbage[#garbage + 1] = retry_key .. id
      end
    end
  end
end
if #starts > 0 then
  redis.call('HSET', frontier.running, unpack(starts))
end
if #passed > 0 then
  redis.call('HDEL', frontier.running, unpack(passed))
end
if #settled > 0 then
  redis.call('HDEL', leases, unpack(settled))
  redis.call('HDEL', frontier.running, unpack(settled))
  redis.call('DEL', unpack(garbage))
end
ends.save()
local promoted, nearer = frontier.save()
if (promoted > 0 or nearer) and wakes == 0 then
  redis.call('RPUSH', wake, '1')
end
return {refused, frontier.news(), passed}
