-- The count of a job's tries. The first try is known from the lease record alone; the retry key holds every later one,
-- and '0' where a run left more behind than payload and lease.

local retry_count = {TTL_S = '88400'} -- as arq sets it

-- Takes back one try. Returns whether the caller must delete the key.
function retry_count.undo(key)
  local count = redis.pcall('DECR', key)
  return type(count) ~= 'number' or count < 0, count
end
