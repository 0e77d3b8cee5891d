-- The limit key of a job, as far as its producer can know it.

--#include hosts/limits

local limits_by -- what limit keys are: 'host', 'domain' or 'address'

-- Where limits belong to a domain or an address, a producer does not know the key: the worker that claims the job first
-- does. Returns '' then.
local function known_limit_key(key)
  if not limits_by then
    limits_by = limits.exist and limits.read({'@by'})[1] or 'host'
  end
  return (limits_by == 'host' or string.sub(key, 1, 4) == 'key:') and key or ''
end
