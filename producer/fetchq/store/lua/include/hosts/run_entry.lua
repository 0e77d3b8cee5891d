-- The entry of a job in the hash `running`: its limit key, preceded by '#' once its lease has ended. Such a run is not
-- counted in the key's record, since its job is ready again.

-- Returns the limit key, and whether the run is counted.
local function parse_run_entry(text)
  if string.sub(text, 1, 1) == '#' then
    return string.sub(text, 2), false
  end
  return text, true
end
