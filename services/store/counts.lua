-- Adds batches of counts of one partition's apps, all or nothing, each once.
--
-- Every check comes before the first write. The first write is one that a full Redis refuses.
--
-- KEYS: since when nothing of the partition was lost, then for each instance its last batch, then for each app
--       its counts
-- ARGV: 1 number of instances, 2 life of their keys in seconds, 3 life of an app's counts in seconds,
--       4 new version, 5 the present time in milliseconds, 6 whether earlier counts are known to be lost (1, 0),
--       then for each instance: last batch expected, last batch
--       then for each app: version expected, number of pairs, then so many fields and values
local instances, at = tonumber(ARGV[1]), 7
if not (may('GET', KEYS[1]) and may('SET', KEYS[1], '') and may('HGET', KEYS[1], 'v') and may('HSET', KEYS[1], 'v', '')
    and may('EXPIRE', KEYS[1], 1)) then
  return 'NO_PERMISSION'
end
for i = 2, instances + 1 do
  local last = redis.pcall('GET', KEYS[i])
  if type(last) ~= 'string' or string.find(last, '^%d+$') == nil then
    last = ''
  end
  if last ~= ARGV[at] then
    return 'CONFLICT'
  end
  at = at + 2
end

-- A later time is never replaced by an earlier one.
local function lost()
  local since = redis.pcall('GET', KEYS[1])
  if type(since) ~= 'string' or (tonumber(since) or 0) < tonumber(ARGV[5]) then
    redis.call('SET', KEYS[1], ARGV[5])
  end
end

local first, mended = at, false
for i = instances + 2, #KEYS do
  local version = redis.pcall('HGET', KEYS[i], 'v')
  if type(version) == 'table' then
    redis.call('SET', KEYS[i], '', 'PX', 1) -- a key of another type gives way
    mended = true
  elseif (version or '') ~= ARGV[at] then
    return 'CONFLICT'
  end
  at = at + 2 + 2 * tonumber(ARGV[at + 1])
end
if mended then
  lost()
  return 'CONFLICT'
end

at = first
for i = instances + 2, #KEYS do
  local pairs = tonumber(ARGV[at + 1])
  redis.call('HSET', KEYS[i], 'v', ARGV[4], unpack(ARGV, at + 2, at + 1 + 2 * pairs))
  redis.call('EXPIRE', KEYS[i], ARGV[3])
  at = at + 2 + 2 * pairs
end
for i = 2, instances + 1 do
  redis.call('SET', KEYS[i], ARGV[4 + 2 * i], 'EX', ARGV[2])
end
local since = redis.pcall('GET', KEYS[1])
if ARGV[6] == '1' or type(since) ~= 'string' or not tonumber(since) then
  lost()
end
return 'OK'
