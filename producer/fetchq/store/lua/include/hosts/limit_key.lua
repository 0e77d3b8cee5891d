-- The limit key of a new job.

--#include hosts/limits

local limits_by -- what limit keys are: 'host', 'domain' or 'address'

-- The key that the producer sent; '' where limits are by domain or address: then the first worker that claims the job
-- determines the key.
local function known_limit_key(key)
  if not limits_by then
    limits_by = limits.exist and limits.read({'@by'})[1] or 'host'
  end
  return (limits_by == 'host' or string.sub(key, 1, 4) == 'key:') and key or ''
end
