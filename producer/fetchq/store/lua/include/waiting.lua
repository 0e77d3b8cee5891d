-- The queues in which the jobs of limit keys wait, a key's own each. A part of frontier.lua; no other place reads or writes them.
--
-- After the prefix that `waiting.open` is told:
--   <limit key>            sorted set: those of its jobs that wait and are next, by their places: when they became due, lanes
--                          apart, in 1/16 ms
--   #<place> <limit key>   sorted set: those that wait from this place on, up to the next such
--   #<limit key>           sorted set: these places, by themselves
-- So a queue is in parts small enough for Redis to keep each in one piece of memory: a third of what one large set takes.
-- No limit key begins with '#'. How many wait is `waiting` in the key's record, which these functions keep.

local waiting = {
  HEAD_START_MS = 600000, -- of a lane over the next one, within a host: low waits longer, and never for ever
  PART = 127, -- waiting jobs to a part; Redis keeps up to 128 in one piece, unless `zset-max-listpack-entries` says less
  TICKS = 16, -- places in a ms: of those that became due in one ms, so many parts can be told apart, and are looked through
}

-- `missing` is called where a queue is not there, or not all of it.
function waiting.open(prefix, missing)
  waiting.prefix, waiting.missing = prefix, missing
end

-- How much earlier than it became due, in ms, a job's place in its key's queue is.
local function head_start(lane)
  return (lane == 'h' and waiting.HEAD_START_MS) or (lane == 'l' and -waiting.HEAD_START_MS) or 0
end

-- Where a job of this lane stands that became due then.
function waiting.place_of(lane, due)
  return (math.min(math.max(math.floor(due), 0), 2 ^ 44) - head_start(lane)) * waiting.TICKS
end

local last_number, last_text
local function text(place)
  if place ~= last_number then -- those of a batch have one, as a rule
    last_number, last_text = place, string.format('%.0f', place)
  end
  return last_text
end

local function index_of(key)
  return waiting.prefix .. '#' .. key
end

-- The part of a key's queue that begins at a place; the first one for nil.
local function part_of(key, from)
  return waiting.prefix .. (from and '#' .. text(from) .. ' ' or '') .. key
end

-- The last place up to `to` at which a part of a key's queue begins; nil where that is the first part.
local function begin_of(key, to)
  return tonumber(redis.pcall('ZREVRANGEBYSCORE', index_of(key), to, '-inf', 'LIMIT', 0, 1)[1])
end

-- A key of ours that somebody filled with another type is nothing to lose jobs over: it is replaced.
local function add_to(name, ...)
  local reply = redis.pcall('ZADD', name, ...)
  if type(reply) == 'table' and reply.err then
    redis.call('DEL', name)
    reply = redis.call('ZADD', name, ...)
  end
  return reply
end

-- Moves the upper half of a part, named `name`, into a new one.
local function halve(key, name)
  local lower = math.ceil(waiting.PART / 2)
  local upper = redis.call('ZRANGE', name, lower - 1, -1, 'WITHSCORES')
  local before, from = tonumber(upper[2]), tonumber(upper[4])
  if from == before then -- what became due in one ms is told apart only by the part that it stands in
    from = from + 1
    if from % waiting.TICKS == 0 then
      return
    end
  end
  if add_to(index_of(key), 'NX', text(from), text(from)) == 0 then
    return
  end
  local moved = {}
  for i = 3, #upper, 2 do
    moved[i - 2], moved[i - 1] = text(math.max(from, tonumber(upper[i + 1]))), upper[i]
  end
  redis.call('ZREMRANGEBYRANK', name, lower, -1)
  add_to(part_of(key, from), unpack(moved))
end

-- Where the last part of a key's queue begins (nil: it is the first), and how many wait there.
local function last_part(key, record)
  if not record.last_part then
    local from = record.waiting > 0 and begin_of(key, '+inf') or nil
    local name = part_of(key, from)
    record.last_part = {from = from, name = name, size = from and tonumber(redis.pcall('ZCARD', name)) or record.waiting}
  end
  return record.last_part
end

-- As a rule a job comes after all others: when the last part is full, it begins another. One in between is halved. Where more
-- became due in one ms than its places can tell apart, a part becomes one large set.
function waiting.add(key, record, place, id)
  local last = last_part(key, record)
  local from, name, is_last = last.from, last.name, true
  if from and place < from - from % waiting.TICKS then
    from, is_last = begin_of(key, text(place + waiting.TICKS - 1)), false
    name = part_of(key, from)
  elseif last.size >= waiting.PART then
    local greatest = tonumber(redis.pcall('ZRANGE', name, -1, -1, 'WITHSCORES')[2])
    local begins = greatest and math.max(place, greatest + 1)
    if begins and (begins == place or (place > greatest - waiting.TICKS and begins % waiting.TICKS > 0)) then
      add_to(index_of(key), text(begins), text(begins))
      from, name = begins, part_of(key, begins)
      last.from, last.name, last.size = from, name, 0
    end
  end
  local added = add_to(name, text((from and from > place) and from or place), id)
  if is_last then
    last.size = last.size + added
  end
  if not is_last or last.size > waiting.PART then
    local size = redis.call('ZCARD', name)
    if size > waiting.PART and size <= 2 * waiting.PART then
      halve(key, name)
      record.last_part = nil
    end
  end
  return added
end

-- How many wait for a key; of those beyond the first part, one for each part: to look at all of them would take too long.
function waiting.count(key)
  local first = tonumber(redis.pcall('ZCARD', part_of(key))) or 0
  return first + (first > 0 and tonumber(redis.pcall('ZCARD', index_of(key))) or 0), first
end

-- The first part is gone: the next takes its place. Returns whether there is one.
local function next_part(key)
  for _ = 1, 100 do
    local from = tonumber(redis.pcall('ZPOPMIN', index_of(key))[1])
    if not from then
      return false
    end
    if not redis.pcall('RENAME', part_of(key, from), part_of(key)).err then
      return true
    end
    waiting.missing()
  end
  return false
end

-- So many have left a key's queue, and with them its first part is gone, or not.
local function left(key, record, gone, is_first_gone)
  record.last_part = nil
  record.waiting = math.max(0, record.waiting - gone)
  local has_more = not is_first_gone or next_part(key)
  if record.waiting == 0 and has_more then -- they were counted after their record was lost
    record.waiting = waiting.count(key)
  end
end

-- The part of a key's queue in which a job stands, and where that begins (nil for the first); nothing if in none. A job whose
-- place is not the one that it was added at is found in the first part only.
local function find(key, id, place)
  local name = part_of(key)
  if type(redis.pcall('ZSCORE', name, id)) == 'string' then
    return name
  end
  local from = begin_of(key, text(place + waiting.TICKS - 1))
  while from do
    name = part_of(key, from)
    if type(redis.pcall('ZSCORE', name, id)) == 'string' then
      return name, from
    end
    from = from > place and begin_of(key, '(' .. text(from)) or nil
  end
end

function waiting.has(key, id, place)
  return find(key, id, place) ~= nil
end

-- Takes a job out of a key's queue. Returns whether it was there.
function waiting.take_out(key, record, id, place)
  local name, from = find(key, id, place)
  if not name then
    return false
  end
  redis.call('ZREM', name, id)
  local is_gone = redis.call('EXISTS', name) == 0
  if is_gone and from then
    redis.call('ZREM', index_of(key), text(from))
  end
  left(key, record, 1, is_gone and not from)
  return true
end

-- Takes those out that are next, at most `most` of them; none are given where there is no queue.
function waiting.take(key, record, most)
  local first = part_of(key)
  local ids = redis.pcall('ZRANGE', first, 0, most)
  if ids.err or #ids == 0 then
    waiting.missing()
    if not next_part(key) then
      return {}
    end
    ids = redis.call('ZRANGE', first, 0, most)
  end
  local has_more = #ids > most
  ids[most + 1] = nil
  left(key, record, redis.call('ZREM', first, unpack(ids)), not has_more)
  return ids
end

-- When a job of this lane would have become due that stands where the first of a key's queue does; nil where none waits.
function waiting.first_due(key, lane)
  local first = redis.pcall('ZRANGE', part_of(key), 0, 0, 'WITHSCORES')
  return first[2] and math.floor(tonumber(first[2]) / waiting.TICKS) + head_start(lane)
end

-- Corrects how many wait by what is there.
function waiting.mend(key, record)
  local depth, first = waiting.count(key)
  if first == 0 then
    waiting.missing()
    depth = next_part(key) and waiting.count(key) or 0
  end
  if depth == first or record.waiting < depth then -- else it is in parts, and to count them all would take too long
    record.waiting = depth
  end
end
