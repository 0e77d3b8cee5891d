-- The format of a dead letter, msgpack: an array of the payload (bin32), the type of the payload's key (str), the
-- payload's size (uint32), and a map that the worker encodes: what failed and how (docs/job-contract.md).

local dead_letter = {}

local MAX_PAYLOAD = 4194304 -- longer than any fetch's; of a longer payload only the first PAYLOAD_CUT bytes are stored
local PAYLOAD_CUT = 65536

local function uint32(number)
  return string.char(math.floor(number / 16777216) % 256, math.floor(number / 65536) % 256,
    math.floor(number / 256) % 256, number % 256)
end

function dead_letter.encode(payload, kind, details)
  local size = #payload
  if size > MAX_PAYLOAD then
    payload = string.sub(payload, 1, PAYLOAD_CUT)
  end
  return '\148\198' .. uint32(#payload) .. payload .. string.char(160 + #kind) .. kind
    .. '\206' .. uint32(size) .. details
end

-- The payload in an encoded dead letter; nil if the job's key was not a string, or the payload was cut.
function dead_letter.payload(data)
  if string.sub(data, 1, 2) ~= '\148\198' then
    return nil
  end
  local a, b, c, d = string.byte(data, 3, 6)
  local size = d and string.sub(data, 3, 6)
  local length = d and ((a * 256 + b) * 256 + c) * 256 + d
  if length and string.sub(data, 7 + length, 18 + length) == '\166string\206' .. size then
    return string.sub(data, 7, 6 + length)
  end
end
