-- Lengths of members that are whole jobs, without sending them. ARGV: key, its type, a pattern with one group that
-- finds the id in a job, and indexes of members; for a hash, the number of random fields instead of indexes.
-- Returns {length, id or '', ...}. Only the two ends of a member are searched for the id.
local ENDS = 4096
local MOST = 200

local found = {}

local function add(member)
  local head = string.sub(member, 1, ENDS)
  local id = string.match(head, ARGV[3]) or string.match(string.sub(member, -ENDS), ARGV[3]) or ''
  found[#found + 1] = #member
  found[#found + 1] = string.sub(id, 1, MOST)
end

if ARGV[2] == 'hash' then
  for _, field in ipairs(redis.call('HRANDFIELD', ARGV[1], ARGV[4])) do
    local value = redis.call('HGET', ARGV[1], field)
    if value then add(value) end
  end
  return found
end
local read = ARGV[2] == 'list' and 'LRANGE' or 'ZRANGE'
for n = 4, #ARGV do
  local member = redis.call(read, ARGV[1], ARGV[n], ARGV[n])[1]
  if member then add(member) end
end
return found
