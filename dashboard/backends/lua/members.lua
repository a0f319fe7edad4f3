-- Members of a list or sorted set, read one by one. Redis has no command for the length of a member, so the bytes are
-- counted as members are read: a call reads at most its room plus one member. Far from both ends of a list, where each
-- read has to walk there, AT_ONCE members are read together; in searches for jobs to act on, MANY_AT_ONCE: that many can
-- then exceed the room.
local FAR_FROM_ENDS, AT_ONCE, MANY_AT_ONCE = 5000, 4, 8
-- For longer members, only the two ends are hashed.
local STAMPED_WHOLE = 65536
local STAMPED_END = STAMPED_WHOLE / 2

-- Same result as `stamp_of` in bounded_reads.py.
local function stamp_of(text)
  if #text <= STAMPED_WHOLE then return string.sub(redis.sha1hex(text), 1, 20) end
  local ends = string.sub(text, 1, STAMPED_END) .. string.sub(text, -STAMPED_END)
  return string.sub(redis.sha1hex(ends), 1, 20) .. '-' .. #text
end

-- Calls visit(member, score or false, index) for the members with index `first` <= n < `stop`, until it returns true or
-- `room` bytes were read. Indexes of a list count from the end that is served next, those of a set from its lowest score,
-- or from its highest if `backwards`; of a list, `once` members are read together. Returns the index to continue at, and
-- the bytes read.
local function each_member(key, kind, backwards, first, stop, room, visit, once)
  local size = redis.call(kind == 'list' and 'LLEN' or 'ZCARD', key)
  local at, bytes = first, 0
  stop = math.min(stop, size)
  while at < stop and bytes < room do
    if kind == 'list' then
      local last = math.min(stop, at + (once or (math.min(at, size - at) > FAR_FROM_ENDS and AT_ONCE or 1)))
      local members = redis.call('LRANGE', key, -last, -at - 1)
      for n = #members, 1, -1 do bytes = bytes + #members[n] end
      for n = #members, 1, -1 do
        at = at + 1
        if visit(members[n], false, at - 1) then return at, bytes end
      end
    else
      local found = redis.call(backwards and 'ZREVRANGE' or 'ZRANGE', key, at, at, 'WITHSCORES')
      at, bytes = at + 1, bytes + #found[1]
      if visit(found[1], found[2], at - 1) then return at, bytes end
    end
  end
  return at, bytes
end

-- Returns the field of a hash, or false if it is longer than `longest`; then its length.
local function short_field(key, name, longest)
  local length = redis.pcall('HSTRLEN', key, name)
  if type(length) ~= 'number' or length == 0 or length > longest then return false, length end
  return redis.call('HGET', key, name), length
end
