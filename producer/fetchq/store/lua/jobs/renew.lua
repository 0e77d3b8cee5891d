#!lua flags=allow-oom
-- Renews the leases of all that one worker runs.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  leases: hash of id -> token|lease end|original score|expires at
-- KEYS[3]  lease ends: sorted set               KEYS[4..9]  the frontier's
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  how long the lease lasts from now, in ms      ARGV[3]  prefix of the in-progress keys
-- ARGV[4..5]  prefixes of the queues of limit keys and of the retry keys      ARGV[6...]  two a job: id, token
--
-- Returns the ids whose lease is not this run's any more: its token has changed, or the job is gone.
--
-- Atomic, since the lease may only be prolonged by who holds it. It may be after its end: as long as nobody else has
-- claimed the job, the token stands. It runs in a Redis that is full.

--#include lease_index
--#include frontier

local FIRST = 6

local pending, leases, progress_key, retry_key = KEYS[1], KEYS[2], ARGV[3], ARGV[5]

local now_us = frontier.clock(ARGV[1])
local now = math.floor(now_us / 1000)
ends.open(KEYS[3])
frontier.open(4, ARGV[4], pending, now_us)
local lease_end = string.format('%.0f', now + tonumber(ARGV[2]))

local ids, progress_keys = {}, {}
for i = FIRST, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
  progress_keys[#ids] = progress_key .. ARGV[i]
end
local records = redis.call('HMGET', leases, unpack(ids))
local progress = redis.call('MGET', unpack(progress_keys))
local scores = redis.call('ZMSCORE', pending, unpack(ids))
local held = redis.call('HMGET', frontier.running, unpack(ids))

local lost, over, renewed, places, heads, revived = {}, {}, {}, {}, {}, {}
for i = 1, #ids do
  local id, token = ids[i], ARGV[FIRST - 1 + 2 * i]
  local holder, its_end, rest
  if records[i] then
    holder, its_end, rest = string.match(records[i], '^([^|]*)|([^|]*)(|.*)$')
  end
  if holder ~= token then
    lost[#lost + 1] = id
  elseif not scores[i] or (progress[i] and progress[i] ~= token) then -- a stock worker has finished it, or runs it
    lost[#lost + 1] = id
    over[#over + 1] = id
    ends.drop(ends.head(records[i]))
  else
    renewed[#renewed + 1] = id
    renewed[#renewed + 1] = token .. '|' .. lease_end .. rest
    places[#places + 1] = lease_end
    places[#places + 1] = id
    local head = token .. '|' .. lease_end .. '|'
    heads[head] = (heads[head] or 0) + 1
    ends.drop(ends.head(records[i]))
    if (tonumber(its_end) or 0) <= now then
      revived[#revived + 1] = retry_key .. id
    end
    if held[i] and string.sub(held[i], 1, 1) == '#' then -- its lease had ended: it runs, and counts, again
      local record = frontier.record(string.sub(held[i], 2))
      record.running, record.standing = record.running + 1, math.max(0, record.standing - 1)
      redis.call('HSET', frontier.running, ids[i], string.sub(held[i], 2))
    end
    redis.call('SET', progress_key .. id, token, 'PX', ARGV[2])
  end
end
if #renewed > 0 then
  redis.call('HSET', leases, unpack(renewed))
  redis.call('ZADD', pending, 'XX', unpack(places))
end
if #revived > 0 then -- a first try that was written down when its lease ended stands in its lease again
  local tries = redis.call('MGET', unpack(revived))
  for i = 1, #revived do
    if tries[i] == '1' then
      redis.call('DEL', revived[i])
    end
  end
end
if #over > 0 then
  redis.call('HDEL', leases, unpack(over))
end
for head, count in pairs(heads) do
  ends.add(head, lease_end, count)
end
ends.save()
frontier.release(over, false, true)
frontier.save()
return lost
