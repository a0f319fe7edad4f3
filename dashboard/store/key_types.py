"""The Redis type of each of Queuedeck's own keys, and what happens to a key of another type.

A key of another type came from a copied database, another program, or another version. Readers treat it as absent; the
script that needs the key moves it aside for ASIDE_MS and reports that.
"""

from __future__ import annotations

from typing import Final

ASIDE_MS: Final = 7 * 86_400_000
# One letter per type, for an argument of each script; "-" is a key that can have any type.
LETTERS: Final = {"string": "s", "list": "l", "set": "t", "zset": "z", "hash": "h", "stream": "x"}

# Key names without the prefix that all keys share.
TYPES: Final = {
    **dict.fromkeys(("lead", "epoch", "snapshot", "history", "changes", "born", "memory", "sights"), "string"),
    **dict.fromkeys(("hours", "rules", "slos", "schedules", "audit:head"), "string"),
    **dict.fromkeys(("heartbeat", "silences", "acks", "pauses", "bin:sizes", "groups", "ts:ids", "counters"), "hash"),
    **dict.fromkeys(("tokens", "tokens:used"), "hash"),
    **dict.fromkeys(("live", "bulks:open"), "set"),
    **dict.fromkeys(("unsent", "dead", "channels", "bulks", "bin", "groups:seen", "marks"), "zset"),
    # Next to the queues: jobs that were deleted, restored, or seen in no list. The scripts for them check the type.
    **dict.fromkeys(("back", "away", "deleted", "missing"), "zset"),
    "probe": "string",
    **dict.fromkeys(("episodes", "sent", "audit"), "stream"),
}
# (prefix of a name, its suffix, its type); the first match counts.
FAMILIES: Final = (
    ("part:", "", "string"),  # there are hundreds of them
    *(("inst:", "", "hash"), ("msg:", "", "hash"), ("due:", "", "zset"), ("chain:", "", "list")),
    ("unnamed:", "", "zset"),
    ("ts:", "", "string"),
    *(("snapshot:", "", "string"), ("history:", "", "string"), ("sampling:", "", "string")),
    *(("pace:", "", "string"), ("tries:", "", "string"), ("ended:", "", "string"), ("codes:", "", "string")),
    *(("bulk:", ":lease", "string"), ("bulk:", ":undo", "string"), ("bulk:", ":rounds", "list")),
    *(("bulk:", ":picks", "list"), ("bulk:", "", "hash"), ("bin:", "", "hash")),
)


def type_of(name: str) -> str | None:
    """The type of the key whose name after the prefix is `name`; None if it can have any type."""
    known = TYPES.get(name)
    if known is not None:
        return known
    return next((kind for begin, end, kind in FAMILIES if name.startswith(begin) and name.endswith(end)), None)


def letters_of(keys: tuple[str, ...], prefix: str) -> str:
    """One letter of LETTERS for each key, as SOUND expects them."""
    types = (type_of(key.removeprefix(f"{prefix}:")) for key in keys)
    return "".join(LETTERS[kind] if kind else "-" for kind in types)


# The prelude of each script, which handles keys of any content. ARGV, after those of the script itself: the letters of
# the keys, the prefix of all keys. `sound(key, letter)` returns the key, moving it aside first if it has another type;
# `replaced(key, why)` reports that its value was not ours; `aside(key, why)` moves it; `number(key, least, most)`
# returns the number in a string, or nil, removing the key first if it is not a number in this range; `add` is HINCRBY,
# `append` XADD; `begin(key, ms)` removes a key that would outlive this time. The whole script returns {the reports, the
# result of the script}.
SOUND = f"""
local said, kinds = {{}}, {{s='string', l='list', t='set', z='zset', h='hash', x='stream'}}
local prefix = table.remove(ARGV)
local letters = table.remove(ARGV)
redis.call('EXISTS', prefix .. ':moving') -- raises an error while a cluster moves the keys: before the first write
local function replaced(key, why) said[#said + 1] = key .. ' ' .. why end
local checked = {{}}
local function aside(key, why)
  local other = prefix .. ':aside' .. string.sub(key, #prefix + 1)
  local moved = redis.pcall('RENAME', key, other)
  if type(moved) == 'table' and moved.err then
    redis.call('DEL', key)
    replaced(key, why .. ': removed')
  else
    redis.pcall('PEXPIRE', other, '{ASIDE_MS}')
    replaced(key, why .. ': moved to ' .. other)
  end
end
local function sound(key, letter)
  if checked[key] then return key end
  checked[key] = true
  local wanted, found = kinds[letter], redis.call('TYPE', key).ok
  if wanted and found ~= wanted and found ~= 'none' then
    aside(key, 'was a ' .. found .. ', not a ' .. wanted)
  end
  return key
end
local function number(key, least, most)
  local raw = redis.call('GET', key)
  if not raw then return nil end
  local found = string.match(raw, '^-?%d+$') and #raw <= 16 and tonumber(raw)
  if found and found >= least and found <= most then return found end
  redis.call('DEL', key)
  replaced(key, 'did not hold a valid number: removed')
  return nil
end
local function add(key, field, more)
  local sum = redis.pcall('HINCRBY', key, field, more)
  if type(sum) == 'table' and sum.err and string.find(sum.err, 'integer') then
    redis.call('HDEL', key, field)
    replaced(key, 'did not hold a number in ' .. field .. ': removed')
    return redis.call('HINCRBY', key, field, more)
  end
  return sum
end
local function append(key, most, ...)
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', most, '*', ...)
  if type(added) ~= 'table' or not added.err then return added end
  if string.find(added.err, 'exhausted') or string.find(added.err, 'smaller') then
    aside(key, 'accepts no more entries')
  end
  return redis.call('XADD', key, 'MAXLEN', '~', most, '*', ...)
end
local function begin(key, most_ms)
  local left = redis.call('PTTL', key)
  if left == -1 or left > tonumber(most_ms) then
    redis.call('DEL', key)
    replaced(key, 'did not expire in time: removed')
  end
end
for n = 1, #KEYS do sound(KEYS[n], string.sub(letters, n, n)) end
local function run()
"""
END = """
end
local answer = run()
return {table.concat(said, '\\n'), answer}
"""
