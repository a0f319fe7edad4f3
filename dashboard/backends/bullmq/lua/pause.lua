-- Pause or resume a queue. KEYS: meta. ARGV: base, 'pause' or 'resume', maximum ids to move per call.
-- Returns the number of ids left to move; repeat the call until it is 0. Or 'gone', or the reason why it was refused.
local base, verb, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
if call('EXISTS', base .. 'meta', base .. 'id', base .. 'wait') == 0 then return 'gone' end
local why = unwritable(base)
if why then return why end
local kind = generation(base)

-- Ids keep their order; if both lists have some, those that waited longest run first.
local function move(from, to)
  if call('EXISTS', from) == 0 then return 0 end
  if call('EXISTS', to) == 0 then
    call('RENAME', from, to)
    return 0
  end
  for _ = 1, most do
    local id = call('LPOP', from)
    if not id then return 0 end
    call('RPUSH', to, id)
  end
  return call('LLEN', from)
end

local left = 0
if verb == 'pause' then
  if kind ~= 'six' then left = move(base .. 'wait', base .. 'paused') end
  if kind == 'bull' then call('SET', base .. 'meta-paused', 1) end
  call('HSET', base .. 'meta', 'paused', 1)
  if kind == 'six' or kind == 'five' or kind == 'old' then call('DEL', base .. 'marker') end
else
  left = move(base .. 'paused', base .. 'wait')
  call('HDEL', base .. 'meta', 'paused')
  if kind == 'bull' then call('DEL', base .. 'meta-paused') end
  if kind == 'six' or kind == 'five' or kind == 'old' then
    if call('LLEN', base .. 'wait') > 0 or call('ZCARD', base .. 'prioritized') > 0 then
      call('ZADD', base .. 'marker', 0, '0')
    else
      local first = call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
      if first[2] then call('ZADD', base .. 'marker', math.floor(tonumber(first[2]) / 4096), '1') end
    end
  elseif kind == 'four' and call('ZCARD', base .. 'prioritized') > 0 and call('LLEN', base .. 'wait') == 0 then
    call('LPUSH', base .. 'wait', '0:0')
  end
end
if kind == 'bull' then
  call('PUBLISH', base .. (verb == 'pause' and 'paused' or 'resumed'), verb == 'pause' and 'paused' or 'resumed')
else
  event(base, kind, 'event', verb == 'pause' and 'paused' or 'resumed')
end
return left
