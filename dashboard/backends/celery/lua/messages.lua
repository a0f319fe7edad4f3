-- Shared by the scripts that read messages. A message longer than WHOLE is never decoded: only its beginning and length
-- are transferred, and its stamp identifies it.
local WHOLE, BEGINNING = 262144, 1024

-- Adds {message or its beginning, its length, its stamp if it was cut} to `found`.
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
    -- An id that no page can display unchanged does not count: such a message is identified by its stamp.
    if id and not string.find(id, '[%c\\\127-\255]') then none = false end
    stop = at + 1
  end
end

-- Whether a message may have one of `ids`, in their written form; nil if it has no id. The caller checks ids with an
-- escaped quote. A protocol 1 message has its id in the base64 body: `wrapped` are fragments of such bodies, one of which
-- must occur. Most clients also write it as the correlation id.
local function may_have(message, ids, wrapped)
  local may = named(message, ids, '"id":')
  if may ~= nil then return may end
  if named(message, ids, '"correlation_id":') then return true end
  for _, piece in ipairs(wrapped) do
    if string.find(message, piece, 1, true) then return true end
  end
  return nil
end

-- Returns {[id] = true, ...}, {fragment, ...} from arguments `first` to `last`; a fragment begins with a zero byte.
local function ids_of(first, last)
  local ids, wrapped = {}, {}
  for n = first, last do
    if string.sub(ARGV[n], 1, 1) == '\0' then wrapped[#wrapped + 1] = string.sub(ARGV[n], 2) else ids[ARGV[n]] = true end
  end
  return ids, wrapped
end
