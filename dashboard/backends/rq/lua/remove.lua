-- Deletes jobs that are as they were when they were taken. KEYS: the list or sorted set they stand in, then the hash of
-- each job. ARGV: prefix, then id and signature ('' = any) of each job. Returns an outcome per job.
local call = redis.call
local from, prefix = KEYS[1], ARGV[1]
local is_list = call('TYPE', from).ok == 'list'
local answers = {}
for n = 2, #KEYS do
  local id, seen, key = ARGV[n * 2 - 2], ARGV[n * 2 - 1], KEYS[n]
  local is_hash = call('TYPE', key).ok == 'hash'
  if seen ~= '' and (not is_hash or redis.sha1hex(call('DUMP', key)) ~= seen) then
    answers[n - 1] = is_hash and 'changed' or 'gone'
  elseif (is_list and call('LREM', from, 1, id) or call('ZREM', from, id)) == 0 then
    answers[n - 1] = is_hash and 'changed' or 'gone'
  else
    local parents = prefix .. ':job::' .. id .. ':dependencies'
    if call('TYPE', parents).ok == 'set' then
      for _, parent in ipairs(call('SMEMBERS', parents)) do
        call('SREM', prefix .. ':job:' .. parent .. ':dependents', id)
      end
    end
    if is_hash then call('DEL', key) end
    call('DEL', key .. ':dependents', parents, prefix .. ':results:' .. id)
    answers[n - 1] = 'done'
  end
end
return answers
