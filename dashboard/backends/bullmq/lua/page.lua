-- The jobs on one page of one or more concatenated lists.
-- ARGV: `<prefix>:<queue>`, offset, rows, then per list: native name, 'list' or 'zset', '1' if the page starts at its end.
-- Returns {{size...}, {native, id, score...}, how many of `meta` and `id` exist}; a size is an error if the key has the
-- wrong type. An id that is too long is replaced by {its length}, one after too many bytes of other ids by {0}.
-- Redis has no command for the length of an id: it has to be read.
local ID_LIMIT, ROOM, AT_ONCE = 16384, 4194304, 16
local bytes = 0
local base, offset, rows = ARGV[1] .. ':', tonumber(ARGV[2]), tonumber(ARGV[3])
local sizes, found = {}, {}

-- 4.x keeps a wake-up marker, which is not a job, at the end of `wait`.
local function marker(key)
  local tail = read('LINDEX', key, -1)
  return type(tail) == 'string' and string.sub(tail, 1, 2) == '0:'
end

local function id_of(id)
  bytes = bytes + #id
  if #id > ID_LIMIT then return {#id} end
  return id
end

local function add(native, id, score)
  local at = #found
  found[at + 1], found[at + 2], found[at + 3] = native, id, score
end

local function list_rows(native, key, from, to, backwards)
  if not backwards then
    for _, id in ipairs(read('LRANGE', key, from, to)) do add(native, id_of(id), false) end
    return
  end
  local ids = read('LRANGE', key, -to - 1, -from - 1)
  for n = #ids, 1, -1 do add(native, id_of(ids[n]), false) end
end

local function set_rows(native, key, from, to, backwards)
  local flat = read(backwards and 'ZREVRANGE' or 'ZRANGE', key, from, to, 'WITHSCORES')
  for n = 1, #flat, 2 do add(native, id_of(flat[n]), flat[n + 1]) end
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
      local read_rows = kind == 'list' and list_rows or set_rows
      local first = offset
      while first <= last do
        local stop = math.min(last, first + AT_ONCE - 1)
        if bytes > ROOM then
          for _ = first, stop do add(native, {0}, false) end
        else
          read_rows(native, key, first + skip, stop + skip, backwards)
        end
        first = stop + 1
      end
      rows = rows - (last - offset + 1)
      offset = 0
    else
      offset = math.max(0, offset - size)
    end
  end
end
return {sizes, found, read('EXISTS', base .. 'meta', base .. 'id')}
