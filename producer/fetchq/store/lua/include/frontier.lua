-- The frontier: whose turn it is. A part of other scripts, which include it; no other place reads or writes its records.
--
-- A job has a limit key (its host, as a rule) or none. One that may not start yet waits in its key's own queue (waiting.lua),
-- and its place in the sorted set of pending jobs is then so far in the future that nobody claims it: it is `parked`. When its
-- turn comes it goes back among the pending jobs, where it `stands` until a worker claims it; it `runs` from its admission to
-- its release.
--
-- KEYS, in this order from the one that `frontier.open` is told (`Keys.frontier` in fetchq/keys.py):
--   hosts    hash: limit key -> running standing waiting tat cools_until strikes fails delay_ms turn last
--              running, standing, waiting  how many jobs do;  tat  when the next is due by the rate, in us (GCRA's theoretical
--              arrival time);  cools_until  ms;  strikes  how many times it had to cool off without a success since;
--              fails  connections that failed in a row;  delay_ms  the crawl delay that it asks for;  turn  its score in
--              `turns`, 0 for none;  last  what came of its last job.  Under the empty key, while it is there: a queue of waiting
--              jobs was lost; the ms before which its jobs were parked
--   limits   hash: limit key, '*.' and a domain, 'key:*' (all that requests name) or '*' -> such as 'c=8 r=50000 b=1 d=0 p=1':
--              how many at a time, us between two starts, burst, ms between two starts at least, paused. What one leaves out,
--              the next wider one says. '@by' -> what limit keys are, if not hosts: domain, address
--   turns    sorted set: limit key, or '#' and a job id -> ms at which to look at it
--   depths   sorted set: limit key -> how many jobs wait      cooling  sorted set: limit key -> ms at which it ends
--   running  hash: job id -> limit key; with '#' in front, the lease has ended and the run is not counted
-- No host begins with '#' (WHATWG URL, section 3.5, forbids it in one); there are some that begin with '-' or '~'.
--
-- Rates follow GCRA (ITU-T I.371): one number a key, no window to clean up. Time is Redis's own.

--#include waiting

local frontier = {
  PARKED = 2 ^ 52, -- scores from here on are of parked jobs; all are below 2^53
  DEFAULT_CONCURRENCY = 8,
  LOOK_AGAIN_MS = 1000, -- should jobs that stood be taken by somebody who knows no frontier
  MAX_LOOK_AGAIN_MS = 60000,
  PACE = 1.03, -- a little slower than the rate: what the network delays must not arrive as a burst
  CATCH_UP_US = 20000, -- how much of its delay a start may make up for
  FAILS = 5, -- connections that fail in a row before the key cools off
  FIRST_BREAK_MS = 10000,
  MAX_BREAK_MS = 60000,
  GONE = 20, -- connections that fail in a row before nobody waits for the key any more: its jobs come to their own ends
  FIRST_COOLING_MS = 60000,
  MAX_COOLING_MS = 86400000,
  MAX_DELAY_MS = 3600000, -- of a crawl delay
  FEW_LIMITS = 64, -- so many that were set are read at once; of more, those that may hold for a key
  AT_ONCE = 2000, -- of one key's waiting jobs so many are looked at in a call; the others have their turn in the next
  MANY_RUNS = 1000, -- of more, the records' counts are not compared with them
  REMEMBER_MS = 600000,
  REMEMBER_DELAY_MS = 3600000,
}

local HIGH, LOW = 2 ^ 51, 2 ^ 50
local HIGH_BELOW, LOW_BELOW = -(2 ^ 50 + 2 ^ 49), -(2 ^ 49)

-- A score says the lane too: '' default, 'h' high, 'l' low. Returns lane, due in ms, whether its turn had come once.
function frontier.read_score(score)
  local lane, due = '', score
  if score >= frontier.PARKED then
    due = score - frontier.PARKED
    if due >= HIGH then
      lane, due = 'l', due - HIGH
    elseif due >= LOW then
      lane, due = 'h', due - LOW
    end
  elseif score < HIGH_BELOW then
    lane, due = 'h', score + HIGH
  elseif score < LOW_BELOW then
    lane, due = 'l', score + LOW
  end
  return lane, due, due % 1 ~= 0
end

function frontier.standing_score(lane, due)
  if lane == 'h' then
    due = due - HIGH
  elseif lane == 'l' then
    due = due - LOW
  end
  return string.format(due % 1 == 0 and '%.0f' or '%.1f', due)
end

function frontier.parked_score(lane, due)
  due = math.min(math.max(math.floor(due), 0), 2 ^ 48)
  if lane == 'h' then
    due = due + LOW
  elseif lane == 'l' then
    due = due + HIGH
  end
  return string.format('%.0f', frontier.PARKED + due)
end

-- The ranges of standing scores, for ZRANGEBYSCORE, lane by lane.
function frontier.range(lane, now)
  if lane == 'h' then
    return '-inf', string.format('%.0f', HIGH_BELOW)
  elseif lane == 'l' then
    return string.format('(%.0f', HIGH_BELOW), string.format('%.0f', LOW_BELOW)
  end
  return string.format('(%.0f', LOW_BELOW), string.format('%.0f', now)
end

-- Now in us: Redis's own time, or what a test says in ms ('' is nothing said).
function frontier.clock(said_ms)
  if said_ms ~= '' then
    return tonumber(said_ms) * 1000
  end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Fails while nothing has changed yet where a key of the whole queue holds a wrong type.
function frontier.open(first, waiting_prefix, pending, now_us)
  frontier.hosts, frontier.limits, frontier.turns = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  frontier.depths, frontier.cooling, frontier.running = KEYS[first + 3], KEYS[first + 4], KEYS[first + 5]
  frontier.pending = pending
  waiting.open(waiting_prefix, frontier.miss_jobs)
  frontier.now_us, frontier.now = now_us, math.floor(now_us / 1000)
  frontier.records, frontier.touched, frontier.parked = {}, {}, {}
  frontier.open_limits()
  frontier.promoted, frontier.soonest = 0, nil
  redis.call('HLEN', frontier.hosts)
  redis.call('ZCARD', frontier.turns)
  redis.call('ZCARD', frontier.depths)
  redis.call('ZCARD', frontier.cooling)
  frontier.any_run = redis.call('HLEN', frontier.running) > 0
end

local BUILT_IN = {c = frontier.DEFAULT_CONCURRENCY}

-- What was set is read anew from here on.
function frontier.open_limits()
  local count = redis.call('HLEN', frontier.limits)
  frontier.any_limits, frontier.known_limits = count > 0, {}
  frontier.set_limits, frontier.any_wider = nil, true
  if count > 0 and count <= frontier.FEW_LIMITS then
    local flat = redis.call('HGETALL', frontier.limits)
    frontier.set_limits, frontier.any_wider = {}, false
    for i = 1, #flat, 2 do
      frontier.set_limits[flat[i]] = flat[i + 1]
      frontier.any_wider = frontier.any_wider or string.find(flat[i], '*', 1, true) ~= nil
    end
  end
end

local function read_limits(names)
  if not frontier.set_limits then
    return redis.call('HMGET', frontier.limits, unpack(names))
  end
  local texts = {}
  for i = 1, #names do
    texts[i] = frontier.set_limits[names[i]] or false
  end
  return texts
end

function frontier.limits_of(key)
  if not frontier.any_limits then
    return BUILT_IN
  end
  local limits = frontier.known_limits[key]
  if limits then
    return limits
  end
  if not (frontier.any_wider or frontier.set_limits[key]) then
    return BUILT_IN
  end
  local names = {key}
  local dot = string.find(key, '.', 1, true)
  if string.sub(key, 1, 4) == 'key:' then -- one that a request names is no host, whatever it looks like
    names[2], dot = 'key:*', nil
  end
  while dot and #names < 12 do
    names[#names + 1] = '*' .. string.sub(key, dot)
    dot = string.find(key, '.', dot + 1, true)
  end
  names[#names + 1] = '*'
  limits = {}
  local texts = read_limits(names)
  for i = 1, #names do
    if texts[i] then
      for name, value in string.gmatch(texts[i], '(%a)=(%d+)') do
        if limits[name] == nil then
          limits[name] = tonumber(value)
        end
      end
    end
  end
  limits.c = limits.c or frontier.DEFAULT_CONCURRENCY
  frontier.known_limits[key] = limits
  return limits
end

-- The limit key that a producer tells of a job. Where limits belong to something else than the host it cannot know the key:
-- the first claimer finds it out.
function frontier.told(key)
  if not frontier.by then
    frontier.by = frontier.any_limits and read_limits({'@by'})[1] or 'host'
  end
  return (frontier.by == 'host' or string.sub(key, 1, 4) == 'key:') and key or ''
end

local function read_record(text)
  -- As a rule there is neither a rate, nor trouble, nor a turn.
  local running, standing, waiting, last = string.match(text or '', '^(%d+) (%d+) (%d+) 0 0 0 0 0 0 (.*)$')
  local tat, cools_until, strikes, fails, delay, turn = 0, 0, 0, 0, 0, 0
  if text and not running then
    running, standing, waiting, tat, cools_until, strikes, fails, delay, turn, last =
      string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (.*)$')
  end
  local waits = tonumber(waiting or 0)
  return { -- at once, with all that it will ever have: field by field it would be made larger five times
    running = tonumber(running or 0), standing = tonumber(standing or 0), waiting = waits, tat = tonumber(tat or 0),
    cools_until = tonumber(cools_until or 0), strikes = tonumber(strikes or 0), fails = tonumber(fails or 0),
    delay = tonumber(delay or 0), turn = tonumber(turn or 0), last = last or '', depth = waits, stored = running ~= nil,
    touched = false,
  }
end

local function write_record(record)
  if record.tat + record.cools_until + record.strikes + record.fails + record.delay + record.turn == 0 then
    return string.format('%d %d %d 0 0 0 0 0 0 %s', record.running, record.standing, record.waiting, record.last)
  end
  return string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s', record.running, record.standing, record.waiting,
    record.tat, record.cools_until, record.strikes, record.fails, record.delay, record.turn, record.last)
end

-- Reads the records of many limit keys at once; what `frontier.record` gives afterwards costs no command.
function frontier.load(keys)
  local new = {}
  for i = 1, #keys do
    if not frontier.records[keys[i]] then
      frontier.records[keys[i]] = true -- once, though it is named twice
      new[#new + 1] = keys[i]
    end
  end
  if #new == 0 then
    return
  end
  local texts = redis.call('HMGET', frontier.hosts, unpack(new))
  for i = 1, #new do
    frontier.records[new[i]] = read_record(texts[i])
  end
end

-- The record of a limit key, to be changed; `frontier.save` writes it.
function frontier.record(key)
  local record = frontier.records[key]
  if not record then
    frontier.load({key})
    record = frontier.records[key]
  end
  if not record.touched then
    record.touched = true
    frontier.touched[#frontier.touched + 1] = key
  end
  return record
end

-- us between two starts, how many may come at once, and how late a start may be made up for.
local function pace(record, limits)
  local rate_us, delay_us = limits.r or 0, math.max(limits.d or 0, record.delay) * 1000
  if delay_us >= rate_us then
    return delay_us, 1, 0
  end
  local burst = math.max(limits.b or 1, 1)
  if burst > 1 then
    return rate_us, burst, 0
  end
  rate_us = rate_us * frontier.PACE
  return rate_us, 1, math.min(rate_us / 2, frontier.CATCH_UP_US)
end

-- Whether a key, of those that are loaded, is paused or cools off: even jobs that do not count for it are not to start.
function frontier.is_closed(key)
  return frontier.records[key].cools_until > frontier.now or frontier.limits_of(key).p == 1
end

-- How many more jobs of this key may stand (or start, of those that `stand` are told 0) now; if none, the ms at which to
-- look again (nil: at a release), and whether that is no turn, but a look whether those that stand still do.
function frontier.room(key, record, standing)
  local limits = frontier.limits_of(key)
  if limits.p == 1 then
    return 0
  end
  if record.cools_until > frontier.now then
    return 0, record.cools_until
  end
  local at_a_time = limits.c
  if record.strikes > 0 and record.fails < frontier.GONE then
    at_a_time = math.min(at_a_time, 1) -- half open: one finds out whether it is well again
  end
  local free = at_a_time - record.running - standing
  if free <= 0 then
    return 0, standing > 0 and frontier.now + frontier.LOOK_AGAIN_MS or nil, true
  end
  local interval_us, burst = pace(record, limits)
  if interval_us > 0 then
    -- No later than a start at this very moment would leave it: its rate was slower when it was set.
    record.tat = math.min(record.tat, math.floor(frontier.now_us + burst * interval_us))
    local starts_at = record.tat - (burst - 1) * interval_us
    if starts_at > frontier.now_us then
      return 0, math.ceil(starts_at / 1000)
    end
    local permitted = math.min(burst, math.floor((frontier.now_us - starts_at) / interval_us) + 1) - standing
    if permitted <= 0 then
      return 0, frontier.now + frontier.LOOK_AGAIN_MS, true
    end
    free = math.min(free, permitted)
  end
  return free
end

-- A job of this key starts: the clock of its rate goes on. The caller notes it in `running`.
function frontier.start(key, record)
  record.running = record.running + 1
  local interval_us, _, catch_up_us = pace(record, frontier.limits_of(key))
  if interval_us > 0 then
    local due_us = record.tat
    if due_us < frontier.now_us - catch_up_us then
      due_us = frontier.now_us
    end
    record.tat = math.floor(due_us + interval_us)
  end
end

local function set_turn(key, record, at)
  at = at and math.floor(at) or 0
  if at == record.turn then
    return
  end
  if at == 0 then
    redis.call('ZREM', frontier.turns, key)
  else
    redis.call('ZADD', frontier.turns, string.format('%.0f', at), key)
  end
  record.turn = at
end

-- A queue of waiting jobs is not there, which only somebody else can have done: its jobs are parked, and in no queue.
function frontier.miss_jobs()
  redis.call('HSET', frontier.hosts, '', string.format('%.0f', frontier.now))
end

-- Where a job waits, by its pending score: parked, or since it came up by its deadline. A stock client's abort has another, and
-- such a job is found only among those that are next: its entry is passed over when its turn comes.
local function place_at(score)
  return waiting.place_of(frontier.read_score(score))
end

-- Whether a job waits for this key.
function frontier.waits(key, id, score)
  return waiting.has(key, id, place_at(score))
end

-- Takes a job out of its key's queue. Returns whether it was there.
function frontier.take_out(key, record, id, score)
  return waiting.take_out(key, record, id, place_at(score))
end

-- Should a key's record have been lost, its queue was not.
function frontier.count_again_if_lost(key, record)
  if not record.stored then
    record.waiting, record.stored = waiting.count(key), true
  end
end

local function write_parked()
  if #frontier.parked > 0 then
    redis.call('ZADD', frontier.pending, unpack(frontier.parked))
    frontier.parked = {}
  end
end

-- Puts a pending job into its key's own queue; `frontier.save` makes it pending no more. `deadline` is ms since the epoch, ''
-- for none.
function frontier.park(key, record, id, lane, due, deadline, had_its_turn)
  frontier.count_again_if_lost(key, record)
  if had_its_turn and record.waiting > 0 then -- back to the front, where it came from
    due = math.min(due, waiting.first_due(key, lane) or due)
  end
  record.waiting = record.waiting + waiting.add(key, record, waiting.place_of(lane, due), id)
  local parked = frontier.parked
  parked[#parked + 1] = frontier.parked_score(lane, due)
  parked[#parked + 1] = id
  if #parked >= 4000 then -- Lua's `unpack` gives up at 8000
    write_parked()
  end
  if deadline ~= '' then
    redis.call('ZADD', frontier.turns, deadline, '#' .. id)
  end
end

-- Puts a job whose lane is not the default's aside until it is due: among the others it would stand in their lane.
function frontier.defer(id, lane, due)
  redis.call('ZADD', frontier.pending, frontier.parked_score(lane, due), id)
  redis.call('ZADD', frontier.turns, string.format('%.0f', due), '#' .. id)
end

-- A job that had its turn will not be run: it stands no more, or never stood if it came up by its deadline or an abort.
function frontier.pass(key, record, id, score)
  if not frontier.take_out(key, record, id, score) then
    record.standing = math.max(0, record.standing - 1)
  end
end

-- Brings back at most `most` of the jobs that were parked before a queue was lost. Which of them wait in other queues is not
-- known: those are parked again by their next claimer, and are then of a later time, so that this comes to an end.
function frontier.bring_back(most)
  local before = tonumber(redis.call('HGET', frontier.hosts, '') or '')
  if not before then
    return
  end
  for _, lane in ipairs({'', 'h', 'l'}) do
    local from, to = frontier.parked_score(lane, 0), '(' .. frontier.parked_score(lane, before)
    local ids = redis.call('ZRANGEBYSCORE', frontier.pending, from, to, 'LIMIT', 0, most)
    for i = 1, #ids do
      redis.call('ZADD', frontier.pending, 'XX', frontier.standing_score(lane, frontier.now), ids[i])
    end
    frontier.promoted = frontier.promoted + #ids
    most = most - #ids
    if most == 0 then
      return
    end
  end
  redis.call('HDEL', frontier.hosts, '')
end

-- How many jobs of each key run; nil where there are too many to count.
local function count_runs()
  if redis.call('HLEN', frontier.running) <= frontier.MANY_RUNS then
    local counts, keys = {}, redis.call('HVALS', frontier.running)
    for i = 1, #keys do
      counts[keys[i]] = (counts[keys[i]] or 0) + 1
    end
    return counts
  end
end

-- Corrects some records, picked at random, by what is there: whoever else empties a key, or claims a job, changes no record.
function frontier.mend(most)
  local deepest = redis.call('ZRANDMEMBER', frontier.depths, most)
  frontier.load(deepest)
  for i = 1, #deepest do
    local record = frontier.record(deepest[i])
    waiting.mend(deepest[i], record)
    record.depth = -1 -- and `depths` is written anew
  end
  local some = redis.call('HRANDFIELD', frontier.hosts, most) or {}
  frontier.load(some)
  local runs = count_runs()
  for i = 1, #some do
    local record = frontier.records[some[i]]
    if runs and record.running > (runs[some[i]] or 0) then
      frontier.record(some[i]).running = runs[some[i]] or 0
    end
    if record.standing > 0 and record.running == 0 then -- should they stand indeed, admission finds out
      frontier.record(some[i]).standing = 0
    end
  end
  if #deepest == 0 then
    for _, lane in ipairs({'', 'h', 'l'}) do
      local from, to = frontier.parked_score(lane, 0), frontier.parked_score(lane, frontier.now - frontier.LOOK_AGAIN_MS)
      if #redis.call('ZRANGEBYSCORE', frontier.pending, from, to, 'LIMIT', 0, 1) > 0 then
        frontier.miss_jobs() -- parked, and no queue knows anybody
      end
    end
  end
end

-- Lets as many of a key's waiting jobs stand as there is room for, and says when to look again.
function frontier.fill(key, record)
  local seen = 0
  while record.waiting > 0 do
    local free, at, looks = frontier.room(key, record, record.standing)
    if free > 0 and seen >= frontier.AT_ONCE then
      set_turn(key, record, frontier.now)
      return
    end
    if free == 0 then
      if at and looks then
        at = math.max(at, record.look_at or 0)
      elseif at and math.floor(at) ~= record.turn then
        frontier.soonest = math.min(frontier.soonest or at, at)
      end
      set_turn(key, record, at)
      return
    end
    local ids = waiting.take(key, record, math.min(free, 500))
    if #ids == 0 then
      record.waiting = 0
      break
    end
    seen = seen + #ids
    local scores = redis.call('ZMSCORE', frontier.pending, unpack(ids))
    for i = 1, #ids do
      local score = tonumber(scores[i] or 0)
      if score >= frontier.PARKED then -- else it was cancelled, aborted, or parked elsewhere and had its turn
        local lane = frontier.read_score(score)
        redis.call('ZADD', frontier.pending, 'XX', frontier.standing_score(lane, frontier.now - 0.5), ids[i])
        record.standing = record.standing + 1
        frontier.promoted = frontier.promoted + 1
      end
    end
  end
  -- Nothing waits. What is remembered of an idle key is forgotten in time.
  local at = 0
  if record.running + record.standing == 0 then
    if record.tat > frontier.now_us then
      at = math.ceil(record.tat / 1000)
    end
    at = math.max(at, record.cools_until)
    if record.strikes + record.fails > 0 then
      at = math.max(at, frontier.now, record.cools_until) + frontier.REMEMBER_MS
    end
    if record.delay > 0 then
      at = math.max(at, frontier.now + frontier.REMEMBER_DELAY_MS)
    end
  end
  set_turn(key, record, at)
end

-- When the job that has been due longest became due; `now` if none is.
local function oldest_due()
  local oldest = frontier.now
  for _, lane in ipairs({'', 'h', 'l'}) do
    local from, to = frontier.range(lane, frontier.now)
    local head = redis.call('ZRANGEBYSCORE', frontier.pending, from, to, 'WITHSCORES', 'LIMIT', 0, 1)
    if head[2] then
      local _, due = frontier.read_score(tonumber(head[2]))
      oldest = math.min(oldest, due)
    end
  end
  return oldest
end

-- Looks at those whose time has come, at most `count` of them.
function frontier.take_turns(count)
  local due = redis.call('ZRANGEBYSCORE', frontier.turns, '-inf', string.format('%.0f', frontier.now), 'LIMIT', 0, count)
  if #due == 0 then
    return
  end
  redis.call('ZREM', frontier.turns, unpack(due))
  local keys = {}
  for i = 1, #due do
    if string.sub(due[i], 1, 1) == '#' then
      local id = string.sub(due[i], 2)
      local score = tonumber(redis.call('ZSCORE', frontier.pending, id) or 0)
      if score >= frontier.PARKED then
        local lane, at = frontier.read_score(score)
        redis.call('ZADD', frontier.pending, 'XX', frontier.standing_score(lane, math.min(at, frontier.now)), id)
        frontier.promoted = frontier.promoted + 1
      end
    else
      keys[#keys + 1] = due[i]
    end
  end
  frontier.load(keys)
  local oldest
  for i = 1, #keys do
    local record = frontier.record(keys[i])
    frontier.count_again_if_lost(keys[i], record)
    if record.standing > 0 then
      oldest = oldest or oldest_due()
      if oldest <= record.turn - frontier.LOOK_AGAIN_MS then -- what came before them stands too: there are no free workers
        record.look_at = frontier.now + math.min(frontier.now - oldest, frontier.MAX_LOOK_AGAIN_MS)
      else
        record.standing = 0
      end
    end
    record.turn = 0
    if record.waiting + record.running == 0 then
      record.strikes, record.fails, record.delay = 0, 0, 0 -- long idle
    end
    frontier.fill(keys[i], record)
  end
end

-- ms until the next turn; nil for none.
function frontier.next_turn()
  local head = redis.call('ZRANGE', frontier.turns, 0, 0, 'WITHSCORES')
  return head[2] and math.max(0, tonumber(head[2]) - frontier.now)
end

-- ms until a job that waited may be claimed, as far as this call has changed that; -1 for no change.
function frontier.news()
  if frontier.promoted > 0 then
    return 0
  end
  return frontier.soonest and math.max(0, math.ceil(frontier.soonest - frontier.now)) or -1
end

-- The runs of these jobs are over, or their leases: their slots are free. `stands` says of those that are pending again that
-- they stand there; `over` that nothing is to be remembered of the run. Returns the limit key of each that has one.
function frontier.release(ids, stands, over)
  if #ids == 0 or not frontier.any_run then
    return {}
  end
  local held = redis.call('HMGET', frontier.running, unpack(ids))
  local keys, known, gone = {}, {}, {}
  for i = 1, #ids do
    if held[i] then
      keys[i] = string.match(held[i], '^#?(.*)$')
      known[#known + 1] = keys[i]
    end
  end
  frontier.load(known)
  for i = 1, #ids do
    if held[i] then
      local key = keys[i]
      local counted = held[i] == key
      local record = frontier.record(key)
      frontier.count_again_if_lost(key, record)
      if counted then
        record.running = math.max(0, record.running - 1)
      end
      if stands and counted then -- else it stands already, since its lease ended
        record.standing = record.standing + 1
      elseif not (stands or counted) then
        record.standing = math.max(0, record.standing - 1)
      end
      if over then
        gone[#gone + 1] = ids[i]
      elseif counted then
        redis.call('HSET', frontier.running, ids[i], '#' .. key)
      end
    else
      keys[i] = false
    end
  end
  if #gone > 0 then
    redis.call('HDEL', frontier.running, unpack(gone))
  end
  return keys
end

-- The key is left in peace: for `for_ms`, as its server asked, or for `first_ms` and each time twice as long; never for more
-- than `most_ms`.
function frontier.cool(key, record, for_ms, first_ms, most_ms)
  if record.cools_until <= frontier.now then -- what else was under way when it began is no further strike
    record.strikes = math.min(record.strikes + 1, 32)
  end
  if not for_ms then
    local jitter = 0.8 + 0.4 * (frontier.now_us % 1000) / 1000
    for_ms = first_ms * 2 ^ (record.strikes - 1) * jitter
  end
  for_ms = math.min(for_ms, most_ms or frontier.MAX_COOLING_MS)
  record.cools_until = math.max(record.cools_until, math.floor(frontier.now + for_ms))
  redis.call('ZADD', frontier.cooling, string.format('%.0f', record.cools_until), key)
end

-- What came of a job: '+' its key is well, '-' a connection to it failed, '=' neither; a word for people; and, if the key's
-- robots.txt was asked, ' d=' and the ms between two fetches that it wants.
function frontier.note(key, note)
  local record, sign = frontier.record(key), string.sub(note, 1, 1)
  local word, delay = string.match(note, '^.(.-) d=(%d+)$')
  record.last = word or string.sub(note, 2)
  if delay then
    record.delay = math.min(tonumber(delay), frontier.MAX_DELAY_MS)
  end
  if sign == '+' and record.cools_until <= frontier.now then
    record.strikes, record.fails = 0, 0
  elseif sign == '-' then
    record.fails = record.fails + 1
    if record.fails >= frontier.FAILS or record.strikes > 0 then
      local doubles = record.fails < frontier.GONE
      frontier.cool(key, record, not doubles and frontier.FIRST_BREAK_MS or nil, frontier.FIRST_BREAK_MS, frontier.MAX_BREAK_MS)
    end
  end
end

-- Writes what has changed, after letting whoever has room have it. Returns how many jobs stand now that did not before, and
-- whether a turn comes before those that idle workers know of: then one of them is to be woken.
function frontier.save()
  write_parked()
  local texts, idle = {}, {}
  for i = 1, #frontier.touched do
    local key = frontier.touched[i]
    local record = frontier.records[key]
    if record.cools_until > 0 and record.cools_until <= frontier.now then
      record.cools_until = 0
      redis.call('ZREM', frontier.cooling, key)
    end
    frontier.fill(key, record)
    if record.waiting ~= record.depth then
      if record.waiting > 0 then
        redis.call('ZADD', frontier.depths, string.format('%.0f', record.waiting), key)
      else
        redis.call('ZREM', frontier.depths, key)
      end
    end
    if record.running + record.standing + record.waiting + record.turn == 0 then
      if record.stored then
        idle[#idle + 1] = key
      end
    else
      texts[#texts + 1] = key
      texts[#texts + 1] = write_record(record)
    end
  end
  if #texts > 0 then
    redis.call('HSET', frontier.hosts, unpack(texts))
  end
  if #idle > 0 then
    redis.call('HDEL', frontier.hosts, unpack(idle))
  end
  if not frontier.soonest then
    return frontier.promoted, false
  end
  local head = redis.call('ZRANGE', frontier.turns, 0, 0, 'WITHSCORES')
  return frontier.promoted, tonumber(head[2] or 0) == frontier.soonest
end
