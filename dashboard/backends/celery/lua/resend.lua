-- Pushes messages to their lists, each only once: guarded by the result record, by a marker of our own, or by both.
-- KEYS, three per job: its result record, the list, the marker. ARGV, eight per job: the record as it was read (its length,
-- "" if the records are elsewhere; its beginning; an offset, and the bytes there), its new beginning ("" = unchanged), the
-- message, the text of the marker ("" = none), the marker's time to live in ms.
-- Returns per job: "done", "gone", "changed", {"again", text of the marker} or an error.
local call = redis.pcall

-- Compares pieces only: whole records are long and very similar, which Lua's string table handles badly.
local function differs(record, arg)
  local size = call('STRLEN', record)
  if type(size) == 'table' or size == 0 then return 'gone' end
  local begins, at, piece = ARGV[arg + 1], tonumber(ARGV[arg + 2]), ARGV[arg + 3]
  local same = size == tonumber(ARGV[arg]) and call('GETRANGE', record, 0, #begins - 1) == begins
    and call('GETRANGE', record, at, at + #piece - 1) == piece
  return not same and 'changed' or nil
end

local function send(at, arg)
  local record, list, mark = KEYS[at], KEYS[at + 1], KEYS[at + 2]
  local begins, message, text, ttl = ARGV[arg + 4], ARGV[arg + 5], ARGV[arg + 6], ARGV[arg + 7]
  local why = ARGV[arg] ~= '' and differs(record, arg)
  if why then return why end
  if text ~= '' then
    local marked = call('SET', mark, text, 'NX', 'PX', ttl)
    if not marked then return {'again', call('GET', mark)} end
    if marked.err then return marked end
  end
  local pushed = call('LPUSH', list, message)
  if type(pushed) == 'table' then
    if text ~= '' then call('DEL', mark) end
    return pushed
  end
  if begins ~= '' then
    -- As long as the old beginning, so that the rest of the record and its time to live do not change.
    call('SETRANGE', record, 0, begins)
    call('PUBLISH', record, begins .. '}')
  end
  return 'done'
end

local answers = {}
for job = 0, #KEYS / 3 - 1 do
  answers[job + 1] = send(job * 3 + 1, job * 8 + 1)
end
return answers
