-- Commits one change of a partition, all or nothing.
--
-- Everything that can fail comes before the first write, because Redis does not roll a script back (Redis, Scripting
-- with Lua). A full Redis refuses the first write.
--
-- KEYS: head, policies, log, audit, request (optional)
-- ARGV: 1 expected head, 2 head, 3 revision, 4 link, 5 app, 6 document, 7 audit sequence, 8 audit row, 9 channel,
--       10 log length, 11 request result, 12 its life in seconds
if not may_check() then
  return 'NO_PERMISSION'
end
if not (is(KEYS[1], 'string') and is(KEYS[2], 'hash') and is(KEYS[3], 'stream') and is(KEYS[4], 'stream')
    and (not KEYS[5] or is(KEYS[5], 'string'))) then
  return 'WRONG_TYPE'
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'CONFLICT'
end
if not (ends_before(KEYS[3], ARGV[3]) and ends_before(KEYS[4], ARGV[7])) then
  return 'AHEAD_OF_HEAD'
end
if not (may('XADD', KEYS[3], '*', 'l', '') and may('XADD', KEYS[4], '*', 'e', '') and may('HSET', KEYS[2], ARGV[5], '')
    and may('SET', KEYS[1], '') and (not KEYS[5] or may('SET', KEYS[5], ''))) then
  return 'NO_PERMISSION'
end

redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[10], ARGV[3] .. '-0', 'l', ARGV[4])
redis.call('XADD', KEYS[4], ARGV[7] .. '-0', 'e', ARGV[8])
redis.call('HSET', KEYS[2], ARGV[5], ARGV[6])
if KEYS[5] then
  redis.call('SET', KEYS[5], ARGV[11], 'EX', ARGV[12])
end
redis.call('SET', KEYS[1], ARGV[2])
-- The change is made. A failure to publish it (no right, for example) must not look like a failed change.
redis.pcall('PUBLISH', ARGV[9], ARGV[4])
return 'OK'
