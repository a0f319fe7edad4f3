-- ARGV: key of the queue, id, how many ids of a list to compare. Returns the list that has the job, and its row; or
-- nothing.
local key, id = ARGV[1], ARGV[2]
for _, list in ipairs({'dead', 'done'}) do
  local score = redis.call('ZSCORE', key .. ':' .. list, id)
  if score then return {list, read_row(key, id, score)} end
end
for _, list in ipairs({'busy', 'wait'}) do
  if redis.call('LPOS', key .. ':' .. list, id, 'MAXLEN', ARGV[3]) then return {list, read_row(key, id)} end
end
return {}
