-- One page of a list or sorted set. ARGV: key, 'list' or 'zset', offset, rows, '1' when the page starts at its end.
-- Returns {size, {payload, its length, score or false, its stamp where it was cut...}}; the size is an error where the key has the wrong type.
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

if filled(size) and offset < size and rows > 0 then
  local last = math.min(size, offset + rows) - 1
  if kind == 'list' then
    local texts = read('LRANGE', key, -last - 1, -offset - 1)
    for i = #texts, 1, -1 do add(texts[i], false) end
  else
    local members = read(backwards and 'ZREVRANGE' or 'ZRANGE', key, offset, last, 'WITHSCORES')
    for i = 1, #members, 2 do add(members[i], members[i + 1]) end
  end
end
return {size, found}
