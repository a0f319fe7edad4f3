-- The named fields of many jobs, the start of their long texts, and whether each is locked by a worker.
-- ARGV: JSON [field, ...], maximum value in bytes, JSON [text field, ...], maximum part of a text, maximum bytes of longer
-- texts that this call reads, `<prefix>:<queue>`, then job ids.
-- Returns per job {{value or false or {length}, ...}, locked 0/1, {text or false or {length}, ...}}, or an error instead
-- of the values if the key has the wrong type. A text longer than the maximum part has one extra byte.
local names, limit, texts = cjson.decode(ARGV[1]), tonumber(ARGV[2]), cjson.decode(ARGV[3])
local part, left, base = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] .. ':'
local all = {}
for i = 1, #names do all[i] = names[i] end
for i = 1, #texts do all[#names + i] = texts[i] end
local MOST_FIELDS = 64

-- Whether all values together are short enough to read in one go; an error if the key is not a hash.
local function short(key)
  local count = read('HLEN', key)
  if failed(count) then return count end
  if count == 0 or count > MOST_FIELDS then return count == 0 end
  local size = read('MEMORY', 'USAGE', key, 'SAMPLES', 0)
  return type(size) == 'number' and size <= limit
end

local function text(key, name)
  local size = read('HSTRLEN', key, name)
  if failed(size) or size == 0 then return false end
  if size > part then
    left = left - size
    if left < 0 then return {size} end
  end
  return cut(read('HGET', key, name), part + 1)
end

local rows = {}
for i = 7, #ARGV do
  local key = base .. ARGV[i]
  local values, found = {}, {}
  local quick = short(key)
  if quick == true then
    local read_all = read('HMGET', key, unpack(all))
    for n = 1, #names do values[n] = read_all[n] end
    for n = 1, #texts do found[n] = cut(read_all[#names + n], part + 1) end
  elseif quick then
    values = quick
  else
    values = fields(key, limit, names)
    for n = 1, #texts do found[n] = text(key, texts[n]) end
  end
  rows[#rows + 1] = {values, read('EXISTS', key .. ':lock'), found}
end
return rows
