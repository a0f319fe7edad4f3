-- ARGV: key of the queue. Returns the lengths of its four lists, and when the job that runs next was enqueued.
local key = ARGV[1]
local id = redis.call('LINDEX', key .. ':wait', -1)
return {
  redis.call('LLEN', key .. ':wait'), redis.call('LLEN', key .. ':busy'),
  redis.call('ZCARD', key .. ':dead'), redis.call('ZCARD', key .. ':done'),
  id and short_field(key .. ':job:' .. id, 'enqueued_at', 40) or '',
}
