-- Which jobs stand on one page of one or more lists put one after the other.
-- ARGV: `<prefix>:<queue>`, offset, rows, then per list: native word, 'list' or 'zset', '1' when the page starts at its end.
-- Returns {{size...}, {native, id, score...}, how many of `meta` and `id` are there}; a size is an error where the key has the wrong type.
local base, offset, rows = ARGV[1] .. ':', tonumber(ARGV[2]), tonumber(ARGV[3])
local sizes, found = {}, {}

-- 4.x keeps a wake-up marker, which is no job, at the end of `wait`.
local function marker(key)
  local tail = read('LINDEX', key, -1)
  return type(tail) == 'string' and string.sub(tail, 1, 2) == '0:'
end

local function list_rows(key, from, to, backwards)
  if not backwards then return read('LRANGE', key, from, to) end
  local ids = read('LRANGE', key, -to - 1, -from - 1)
  local turned = {}
  for i = #ids, 1, -1 do turned[#turned + 1] = ids[i] end
  return turned
end

for i = 4, #ARGV, 3 do
  local native, kind, backwards = ARGV[i], ARGV[i + 1], ARGV[i + 2] == '1'
  local key = base .. native
  local size = read(kind == 'list' and 'LLEN' or 'ZCARD', key)
  local skip = 0
  if native == 'wait' and not failed(size) and size > 0 and marker(key) then
    size, skip = size - 1, 1
  end
  sizes[#sizes + 1] = size
  if not failed(size) then
    if offset < size and rows > 0 then
      local last = math.min(size, offset + rows) - 1
      if kind == 'list' then
        local ids = list_rows(key, offset + skip, last + skip, backwards)
        for n = 1, #ids do
          found[#found + 1] = native
          found[#found + 1] = ids[n]
          found[#found + 1] = false
        end
      else
        local pairs_ = read(backwards and 'ZREVRANGE' or 'ZRANGE', key, offset, last, 'WITHSCORES')
        for n = 1, #pairs_, 2 do
          found[#found + 1] = native
          found[#found + 1] = pairs_[n]
          found[#found + 1] = pairs_[n + 1]
        end
      end
      rows = rows - (last - offset + 1)
      offset = 0
    else
      offset = math.max(0, offset - size)
    end
  end
end
return {sizes, found, read('EXISTS', base .. 'meta', base .. 'id')}
