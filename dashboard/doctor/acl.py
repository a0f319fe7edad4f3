"""The Redis users that Queuedeck needs, as `ACL SETUSER` commands: to read, to store its own data, to act on jobs.

The commands that actions need are extracted from the scripts and modules that run them, so the list is always up to
date. The keys and channels that they change come from each library's backend.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from redis.exceptions import ResponseError

from .. import backends
from ..backends.base import Backend
from ..errors import Forbidden, Unsupported
from ..model import QueueRef
from ..sources.info import info_fields
from ..sources.source import Source
from ..store.redis_store import PREFIX, WRITES

Version = tuple[int, ...]

NAME: Final = "queuedeck"
_READING: Final = (
    *("-@all", "+@read", "-@dangerous", "+ping", "+hello", "+auth", "+select", "+info", "+role", "+time", "+dbsize"),
    *("+client|setname", "+client|id", "+client|list"),
)
_LOOKING: Final = ("+latency|latest", "+memory|usage", "+slowlog|get", "+slowlog|len")
# Commands that change something and that any of our scripts may contain; commands that only read are in @read.
_WRITING = """brpop brpoplpush copy decr decrby del expire expireat getdel getex getset hdel hincrby hmset hset hsetnx
    incr incrby linsert lmove lpop lpush lpushx lrem lset ltrim mset persist pexpire pexpireat psetex rename renamenx
    restore rpop rpoplpush rpush rpushx sadd set setex setnx setrange smove spop srem unlink xadd xdel xtrim zadd
    zincrby zpopmax zpopmin zrem zremrangebylex zremrangebyrank zremrangebyscore"""
WRITING: Final = frozenset(_WRITING.split())
OTHERS: Final = frozenset({"eval", "publish", "multi", "exec", "watch", "unwatch", "discard"})
_NUMBER = re.compile(r"\d{1,6}")
_IN_LUA = re.compile(r"'([A-Z]{3,20})'")
_IN_PYTHON = re.compile(r"""\(\s{0,40}"([A-Z]{3,20})",""")
# ARGV: number of keys, one key per pattern, channels, "", commands. Returns {the refused commands, the numbers of the
# key and channel patterns without access, keys first}. It accesses no key.
_MAY_ACT: Final = """
local refused, closed, many, at = {}, {}, tonumber(ARGV[1]), 2
local function may(...) -- false if the command was renamed or disabled
  local known, allowed = pcall(redis.acl_check_cmd, ...)
  return known and allowed
end
while ARGV[at] ~= '' do
  local allowed
  if at - 1 <= many then allowed = may('SET', ARGV[at], '')
  else allowed = may('PUBLISH', ARGV[at], '') end
  if not allowed then closed[#closed + 1] = at - 1 end
  at = at + 1
end
local key, channel = ARGV[2], ARGV[many + 2]
local bare = {multi = true, exec = true, unwatch = true, discard = true}
for n = at + 1, #ARGV do
  local name = ARGV[n]
  local allowed
  if bare[name] then allowed = may(name)
  elseif name == 'eval' then allowed = may(name, '', '0')
  elseif name == 'publish' then allowed = may(name, channel, '')
  else allowed = may(name, key, key, key, key) end
  if not allowed then refused[#refused + 1] = name end
end
return {refused, closed}
"""


def parse_version(text: str | None) -> Version:
    """Return the numbers of a version; (7, 0) if it is unknown."""
    numbers = _NUMBER.findall(text or "")
    return tuple(map(int, numbers[:2])) or (7, 0)


def read_version(source: Source) -> Version:
    """Return the server version; for Valkey, the compatible Redis version. Raises BackendUnavailable. 1 round trip."""
    reply = source.run_batch([("INFO", "server")])[0]
    return parse_version(info_fields(reply).get("redis_version") if isinstance(reply, bytes) else None)


def reading_line(version: Version = (7, 0), *, is_cluster: bool = False) -> str:
    """Return the command for a user that can read everything and change nothing."""
    return _user_line(_all_keys(version), (), version, is_cluster=is_cluster)


def publishing_line(version: Version = (7, 0), prefix: str = PREFIX, *, is_cluster: bool = False) -> str:
    """Return the command for a user that also stores Queuedeck's own data, on a monitored server."""
    own = (f"~{prefix}:*",) if version >= (7, 0) else ()  # Redis 6 refuses patterns after ~*, which includes them
    return _user_line((*_all_keys(version), *own), own_commands(), version, is_cluster=is_cluster)


def store_line(version: Version = (7, 0), prefix: str = PREFIX, *, is_cluster: bool = False) -> str:
    """Return the command for a user that stores Queuedeck's own data on a dedicated Redis, at `store_url`."""
    return _user_line((f"~{prefix}:*",), own_commands(), version, is_cluster=is_cluster)


def acting_line(backend: Backend, refs: Sequence[QueueRef], version: Version = (7, 0)) -> str:
    """Return the command that lets an existing user also act on a library; earlier grants stay."""
    keys = (
        []
        if version < (7, 0)
        else [f"~{pattern}" for pattern in (*backend.changed_keys(refs), f"{backend.source.prefix}:*")]
    )
    channels = [] if version < (6, 2) else [f"&{pattern}" for pattern in backend.changed_channels(refs)]
    return " ".join(
        [
            "ACL SETUSER",
            NAME,
            *keys,
            *channels,
            *(f"+{name}" for name in acting_commands(_package_of(backend))),
        ]
    )


def subscribe_grants(backend: Backend) -> str | None:
    """Return the command that lets the user receive a library's events; None if there are none to receive."""
    hearing = backend.event_access()
    if hearing is None:
        return None
    return " ".join(["ACL SETUSER", NAME, "+psubscribe", *(f"&{channel}" for channel in hearing.channels)])


def missing_grants(backend: Backend, refs: Sequence[QueueRef]) -> tuple[str, ...]:
    """Return the parts of `acting_line` that this user has not been granted; () if it can act.

    Raises Unsupported if the server cannot report this (Redis before 7), BackendUnavailable. Cost: 2 round trips.
    """
    source = backend.source
    version = read_version(source)
    if version < (7, 0):
        raise Unsupported(f"Redis {'.'.join(map(str, version))} cannot report what a user may change.")
    names = acting_commands(_package_of(backend))
    patterns = [f"~{pattern}" for pattern in backend.changed_keys(refs)]
    patterns += [f"&{pattern}" for pattern in backend.changed_channels(refs)]
    # A pattern without its wildcards is a name that matches it.
    samples = [pattern[1:].replace("*", "x").replace("[0-9]", "1") for pattern in patterns]
    many = sum(pattern[0] == "~" for pattern in patterns)
    try:
        refused, closed = source.execute("EVAL", _MAY_ACT, 0, many, *samples, "", *names)
    except Forbidden:
        return (*patterns, *(f"+{name}" for name in names))  # without scripts it can neither be checked nor act
    except ResponseError as exc:
        raise source.refusal_error(exc) from exc
    return (*(patterns[number - 1] for number in closed), *(f"+{name.decode()}" for name in refused))


def own_commands() -> tuple[str, ...]:
    """Return the commands that store our own data, in the order of WRITES."""
    return ("eval", *dict.fromkeys(name.lower() for name, _ in sorted(WRITES, key=lambda each: each[0] == "DEL")))


def _package_of(backend: Backend) -> str:
    return type(backend).__module__.rpartition(".")[0]


@cache
def acting_commands(package: str) -> tuple[str, ...]:
    """Return the commands, besides reads, that actions on a library need, in alphabetical order.

    `package` is the one that contains its backend.
    """
    found: set[str] = {"eval"}
    for name, text in _source_files(package):
        words = _IN_LUA.findall(text) if name.endswith(".lua") else _IN_PYTHON.findall(text)
        found.update(word.lower() for word in words)
    return tuple(sorted(found & (WRITING | OTHERS)))


def _source_files(package: str) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of the source files of a library's backend, and of the Lua functions that all share."""
    folders = [files(backends) / "lua", files(package)]
    while folders:
        for file in folders.pop().iterdir():
            if file.is_dir():
                folders.append(file)
            elif file.name.endswith((".lua", ".py")):
                yield file.name, file.read_text("utf-8")


def _all_keys(version: Version) -> tuple[str, ...]:
    return ("%R~*",) if version >= (7, 0) else ("~*",)


def _user_line(keys: Iterable[str], commands: Iterable[str], version: Version, *, is_cluster: bool) -> str:
    words = ["ACL SETUSER", NAME, "on", ">PASSWORD", "resetkeys", *keys]
    words += ["resetchannels"] if version >= (6, 2) else []
    words += _READING
    words += ["+client|setinfo"] if version >= (7, 2) else []
    words += ["+eval_ro"] if version >= (7, 0) else []
    words += ["+cluster|slots"] if is_cluster else []
    return " ".join([*words, *(f"+{name}" for name in commands), *_LOOKING])
