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

-- The ids and the records of leases that have ended, at least some of `most` where there are any; the set forgets them. In the
-- queue they stand at the lease's end, as a rule; where one does not, the records of all leases are gone through.
function ends.ended(leases, pending, now, most)
  local ids, records, seen, all = {}, {}, {}, nil
  local function note(id, record)
    if record and not seen[id] then
      seen[id] = true
      ids[#ids + 1] = id
      records[#ids] = record
      return true
    end
  end
  local heads = redis.call('ZRANGEBYSCORE', ends.key, '-inf', string.format('(%.0f', now + 1), 'WITHSCORES', 'LIMIT', 0, most)
  for i = 1, #heads, 2 do
    local head, its_end = heads[i], string.match(heads[i], '^[^|]*|(%d+)|$')
    local missing = 0
    if its_end then
      missing = math.floor((tonumber(heads[i + 1]) or 0) % 1 * ends.SHARES + 0.5)
      local due = redis.call('ZRANGEBYSCORE', pending, its_end, its_end, 'LIMIT', 0, 2 * ends.MOST)
      local theirs = #due > 0 and redis.call('HMGET', leases, unpack(due)) or {}
      for j = 1, #due do
        if theirs[j] and string.sub(theirs[j], 1, #head) == head and note(due[j], theirs[j]) then
          missing = missing - 1
        end
      end
    else -- an id alone, as it stood here once
      note(head, redis.call('HGET', leases, head))
    end
    if missing > 0 then
      all = all or redis.call('HGETALL', leases)
      for j = 1, #all, 2 do
        if string.sub(all[j + 1], 1, #head) == head then
          note(all[j], all[j + 1])
        end
      end
    end
    redis.call('ZREM', ends.key, head)
    if #ids >= most then
      break
    end
  end
  return ids, records
end
