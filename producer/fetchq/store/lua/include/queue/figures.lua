-- The figures of a queue (fetchq/telemetry/figures.py): two hashes, one for ever and one for each minute.
--
-- Counting never fails a script: it comes after everything else, and what Redis refuses to count is left out.

--#include redis/clock

local MINUTE_TTL_S = 90000
local MAX_FUNCTIONS = 50

-- The field that counts the end of a job of a user's own function. Of one queue's functions the first MAX_FUNCTIONS have
-- fields of their own; the others share one, `other`. Called when the total has a new field.
local function function_field(totals, field)
  local end_of_job, name = string.match(field, '^job:(%a+):(.+)$')
  local fields = redis.pcall('HKEYS', totals)
  local seen, functions = {other = true}, 0
  for i = 1, #fields do
    local known = string.match(fields[i], '^job:%a+:(.+)$')
    if known and not seen[known] then
      seen[known] = true
      functions = functions + 1
    end
  end
  return (not name or name == 'other' or functions <= MAX_FUNCTIONS) and field or 'job:' .. end_of_job .. ':other'
end

-- Adds numbers, by field, to the totals and to this minute. Returns the error if Redis refused one of them.
local function save_figures(counted, totals, minute_prefix)
  local minute, refusal = minute_prefix .. string.format('%.0f', math.floor(clock.now_ms / 60000)), nil
  for field, number in pairs(counted) do
    local by = string.format('%.0f', number)
    local total = redis.pcall('HINCRBY', totals, field, by)
    if total == number and string.sub(field, 1, 4) == 'job:' then
      local own_field = field
      field = function_field(totals, own_field)
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
