-- Changes the limits of a limit key, a wildcard or '*', and makes waiting jobs ready that the new limits permit.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  wake: list of tokens      KEYS[3..8]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock      ARGV[2]  prefix of the queues of limit keys
-- ARGV[3]  name of the entry to change (limits.lua); '' changes none
-- ARGV[4]  'set' adds the words of ARGV[5], such as 'c=2 r=500000', to those that are set; 'resume' ends a pause, also
--          one that a wider entry sets; 'clear' removes the entry
-- ARGV[6...]  limit keys whose waiting jobs are checked
--
-- Returns {the entry now ('' none), 1 if there was one before, number of jobs that can be claimed and could not
-- before}.
--
-- Atomic: two clients that change one host's limits must not undo each other's change, and no run may end between the
-- change and the check, which would make jobs ready by the old limits. The caller splits many keys into several calls,
-- so that none takes long.

--#include redis/clock
--#include redis/wake
--#include hosts/hosts

local CODES = {'c', 'r', 'b', 'd', 'p'}
local FIRST_KEY = 6

local name, action = ARGV[3], ARGV[4]

clock.read(ARGV[1])
wake.open(KEYS[2])
hosts.open(KEYS[1], 3, ARGV[2])

local function write(words)
  local entry = {}
  for i = 1, #CODES do
    if words[CODES[i]] then
      entry[#entry + 1] = CODES[i] .. '=' .. words[CODES[i]]
    end
  end
  local text = table.concat(entry, ' ')
  if text == '' then
    redis.call('HDEL', keys.limits, name)
  else
    redis.call('HSET', keys.limits, name, text)
  end
  limits.open()
  return text
end

local function change()
  local before = redis.call('HGET', keys.limits, name)
  local words = {}
  if action ~= 'clear' then
    for code, value in string.gmatch((before or '') .. ' ' .. ARGV[5], '(%a)=(%d+)') do
      words[code] = value
    end
  end
  if action == 'resume' then
    words.p = nil
  end
  local text = write(words)
  if action == 'resume' and limits.of(name).p == 1 then -- a wider entry pauses it
    words.p = '0'
    text = write(words)
  end
  return text, before and 1 or 0
end

local text, existed = '', 0
if name ~= '' then
  text, existed = change()
end
if #ARGV >= FIRST_KEY then
  host_record.load({unpack(ARGV, FIRST_KEY)})
  for i = FIRST_KEY, #ARGV do
    host_record.get(ARGV[i])
  end
end
local promoted, earlier = hosts.save()
wake.workers(promoted + earlier)
return {text, existed, promoted}
