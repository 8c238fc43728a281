-- Begins an epoch of a partition, with its first changes, all or nothing (see commit.lua). It publishes nothing:
-- followers of the partition must read the log across the start of an epoch. Without log entries it only adds audit
-- rows, and the head keeps its position.
--
-- KEYS: head, policies, log, audit
-- ARGV: 1 expected head, empty for a partition without any key, 2 head, 3 log length, 4 number of log entries,
--       5 of audit rows, 6 of documents; then revision, field and data of each entry, sequence and data of each row, app
--       and data of each document
if not may_check() then
  return 'NO_PERMISSION'
end
if not (is(KEYS[1], 'string') and is(KEYS[2], 'hash') and is(KEYS[3], 'stream') and is(KEYS[4], 'stream')) then
  return 'WRONG_TYPE'
end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 'CONFLICT'
end
if ARGV[1] == '' then
  for i = 1, 4 do
    if kind(KEYS[i]) ~= 'none' then
      return 'NOT_EMPTY'
    end
  end
end
local entries, rows, documents = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local at = 7
if not ((entries == 0 or ends_before(KEYS[3], ARGV[at])) and ends_before(KEYS[4], ARGV[at + 3 * entries])) then
  return 'AHEAD_OF_HEAD'
end
if not (may('XADD', KEYS[3], '*', 's', '') and may('XADD', KEYS[4], '*', 'e', '') and may('HSET', KEYS[2], 'app', '')
    and may('SET', KEYS[1], '')) then
  return 'NO_PERMISSION'
end

for _ = 1, entries do
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], ARGV[at] .. '-0', ARGV[at + 1], ARGV[at + 2])
  at = at + 3
end
for _ = 1, rows do
  redis.call('XADD', KEYS[4], ARGV[at] .. '-0', 'e', ARGV[at + 1])
  at = at + 2
end
for _ = 1, documents do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
redis.call('SET', KEYS[1], ARGV[2])
return 'OK'
