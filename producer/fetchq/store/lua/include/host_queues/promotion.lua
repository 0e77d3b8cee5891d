-- Makes waiting jobs ready when their limit key has free slots, and sets when the key is checked next.

--#include hosts/admission
--#include host_queues/host_queue
--#include queue/scores

local promotion = {
  count = 0, -- jobs that this call made ready
  next_at = nil, -- the earliest new due time, in ms, of a key whose due time this call changed
}

local MAX_PER_KEY = 2000 -- waiting jobs of one key that one call makes ready; the key is due again at once
local MAX_AT_ONCE = 500
local REMEMBER_MS = 600000 -- how long the failures of a key without jobs are remembered
local REMEMBER_DELAY_MS = 3600000 -- the same for its crawl delay

-- Sets the ms at which the key is checked next; nil for never.
local function set_due(key, record, at)
  at = at and math.floor(at) or 0
  if at == record.due_at then
    return
  end
  if at == 0 then
    redis.call('ZREM', keys.due_hosts, key)
  else
    redis.call('ZADD', keys.due_hosts, string.format('%.0f', at), key)
  end
  record.due_at = at
end

-- The ms at which the record of a key without jobs can be deleted; 0 for now.
local function forget_at(record)
  local at = 0
  if record.tat > clock.now_us then
    at = math.ceil(record.tat / 1000)
  end
  at = math.max(at, record.cooldown_until)
  if record.consecutive_throttles + record.consecutive_failures > 0 then
    at = math.max(at, clock.now_ms, record.cooldown_until) + REMEMBER_MS
  end
  if record.delay > 0 then
    at = math.max(at, clock.now_ms + REMEMBER_DELAY_MS)
  end
  return at
end

-- Makes these jobs ready, except those that are not parked any more: cancelled, aborted, or also in another queue.
local function make_ready(record, ids)
  local places = redis.call('ZMSCORE', keys.pending, unpack(ids))
  for i = 1, #ids do
    local score = tonumber(places[i] or 0)
    if score >= scores.PARKED then
      local lane = scores.read(score)
      redis.call('ZADD', keys.pending, 'XX', scores.ready(lane, clock.now_ms - 0.5), ids[i])
      record.ready = record.ready + 1
      promotion.count = promotion.count + 1
    end
  end
end

-- Makes as many of a key's waiting jobs ready as there are free slots, and sets when the key is checked next.
function promotion.fill(key, record)
  local seen = 0
  while record.waiting > 0 do
    local free, at, is_check = admission.free_slots(key, record, record.ready)
    if free > 0 and seen >= MAX_PER_KEY then
      set_due(key, record, clock.now_ms)
      return
    end
    if free == 0 then
      if at and is_check then
        at = math.max(at, record.check_at or 0)
      elseif at and math.floor(at) ~= record.due_at then
        promotion.next_at = math.min(promotion.next_at or at, at)
      end
      set_due(key, record, at)
      return
    end
    local ids = host_queue().pop(key, record, math.min(free, MAX_AT_ONCE))
    if #ids == 0 then
      record.waiting = 0
      break
    end
    seen = seen + #ids
    make_ready(record, ids)
  end
  set_due(key, record, record.running + record.ready == 0 and forget_at(record) or nil)
end
