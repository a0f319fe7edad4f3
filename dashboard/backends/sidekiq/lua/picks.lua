-- The entries of one stretch of a list or sorted set, by what tells them apart. ARGV as in page.lua.
-- Returns {size, {jid or false, stamp, score or false, payload where its jid does not stand out...}}.
local key, kind, offset, rows, backwards = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local size = read(kind == 'list' and 'LLEN' or 'ZCARD', key)
local found = {}

local function add(text, score)
  local jid = lone_jid(text)
  local n = #found
  found[n + 1], found[n + 2], found[n + 3] = jid, stamp_of(text), score
  found[n + 4] = not jid and entry(text)[1]
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
