-- Defers jobs in the high and low lanes. Those of the default lane have the ms at which they are due as their score.

--#include redis/keys
--#include queue/parked_score

-- Parks a job until it is due: a ready score of its lane would put it among the jobs that are due now.
local function defer(id, lane, due)
  redis.call('ZADD', keys.pending, scores.parked(lane, due), id)
  redis.call('ZADD', keys.due_hosts, string.format('%.0f', due), '#' .. id)
end
