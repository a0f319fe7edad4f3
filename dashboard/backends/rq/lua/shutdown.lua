-- Asks a worker to stop after its running job. KEYS: the set of workers, the worker's hash, its channel. ARGV: the command.
-- Returns an outcome, as in move.lua. A second request would make the worker kill its job.
if redis.call('SISMEMBER', KEYS[1], KEYS[2]) == 0 then return 'gone' end
local asked = redis.pcall('HSTRLEN', KEYS[2], 'shutdown_requested_date')
if type(asked) == 'table' then return 'its record cannot be read' end
if asked > 0 then return 'it is already stopping after its running job; a second request would kill that job' end
if redis.call('PUBLISH', KEYS[3], ARGV[1]) == 0 then return 'it is not listening for commands; it may have stopped or lost its connection' end
return 'done'
