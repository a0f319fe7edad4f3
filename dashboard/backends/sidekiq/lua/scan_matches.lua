-- Entries of a list or sorted set that contain a text, in the order of `page.lua`.
-- ARGV: key, 'list' or 'zset', '1' to read from its end, after how many entries to begin, how many to scan, how many bytes
-- to scan, the text in lower case.
-- Returns {size, after how many entries to continue, {payload, its length, score or false, its stamp if it was cut...},
-- bytes read}.
local MOST, MOST_BYTES = 50, 262144
local key, kind, backwards, at, text = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), ARGV[7]
local size = read(kind == 'list' and 'LLEN' or 'ZCARD', key)
if not filled(size) then return {size, 0, {}, 0} end
local stop, room = math.min(size, at + tonumber(ARGV[5])), tonumber(ARGV[6])
local found, answered = {}, 0
-- The id of an entry of a set is score-jid: the text may be part of the score, or span both.
local tail, rest = string.match(text, '^([^-]*)%-(.*)$')

local function holds(payload, score)
  -- No more is shown of an entry that is too long to be decoded, either.
  payload = string.lower(string.sub(payload, 1, DECODE_LIMIT))
  -- JSON may write a character as its code.
  if string.find(payload, text, 1, true) or string.find(payload, '\\u00', 1, true) then return true end
  if not score then return false end
  return string.find(score, text, 1, true) ~= nil
    or (tail ~= nil and string.sub(score, #score - #tail + 1) == tail and string.find(payload, rest, 1, true) ~= nil)
end

local function visit(payload, score)
  if not holds(payload, score) then return false end
  local cut = entry(payload)
  found[#found + 1] = cut[1]
  found[#found + 1] = cut[2]
  found[#found + 1] = score
  found[#found + 1] = cut[3]
  answered = answered + #cut[1]
  return #found >= 4 * MOST or answered > MOST_BYTES
end

local reached, bytes = each_member(key, kind, backwards, at, stop, room, visit)
return {size, reached, found, bytes}
