"""What is shown of a command in the slow log: its name and its key, never its other arguments. Pure.

Arguments hold payloads, passwords and scripts of the users, so only those are shown that are known to be keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MAX_NAME = 30
MAX_KEY = 128

_KEY_FIRST = """append bitcount bitfield bitop bitpos blmove blpop brpop brpoplpush bzmpop bzpopmax bzpopmin
    copy decr decrby del dump exists expire expireat expiretime geoadd geodist geohash geopos georadius
    geosearch get getbit getdel getex getrange getset hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen
    hmget hmset hrandfield hscan hset hsetnx hstrlen hvals incr incrby incrbyfloat lindex linsert llen lmove
    lpop lpos lpush lpushx lrange lrem lset ltrim mget move mset msetnx persist pexpire pexpireat pexpiretime
    pfadd pfcount pfmerge psetex pttl rename renamenx restore rpop rpoplpush rpush rpushx sadd scard sdiff
    sdiffstore set setbit setex setnx setrange sinter sinterstore sismember smembers smismember smove sort
    sort_ro spop srandmember srem sscan strlen substr sunion sunionstore touch ttl type unlink watch xack xadd
    xautoclaim xclaim xdel xlen xpending xrange xrevrange xtrim zadd zcard zcount zdiffstore zincrby zinterstore
    zlexcount zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem
    zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan
    zscore zunionstore"""
KEY_FIRST: Final = frozenset(_KEY_FIRST.split())
# With the number of keys before the first key.
COUNTED_FIRST: Final = {
    **dict.fromkeys(("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"), 2),
    **dict.fromkeys(("lmpop", "zmpop", "sintercard", "zdiff", "zinter", "zintercard", "zunion"), 1),
}
KEY_SECOND: Final = frozenset({"memory", "object", "xgroup", "xinfo"})
READ_STREAMS: Final = frozenset({"xread", "xreadgroup"})


def command_name(arguments: Sequence[bytes]) -> str:
    """The name of a command in capitals, such as "LRANGE"; with its subcommand if its key comes after that."""
    if not arguments:
        return "unknown"
    name = _word(arguments[0])
    return f"{name} {_word(arguments[1])}" if name.lower() in KEY_SECOND and len(arguments) > 1 else name


def command_key(arguments: Sequence[bytes]) -> bytes | None:
    """The first key of a command, at most MAX_KEY bytes of it; None if it has none or where it is unknown."""
    name = _word(arguments[0]).lower() if arguments else ""
    place = _key_place(name, arguments)
    return arguments[place][:MAX_KEY] if place is not None and place < len(arguments) else None


def _key_place(name: str, arguments: Sequence[bytes]) -> int | None:
    if name in KEY_FIRST:
        return 2 if name == "bitop" else 1
    if name in KEY_SECOND:
        return 2
    if name in COUNTED_FIRST:
        counted = COUNTED_FIRST[name]
        numbered = arguments[counted : counted + 1]
        return counted + 1 if numbered and numbered[0].isdigit() and int(numbered[0][:9]) > 0 else None
    if name in READ_STREAMS:
        lowered = [argument[:8].lower() for argument in arguments]
        return lowered.index(b"streams") + 1 if b"streams" in lowered else None
    return None


def _word(argument: bytes) -> str:
    """A word of a command; what no command has becomes a question mark."""
    text = argument[:MAX_NAME].decode("ascii", "replace").upper()
    return "".join(character if character.isalnum() or character in "._-|" else "?" for character in text) or "?"
