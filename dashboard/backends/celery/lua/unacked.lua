-- Reads unacknowledged messages, newest first. ARGV: the hash, its index, offset, how many, how many bytes at most, how
-- many bytes of one entry; then ids (see ids_of), one of which must occur in an entry; without ids, all entries match.
-- Returns {how many there are, {delivery tag, entry or false, its length, ...}, the offset to continue at, bytes read}. An
-- entry is false if it is too long, or if its length is an error.
local entries, index, first, rows = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local room, longest = tonumber(ARGV[5]), tonumber(ARGV[6])
local size, found, bytes = redis.pcall('HLEN', entries), {}, 0
if type(size) ~= 'number' then return {size, found, first, 0} end
local tags = redis.pcall('ZREVRANGE', index, first, first + rows - 1)
if tags.err then return {tags, found, first, 0} end

local ids, wrapped = ids_of(7, #ARGV)
local function wanted(entry) return #ARGV < 7 or may_have(entry, ids, wrapped) ~= false end

for n, tag in ipairs(tags) do
  if bytes >= room then return {size, found, first + n - 1, bytes} end
  local entry, length = short_field(entries, tag, longest)
  if entry then bytes = bytes + length end
  if (not entry and length ~= 0) or (entry and wanted(entry)) then
    local at = #found
    found[at + 1], found[at + 2], found[at + 3] = tag, entry, length
  end
end
return {size, found, first + #tags, bytes}
