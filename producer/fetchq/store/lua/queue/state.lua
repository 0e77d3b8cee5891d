#!lua flags=no-writes
-- Reads the state of a queue: how many jobs are in each state, how many could run now, and the workers. Writes nothing.
--
-- KEYS[1]  pending: sorted set of job ids by score      KEYS[2..7]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  lease index: sorted set (lease_index.lua)
-- ARGV[3]  leases: hash of id -> lease record (lease_record.lua)
-- ARGV[4]  dead letters: sorted set      ARGV[5]  paused: exists while the queue is paused
-- ARGV[6]  workers: sorted set of worker ids by the ms of their last heartbeat      ARGV[7]  prefix of their records
--
-- Returns {now in ms, jobs due, waiting, deferred and running, demand, ms since the oldest job is due (-1: none is),
--          dead letters, 1 if the queue is paused, limit keys with waiting jobs, in a cooldown, and paused,
--          two a worker, flat: ms of the last heartbeat, record,
--          bytes of memory that Redis uses, and its maxmemory (both -1: INFO is missing or forbidden)}.
--
-- Atomic, so that each job is counted in one state. The cost does not depend on the number of jobs: of the limit keys
-- that are due, the claims that run and the entries of limits only so many are read, and the rest is estimated from
-- these.

--#include redis/clock
--#include hosts/admission
--#include hosts/host_record
--#include leases/lease_index
--#include queue/oldest_ready
--#include queue/parked_score

local MAX_DUE_HOSTS = 500
local MAX_CLAIMS = 10000
local MAX_LIMITS = 10000
local MAX_ABORTED = 1000
local MAX_WORKERS = 4000

clock.read(ARGV[1])
bind_keys(KEYS[1], 2, '')
limits.open()
local now = string.format('%.0f', clock.now_ms)

-- The number of jobs with a score in the range, `from` included.
local function count(from, to)
  return redis.call('ZCOUNT', keys.pending, from, to)
end

-- The number of running jobs whose score a stock client's abort has changed, until the next claim restores it.
local function count_aborted_runs(leases)
  local ids = redis.call('ZRANGEBYSCORE', keys.pending, ABORTED, ABORTED, 'LIMIT', 0, MAX_ABORTED)
  local records, runs = #ids > 0 and redis.call('HMGET', leases, unpack(ids)) or {}, 0
  for i = 1, #ids do
    local lease_end = records[i] and lease_record.lease_end(records[i])
    if lease_end and tonumber(lease_end) > clock.now_ms then
      runs = runs + 1
    end
  end
  return runs
end

-- The number of leases that have not ended.
local function count_running(index)
  local from, sum = string.format('%.0f', clock.now_ms + 1), 0
  local claims = redis.call('ZRANGEBYSCORE', index, from, '+inf', 'WITHSCORES', 'LIMIT', 0, MAX_CLAIMS)
  for i = 2, #claims, 2 do
    sum = sum + math.floor(tonumber(claims[i]) % 1 * lease_index.FRACTION + 0.5)
  end
  if #claims == 2 * MAX_CLAIMS then
    sum = math.floor(sum * redis.call('ZCOUNT', index, from, '+inf') / MAX_CLAIMS)
  end
  return sum
end

-- The members of the set of due keys whose time has come and that a claim would make ready: single jobs, and waiting
-- jobs of limit keys. Returns the number of each, and the ms at which the first of them could have been made ready.
local function read_due_hosts()
  local due = redis.call('ZRANGEBYSCORE', keys.due_hosts, '-inf', now, 'WITHSCORES', 'LIMIT', 0, MAX_DUE_HOSTS)
  local names, ids, first = {}, {}, nil
  for i = 1, #due, 2 do
    if string.sub(due[i], 1, 1) == '#' then
      ids[#ids + 1] = string.sub(due[i], 2)
    else
      names[#names + 1] = due[i]
    end
  end
  host_record.load(names)
  local places = #ids > 0 and redis.call('ZMSCORE', keys.pending, unpack(ids)) or {}
  local jobs, released, at_job = 0, 0, 0
  for i = 1, #due, 2 do
    local key, count_here = due[i], 0
    if string.sub(key, 1, 1) == '#' then
      at_job = at_job + 1
      count_here = (tonumber(places[at_job] or 0) >= scores.PARKED) and 1 or 0
      jobs = jobs + count_here
    else
      local record = host_record.by_key[key]
      local waiting = record.stored and record.waiting or tonumber(redis.call('ZSCORE', keys.backlog, key) or 0)
      if waiting > 0 then
        count_here = math.min(waiting, (admission.free_slots(key, record, record.ready)))
        released = released + count_here
      end
    end
    if count_here > 0 then
      first = first or tonumber(due[i + 1])
    end
  end
  if #due == 2 * MAX_DUE_HOSTS then
    local scale = redis.call('ZCOUNT', keys.due_hosts, '-inf', now) / MAX_DUE_HOSTS
    jobs, released = math.floor(jobs * scale), math.floor(released * scale)
  end
  return jobs, released, first
end

-- Deferred jobs of the high and low lanes, which are parked until they are due.
local function count_deferred_in_lanes()
  local sum = 0
  for _, lane in ipairs({'h', 'l'}) do
    sum = sum + count('(' .. scores.parked(lane, clock.now_ms), scores.parked(lane, 2 ^ 48))
  end
  return sum
end

-- The number of names that are paused. A wildcard is one name.
local function count_paused()
  local size = redis.call('HLEN', keys.limits)
  local step = size <= MAX_LIMITS and 1 or 2 -- HSCAN returns the names too
  local texts = step == 1 and redis.call('HVALS', keys.limits)
    or redis.call('HSCAN', keys.limits, '0', 'COUNT', MAX_LIMITS)[2]
  local paused = 0
  for i = step, #texts, step do
    if string.find(texts[i], 'p=1', 1, true) then
      paused = paused + 1
    end
  end
  return math.floor(paused * size * step / math.max(#texts, 1))
end

local function read_workers(set, prefix)
  local heartbeats, names, workers = redis.call('ZRANGE', set, 0, MAX_WORKERS - 1, 'WITHSCORES'), {}, {}
  for i = 1, #heartbeats, 2 do
    names[#names + 1] = prefix .. heartbeats[i]
  end
  local records = #names > 0 and redis.call('MGET', unpack(names)) or {}
  for i = 1, #names do
    if records[i] then -- otherwise it has expired, but is still in the sorted set
      workers[#workers + 1], workers[#workers + 2] = heartbeats[2 * i], records[i]
    end
  end
  return workers
end

local function read_memory()
  local info = redis.pcall('INFO', 'memory')
  local text = type(info) == 'string' and info or ''
  local used, limit = string.match(text, 'used_memory:(%d+)'), string.match(text, 'maxmemory:(%d+)')
  return tonumber(used or -1), tonumber(limit or -1)
end

local is_paused = redis.call('EXISTS', ARGV[5]) == 1
local used_memory, max_memory = read_memory()
local running = count_running(ARGV[2])
local jobs, released, first_released = read_due_hosts()
local oldest = oldest_ready()
if first_released then
  oldest = math.min(oldest or first_released, first_released)
end
local parked_before = string.format('(%.0f', scores.PARKED)
local deferred_in_lanes = count_deferred_in_lanes()
local aborted_runs = count_aborted_runs(ARGV[3])
local due = count('-inf', now) + jobs - aborted_runs
local waiting = math.max(0, count(string.format('%.0f', scores.PARKED), '+inf') - deferred_in_lanes - jobs)
local deferred = deferred_in_lanes + math.max(0, count('(' .. now, parked_before) + aborted_runs - running)
local cooling = redis.call('ZCOUNT', keys.cooldowns, '(' .. now, '+inf')
return {clock.now_ms, due, waiting, deferred, running, is_paused and running or due + running + released,
  oldest and math.max(0, math.floor(clock.now_ms - oldest)) or -1, redis.call('ZCARD', ARGV[4]), is_paused and 1 or 0,
  redis.call('ZCARD', keys.backlog), cooling, count_paused(), read_workers(ARGV[6], ARGV[7]), used_memory, max_memory}
