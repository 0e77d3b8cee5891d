#!lua flags=allow-oom
-- Scans one page of the queue: removes TTLs of the payloads of waiting jobs, and leases of jobs that do not exist.
-- Repairs records and queues of limit keys.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  leases: hash of id -> lease record (lease_record.lua)
-- KEYS[3]  lease index: sorted set             KEYS[4]  cursor: string, where the last call ended and when
-- KEYS[5..10]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  minimum time between two pages in ms, whichever worker scans them
-- ARGV[3]  number of jobs of a page           ARGV[4]  prefix of the payload keys
-- ARGV[5]  the default TTL of a stock client's payload, in ms after the job is due
-- ARGV[6]  prefix of the queues of limit keys
--
-- Returns the number of payloads whose TTL was removed; -1 if the last page was scanned too recently.
--
-- Atomic: a job that ended between the check and the removal of its payload's TTL would leave the payload forever. A
-- stock client's payload expires one day after its job is due, and a longer queue would lose it; a TTL that the client
-- chose (`_expires`) differs and stays. The scan goes from the tail to the head: claims do not shift positions
-- there. `allow-oom`: it frees more than it writes.

--#include redis/clock
--#include leases/lease_record
--#include leases/lease_index
--#include queue/payload_ttl
--#include hosts/runs
--#include host_queues/repair

local MAX_LEASES_CHECKED = 50
local MAX_RECORDS_CHECKED = 50
local MAX_CURSOR_BYTES = 32

local pending, leases, cursor = KEYS[1], KEYS[2], KEYS[4]
local gap_ms, size, job_key, default_ttl_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])

clock.read(ARGV[1])
local now = clock.now_ms
lease_index.open(KEYS[3])
hosts.open(pending, 5, ARGV[6])

local text = redis.pcall('GET', cursor)
local is_cursor = type(text) == 'string' and #text < MAX_CURSOR_BYTES
local position, at = string.match(is_cursor and text or '', '^(%d+) (%d+)$')
if at and now - tonumber(at) < gap_ms then
  return -1
end
position = math.min(tonumber(position or 0), redis.call('ZCARD', pending))

local page = redis.call('ZREVRANGE', pending, position, position + size - 1, 'WITHSCORES')
local persisted = 0
for i = 1, #page, 2 do
  local payload = job_key .. page[i]
  local ttl = redis.call('PTTL', payload)
  if ttl > 0 and is_default_expiry(now + ttl, tonumber(page[i + 1]), default_ttl_ms) then
    persisted = persisted + redis.call('PERSIST', payload)
  end
end
position = position + #page / 2
if #page / 2 < size then
  position = 0
end
-- At position 0 the cursor only says when the next page may be scanned.
local life_ms = position == 0 and math.max(1, gap_ms) or math.max(60000, 10 * gap_ms)
redis.call('SET', cursor, string.format('%.0f %.0f', position, now), 'PX', life_ms)

-- Leases of jobs that do not exist, and runs without a lease.
local ended = {}
local leased = redis.call('HRANDFIELD', leases, MAX_LEASES_CHECKED) or {}
for i = 1, #leased do
  if not redis.call('ZSCORE', pending, leased[i]) then
    lease_index.remove(lease_record.head(redis.call('HGET', leases, leased[i])))
    redis.call('HDEL', leases, leased[i])
    ended[#ended + 1] = leased[i]
  end
end
release_runs(ended, 'ended')
local unleased, running = {}, redis.call('HRANDFIELD', keys.running, MAX_LEASES_CHECKED) or {}
for i = 1, #running do
  if redis.call('HEXISTS', leases, running[i]) == 0 then
    unleased[#unleased + 1] = running[i]
  end
end
release_runs(unleased, 'ended')
repair.records(MAX_RECORDS_CHECKED)
repair.requeue_lost(size)
lease_index.save()
hosts.save()
return persisted
