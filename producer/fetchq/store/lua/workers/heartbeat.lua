#!lua flags=allow-oom
-- Records that a worker is alive, removes workers without a recent heartbeat, and counts the figures that the worker
-- reports.
--
-- KEYS[1]  workers: sorted set of worker ids by the ms of their last heartbeat
-- KEYS[2]  this worker's record: string
-- ARGV[1]  now in ms, for tests; '' for Redis's own clock
-- ARGV[2]  the worker's id       ARGV[3]  its record, a JSON object
-- ARGV[4]  ms for which a heartbeat counts
-- with a report of figures (figures.lua):
-- ARGV[5]  the queue's totals    ARGV[6]  prefix of its minutes
-- ARGV[7]  the key of this worker's last report: string, its number
-- ARGV[8]  the number of this report: it is counted only if it is greater
-- ARGV[9...]  two a figure: field, what is added to it
--
-- Returns the error if Redis refused to count a figure; '' for none.
--
-- Atomic: the set and the record must agree, and a report whose reply was lost is sent again and must count once. The
-- time is Redis's own, so that readers can compare. `allow-oom`: workers stay visible in a full Redis.

--#include redis/clock
--#include queue/figures

local FIRST_FIGURE = 9
local REPORT_TTL_S = 86400 -- longer than a worker repeats a report

clock.read(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', clock.now_ms - tonumber(ARGV[4])))
redis.call('ZADD', KEYS[1], string.format('%.0f', clock.now_ms), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])

if #ARGV < FIRST_FIGURE then
  return ''
end
local last = redis.pcall('GET', ARGV[7])
if type(last) == 'string' and (tonumber(last) or 0) >= tonumber(ARGV[8]) then
  return ''
end
local marked = redis.pcall('SET', ARGV[7], ARGV[8], 'EX', REPORT_TTL_S)
if marked.err then -- without the mark a repeated report would count twice
  return marked.err
end
local counted = {}
for i = FIRST_FIGURE, #ARGV, 2 do
  counted[ARGV[i]] = (counted[ARGV[i]] or 0) + tonumber(ARGV[i + 1])
end
return save_figures(counted, ARGV[5], ARGV[6]) or ''
