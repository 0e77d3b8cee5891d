-- The count of a job's tries. The lease record alone counts the first try; the retry key counts every later one, and is
-- '0' for a job that has more keys than payload and lease.

local retry_count = {TTL_S = '88400'} -- as arq sets it

-- Subtracts one try. Returns whether the caller must delete the key, and the count.
function retry_count.undo(key)
  local count = redis.pcall('DECR', key)
  return type(count) ~= 'number' or count < 0, count
end
