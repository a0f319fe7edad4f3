-- ARGV: key of the queue, list, first row, row after the last one, bytes to read. Returns the length of the list and rows:
-- of a list from its right end, of a sorted set from its highest score.
local key, list, rows = ARGV[1], ARGV[1] .. ':' .. ARGV[2], {}
local kind = redis.call('TYPE', list).ok == 'list' and 'list' or 'zset'
each_member(list, kind, true, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), function(id, score)
  rows[#rows + 1] = read_row(key, id, score)
end)
return {redis.call(kind == 'list' and 'LLEN' or 'ZCARD', list), rows}
