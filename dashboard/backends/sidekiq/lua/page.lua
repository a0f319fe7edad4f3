-- One page of a list or sorted set. ARGV: key, 'list' or 'zset', offset, rows, '1' to count from the end, how many bytes
-- to read.
-- Returns {size, {payload, its length, score or false, its stamp if it was cut...}, after how many entries to continue,
-- bytes read}; the size is an error if the key has the wrong type.
local key, kind, offset, rows, backwards = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local size = read(kind == 'list' and 'LLEN' or 'ZCARD', key)
local found = {}

local function add(text, score)
  local cut = entry(text)
  found[#found + 1] = cut[1]
  found[#found + 1] = cut[2]
  found[#found + 1] = score
  found[#found + 1] = cut[3]
end

if not filled(size) then return {size, found, offset, 0} end
local reached, bytes = each_member(key, kind, backwards, offset, offset + rows, tonumber(ARGV[6]), add)
return {size, found, reached, bytes}
