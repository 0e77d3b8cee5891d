-- Ends runs, and frees the slots of their limit keys.

--#include hosts/hosts
--#include hosts/recount
--#include hosts/run_entry

-- Ends the runs of these jobs. `how`:
--   'lease_ended'  the job is ready again, but its run may renew the lease or commit: the entry stays, not counted
--   'requeued'     the job is ready again
--   'ended'        the job is deferred, or has ended
-- Returns the limit key of each job, false for one without.
local function release_runs(ids, how)
  if #ids == 0 or not hosts.any_running then
    return {}
  end
  local entries = redis.call('HMGET', keys.running, unpack(ids))
  local names, counted, known, over = {}, {}, {}, {}
  for i = 1, #ids do
    names[i] = false
    if entries[i] then
      names[i], counted[i] = parse_run_entry(entries[i])
      known[#known + 1] = names[i]
    end
  end
  host_record.load(known)
  local is_ready = how ~= 'ended'
  for i = 1, #ids do
    local key = names[i]
    if key then
      local record = host_record.get(key)
      recount_if_record_lost(key, record)
      if counted[i] then
        record.running = math.max(0, record.running - 1)
      end
      if is_ready and counted[i] then -- otherwise it has been ready since its lease ended
        record.ready = record.ready + 1
      elseif not (is_ready or counted[i]) then
        record.ready = math.max(0, record.ready - 1)
      end
      if how ~= 'lease_ended' then
        over[#over + 1] = ids[i]
      elseif counted[i] then
        redis.call('HSET', keys.running, ids[i], '#' .. key)
      end
    end
  end
  if #over > 0 then
    redis.call('HDEL', keys.running, unpack(over))
  end
  return names
end
