-- The entry of a job among the running jobs: its limit key, with '#' in front once its lease has ended. Such a run is
-- not counted in the key's record: its job is ready again.

-- Returns the limit key, and whether the run is counted.
local function parse_run_entry(text)
  if string.sub(text, 1, 1) == '#' then
    return string.sub(text, 2), false
  end
  return text, true
end
