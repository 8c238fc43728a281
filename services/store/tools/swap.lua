-- Puts a partition that was written aside in the place of what is there, all or nothing.
--
-- Whatever can fail stands before the first write (Redis, Scripting with Lua: scripts are not rolled back), and the first
-- write is the one that a full Redis refuses. Nothing is published: the new head has a higher epoch, and whoever follows
-- the partition loads it anew.
--
-- KEYS: head, policies, log, audit, then the latter three as they were written aside
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
