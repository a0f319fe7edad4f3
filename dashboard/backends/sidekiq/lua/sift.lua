-- Entries of a list or sorted set that hold a text, in the order of `page.lua`.
-- ARGV: key, 'list' or 'zset', '1' when it is read from its end, after how many entries, how many are looked at, how many
-- bytes are looked at, the text in lower case.
-- Returns {size, after how many to go on, {payload, its length, score or false, its stamp where it was cut...}, bytes read}.
local MOST, MOST_BYTES = 50, 262144
local key, kind, backwards, at, text = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), ARGV[7]
local size = read(kind == 'list' and 'LLEN' or 'ZCARD', key)
if not filled(size) then return {size, 0, {}, 0} end
local stop, room = math.min(size, at + tonumber(ARGV[5])), tonumber(ARGV[6])
local found, answered = {}, 0
-- An id of a set is score-jid: the text may be part of the first, or of both.
local tail, rest = string.match(text, '^([^-]*)%-(.*)$')

local function holds(payload, score)
  -- Of what is too long to be decoded no more is shown either.
  payload = string.lower(string.sub(payload, 1, DECODE_LIMIT))
  -- A letter may be written by its number.
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
