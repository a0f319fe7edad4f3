-- What workers hold, newest first. ARGV: the hash, its index, after how many, how many, how many bytes are read, how many
-- of one entry; then the ids (see ids_of) of which one is to stand in an entry; without any all are wanted.
-- Returns {how many there are, {delivery tag, entry or false, its length, ...}, after how many to go on, bytes read}. An
-- entry is false where it is too long, or its length an error.
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
