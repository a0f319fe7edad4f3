-- The id of the next run of a schedule. KEYS: repeat. ARGV: base, schedule id, then the possible prefixes of the id.
-- Returns the id, or false if it is not found.
local starts = {}
for n = 3, #ARGV do starts[#starts + 1] = ARGV[n] end
return run_of(ARGV[1], ARGV[2], starts) or false
