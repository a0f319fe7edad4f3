-- Some processes in brief. ARGV: namespace with its colon, or ''; then their identities.
-- Returns {row...}, {identity that was left out for lack of room...}.
local rows, left = rows_of(ARGV[1], {unpack(ARGV, 2)}, brief)
return {rows, left}
