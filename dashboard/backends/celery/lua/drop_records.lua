-- Deletes records that have not changed since they were read.
-- KEYS: records. ARGV, four per record: the record as it was read (its length; its beginning; an offset, and the bytes
-- there).
-- Returns per record: "done", "gone", "changed" or an error.
local call = redis.pcall

local function drop(record, arg)
  local size = call('STRLEN', record)
  if type(size) == 'table' or size == 0 then return 'gone' end
  local begins, at, piece = ARGV[arg + 1], tonumber(ARGV[arg + 2]), ARGV[arg + 3]
  local same = size == tonumber(ARGV[arg]) and call('GETRANGE', record, 0, #begins - 1) == begins
    and (piece == '' or call('GETRANGE', record, at, at + #piece - 1) == piece)
  if not same then return 'changed' end
  local gone = call('UNLINK', record)
  return type(gone) == 'table' and gone or 'done'
end

local answers = {}
for job, record in ipairs(KEYS) do
  answers[job] = drop(record, job * 4 - 3)
end
return answers
