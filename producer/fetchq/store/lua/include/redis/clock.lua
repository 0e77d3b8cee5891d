-- The time at which this call runs.

local clock = {now_us = 0, now_ms = 0, server_ms = 0}

-- Reads Redis's own clock. A test passes the time in ms instead of ''; `server_ms` is Redis's clock in either case.
function clock.read(test_ms)
  local time = redis.call('TIME')
  local server_us = time[1] * 1000000 + time[2]
  clock.now_us = test_ms == '' and server_us or tonumber(test_ms) * 1000
  clock.now_ms = math.floor(clock.now_us / 1000)
  clock.server_ms = math.floor(server_us / 1000)
end
