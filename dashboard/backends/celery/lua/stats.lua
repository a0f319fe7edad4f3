-- Counts the messages waiting in queues of one prefix, and reads `unacked`.
-- ARGV[1]: prefix; ARGV[2]: how many unacknowledged messages are inspected at most; ARGV[3]: the separator between a
-- queue's name and a priority; ARGV[4]: the app's name for `unacked`, or '' to skip it; ARGV[5]: '1' to return marks; then
-- queue names.
-- Returns {{waiting or error...}, {number of unacknowledged messages, {kind, id, ...} or false if unread}, {mark...}}:
-- kind = "now", "eta", "retry", or "first" for a protocol 1 message, with its base64 body in place of the id; a queue's
-- mark changes whenever its next message does, and is '' if none is waiting or it was not read.
local read = redis.pcall
local LIMIT, MOST_BYTES, MOST_ANSWERED, LONGEST_ID = 262144, 4194304, 524288, 200

local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

local STEPS = {}
for step = 1, 9 do STEPS[step] = ARGV[3] .. step end

local MARK_BYTES = 120  -- a message ends with its delivery tag
local mark_room = ARGV[5] == '1' and 1048576 or 0 -- bytes of messages read for marks; one more message can exceed it
local waiting, marks = {}, {}
for i = 6, #ARGV do
  local key, total, heads = ARGV[1] .. ARGV[i], 0, {}
  local lists = {}
  for n = 1, #STEPS do lists[n] = key .. STEPS[n] end
  -- Most queues have no message of another priority; one command checks that.
  local last = read('EXISTS', unpack(lists)) == 0 and 0 or #STEPS
  for n = 0, last do
    local list = n == 0 and key or lists[n]
    local size = read('LLEN', list)
    if failed(size) then total = size break end
    total = total + size
    if size > 0 and mark_room > 0 then
      local head = read('LINDEX', list, -1)
      mark_room = mark_room - #head
      heads[#heads + 1] = string.sub(head, -MARK_BYTES)
    end
  end
  waiting[#waiting + 1] = total
  marks[#marks + 1] = #heads > 0 and redis.sha1hex(table.concat(heads)) or ''
end

if ARGV[4] == '' then return {waiting, {false, false}, marks} end
local key = ARGV[1] .. ARGV[4]
local all = read('HLEN', key)
if failed(all) then return {waiting, {all, false}, marks} end
if all > tonumber(ARGV[2]) then return {waiting, {all, false}, marks} end
local found, room, answered = {}, MOST_BYTES, MOST_ANSWERED

local function kind_of(headers)
  if type(headers.eta) ~= 'string' then return 'now' end
  return type(headers.retries) == 'number' and headers.retries > 0 and 'retry' or 'eta'
end

for _, tag in ipairs(all > 0 and read('HKEYS', key) or {}) do
  local value, length = short_field(key, tag, LIMIT)
  room = room - (value and length or 0)
  -- If there is too much to read, it stays unknown which of them have an ETA.
  if room < 0 then return {waiting, {all, false}, marks} end
  local fine, entry = pcall(cjson.decode, value or '')
  local message = fine and type(entry) == 'table' and type(entry[1]) == 'table' and entry[1] or {}
  local headers, at = type(message.headers) == 'table' and message.headers or {}, #found
  if headers.id == nil and type(message.body) == 'string' then
    found[at + 1], found[at + 2] = 'first', message.body
    answered = answered - #message.body
    if answered < 0 then return {waiting, {all, false}, marks} end
  else
    found[at + 1] = kind_of(headers)
    found[at + 2] = type(headers.id) == 'string' and string.sub(headers.id, 1, LONGEST_ID) or ''
  end
end
return {waiting, {all, found}, marks}
