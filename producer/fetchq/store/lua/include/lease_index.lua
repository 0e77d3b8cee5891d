-- When leases end: a sorted set with one entry for all that one call leased together, and not one for each job. A part of other
-- scripts, which include it; no other place reads or writes the set.
--
-- A member is what the records of those leases begin with, `token|lease end|`. Its score is the lease's end in ms, and after the
-- point how many of them there are, in 1024ths: a double holds both until the year 2248. Two keys would have to agree.

local ends = {MOST = 1000, SHARES = 1024, dropped = {}}

-- Fails while nothing has changed yet where the key holds a wrong type.
function ends.open(key)
  ends.key = key
  redis.call('ZCARD', key)
end

-- What a lease's record begins with; nil for one that no worker wrote.
function ends.head(record)
  return record and string.match(record, '^[^|]*|%d+|')
end

-- `count` more leases have records that begin with `head`, and end at `lease_end`.
function ends.add(head, lease_end, count)
  local share = string.format('%.10f', count / ends.SHARES)
  if not redis.call('ZADD', ends.key, 'XX', 'INCR', share, head) then
    redis.call('ZADD', ends.key, lease_end .. string.sub(share, 2), head)
  end
end

-- The lease whose record begins with `head` is over, or has another end now; `ends.save` writes it.
function ends.drop(head)
  if head then
    ends.dropped[head] = (ends.dropped[head] or 0) + 1
  end
end

function ends.save()
  for head, count in pairs(ends.dropped) do
    local left = redis.call('ZADD', ends.key, 'XX', 'INCR', string.format('-%.10f', count / ends.SHARES), head)
    if left and (tonumber(left) or 0) <= tonumber(string.match(head, '|(%d+)|$')) then
      redis.call('ZREM', ends.key, head)
    end
  end
end

-- What was read of some leases, flat (id, record), by what the records begin with.
local function by_head(ids, records)
  local groups = {}
  for i = 1, #ids do
    local head = ends.head(records[i])
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
  return by_head(ids, records)
end

-- The ids and the records of leases that have ended, at least some of `most` where there are any; the set forgets them. In the
-- queue they stand at the lease's end, as a rule; where one does not, the records of all leases are gone through. Claims that
-- were renewed together end together: nothing is read twice for them.
function ends.ended(leases, pending, now, most)
  local ids, records, seen, at_end, all = {}, {}, {}, {}, nil
  local function note(group)
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
  local heads = redis.call('ZRANGEBYSCORE', ends.key, '-inf', string.format('(%.0f', now + 1), 'WITHSCORES', 'LIMIT', 0, most)
  for i = 1, #heads, 2 do
    local head, its_end = heads[i], string.match(heads[i], '^[^|]*|(%d+)|$')
    if its_end then
      if not at_end[its_end] then
        local due = redis.call('ZRANGEBYSCORE', pending, its_end, its_end, 'LIMIT', 0, 2 * ends.MOST)
        at_end[its_end] = by_head(due, #due > 0 and redis.call('HMGET', leases, unpack(due)) or {})
      end
      if note(at_end[its_end][head]) < math.floor((tonumber(heads[i + 1]) or 0) % 1 * ends.SHARES + 0.5) then
        all = all or read_all(leases)
        note(all[head])
      end
    end
    redis.call('ZREM', ends.key, head)
    if #ids >= most then
      break
    end
  end
  return ids, records
end
