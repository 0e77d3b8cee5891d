#!lua flags=allow-oom
-- Looks at the jobs whose cancelling was asked for: finds those that this worker runs, brings those that wait to the front,
-- and forgets those that are gone.
--
-- KEYS[1]  abort: sorted set of ids by when it was asked, in ms     KEYS[2]  pending: sorted set of job ids
-- KEYS[3]  leases: hash of id -> token|lease end|original score|expires at
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  what this worker's tokens begin with
-- ARGV[3..4]  prefixes of the payload and in-progress keys
-- ARGV[5]  how long an entry without a job is kept, in ms
-- ARGV[6]  how many entries to pass over      ARGV[7]  how many to look at
--
-- Returns {ARGV[6] for the next call, 1 if a waiting job was brought to the front, ids that this worker runs}.
--
-- Atomic, since a waiting job may only be moved while nobody holds it. Entries of other queues are left to their workers;
-- arq never removes any. A running job that a stock client's abort moved to the front goes back to its lease's end.

local abort, pending, leases = KEYS[1], KEYS[2], KEYS[3]
local mine, first, count = ARGV[2], tonumber(ARGV[6]), tonumber(ARGV[7])

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local asked = redis.call('ZRANGE', abort, first, first + count - 1, 'WITHSCORES')
if #asked == 0 then
  return {0, 0, {}}
end

local running, gone, brought = {}, {}, 0
for i = 1, #asked, 2 do
  local id, at = asked[i], tonumber(asked[i + 1])
  local record = redis.call('HGET', leases, id)
  local score = redis.call('ZSCORE', pending, id)
  local its_end = record and tonumber(string.match(record, '^[^|]*|(%d+)|'))
  if score and its_end and its_end > now then
    if string.sub(record, 1, #mine) == mine then
      running[#running + 1] = id
    end
    redis.call('ZADD', pending, 'XX', string.format('%.0f', its_end), id)
  elseif score then
    if tonumber(score) ~= 1 and redis.call('EXISTS', ARGV[4] .. id) == 0 then
      redis.call('ZADD', pending, 'XX', '1', id) -- where a stock client's abort puts it
      brought = 1
    end
  elseif at < now - tonumber(ARGV[5]) and redis.call('EXISTS', ARGV[3] .. id) == 0 then
    gone[#gone + 1] = id
  end
end
if #gone > 0 then
  redis.call('ZREM', abort, unpack(gone))
end
local passed = first + #asked / 2 - #gone
if #asked / 2 < count then
  passed = 0
end
return {passed, brought, running}
