-- Replaces a partition with one that was written under temporary keys, all or nothing.
--
-- Everything that can fail comes before the first write, because Redis does not roll a script back (Redis, Scripting
-- with Lua). A full Redis refuses the first write. It publishes nothing: the new head has a higher epoch, so followers
-- of the partition reload it.
--
-- KEYS: head, policies, log, audit, then the temporary keys of the latter three
-- ARGV: 1 expected type of the head's key, none for no head, 2 expected head, if that is a string, 3 head,
--       4 number of documents, 5 of log entries, 6 of audit rows
if redis.call('TYPE', KEYS[1]).ok ~= ARGV[1] or ARGV[1] == 'string' and redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return 'CONFLICT'
end
if redis.call('HLEN', KEYS[5]) ~= tonumber(ARGV[4]) or redis.call('XLEN', KEYS[6]) ~= tonumber(ARGV[5])
    or redis.call('XLEN', KEYS[7]) ~= tonumber(ARGV[6]) then
  return 'INCOMPLETE'
end
for i = 1, 7 do
  if not (redis.acl_check_cmd('SET', KEYS[i], '') and redis.acl_check_cmd('UNLINK', KEYS[i])
      and redis.acl_check_cmd('EXISTS', KEYS[i])
      and redis.acl_check_cmd('RENAME', KEYS[i], KEYS[i])) then
    return 'NO_PERMISSION'
  end
end

redis.call('SET', KEYS[1], ARGV[3])
for i = 2, 4 do
  redis.call('UNLINK', KEYS[i])
  if redis.call('EXISTS', KEYS[i + 3]) == 1 then
    redis.call('RENAME', KEYS[i + 3], KEYS[i])
  end
end
return 'OK'
