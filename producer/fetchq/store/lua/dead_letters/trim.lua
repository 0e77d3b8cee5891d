#!lua flags=allow-oom
-- Deletes dead letters that are too old, and the oldest ones beyond a maximum number.
--
-- KEYS[1]  dead: sorted set of the ids of dead letters by the ms of their end
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock      ARGV[2]  prefix of the dead letters
-- ARGV[3]  maximum age in ms      ARGV[4]  maximum number
-- ARGV[5]  maximum number deleted in one call, which blocks other clients of Redis
--
-- Returns the number of deleted dead letters.
--
-- Atomic: a dead letter and its entry in the set are deleted together. A dead letter also has a TTL, its entry has
-- none. `allow-oom`: it frees memory.

--#include redis/clock
--#include queue/dead_letters

clock.read(ARGV[1])
local excess = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[4])
local aged = redis.call('ZCOUNT', KEYS[1], '-inf', string.format('%.0f', clock.now_ms - tonumber(ARGV[3])))
local count = math.min(tonumber(ARGV[5]), math.max(excess, aged))
return count > 0 and remove_oldest_dead_letters(KEYS[1], ARGV[2], count) or 0
