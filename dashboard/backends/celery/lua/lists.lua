-- Removes messages from lists, in one pass per list; shared by drop_messages.lua and replace.lua.
-- A message is identified by its bytes, and found by the position at which it was seen, counted from the end that is served
-- next. Workers that pick up messages there shift all of them alike, and a search around the position shows how far.
-- Messages found are overwritten first, so that one pass from the nearer end removes all of them.
local call = redis.pcall
local AROUND, LOOKS, TOMBSTONE = 100, 5, '\0taken out by queuedeck\0'
-- How many bytes of other messages one search around a position reads.
local OTHERS_BYTES = 8388608
-- Before the stamp of a message that is too long to be sent.
local STAMP = '\0stamp '

local function failed(reply) return type(reply) == 'table' and reply.err ~= nil end

-- Returns the error if the user has no permission for LREM, before anything is changed; `key` has another type, or does
-- not exist.
local function may_remove(key)
  local reply = call('LREM', key, 1, TOMBSTONE)
  if failed(reply) and not string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
end

local function is_it(found, message, stamp)
  return found == message or (stamp and found and stamp_of(found) == stamp)
end

local lines = {} -- list -> what is known of it
local function line_of(list)
  if not lines[list] then
    local length = call('LLEN', list)
    lines[list] = {length = failed(length) and 0 or length, drift = 0, looks = LOOKS, near = 0, far = 0}
  end
  return lines[list]
end

-- Overwrites a message that was seen at a position (0 = next). Returns its position, or nil and the error, if any.
local function mark(list, message, seen)
  local line = line_of(list)
  local stamp = string.sub(message, 1, #STAMP) == STAMP and string.sub(message, #STAMP + 1)
  local at = seen - line.drift
  local found = at >= 0 and at < line.length and is_it(call('LINDEX', list, -at - 1), message, stamp)
  if not found and line.length > 0 and line.looks > 0 then
    line.looks = line.looks - 1
    local nearest = math.max(0, at - AROUND)
    local stop = math.max(nearest, at + AROUND) + 1
    each_member(list, 'list', false, nearest, stop, OTHERS_BYTES, function(other, _, place)
      if not is_it(other, message, stamp) then return false end
      at, found = place, true
      line.drift, line.looks = seen - at, LOOKS
      return true
    end, MANY_AT_ONCE)
  end
  if not found then return nil end
  local set = call('LSET', list, -at - 1, TOMBSTONE)
  if failed(set) then return nil, set end
  if at < line.length / 2 then line.near = line.near + 1 else line.far = line.far + 1 end
  return at
end

-- Writes back a message that was overwritten at a position; `more` were added since to the end that is served next.
local function unmark(list, message, at, more)
  local line = line_of(list)
  call('LSET', list, -at - more - 1, message)
  if at < line.length / 2 then line.near = line.near - 1 else line.far = line.far - 1 end
end

local function sweep()
  for list, line in pairs(lines) do
    if line.near > 0 then call('LREM', list, -line.near, TOMBSTONE) end
    if line.far > 0 then call('LREM', list, line.far, TOMBSTONE) end
  end
end
