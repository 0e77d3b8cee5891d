#!lua flags=allow-oom
-- Starts a cooldown of a limit key: its server asked for a pause, and none of its jobs start until that is over.
--
-- KEYS[1]  pending: sorted set of job ids      KEYS[2]  wake: list of tokens      KEYS[3..8]  see keys.lua
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock      ARGV[2]  prefix of the queues of limit keys
-- ARGV[3]  limit key      ARGV[4]  ms that its server asked for; '' none
-- ARGV[5]  ms without ARGV[4]: doubled with each further cooldown until a success
-- ARGV[6]  maximum in ms
--
-- Returns {ms until the cooldown ends, 1 if it began with this call and 0 if the key was in a cooldown before}.
--
-- Atomic: a job that is admitted at the same time must either see the cooldown or have started before it. `allow-oom`:
-- a cooldown saves more memory than its record takes.

--#include redis/clock
--#include redis/wake
--#include hosts/cooldown

clock.read(ARGV[1])
wake.open(KEYS[2])
hosts.open(KEYS[1], 3, ARGV[2])

local record = host_record.get(ARGV[3])
local began = record.cooldown_until <= clock.now_ms
start_cooldown(ARGV[3], record, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
local remaining_ms = record.cooldown_until - clock.now_ms
local _, earlier = hosts.save()
wake.workers(earlier) -- idle workers may know only of later times
return {remaining_ms, began and 1 or 0}
