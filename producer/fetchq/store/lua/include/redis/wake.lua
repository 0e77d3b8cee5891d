-- Wakes idle workers. Each blocks on one list and pops one token from it. A worker that finds more due jobs than it
-- claims wakes the next, so a few tokens are enough.

local wake = {key = '', tokens = 0}

local MAX_TOKENS = 8

-- Called before the first write: a key of another type fails the call while nothing has changed.
function wake.open(key)
  wake.key, wake.tokens = key, redis.call('LLEN', key)
end

-- Adds tokens until the list holds one for each of `jobs`, at most MAX_TOKENS.
function wake.workers(jobs)
  for _ = wake.tokens + 1, math.min(MAX_TOKENS, jobs) do
    redis.call('RPUSH', wake.key, '1')
  end
end
