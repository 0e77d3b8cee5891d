-- Wakes idle workers. Each blocks on one list and takes one token from it; one worker that finds more due jobs than it
-- takes wakes the next, so a few tokens are enough.

local wake = {key = '', tokens = 0}

local MAX_TOKENS = 8

-- Called before the first write: a key of another type fails the call while nothing has changed.
function wake.open(key)
  wake.key, wake.tokens = key, redis.call('LLEN', key)
end

-- Wakes as many workers as there are new jobs, as far as the list holds fewer tokens than that.
function wake.workers(jobs)
  for _ = wake.tokens + 1, math.min(MAX_TOKENS, jobs) do
    redis.call('RPUSH', wake.key, '1')
  end
end
