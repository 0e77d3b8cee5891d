-- Changes what was set for a limit key, a wildcard or all others, and looks again at those whose jobs wait.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  wake: list of at most 8 tokens      KEYS[3..8]  the frontier's
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock      ARGV[2]  prefix of the queues of limit keys
-- ARGV[3]  whose limits: a limit key, '*.' and a domain, or '*'; '' changes nothing
-- ARGV[4]  'set' ARGV[5], such as 'c=2 r=500000', beside what is set already; 'resume' what is paused, by a wider one too;
--          'clear' all that was set
-- ARGV[6...]  limit keys to look at again
--
-- Returns {what is set now ('' nothing), 1 if anything was set before, how many jobs may be claimed that could not before}.
--
-- Atomic, since two who change one host's limits must not undo each other's, and since between the change and the look a
-- release could have let jobs go by the old ones. The walk over many keys is the caller's, so that no call takes long.

--#include frontier

local WAKE_CAP = 8
local LETTERS = {'c', 'r', 'b', 'd', 'p'}

local pending, wake, name = KEYS[1], KEYS[2], ARGV[3]

local now_us = frontier.clock(ARGV[1])

local wakes = redis.call('LLEN', wake)
frontier.open(3, ARGV[2], pending, now_us)

local function write(limits)
  local words = {}
  for i = 1, #LETTERS do
    if limits[LETTERS[i]] then
      words[#words + 1] = LETTERS[i] .. '=' .. limits[LETTERS[i]]
    end
  end
  local text = table.concat(words, ' ')
  if text == '' then
    redis.call('HDEL', frontier.limits, name)
  else
    redis.call('HSET', frontier.limits, name, text)
  end
  frontier.open_limits()
  return text
end

local function change()
  local before = redis.call('HGET', frontier.limits, name)
  local limits = {}
  if ARGV[4] ~= 'clear' then
    for letter, value in string.gmatch((before or '') .. ' ' .. ARGV[5], '(%a)=(%d+)') do
      limits[letter] = value
    end
  end
  if ARGV[4] == 'resume' then
    limits.p = nil
  end
  local text = write(limits)
  if ARGV[4] == 'resume' and frontier.limits_of(name).p == 1 then
    limits.p = '0'
    text = write(limits)
  end
  return text, before and 1 or 0
end

local text, known = '', 0
if name ~= '' then
  text, known = change()
end
local keys = {unpack(ARGV, 6)}
if #keys > 0 then
  frontier.load(keys)
  for i = 1, #keys do
    frontier.record(keys[i])
  end
end
local promoted, nearer = frontier.save()
for _ = wakes + 1, math.min(WAKE_CAP, promoted + (nearer and 1 or 0)) do
  redis.call('RPUSH', wake, '1')
end
return {text, known, promoted}
