-- The names of the keys that hold pending jobs, limit keys and their limits. Jobs with the same limit key share limits;
-- it is the host by default.
--
--   pending    sorted set: job id -> score (scores.lua)
--   hosts      hash: limit key -> record (host_record.lua); '' -> after a queue was lost, ms before which its jobs were
--              parked (repair.lua)
--   limits     hash: limit key, wildcard or '*' -> limits (limits.lua)
--   due_hosts  sorted set: limit key, or '#' and a job id -> ms at which a claim processes it
--   backlog    sorted set: limit key -> number of waiting jobs
--   cooldowns  sorted set: limit key -> ms at which its cooldown ends
--   running    hash: job id -> limit key; '#' in front: the lease has ended, and the run is not counted (run_entry.lua)
--   queues     prefix of the queues of limit keys (host_queue.lua)
-- No host begins with '#' (WHATWG URL, section 3.5, forbids it); some begin with '-' or '~'.

local keys

-- `first` is the index in KEYS of `hosts`; the others follow in the order of `_FRONTIER` in fetchq/store/registry.py.
local function bind_keys(pending, first, queues)
  keys = {
    pending = pending, queues = queues, hosts = KEYS[first], limits = KEYS[first + 1], due_hosts = KEYS[first + 2],
    backlog = KEYS[first + 3], cooldowns = KEYS[first + 4], running = KEYS[first + 5],
  }
end
