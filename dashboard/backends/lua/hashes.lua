-- Whole hashes. ARGV: maximum fields per hash, maximum bytes per value, maximum bytes in total, size up to which a hash
-- is read at all, in fields; then the keys.
-- Returns {field, value, ...} per hash, without values that are too long, or an error instead.
local most, longest, room, named, found = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), {}
for n = 5, #ARGV do
  local size, flat = redis.pcall('HLEN', ARGV[n]), {}
  if type(size) ~= 'number' then
    flat = size
  elseif size > 0 and size <= named then
    for at, name in ipairs(redis.call('HKEYS', ARGV[n])) do
      if at > most then break end
      local value, length = short_field(ARGV[n], name, math.min(longest, room))
      if value then
        room = room - length
        flat[#flat + 1], flat[#flat + 2] = name, value
      end
    end
  end
  found[#found + 1] = flat
end
return found
