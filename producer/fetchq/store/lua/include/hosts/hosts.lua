-- Opens and saves the records of limit keys. Every script that changes the state of a job under its limit key includes
-- this.
--
-- A job that has a limit key is `waiting` in the key's queue and parked among the pending jobs (scores.lua); `ready`
-- among the pending jobs until a worker claims it; and `running` from its admission until its run ends.

--#include host_queues/promotion

local hosts = {}

-- Called before the first write: a key of another type fails the call while nothing has changed.
function hosts.open(pending, first, queues)
  bind_keys(pending, first, queues)
  limits.open()
  redis.call('HLEN', keys.hosts)
  redis.call('ZCARD', keys.due_hosts)
  redis.call('ZCARD', keys.backlog)
  redis.call('ZCARD', keys.cooldowns)
  hosts.any_running = redis.call('HLEN', keys.running) > 0
end

-- Makes waiting jobs of each changed key ready, as far as it has free slots, and writes its record. Returns how many
-- jobs this call made ready, and 1 if a key is now due before all others, so that idle workers must be woken; else 0.
function hosts.save()
  local texts, idle = {}, {}
  for i = 1, #host_record.changed do
    local key = host_record.changed[i]
    local record = host_record.by_key[key]
    if record.cooldown_until > 0 and record.cooldown_until <= clock.now_ms then
      record.cooldown_until = 0
      redis.call('ZREM', keys.cooldowns, key)
    end
    promotion.fill(key, record)
    if record.waiting ~= record.backlog then
      if record.waiting > 0 then
        redis.call('ZADD', keys.backlog, string.format('%.0f', record.waiting), key)
      else
        redis.call('ZREM', keys.backlog, key)
      end
    end
    if record.running + record.ready + record.waiting + record.due_at == 0 then
      if record.stored then
        idle[#idle + 1] = key
      end
    else
      texts[#texts + 1] = key
      texts[#texts + 1] = host_record.format(record)
    end
  end
  if #texts > 0 then
    redis.call('HSET', keys.hosts, unpack(texts))
  end
  if #idle > 0 then
    redis.call('HDEL', keys.hosts, unpack(idle))
  end
  if not promotion.next_at then
    return promotion.count, 0
  end
  local head = redis.call('ZRANGE', keys.due_hosts, 0, 0, 'WITHSCORES')
  return promotion.count, tonumber(head[2] or 0) == promotion.next_at and 1 or 0
end
