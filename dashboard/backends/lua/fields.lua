-- Fields of hashes. ARGV: how many bytes of one, how many in all; then key and field by turns.
-- Returns the value of each; false for one that is missing, too long, or behind so many others that no room is left.
local longest, room, found = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for n = 3, #ARGV, 2 do
  local value, length = short_field(ARGV[n], ARGV[n + 1], math.min(longest, room))
  if value then room = room - length end
  found[#found + 1] = value
end
return found
