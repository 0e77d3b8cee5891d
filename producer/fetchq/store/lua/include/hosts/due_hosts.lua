-- Processes the set of due keys: limit keys whose waiting jobs may have free slots now, and single jobs, '#' and their
-- id, that are due or reach their deadline.

--#include hosts/hosts
--#include queue/oldest_ready
--#include hosts/recount

local due_hosts = {}

local MAX_CHECK_GAP_MS = 60000

-- Makes a parked job ready.
local function unpark(id)
  local score = tonumber(redis.call('ZSCORE', keys.pending, id) or 0)
  if score >= scores.PARKED then
    local lane, due = scores.read(score)
    redis.call('ZADD', keys.pending, 'XX', scores.ready(lane, math.min(due, clock.now_ms)), id)
    promotion.count = promotion.count + 1
  end
end

-- Checks a key's ready jobs. If jobs older than the last check are still ready, all workers are busy, and the next
-- check comes later. Otherwise stock workers have claimed them, and the record is corrected.
local function check_ready(record, oldest)
  if oldest <= record.due_at - admission.RECHECK_MS then
    record.check_at = clock.now_ms + math.min(clock.now_ms - oldest, MAX_CHECK_GAP_MS)
  else
    record.ready = 0
  end
end

-- Processes at most `count` due members. `hosts.save` writes the records.
function due_hosts.process(count)
  local now = string.format('%.0f', clock.now_ms)
  local due = redis.call('ZRANGEBYSCORE', keys.due_hosts, '-inf', now, 'LIMIT', 0, count)
  if #due == 0 then
    return
  end
  redis.call('ZREM', keys.due_hosts, unpack(due))
  local names = {}
  for i = 1, #due do
    if string.sub(due[i], 1, 1) == '#' then
      unpark(string.sub(due[i], 2))
    else
      names[#names + 1] = due[i]
    end
  end
  host_record.load(names)
  local oldest
  for i = 1, #names do
    local record = host_record.get(names[i])
    recount_if_record_lost(names[i], record)
    if record.ready > 0 then
      oldest = oldest or oldest_ready() or clock.now_ms
      check_ready(record, oldest)
    end
    record.due_at = 0
    if record.waiting + record.running == 0 then -- idle for long
      record.consecutive_throttles, record.consecutive_failures, record.delay = 0, 0, 0
    end
    promotion.fill(names[i], record)
  end
end

-- ms until the next member is due; nil if there is none.
function due_hosts.next_ms()
  local head = redis.call('ZRANGE', keys.due_hosts, 0, 0, 'WITHSCORES')
  return head[2] and math.max(0, tonumber(head[2]) - clock.now_ms)
end
