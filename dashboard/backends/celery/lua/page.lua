-- Reads messages of one list, from the end that is served next. ARGV: key, offset, how many, how many bytes at most.
-- Returns {the list's size or an error, {message or its beginning, its length, its stamp if it was cut, ...}, the offset to
-- continue at, bytes read}.
local key, first, rows = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local size, found = redis.pcall('LLEN', key), {}
if type(size) ~= 'number' or size <= first then return {size, found, first, 0} end
local reached, bytes = each_member(key, 'list', false, first, first + rows, tonumber(ARGV[4]), function(message)
  add(found, message)
end)
return {size, found, reached, bytes}
