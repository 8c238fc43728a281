-- Returns the first of some commands that the account may not carry out; empty when it may all.
--
-- KEYS: any one. ARGV: the commands
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
