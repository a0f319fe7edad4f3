"""Bounded reads of members of lists and sorted sets, and of fields of hashes, whatever their size.

Redis has no command for the length of a member: it has to be read. Scripts therefore read members one by one, truncate
long ones on the server, and stop at a number of bytes (`lua/members.lua`). Without scripts, members are read one at a
time, unless the whole key is small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from ..model import Job, QueueRef, State
from ..sources.source import Argument, Command, Reply, Source
from .lua_reads import Scripts, read_scripts

# The bytes that one script call reads; it stops after the member that reaches this number.
CALL_BYTES = 1024 * 1024
# The bytes of members that a page reads on the server, over all its calls, and the bytes that it receives.
PAGE_READ_BYTES, PAGE_BYTES = 256 * 1024 * 1024, 32 * 1024 * 1024
# Without scripts whole members are transferred: at most this many bytes, and this many members of a key that is large.
PLAIN_BYTES, PLAIN_MEMBERS = 8 * 1024 * 1024, 200
# Keys up to this size are read in one piece. The size is only measured up to this many members: that takes some ms.
SMALL_KEY_BYTES, COUNTED_MEMBERS = 32 * 1024 * 1024, 100_000
# The field names of a hash are only read if it has at most this many.
NAMED_FIELDS = 10_000
# For members longer than this, only the two ends are hashed.
STAMPED_WHOLE = 64 * 1024
UNREAD = "not read: the entries before it on this page are too large"


def shared_script(name: str | None = None) -> str:
    """Return the functions shared by the scripts of all libraries, followed by the script `name` in `lua/` if given."""
    return read_scripts(__package__, "members", *((name,) if name else ()))


def stamp_of(raw: bytes) -> str:
    """Return what identifies a member: a digest of its bytes, or of its two ends plus its length if it is long."""
    if len(raw) <= STAMPED_WHOLE:
        return hashlib.sha1(raw, usedforsecurity=False).hexdigest()[:20]
    ends = raw[: STAMPED_WHOLE // 2] + raw[-(STAMPED_WHOLE // 2) :]
    return f"{hashlib.sha1(ends, usedforsecurity=False).hexdigest()[:20]}-{len(raw)}"


class ListRange(NamedTuple):
    """The part of a list or set that was read: its size (or an error instead), rows, and the index after the last."""

    size: Reply
    rows: list[Any]
    reached: int


def read_stretch(ask: Callable[[int], Reply], first: int, stop: int, width: int) -> ListRange:
    """Return the rows with index `first` <= n < `stop`, `width` values each; fewer if a limit of the page is reached.

    `ask(index)` runs a script that starts at `index`, and returns [size, values, index reached, bytes read] or an
    error. Cost: 1 round trip per CALL_BYTES.
    """
    size: Reply = 0
    rows: list[Any] = []
    at, read, received = first, 0, 0
    while True:
        reply = ask(at)
        if not isinstance(reply, list):
            return ListRange(reply, rows, at)
        size, values, reached, some = reply
        if not isinstance(size, int):
            return ListRange(size, rows, at)
        rows += zip(*[iter(values)] * width, strict=True)
        read += some
        received += sum(len(value) for value in values if isinstance(value, bytes))
        stop = min(stop, size)
        if reached <= at or reached >= stop or read >= PAGE_READ_BYTES or received >= PAGE_BYTES:
            return ListRange(size, rows, max(at, min(reached, stop)))
        at = reached


def unread_rows(ref: QueueRef, state: State, native: str, first: int, stop: int) -> tuple[Job, ...]:
    """Return a placeholder for each row of a page that was not read, so that the others keep their positions.

    No action is possible on it.
    """
    return tuple(
        Job(
            id=f"unread-{place}",
            source=ref.source,
            backend=ref.backend,
            queue=ref.name,
            state=state,
            native_state=native,
            problem=UNREAD,
        )
        for place in range(first, stop)
    )


class ListMember(NamedTuple):
    """A member of a list or set, with its index, and its score in a set."""

    place: int
    raw: bytes
    score: bytes | None = None


def read_plainly(
    source: Source, key: Argument, kind: str, first: int, stop: int, *, backwards: bool = False
) -> Iterator[ListMember]:
    """Yield the members with index `first` <= n < `stop`, without scripts; fewer if PLAIN_BYTES are reached.

    Indexes count as in `each_member`. Cost: 2 round trips for a key of at most SMALL_KEY_BYTES whose size may be
    measured; otherwise one per member, at most PLAIN_MEMBERS.
    """
    size, memory = source.run_batch(_size_commands(key, kind))
    stop = min(stop, size) if isinstance(size, int) else 0
    small = _is_small(size, memory)
    step = max(1, stop - first) if small else 1
    read = 0
    for at in range(first, stop if small else min(stop, first + PLAIN_MEMBERS), step):
        reply = source.run_batch([_range_command(key, kind, at, min(stop, at + step), backwards=backwards)])[0]
        if not isinstance(reply, list):
            return
        if kind == "list":
            found = [ListMember(at + n, raw) for n, raw in enumerate(reversed(reply))]
        else:
            found = [ListMember(at + n, *pair) for n, pair in enumerate(zip(reply[::2], reply[1::2], strict=True))]
        yield from found
        read += sum(len(member.raw) for member in found)
        if read >= PLAIN_BYTES:
            return


def first_members(source: Source, lists: Sequence[Argument]) -> list[bytes | None]:
    """Return the next member to be served of each list, without scripts; None for an empty list, or once PLAIN_BYTES
    were reached. Cost: 2 round trips, plus one for each list that is larger than SMALL_KEY_BYTES or may not be
    measured.
    """
    replies = source.run_batch([command for key in lists for command in _size_commands(key, "list")])
    found: list[bytes | None] = [None] * len(lists)
    small: list[int] = []
    large: list[int] = []
    left = SMALL_KEY_BYTES
    for n, (size, memory) in enumerate(zip(replies[::2], replies[1::2], strict=True)):
        if isinstance(size, int) and size > 0:
            fits = _is_small(size, memory) and memory <= left
            left -= memory if fits else 0
            (small if fits else large).append(n)
    left = PLAIN_BYTES
    for group in (small, *([n] for n in large)):
        if left <= 0:
            break
        for n, raw in zip(group, source.run_batch([("LINDEX", lists[n], -1) for n in group]), strict=True):
            found[n] = raw if isinstance(raw, bytes) else None
            left -= len(found[n] or b"")
    return found


def ends_of_keys(source: Source, wanted: Sequence[tuple[Argument, Command]], room: int) -> list[Reply]:
    """Return the replies to commands that each read one member of a key; None once `room` bytes were reached.

    Cost: 2 round trips, plus one for each key that is larger than `room` or may not be measured.
    """
    keys = list(dict.fromkeys(key for key, _ in wanted))
    memory = source.run_batch([("MEMORY", "USAGE", key, "SAMPLES", COUNTED_MEMBERS) for key in keys])
    small: set[Argument] = set()
    left = room
    for key, size in zip(keys, memory, strict=True):
        # A key with more members than are measured either exceeds `room` anyway, or its members are short.
        if size is None or (isinstance(size, int) and size <= left):
            small.add(key)
            left -= size or 0
    found: list[Reply] = [None] * len(wanted)
    groups = [[n for n, (key, _) in enumerate(wanted) if key in small]]
    groups += [[n] for n, (key, _) in enumerate(wanted) if key not in small]
    read = 0
    for group in groups:
        if read > room:
            break
        for n, reply in zip(group, source.run_batch([wanted[n][1] for n in group]), strict=True):
            found[n] = reply
            raw = reply[0] if isinstance(reply, list) and reply else reply
            read += len(raw) if isinstance(raw, bytes) else 0
    return found


def _size_commands(key: Argument, kind: str) -> tuple[Command, Command]:
    return ("LLEN" if kind == "list" else "ZCARD", key), ("MEMORY", "USAGE", key, "SAMPLES", COUNTED_MEMBERS)


def _is_small(size: Reply, memory: Reply) -> bool:
    """Whether a key can be read in one piece."""
    return isinstance(size, int) and size <= COUNTED_MEMBERS and isinstance(memory, int) and memory <= SMALL_KEY_BYTES


def _range_command(key: Argument, kind: str, first: int, stop: int, *, backwards: bool) -> Command:
    if kind == "list":
        return "LRANGE", key, -stop, -first - 1
    return "ZREVRANGE" if backwards else "ZRANGE", key, first, stop - 1, "WITHSCORES"


def short_fields(
    source: Source,
    wanted: Sequence[tuple[Argument, Argument]],
    longest: int,
    room: int = PAGE_BYTES,
    scripts: Scripts | None = None,
) -> list[Reply]:
    """Return the values of (hash key, field), in order: None for a field that is missing, longer than `longest`, or
    does not fit into `room`; an error in place of a value that could not be read.

    Cost: 2 round trips; 1 with `scripts`, where errors are None.
    """
    if scripts is not None and wanted:
        arguments = [part for pair in wanted for part in pair]
        answered = scripts.run(shared_script("fields"), [(longest, room, *arguments)])
        if answered is not None and isinstance(answered[0][0], list):
            return list(answered[0][0])
    lengths = source.run_batch([("HSTRLEN", key, field) for key, field in wanted])
    found: list[Reply] = [length if isinstance(length, ResponseError) else None for length in lengths]
    asked: list[int] = []
    for n, length in enumerate(lengths):
        if isinstance(length, int) and 0 < length <= min(longest, room):
            asked.append(n)
            room -= length
    for n, value in zip(asked, source.run_batch([("HGET", *wanted[n]) for n in asked]), strict=True):
        found[n] = value
    return found


def short_hashes(
    source: Source, hashes: Sequence[Argument], most: int, longest: int, scripts: Scripts | None = None
) -> list[Reply]:
    """Return [field, value, ...] per hash, at most `most` fields of each, without values longer than `longest`; an
    error in place of a hash that could not be read. Cost: 4 round trips; 1 with `scripts`.
    """
    if scripts is not None and hashes:
        call = (most, longest, PAGE_BYTES, NAMED_FIELDS, *hashes)
        answered = scripts.run(shared_script("hashes"), [call])
        if answered is not None and isinstance(answered[0][0], list):
            return list(answered[0][0])
    sizes = source.run_batch([("HLEN", key) for key in hashes])
    found: list[Reply] = [size if isinstance(size, ResponseError) else [] for size in sizes]
    filled = [n for n, size in enumerate(sizes) if isinstance(size, int) and 0 < size <= NAMED_FIELDS]
    names = source.run_batch([("HKEYS", hashes[n]) for n in filled])
    asked = [
        (n, name)
        for n, reply in zip(filled, names, strict=True)
        for name in (reply[:most] if isinstance(reply, list) else ())
    ]
    values = short_fields(source, [(hashes[n], name) for n, name in asked], longest)
    for (n, name), value in zip(asked, values, strict=True):
        if isinstance(value, bytes):
            found[n] += [name, value]
    return found
