"""The replies of the scripts in `lua/`, read with plain commands for Redis users that are not allowed to run scripts.

The replies have the same shape but take more commands. Payloads are read whole; `bounded_reads.py` states how many
bytes of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from ...sources.source import Command, Reply, Source
from ..bounded_reads import PAGE_READ_BYTES, ListMember, first_members, read_plainly, short_fields, stamp_of
from ..payloads.decoding import DECODE_LIMIT_BYTES, loads_dict
from .job_decoding import enqueued_at, jid_of

PROCESS_FIELDS = ("info", "concurrency", "busy", "beat", "quiet", "rss", "rtt_us")
SOME = ("COUNT", 2100)
MOST_MEMBERS = 2000
WORK_BYTES = 1024 * 1024  # a longer field of a process is not read
BEGINNING = 1024  # how much is shown of an entry that is too long to be decoded
MOST_THREADS = 1000


def read_stats_replies(source: Source, calls: Sequence[Sequence[str]]) -> list[Reply]:
    """As `stats.lua`, for each call. Cost: 5 round trips, and those of `first_members` for each."""
    commands: list[Command] = []
    for namespace, wanted, *queues in calls:
        if wanted == "1":
            commands += [("SCARD", f"{namespace}processes"), ("SSCAN", f"{namespace}processes", 0, *SOME)]
            commands += [("SSCAN", f"{namespace}paused", 0, *SOME)]
            commands += [("ZCARD", f"{namespace}{key}") for key in ("schedule", "retry", "dead")]
            commands += [("ZRANGE", f"{namespace}{key}", 0, 0, "WITHSCORES") for key in ("schedule", "retry")]
        commands += [("LLEN", f"{namespace}queue:{name}") for name in queues]
    replies = iter(source.run_batch(commands))
    firsts = []
    for namespace, wanted, *queues in calls:
        head = [next(replies) for _ in range(8)] if wanted == "1" else [None] * 8
        firsts.append(
            (
                namespace,
                head,
                [next(replies) for _ in queues],
                first_members(source, [f"{namespace}queue:{name}" for name in queues]),
            )
        )
    processes = _read_processes(source, [(namespace, _scanned_members(head[1])) for namespace, head, _, _ in firsts])
    answers: list[Reply] = []
    for namespace, (count, identities, paused, *sets), sizes, heads in firsts:
        # What all queues share is ignored for a call that did not ask for it.
        earliest = [reply[1] if isinstance(reply, list) and reply else None for reply in sets[3:]]
        answers.append(
            [
                [[size, _enqueued_at(head), None] for size, head in zip(sizes, heads, strict=True)],
                [*sets[:3], *earliest],
                [
                    [_brief_process(*row) for row in processes.get(namespace, ())],
                    [],
                    count,
                    len(_scanned_members(identities)),
                ],
                paused if isinstance(paused, ResponseError) else _scanned_members(paused),
            ]
        )
    return answers


def read_page_reply(source: Source, key: str, kind: str, first: int, stop: int, *, backwards: bool) -> Reply:
    """As `page.lua`. Cost: as `read_plainly`, and 1 round trip."""
    size = source.run_batch([("LLEN" if kind == "list" else "ZCARD", key)])[0]
    if not isinstance(size, int):
        return [size, [], first, 0]
    found: list[Reply] = []
    reached = first
    for member in read_plainly(source, key, kind, first, stop, backwards=backwards):
        found += _cut_member(member)
        reached = member.place + 1
    return [size, found, reached, PAGE_READ_BYTES]  # no further call


def _cut_member(member: ListMember) -> list[Reply]:
    """(payload, its length, score, stamp if it was cut) of a member."""
    raw = member.raw
    if len(raw) <= DECODE_LIMIT_BYTES:
        return [raw, len(raw), member.score, None]
    return [raw[:BEGINNING], len(raw), member.score, stamp_of(raw).encode()]


def find_reply(
    source: Source, namespace: str, queue: str, job_id: str, score: str, most: int, after: int, *, sets: bool
) -> Reply:
    """As `find.lua`. Cost: 1 round trip, and those of `read_plainly` for each list and set."""
    names = ("dead", "retry", "schedule") if sets else ()
    keys_ = [f"{namespace}{name}" for name in names]
    listed = [f"{namespace}queue:{queue}"] if queue and not score else []
    counts = source.run_batch([*(("ZCARD", key) for key in keys_), *(("LLEN", key) for key in listed)])
    firsts, stops = [after] * len(names), [after + most] * len(names)
    if score:
        commands = [("ZCOUNT", key, *bounds) for key in keys_ for bounds in (("-inf", f"({score}"), (score, score))]
        replies = [reply if isinstance(reply, int) else 0 for reply in source.run_batch(commands)]
        firsts = replies[::2]
        stops = [first + min(most, count) for first, count in zip(firsts, replies[1::2], strict=True)]
    wanted = job_id.encode("utf-8", "surrogateescape")
    found: list[Reply] = []
    for key in listed:
        for member in read_plainly(source, key, "list", after, after + most):
            if _may_be(member.raw, job_id, wanted):
                raw, length, _, version = _cut_member(member)
                found.append([f"queue:{queue}".encode(), raw, length, None, member.place, version])
                break
    for name, key, first, stop in zip(names, keys_, firsts, stops, strict=True):
        for member in read_plainly(source, key, "zset", first, stop, backwards=not score):
            if _may_be(member.raw, job_id, wanted):
                raw, length, at, version = _cut_member(member)
                found.append([name.encode(), raw, length, score.encode() if score else at, None, version])
    return [found, max((size for size in counts if isinstance(size, int)), default=0), after + most, 0]


# Characters of a jid that JSON may escape, and a jid in which one is escaped.
_ESCAPABLE = re.compile(r'[\x00-\x1f"\\/<>&\x7f]')
_ESCAPED = re.compile(rb'"jid"\s*:\s*"[^"\\]*\\')


def _may_be(raw: bytes, job_id: str, wanted: bytes) -> bool:
    """Whether an entry may be that job, rather than one that names it in its arguments; without a jid by its stamp."""
    if job_id.startswith("raw") and job_id == f"raw{stamp_of(raw)}":
        return True
    if wanted not in raw and not (_ESCAPABLE.search(job_id) and _ESCAPED.search(raw)):
        return False
    known = jid_of(raw)
    return known is None or known["jid"] == job_id


def work_reply(source: Source, namespace: str) -> Reply:
    """As `work.lua`. Cost: 7 round trips."""
    count, scanned = source.run_batch(
        [("SCARD", f"{namespace}processes"), ("SSCAN", f"{namespace}processes", 0, *SOME)]
    )
    identities = _scanned_members(scanned)
    return [_read_processes(source, [(namespace, identities)]).get(namespace, []), [], count, len(identities)]


def _brief_process(_: bytes, fields: list[Any] | ResponseError | None, running: list[Any] | None) -> list[Any]:
    """A process as `brief.lua` returns it."""
    if not isinstance(fields, list):
        return [fields, None, None if fields is not None else []]
    queues = None if running is None else [_queue_of(work) for work in running[1::2]]
    return [fields[0], fields[1], queues]


def _read_processes(source: Source, spaces: Sequence[tuple[str, list[bytes]]]) -> dict[str, list[list[Any]]]:
    places = [
        (space, identity, space.encode("utf-8", "surrogateescape") + identity)
        for space, identities in spaces
        for identity in identities
    ]
    fields = iter(short_fields(source, [(key, name) for *_, key in places for name in PROCESS_FIELDS], WORK_BYTES))
    lengths = iter(source.run_batch([("HLEN", key + end) for *_, key in places for end in (b":work", b":workers")]))
    hashes: dict[bytes, bytes] = {}
    odd: set[bytes] = set()
    for *_, key in places:
        # Up to 6.4.1 the key has another name.
        for size, name in zip((next(lengths), next(lengths)), (key + b":work", key + b":workers"), strict=True):
            if isinstance(size, ResponseError) or size > MOST_THREADS:
                odd.add(key)
            elif size > 0:
                hashes.setdefault(key, name)
    threads = dict(zip(hashes, source.run_batch([("HKEYS", name) for name in hashes.values()]), strict=True))
    asked = [(key, thread) for key, names in threads.items() if isinstance(names, list) for thread in names]
    values = short_fields(source, [(hashes[key], thread) for key, thread in asked], WORK_BYTES)
    running: dict[bytes, list[Reply]] = {}
    for (key, thread), value in zip(asked, values, strict=True):
        running.setdefault(key, []).extend((thread, value if isinstance(value, bytes) else None))
    found: dict[str, list[list[Any]]] = {}
    for space, identity, key in places:
        known = [next(fields) for _ in PROCESS_FIELDS]
        record: Any = known if isinstance(known[0], bytes) else None
        if isinstance(known[0], ResponseError):
            record = known[0]
        found.setdefault(space, []).append([identity, record, None if key in odd else running.get(key, [])])
    return found


def _scanned_members(reply: Reply) -> list[bytes]:
    return list(reply[1][:MOST_MEMBERS]) if isinstance(reply, list) else []


def _enqueued_at(head: Reply) -> bytes | None:
    payload = loads_dict(head if isinstance(head, bytes) else None)
    at = enqueued_at(payload)
    return None if at is None else repr(at.timestamp()).encode()


def _queue_of(work_: bytes | None) -> bytes:
    queue = loads_dict(work_).get("queue")
    return queue.encode("utf-8", "replace") if isinstance(queue, str) else b""
