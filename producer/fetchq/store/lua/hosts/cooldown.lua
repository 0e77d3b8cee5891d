#!lua flags=allow-oom
-- A limit key is left alone for a while, because its server asked for that.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  wake: list of tokens      KEYS[3..8]  the frontier's
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock      ARGV[2]  prefix of the queues of limit keys
-- ARGV[3]  the limit key      ARGV[4]  for how many ms its server asked, '' if it did not say
-- ARGV[5]  how many ms where it did not say: twice as many each time that it asks again without a success in between
-- ARGV[6]  how many ms at most
--
-- Returns in how many ms the cooling-off ends.
--
-- Atomic, since a job that is admitted at the same time must see it or have started before it. It runs in a Redis that is
-- full: what it writes keeps more work away than it costs.

--#include frontier

local now_us = frontier.clock(ARGV[1])
local wakes = redis.call('LLEN', KEYS[2])
frontier.open(3, ARGV[2], KEYS[1], now_us)

local key = ARGV[3]
local record = frontier.record(key)
frontier.cool(key, record, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
local left = record.cools_until - frontier.now
local _, nearer = frontier.save()
if nearer and wakes == 0 then -- idle workers know of no turn that is as near as its end
  redis.call('RPUSH', KEYS[2], '1')
end
return left
