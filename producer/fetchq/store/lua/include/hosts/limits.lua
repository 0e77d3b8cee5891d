-- The limits of limit keys.
--
-- Hash. Field: a limit key, '*.' and a domain, 'key:*' (all keys that requests name) or '*'. Value: words such as
-- 'c=8 r=50000 b=1 d=0 p=1':
--   c  jobs at a time     r  us between two starts     b  burst     d  ms between two starts at least     p  1: paused
-- A limit that one entry lacks comes from the next wider entry. The field '@by' says what a limit key is, if not a
-- host: 'domain' or 'address'.

--#include redis/keys

local limits = {exist = false, any_wildcard = true, all = nil, by_key = nil}

local DEFAULT_CONCURRENCY = 8
local MAX_READ_AT_ONCE = 64 -- of more entries, only those that can apply to a key are read
local MAX_NAMES = 12 -- names under which a host is looked up before '*'
local BUILT_IN = {c = DEFAULT_CONCURRENCY}

-- Also called after the limits have been changed.
function limits.open()
  local count = redis.call('HLEN', keys.limits)
  limits.exist, limits.by_key = count > 0, {}
  limits.all, limits.any_wildcard = nil, true
  if count > 0 and count <= MAX_READ_AT_ONCE then
    local flat = redis.call('HGETALL', keys.limits)
    limits.all, limits.any_wildcard = {}, false
    for i = 1, #flat, 2 do
      limits.all[flat[i]] = flat[i + 1]
      limits.any_wildcard = limits.any_wildcard or string.find(flat[i], '*', 1, true) ~= nil
    end
  end
end

-- The entries of these names, false for one that is not set.
function limits.read(names)
  if not limits.all then
    return redis.call('HMGET', keys.limits, unpack(names))
  end
  local texts = {}
  for i = 1, #names do
    texts[i] = limits.all[names[i]] or false
  end
  return texts
end

-- The names whose entries apply to a limit key, the narrowest first. A key that a request names ('key:...') is never
-- treated as a host.
local function names_of(key)
  local names = {key}
  if string.sub(key, 1, 4) == 'key:' then
    names[2] = 'key:*'
  else
    local dot = string.find(key, '.', 1, true)
    while dot and #names < MAX_NAMES do
      names[#names + 1] = '*' .. string.sub(key, dot)
      dot = string.find(key, '.', dot + 1, true)
    end
  end
  names[#names + 1] = '*'
  return names
end

-- The limits that apply to a limit key, by their one-letter codes.
function limits.of(key)
  if not limits.exist or not (limits.any_wildcard or limits.all[key]) then
    return BUILT_IN
  end
  local found = limits.by_key[key]
  if found then
    return found
  end
  found = {}
  local names = names_of(key)
  local texts = limits.read(names)
  for i = 1, #names do
    if texts[i] then
      for code, value in string.gmatch(texts[i], '(%a)=(%d+)') do
        if found[code] == nil then
          found[code] = tonumber(value)
        end
      end
    end
  end
  found.c = found.c or DEFAULT_CONCURRENCY
  limits.by_key[key] = found
  return found
end
