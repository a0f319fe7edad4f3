-- Deletes a queue: its lists of messages, and its bindings to the exchange of the same name.
-- KEYS[1], KEYS[2]: the sets of bindings; then the lists. ARGV[1]: the separator of a binding; ARGV[2]: the queue.
-- Returns how many messages were deleted, or -1 if a list has another type.
local total = 0
for n = 3, #KEYS do
  local kind = redis.call('TYPE', KEYS[n]).ok
  if kind ~= 'list' and kind ~= 'none' then return -1 end
  if kind == 'list' then total = total + redis.call('LLEN', KEYS[n]) end
end
for n = 3, #KEYS do redis.call('UNLINK', KEYS[n]) end
local ends = ARGV[1] .. ARGV[2]
for n = 1, 2 do
  if redis.call('TYPE', KEYS[n]).ok == 'set' and redis.call('SCARD', KEYS[n]) <= 1000 then
    for _, member in ipairs(redis.call('SMEMBERS', KEYS[n])) do
      if string.sub(member, -#ends) == ends then redis.call('SREM', KEYS[n], member) end
    end
  end
end
return total
