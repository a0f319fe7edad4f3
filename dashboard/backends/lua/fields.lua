-- Fields of hashes. ARGV: maximum bytes per value, maximum bytes in total; then key and field, alternating.
-- Returns the value of each; false if it is missing, too long, or exceeds the remaining total.
local longest, room, found = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for n = 3, #ARGV, 2 do
  local value, length = short_field(ARGV[n], ARGV[n + 1], math.min(longest, room))
  if value then room = room - length end
  found[#found + 1] = value
end
return found
