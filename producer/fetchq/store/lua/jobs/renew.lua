#!lua flags=allow-oom
-- Renews the leases of all jobs that one worker runs.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  leases: hash of id -> lease record (lease_record.lua)
-- KEYS[3]  lease index: sorted set             KEYS[4..9]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  duration of the lease from now, in ms      ARGV[3]  prefix of the in-progress keys
-- ARGV[4..5]  prefixes of the queues of limit keys and of the retry keys      ARGV[6...]  two a job: id, token
--
-- Returns the ids whose lease is lost: another run claimed the job, or the job does not exist.
--
-- Atomic: only the run that holds a lease may extend it. It may do so after the lease's end, until another worker
-- claims the job. `allow-oom`: running jobs must keep their leases in a full Redis.

--#include redis/clock
--#include leases/lease_record
--#include leases/lease_index_add
--#include hosts/runs

local FIRST = 6

local pending, leases, progress_key, retry_key = KEYS[1], KEYS[2], ARGV[3], ARGV[5]

clock.read(ARGV[1])
lease_index.open(KEYS[3])
hosts.open(pending, 4, ARGV[4])
local lease_end = string.format('%.0f', clock.now_ms + tonumber(ARGV[2]))

local ids, progress_keys = {}, {}
for i = FIRST, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
  progress_keys[#ids] = progress_key .. ARGV[i]
end
local records = redis.call('HMGET', leases, unpack(ids))
local progress = redis.call('MGET', unpack(progress_keys))
local places = redis.call('ZMSCORE', pending, unpack(ids))
local entries = redis.call('HMGET', keys.running, unpack(ids))

local lost, ended, renewed, moved, heads, revived = {}, {}, {}, {}, {}, {}

local function renew(id, token, record, old_end, rest)
  local head = token .. '|' .. lease_end .. '|'
  renewed[#renewed + 1] = id
  renewed[#renewed + 1] = head .. rest
  moved[#moved + 1] = lease_end
  moved[#moved + 1] = id
  heads[head] = (heads[head] or 0) + 1
  lease_index.remove(lease_record.head(record))
  if (tonumber(old_end) or 0) <= clock.now_ms then
    revived[#revived + 1] = retry_key .. id
  end
  redis.call('SET', progress_key .. id, token, 'PX', ARGV[2])
end

-- Counts a run again that stopped counting when its lease ended.
local function count_run(id, entry)
  local key, is_counted = parse_run_entry(entry)
  if not is_counted then
    local host = host_record.get(key)
    host.running, host.ready = host.running + 1, math.max(0, host.ready - 1)
    redis.call('HSET', keys.running, id, key)
  end
end

for i = 1, #ids do
  local id, token = ids[i], ARGV[FIRST - 1 + 2 * i]
  local holder, old_end, rest
  if records[i] then
    holder, old_end, rest = string.match(records[i], '^([^|]*)|([^|]*)|(.*)$')
  end
  if holder ~= token then
    lost[#lost + 1] = id
  elseif not places[i] or (progress[i] and progress[i] ~= token) then -- a stock worker finished it, or runs it
    lost[#lost + 1] = id
    ended[#ended + 1] = id
    lease_index.remove(lease_record.head(records[i]))
  else
    renew(id, token, records[i], old_end, rest)
    if entries[i] then
      count_run(id, entries[i])
    end
  end
end
if #renewed > 0 then
  redis.call('HSET', leases, unpack(renewed))
  redis.call('ZADD', pending, 'XX', unpack(moved))
end
if #revived > 0 then -- the lease counts the first try again, as before it ended
  local tries = redis.call('MGET', unpack(revived))
  for i = 1, #revived do
    if tries[i] == '1' then
      redis.call('DEL', revived[i])
    end
  end
end
if #ended > 0 then
  redis.call('HDEL', leases, unpack(ended))
end
for head, count in pairs(heads) do
  add_to_lease_index(head, lease_end, count)
end
lease_index.save()
release_runs(ended, 'ended')
hosts.save()
return lost
