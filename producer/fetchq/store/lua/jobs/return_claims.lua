#!lua flags=allow-oom
-- Gives back what was claimed by calls whose reply never came: nobody runs it, and no try was had.
--
-- KEYS[1]  pending: sorted set of job ids       KEYS[2]  leases: hash of id -> token|lease end|original score|expires at
-- KEYS[3]  lease ends: sorted set               KEYS[4]  wake: list of tokens      KEYS[5..10]  the frontier's
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2..5]  prefixes of the payload, retry and in-progress keys, and of the queues of limit keys
-- ARGV[6...]  the tokens of those calls
--
-- Returns how many jobs were given back. Atomic, since they must not be claimed in between. It looks at every lease of the
-- queue, of which there are as many as jobs running; it is called after a connection broke, and not otherwise.

--#include lease_index
--#include frontier

local pending, leases, wake = KEYS[1], KEYS[2], KEYS[4]

local unheard = {}
for i = 6, #ARGV do
  unheard[ARGV[i]] = true
end

-- Fails while nothing has changed yet where a key of the whole queue holds a wrong type.
local wakes = redis.call('LLEN', wake)
ends.open(KEYS[3])
local now_us = frontier.clock(ARGV[1])
frontier.open(5, ARGV[5], pending, now_us)

local given = {}
local held = redis.call('HGETALL', leases)
for i = 1, #held, 2 do
  local id = held[i]
  local token, score, expires_at = string.match(held[i + 1], '^([^|]*)|%d+|([-+.%dinfe]+)|(%d*)$')
  if unheard[token] and tonumber(score) then
    redis.call('ZADD', pending, 'XX', score, id)
    redis.call('HDEL', leases, id)
    ends.drop(ends.head(held[i + 1]))
    if redis.pcall('GET', ARGV[4] .. id) == token then
      redis.call('DEL', ARGV[4] .. id)
    end
    if expires_at ~= '' then
      redis.pcall('PEXPIREAT', ARGV[2] .. id, expires_at)
    end
    local left = redis.pcall('DECR', ARGV[3] .. id)
    if type(left) ~= 'number' or left < 0 then -- a '0' stays: it says that a run of the job has left something behind
      redis.call('DEL', ARGV[3] .. id)
    end
    given[#given + 1] = id
  end
end
frontier.release(given, true, true)
ends.save()
frontier.save()
if #given > 0 and wakes == 0 then
  redis.call('RPUSH', wake, '1')
end
return #given
