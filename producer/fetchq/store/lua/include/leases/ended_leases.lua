-- Finds leases that have ended.

--#include leases/lease_index

-- Groups ids and records, flat as (id, record), by the head of the record.
local function group_by_head(ids, records)
  local groups = {}
  for i = 1, #ids do
    local head = records[i] and lease_record.head(records[i])
    if head then
      local group = groups[head] or {}
      groups[head] = group
      group[#group + 1], group[#group + 2] = ids[i], records[i]
    end
  end
  return groups
end

local function read_all(leases)
  local flat, ids, records = redis.call('HGETALL', leases), {}, {}
  for i = 1, #flat, 2 do
    ids[#ids + 1] = flat[i]
    records[#ids] = flat[i + 1]
  end
  return group_by_head(ids, records)
end

-- Removes ended entries from the index until their leases number `limit`. Returns the ids and records of these leases.
-- A leased job's pending score is its lease end, so jobs are found by score, once for all claims that end together.
-- Jobs whose score another client changed are found by reading all lease records.
local function pop_ended_leases(leases, pending, now_ms, limit)
  local ids, records, seen, groups_at, all = {}, {}, {}, {}, nil
  local function collect(group)
    local count = 0
    for i = 1, #(group or {}), 2 do
      if not seen[group[i]] then
        seen[group[i]] = true
        ids[#ids + 1] = group[i]
        records[#ids] = group[i + 1]
        count = count + 1
      end
    end
    return count
  end
  local before = string.format('(%.0f', now_ms + 1)
  local heads = redis.call('ZRANGEBYSCORE', lease_index.key, '-inf', before, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #heads, 2 do
    local head, lease_end = heads[i], string.match(heads[i], '^[^|]*|(%d+)|$')
    if lease_end then
      if not groups_at[lease_end] then
        local due = redis.call('ZRANGEBYSCORE', pending, lease_end, lease_end, 'LIMIT', 0, 2 * lease_index.MAX_LEASES)
        groups_at[lease_end] = group_by_head(due, #due > 0 and redis.call('HMGET', leases, unpack(due)) or {})
      end
      local count = math.floor((tonumber(heads[i + 1]) or 0) % 1 * lease_index.FRACTION + 0.5)
      if collect(groups_at[lease_end][head]) < count then
        all = all or read_all(leases)
        collect(all[head])
      end
    end
    redis.call('ZREM', lease_index.key, head)
    if #ids >= limit then
      break
    end
  end
  return ids, records
end
