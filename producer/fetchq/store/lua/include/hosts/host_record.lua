-- The record of a limit key: ten words, `running ready waiting tat cooldown_until consecutive_throttles
-- consecutive_failures delay due_at last`.
--
--   running, ready, waiting  numbers of jobs: admitted and not ended; due and not admitted yet; in the key's own queue
--   tat                      theoretical arrival time (rate.lua): us at which the rate permits the next start
--   cooldown_until           ms at which the key's cooldown ends
--   consecutive_throttles    cooldowns without a success since
--   consecutive_failures     failed connections in a row
--   delay                    crawl delay in ms that the host's robots.txt asks for
--   due_at                   the key's score in `due_hosts`, 0 for none
--   last                     outcome of the last job, to display
-- In Lua it also has `backlog`, the key's score in that set; `stored`, whether Redis holds the record; `changed`;
-- `last_chunk` (host_queue_insert.lua); and `check_at` (due_hosts.lua).

--#include redis/keys

local host_record = {by_key = {}, changed = {}}

local function parse(text)
  -- Fast path: most records have no rate, no failures and no due time.
  local running, ready, waiting, last = string.match(text or '', '^(%d+) (%d+) (%d+) 0 0 0 0 0 0 (.*)$')
  local tat, cooldown_until, throttles, failures, delay, due_at = 0, 0, 0, 0, 0, 0
  if text and not running then
    running, ready, waiting, tat, cooldown_until, throttles, failures, delay, due_at, last =
      string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (.*)$')
  end
  local backlog = tonumber(waiting or 0)
  return { -- all fields at once: added one by one, they would make Lua grow the table five times
    running = tonumber(running or 0), ready = tonumber(ready or 0), waiting = backlog, tat = tonumber(tat or 0),
    cooldown_until = tonumber(cooldown_until or 0), consecutive_throttles = tonumber(throttles or 0),
    consecutive_failures = tonumber(failures or 0), delay = tonumber(delay or 0), due_at = tonumber(due_at or 0),
    last = last or '', backlog = backlog, stored = running ~= nil, changed = false,
  }
end

function host_record.format(record)
  local tat, cooldown_until, due_at = record.tat, record.cooldown_until, record.due_at
  local throttles, failures, delay = record.consecutive_throttles, record.consecutive_failures, record.delay
  if tat + cooldown_until + throttles + failures + delay + due_at == 0 then
    return string.format('%d %d %d 0 0 0 0 0 0 %s', record.running, record.ready, record.waiting, record.last)
  end
  return string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s', record.running, record.ready, record.waiting,
    tat, cooldown_until, throttles, failures, delay, due_at, record.last)
end

-- Reads the records of many limit keys in one command; later reads of these need none.
function host_record.load(names)
  local by_key, new = host_record.by_key, {}
  for i = 1, #names do
    if not by_key[names[i]] then
      by_key[names[i]] = true -- read once, even if it is in `names` twice
      new[#new + 1] = names[i]
    end
  end
  if #new == 0 then
    return
  end
  local texts = redis.call('HMGET', keys.hosts, unpack(new))
  for i = 1, #new do
    by_key[new[i]] = parse(texts[i])
  end
end

-- The record of a limit key, to be changed; `hosts.save` writes it.
function host_record.get(key)
  local record = host_record.by_key[key]
  if not record then
    host_record.load({key})
    record = host_record.by_key[key]
  end
  if not record.changed then
    record.changed = true
    host_record.changed[#host_record.changed + 1] = key
  end
  return record
end
