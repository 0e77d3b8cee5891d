-- A stock client gives each payload a TTL: by default a fixed time after the job is due, or one that it chose
-- (`_expires`).

local TOLERANCE_MS = 600000 -- between a stock client's clock and Redis's

-- Whether this expiry is the default, which does not limit the job's life.
local function is_default_expiry(expires_at, due, default_ms)
  return math.abs(expires_at - due - default_ms) <= TOLERANCE_MS
end
