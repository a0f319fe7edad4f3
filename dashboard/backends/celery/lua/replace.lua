-- Removes messages from their lists and pushes their replacements to a list, both or neither.
-- KEYS[1]: a key that is not a list. ARGV[1]: LPUSH (runs last) or RPUSH (runs next). Then KEYS, two per job: from, to.
-- ARGV, three per job: the message byte for byte, its replacement, its position from the end that is served next (0 = next).
-- Returns per job: "done", "lost" (not found near that position) or an error.
local push = ARGV[1]
local refused = may_remove(KEYS[1])
if refused then return refused end

local answers, places = {}, {}
local jobs = (#KEYS - 1) / 2
for job = 1, jobs do
  local at, why = mark(KEYS[job * 2], ARGV[job * 3 - 1], tonumber(ARGV[job * 3 + 1]))
  places[job], answers[job] = at, why or 'lost'
end
local next_in = {} -- list -> how many were pushed to its end that is served next
for job = 1, jobs do
  if places[job] then
    local from, to = KEYS[job * 2], KEYS[job * 2 + 1]
    local pushed = call(push, to, ARGV[job * 3])
    if failed(pushed) then
      -- A message whose replacement cannot be pushed is not removed.
      unmark(from, ARGV[job * 3 - 1], places[job], next_in[from] or 0)
      answers[job] = pushed
    else
      if push == 'RPUSH' then next_in[to] = (next_in[to] or 0) + 1 end
      answers[job] = 'done'
    end
  end
end
sweep()
return answers
