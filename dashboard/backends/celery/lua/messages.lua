-- Shared by the scripts that read messages. What is longer than WHOLE is never decoded: its beginning and its length
-- travel, and it is told by its stamp.
local WHOLE, BEGINNING = 262144, 1024

-- Adds {message or its beginning, its length, its stamp where it was cut} to `found`.
local function add(found, message)
  local n, long = #found, #message > WHOLE
  found[n + 1], found[n + 2] = long and string.sub(message, 1, BEGINNING) or message, #message
  found[n + 3] = long and stamp_of(message)
end

local function named(message, ids, name)
  local none, stop = nil, 1
  while true do
    local _, at = string.find(message, name, stop, true)
    if not at then return none end
    local id = string.match(message, '^ ?"([^"]*)', at + 1)
    if id and (ids[id] or string.sub(id, -1) == '\\') then return true end
    -- One that no page shows as it is names no job: such a message goes by its stamp.
    if id and not string.find(id, '[%c\\\127-\255]') then none = false end
    stop = at + 1
  end
end

-- Whether a message may be one of `ids`, as they are written in it; nil where it has none. One with an escaped quote in
-- it is left to the caller. A message of protocol 1 has its id in the body, which is wrapped: `wrapped` are pieces of it
-- of which one is to stand there. Most clients write it as the correlation id, too.
local function may_have(message, ids, wrapped)
  local may = named(message, ids, '"id":')
  if may ~= nil then return may end
  if named(message, ids, '"correlation_id":') then return true end
  for _, piece in ipairs(wrapped) do
    if string.find(message, piece, 1, true) then return true end
  end
  return nil
end

-- {id, true, ...}, {piece, ...} from arguments `first` to `last`; a piece begins with a zero byte.
local function ids_of(first, last)
  local ids, wrapped = {}, {}
  for n = first, last do
    if string.sub(ARGV[n], 1, 1) == '\0' then wrapped[#wrapped + 1] = string.sub(ARGV[n], 2) else ids[ARGV[n]] = true end
  end
  return ids, wrapped
end
