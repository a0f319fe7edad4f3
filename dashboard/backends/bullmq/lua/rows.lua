-- The named fields of many jobs, and whether a worker holds each.
-- ARGV: JSON [field, ...], longest value in bytes, `<prefix>:<queue>`, then job ids.
-- Returns per job {{value or false or {length}, ...}, locked 0/1}, or an error where the key has the wrong type.
local names, limit, base = cjson.decode(ARGV[1]), tonumber(ARGV[2]), ARGV[3] .. ':'
local rows = {}
for i = 4, #ARGV do
  local key = base .. ARGV[i]
  rows[#rows + 1] = {fields(key, limit, names), read('EXISTS', key .. ':lock')}
end
return rows
