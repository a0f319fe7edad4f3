-- Replaces the beginning of records that have not changed since they were read.
-- KEYS: records. ARGV, five per record: the record as it was read (its length; its beginning; an offset, and the bytes
-- there), and its new beginning (of the same length as the old one).
-- Returns 1 or 0 per record, or an error.
local call = redis.pcall

local function confirm(record, arg)
  local begins, at, piece, after = ARGV[arg + 1], tonumber(ARGV[arg + 2]), ARGV[arg + 3], ARGV[arg + 4]
  local same = call('STRLEN', record) == tonumber(ARGV[arg]) and call('GETRANGE', record, 0, #begins - 1) == begins
    and call('GETRANGE', record, at, at + #piece - 1) == piece
  if not same then return 0 end
  local written = call('SETRANGE', record, 0, after)
  if type(written) == 'table' then return written end
  call('PUBLISH', record, after .. '}')
  return 1
end

local answers = {}
for job, record in ipairs(KEYS) do
  answers[job] = confirm(record, job * 5 - 4)
end
return answers
