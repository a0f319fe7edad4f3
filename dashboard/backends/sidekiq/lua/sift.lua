-- Entries of a list or sorted set that hold a text, in the order of `page.lua`.
-- ARGV: key, 'list' or 'zset', '1' when it is read from its end, after how many entries, how many are looked at, how many
-- bytes are looked at, the text in lower case.
-- Returns {size, after how many to go on, {payload, its length, score or false, its stamp where it was cut...}}.
local MOST, MOST_BYTES = 50, 262144
local key, kind, backwards, at, text = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), ARGV[7]
local size = read(kind == 'list' and 'LLEN' or 'ZCARD', key)
if not filled(size) then return {size, 0, {}} end
local stop, room = math.min(size, at + tonumber(ARGV[5])), tonumber(ARGV[6])
local found, chunk, looked, bytes, answered = {}, 5, 0, 0, 0
-- An id of a set is score-jid: the text may be part of the first, or of both.
local tail, rest = string.match(text, '^([^-]*)%-(.*)$')

local function holds(payload, score)
  payload = string.lower(payload)
  -- A letter may be written by its number.
  if string.find(payload, text, 1, true) or string.find(payload, '\\u00', 1, true) then return true end
  if not score then return false end
  return string.find(score, text, 1, true) ~= nil
    or (tail ~= nil and string.sub(score, #score - #tail + 1) == tail and string.find(payload, rest, 1, true) ~= nil)
end

local function entries(from, last)
  local all = {}
  if kind == 'list' then
    local texts = read('LRANGE', key, -last, -from - 1)
    for n = #texts, 1, -1 do all[#all + 1] = {texts[n], false} end
  else
    local members = read(backwards and 'ZREVRANGE' or 'ZRANGE', key, from, last - 1, 'WITHSCORES')
    for n = 1, #members, 2 do all[#all + 1] = {members[n], members[n + 1]} end
  end
  return all
end

while at < stop and bytes < room do
  local last = math.min(stop, at + chunk)
  for n, each in ipairs(entries(at, last)) do
    local payload, score = each[1], each[2]
    looked, bytes = looked + 1, bytes + #payload
    if holds(payload, score) then
      local cut = entry(payload)
      found[#found + 1] = cut[1]
      found[#found + 1] = cut[2]
      found[#found + 1] = score
      found[#found + 1] = cut[3]
      answered = answered + #cut[1]
      if #found >= 4 * MOST or answered > MOST_BYTES then return {size, at + n, found} end
    end
  end
  at = last
  -- Few calls where entries are short, few bytes at once where they are long.
  chunk = math.max(5, math.min(chunk * 4, 500, math.floor(room / 4 * looked / math.max(1, bytes))))
end
return {size, at, found}
