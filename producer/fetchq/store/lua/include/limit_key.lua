-- The limit key of a job, as far as its producer can know it.

--#include limits

local limit_key = {}

-- Where limits belong to a domain or an address, a producer does not know the key: the worker that claims the job first does.
-- Returns '' then.
function limit_key.known(key)
  if not limit_key.by then
    limit_key.by = limits.exist and limits.read({'@by'})[1] or 'host'
  end
  return (limit_key.by == 'host' or string.sub(key, 1, 4) == 'key:') and key or ''
end
