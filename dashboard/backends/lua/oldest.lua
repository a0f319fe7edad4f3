-- Returns the lowest at(place) over the positions of a queue, 0 = served next; nil if no position that was read has a
-- value. If jobs are in the order of their arrival, that is the first; a few positions show whether they can be. If some
-- jumped ahead, positions at growing distances are read, and around the lowest value a search as for a queue whose front
-- was added in reverse. `looks` = {how many more positions may be read}; the first is always read.
local function oldest(length, at, looks)
  local best, where
  local function look(place)
    if looks[1] <= 0 and place > 0 then return nil end
    looks[1] = looks[1] - 1
    local value = at(place)
    if value and (not best or value < best) then best, where = value, place end
    return value
  end
  for _, place in ipairs({0, 1, 16}) do
    if place < length then look(place) end
  end
  if length > 2 and length ~= 17 then look(length - 1) end
  if length <= 2 or where == 0 then return best end
  local places, place = {0}, 1
  while place < length - 1 do
    places[#places + 1] = place
    look(place)
    place = place * 4
  end
  places[#places + 1] = length - 1
  if not where then return nil end
  local middle, before, after = where, nil, nil
  for _, other in ipairs(places) do
    if other < middle then before = other elseif other > middle and not after then after = other end
  end
  local low, high, limit = before or middle, middle, best
  while high - low > 1 do
    local between = math.floor((low + high) / 2)
    local value = look(between)
    if value and value <= limit then high, limit = between, value else low = between end
  end
  low, high, limit = middle, after or middle, best
  while high - low > 1 do
    local between = math.floor((low + high) / 2)
    local value = look(between)
    if value and value <= limit then low, limit = between, value else high = between end
  end
  return best
end
