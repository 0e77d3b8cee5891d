#!lua flags=allow-oom
-- Goes over one page of the queue, so that no job that waits long loses its payload and no lease outlives its job; and mends
-- what others have broken of the frontier.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  leases: hash of id -> token|...
-- KEYS[3]  lease ends: sorted set               KEYS[4]  cursor: string, how far the last call came and when
-- KEYS[5..10]  the frontier's
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  how much time is to lie between two pages, in ms, whichever worker asks
-- ARGV[3]  how many jobs a page has           ARGV[4]  prefix of the payload keys
-- ARGV[5]  the life in ms that a stock client gives a payload beyond the time at which its job is due
-- ARGV[6]  prefix of the queues of limit keys
--
-- Returns how many payloads were kept, or -1 if it was too early.
--
-- Atomic, since a job could be finished between the look and the keeping, and its payload would then stay for ever. A
-- stock client's payload lives one day past its job's due time; a queue that is longer than a day would lose it. One
-- that a client limited on purpose (`_expires`) has another end, and is left to it. The walk goes from the tail to the
-- head, since there the places do not shift as jobs are taken.

--#include lease_index
--#include frontier

local LEASES_LOOKED_AT = 50
local RECORDS_LOOKED_AT = 50
local DEFAULT_LIFE_TOLERANCE_MS = 600000

local pending, leases, cursor = KEYS[1], KEYS[2], KEYS[4]
local gap_ms, size = tonumber(ARGV[2]), tonumber(ARGV[3])

local now_us = frontier.clock(ARGV[1])
local now = math.floor(now_us / 1000)

ends.open(KEYS[3])
frontier.open(5, ARGV[6], pending, now_us)

local said = redis.pcall('GET', cursor)
local place, at = string.match(type(said) == 'string' and #said < 32 and said or '', '^(%d+) (%d+)$')
if at and now - tonumber(at) < gap_ms then
  return -1
end
place = math.min(tonumber(place or 0), redis.call('ZCARD', pending))

local page = redis.call('ZREVRANGE', pending, place, place + size - 1, 'WITHSCORES')
local kept = 0
for i = 1, #page, 2 do
  local payload = ARGV[4] .. page[i]
  local ttl = redis.call('PTTL', payload)
  if ttl > 0 and math.abs(now + ttl - tonumber(page[i + 1]) - tonumber(ARGV[5])) <= DEFAULT_LIFE_TOLERANCE_MS then
    kept = kept + redis.call('PERSIST', payload)
  end
end
place = place + #page / 2
if #page / 2 < size then
  place = 0
end
-- At the beginning there is no place to remember, and the cursor only tells when the next page is due.
local life_ms = place == 0 and math.max(1, gap_ms) or math.max(60000, 10 * gap_ms)
redis.call('SET', cursor, string.format('%.0f %.0f', place, now), 'PX', life_ms)

local over = {}
local leased = redis.call('HRANDFIELD', leases, LEASES_LOOKED_AT) or {}
for i = 1, #leased do
  if not redis.call('ZSCORE', pending, leased[i]) then
    ends.drop(ends.head(redis.call('HGET', leases, leased[i])))
    redis.call('HDEL', leases, leased[i])
    over[#over + 1] = leased[i]
  end
end
frontier.release(over, false, true)
local unheld, running = {}, redis.call('HRANDFIELD', frontier.running, LEASES_LOOKED_AT) or {}
for i = 1, #running do
  if redis.call('HEXISTS', leases, running[i]) == 0 then
    unheld[#unheld + 1] = running[i]
  end
end
frontier.release(unheld, false, true)
frontier.mend(RECORDS_LOOKED_AT)
frontier.bring_back(size)
ends.save()
frontier.save()
return kept
