-- The identifiers of the entries in one range of a list or sorted set. ARGV as in page.lua.
-- Returns {size, {jid or false, stamp, score or false, payload if its jid cannot be extracted here...}, after how many
-- entries to continue, bytes read}.
local key, kind, offset, rows, backwards = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local size = read(kind == 'list' and 'LLEN' or 'ZCARD', key)
local found = {}

local function add(text, score)
  -- An entry that cannot be decoded is identified by its stamp, as on a page, whatever jid it seems to contain.
  local jid = lone_jid(text) and decoded(text) and lone_jid(text) or false
  local n = #found
  found[n + 1], found[n + 2], found[n + 3] = jid, stamp_of(text), score
  found[n + 4] = not jid and entry(text)[1]
end

if not filled(size) then return {size, found, offset, 0} end
local reached, bytes = each_member(key, kind, backwards, offset, offset + rows, tonumber(ARGV[6]), add)
return {size, found, reached, bytes}
