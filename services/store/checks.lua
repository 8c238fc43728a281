-- Checks that all writing scripts share. They are put in front of each script.
local function kind(key)
  local answer = redis.call('TYPE', key)
  return type(answer) == 'table' and answer.ok or answer
end

local function is(key, want)
  local has = kind(key)
  return has == 'none' or has == want
end

-- less compares whole numbers of any size in decimal, without leading zeros. As floating point numbers 2^53 and
-- 2^53 + 1 would be equal (Lua 5.1 reference manual, 2.2), and stream ids go up to 2^64 - 1.
local function less(a, b)
  return #a < #b or #a == #b and a < b
end

-- XADD refuses an id that is not above the last id of the stream, even if that entry was deleted.
local function ends_before(key, number)
  if redis.call('EXISTS', key) == 0 then
    return true
  end
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return less(string.match(info[i + 1], '^%d+'), number)
    end
  end
  return false
end

-- Redis checks a right only when the script runs the command (7.0 and later; the embedded store has no accounts).
local function may(...)
  return not redis.acl_check_cmd or redis.acl_check_cmd(...)
end

-- The rights that these checks and the comparison of heads need.
local function may_check()
  return may('GET', KEYS[1]) and may('TYPE', KEYS[1]) and may('EXISTS', KEYS[3]) and may('XINFO', 'STREAM', KEYS[3])
end
