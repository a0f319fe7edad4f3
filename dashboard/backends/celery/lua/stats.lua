-- How many messages wait in some queues of one prefix, and what stands in `unacked`.
-- ARGV[1]: prefix; ARGV[2]: how many unacknowledged messages are looked into; ARGV[3]: what stands between a queue's
-- name and a priority; ARGV[4]: what the app calls `unacked`; then queue names.
-- Returns {{waiting or error...}, {all unacknowledged, reserved, eta, retry} with the last three false when unread}.
local read = redis.pcall
local LIMIT, MOST_BYTES = 262144, 4194304

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

local waiting = {}
for i = 5, #ARGV do
  local key, total = ARGV[1] .. ARGV[i], 0
  for step = 0, 9 do
    local size = read('LLEN', step == 0 and key or key .. ARGV[3] .. step)
    if failed(size) then total = size break end
    total = total + size
  end
  waiting[#waiting + 1] = total
end

local key = ARGV[1] .. ARGV[4]
local all = read('HLEN', key)
if failed(all) then return {waiting, {all, false, false, false}} end
if all > tonumber(ARGV[2]) then return {waiting, {all, false, false, false}} end
local reserved, eta, retry, room = 0, 0, 0, MOST_BYTES
for _, tag in ipairs(all > 0 and read('HKEYS', key) or {}) do
  local value, length = short_field(key, tag, LIMIT)
  room = room - (value and length or 0)
  -- Which of them wait for a time stays unknown where there is too much to read.
  if room < 0 then return {waiting, {all, false, false, false}} end
  local fine, entry = pcall(cjson.decode, value or '')
  local headers = fine and type(entry) == 'table' and type(entry[1]) == 'table' and entry[1].headers
  if type(headers) == 'table' and type(headers.eta) == 'string' then
    if type(headers.retries) == 'number' and headers.retries > 0 then retry = retry + 1 else eta = eta + 1 end
  else
    reserved = reserved + 1
  end
end
return {waiting, {all, reserved, eta, retry}}
