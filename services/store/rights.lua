-- Returns the first command that the account may not run; empty when it may run all.
--
-- KEYS: any key. ARGV: the commands
for _, command in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(command, '%S+') do
    words[#words + 1] = word
  end
  if not may(unpack(words)) then
    return command
  end
end
return ''
