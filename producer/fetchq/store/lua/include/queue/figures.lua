-- The figures of a queue (fetchq/telemetry/figures.py): two hashes, one for ever and one for each minute.
--
-- Counting never fails a script: it comes after everything else, and what Redis refuses to count is left out.

--#include redis/clock

local MINUTE_TTL_S = 90000
local MAX_FUNCTIONS = 50

-- Adds numbers, by field, to the totals and to this minute. `only_known`: a function that no worker has run has no
-- field of its own. Returns the error if Redis refused one of the numbers.
local function save_figures(counted, totals, minute_prefix, only_known)
  -- The field for the end of a job of a user's own function. The first MAX_FUNCTIONS of a queue have fields of their
  -- own; the others share `other`. Called where `field` is new.
  local function bounded_field(field)
    local job_end, name = string.match(field, '^job:(%a+):(.+)$')
    local fields = redis.pcall('HKEYS', totals)
    local seen, functions = {other = true}, 0
    for i = 1, #fields do
      local function_name = fields[i] ~= field and string.match(fields[i], '^job:%a+:(.+)$')
      if function_name and not seen[function_name] then
        seen[function_name] = true
        functions = functions + 1
      end
    end
    if not name or seen[name] or (functions < MAX_FUNCTIONS and not only_known) then
      return field
    end
    return 'job:' .. job_end .. ':other'
  end

  local minute, refusal = minute_prefix .. string.format('%.0f', math.floor(clock.now_ms / 60000)), nil
  for own_field, number in pairs(counted) do
    local field, by = own_field, string.format('%.0f', number)
    local total = redis.pcall('HINCRBY', totals, field, by)
    if total == number and string.sub(field, 1, 4) == 'job:' then
      field = bounded_field(own_field)
      if field ~= own_field then
        redis.pcall('HDEL', totals, own_field)
        total = redis.pcall('HINCRBY', totals, field, by)
      end
    end
    local in_minute = redis.pcall('HINCRBY', minute, field, by)
    if in_minute == number then -- a new field, and maybe a new hash
      redis.pcall('EXPIRE', minute, MINUTE_TTL_S, 'NX')
    end
    refusal = type(total) == 'table' and total.err or type(in_minute) == 'table' and in_minute.err or refusal
  end
  return refusal
end
