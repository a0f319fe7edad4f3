-- Takes messages out of their lists and puts what they become into a list, both or neither.
-- ARGV[1]: LPUSH (last in line) or RPUSH (next to run). KEYS, two per job: from, to. ARGV, two per job: the message byte for
-- byte, what it becomes.
-- Returns per job: "done", "gone" or an error.
local call = redis.pcall
local push = ARGV[1]
local undo = push == 'LPUSH' and 'LPOP' or 'RPOP'

local function replace(from, to, message, becomes)
  -- The push comes first: what cannot be put anywhere must not be taken away.
  local pushed = call(push, to, becomes)
  if type(pushed) == 'table' then return pushed end
  local removed = call('LREM', from, -1, message)
  if removed == 1 then return 'done' end
  call(undo, to)
  if type(removed) == 'table' and not string.find(removed.err, 'WRONGTYPE', 1, true) then return removed end
  return 'gone'
end

local answers = {}
for job = 1, #KEYS / 2 do
  answers[job] = replace(KEYS[job * 2 - 1], KEYS[job * 2], ARGV[job * 2], ARGV[job * 2 + 1])
end
return answers
