"""Queuedeck's own keys, by their names: which type of Redis each has, and what is done with one of another type.

Such a key came with a copied database, from another program, or from another version. It counts as absent for those who
read it; the script that needs it moves it aside, for ASIDE_MS, and says so.
"""

from __future__ import annotations

from typing import Final

ASIDE_MS: Final = 7 * 86_400_000
# Letters stand for types in an argument of each script; "-" is a key that may have any type.
LETTERS: Final = {"string": "s", "list": "l", "set": "t", "zset": "z", "hash": "h", "stream": "x"}

# Names without the prefix of all keys.
TYPES: Final = {
    **dict.fromkeys(("lead", "epoch", "snapshot", "history", "changes", "born", "memory", "sights"), "string"),
    **dict.fromkeys(("hours", "rules"), "string"),
    **dict.fromkeys(("heartbeat", "silences", "acks", "bin:sizes", "groups"), "hash"),
    **dict.fromkeys(("live", "bulks:open"), "set"),
    **dict.fromkeys(("unsent", "dead", "channels", "bulks", "bin", "groups:seen"), "zset"),
    # Beside the queues: what of them was deleted, put back, or seen in no list. Their scripts look after the type.
    **dict.fromkeys(("back", "away", "deleted", "missing"), "zset"),
    "probe": "string",
    **dict.fromkeys(("episodes", "sent", "audit"), "stream"),
}
# (what a name begins with, what it ends with, its type); the first that fits counts.
FAMILIES: Final = (
    ("part:", "", "string"),  # there are hundreds of them
    *(("inst:", "", "hash"), ("msg:", "", "hash"), ("due:", "", "zset"), ("chain:", "", "list")),
    ("unnamed:", "", "zset"),
    *(("snapshot:", "", "string"), ("history:", "", "string"), ("sampling:", "", "string")),
    *(("pace:", "", "string"), ("tries:", "", "string"), ("ended:", "", "string")),
    *(("bulk:", ":lease", "string"), ("bulk:", ":undo", "string"), ("bulk:", ":rounds", "list")),
    *(("bulk:", ":picks", "list"), ("bulk:", "", "hash"), ("bin:", "", "hash")),
)


def type_of(name: str) -> str | None:
    """The type of the key whose name is `name` behind the prefix; None for one that may have any."""
    known = TYPES.get(name)
    if known is not None:
        return known
    return next((kind for begin, end, kind in FAMILIES if name.startswith(begin) and name.endswith(end)), None)


def letters_of(keys: tuple[str, ...], prefix: str) -> str:
    """A letter of LETTERS for each key, as SOUND takes them."""
    types = (type_of(key.removeprefix(f"{prefix}:")) for key in keys)
    return "".join(LETTERS[kind] if kind else "-" for kind in types)


# Goes before each script, for keys of any content. ARGV, behind what the script itself takes: the letters of the keys,
# the prefix of all keys. `sound(key, letter)` answers the key, after it was moved aside if it is of another type;
# `replaced(key, why)` says that its value was none of ours; `aside(key, why)` moves it; `number(key, least, most)`
# answers the number that a string holds, or nil, after it was removed if it is none between these; `add` is HINCRBY,
# `append` XADD; `begin(key, ms)` removes one that would outlive its time. The whole answers {what was said, the answer
# of the script}.
SOUND = f"""
local said, kinds = {{}}, {{s='string', l='list', t='set', z='zset', h='hash', x='stream'}}
local prefix = table.remove(ARGV)
local letters = table.remove(ARGV)
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
  replaced(key, 'held no such number: removed')
  return nil
end
local function add(key, field, more)
  local sum = redis.pcall('HINCRBY', key, field, more)
  if type(sum) == 'table' and sum.err and string.find(sum.err, 'integer') then
    redis.call('HDEL', key, field)
    replaced(key, 'held no number in ' .. field .. ': removed')
    return redis.call('HINCRBY', key, field, more)
  end
  return sum
end
local function append(key, most, field, value)
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', most, '*', field, value)
  if type(added) ~= 'table' or not added.err then return added end
  if string.find(added.err, 'exhausted') or string.find(added.err, 'smaller') then
    aside(key, 'takes no more entries')
  end
  return redis.call('XADD', key, 'MAXLEN', '~', most, '*', field, value)
end
local function begin(key, most_ms)
  local left = redis.call('PTTL', key)
  if left == -1 or left > tonumber(most_ms) then
    redis.call('DEL', key)
    replaced(key, 'had no end: removed')
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
