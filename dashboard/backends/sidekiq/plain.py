"""The answers of the scripts in `lua/` by plain commands, for a user without scripts: the same shapes, more commands.

Payloads come whole, however long they are; only the number of them is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboard.backends.payload import loads_dict
from dashboard.backends.sidekiq.entry import jid_of
from dashboard.sources import Command, Reply, Source

PROCESS_FIELDS = ("info", "concurrency", "busy", "beat", "quiet", "rss", "rtt_us")
SOME = ("COUNT", 1000)
NAMELESS_AT = 1000  # entries without an id are told apart by the caller, so far from the end


def stats(source: Source, calls: Sequence[Sequence[str]]) -> list[Reply]:
    """As `stats.lua`, for each call. Cost: 2 round trips."""
    commands: list[Command] = []
    for namespace, _, *queues in calls:
        commands += [("SSCAN", f"{namespace}processes", 0, *SOME), ("SSCAN", f"{namespace}paused", 0, *SOME)]
        commands += [
            (name, f"{namespace}{key}") for name, key in (("ZCARD", "schedule"), ("ZCARD", "retry"), ("ZCARD", "dead"))
        ]
        commands += [("ZRANGE", f"{namespace}{key}", 0, 0, "WITHSCORES") for key in ("schedule", "retry")]
        commands += [("LLEN", f"{namespace}queue:{name}") for name in queues]
        commands += [("LINDEX", f"{namespace}queue:{name}", -1) for name in queues]
    replies = iter(source.batch(commands))
    firsts = []
    for namespace, _, *queues in calls:
        head = [next(replies) for _ in range(7)]
        firsts.append((namespace, head, [next(replies) for _ in queues], [next(replies) for _ in queues]))
    processes = _processes(source, [(namespace, _scanned(head[0])) for namespace, head, _, _ in firsts])
    answers: list[Reply] = []
    for namespace, (_, paused, *sets), sizes, heads in firsts:
        earliest = [reply[1] if isinstance(reply, list) and reply else None for reply in sets[3:]]
        answers.append(
            [
                [[size, _enqueued_at(head)] for size, head in zip(sizes, heads, strict=True)],
                [*sets[:3], *earliest],
                [
                    [fields[0], fields[1], [_queue_of(work) for work in running[1::2]]]
                    for _, fields, running in processes.get(namespace, ())
                    if fields
                ],
                _scanned(paused),
            ]
        )
    return answers


def page(source: Source, key: str, kind: str, offset: int, rows: int, *, backwards: bool) -> Reply:
    """As `page.lua`. Cost: 2 round trips."""
    size = source.batch([("LLEN" if kind == "list" else "ZCARD", key)])[0]
    if not isinstance(size, int) or offset >= size:
        return [size, []]
    last = min(size, offset + rows) - 1
    if kind == "list":
        found = source.execute("LRANGE", key, -last - 1, -offset - 1)
        return [size, [part for raw in reversed(found) for part in (raw, len(raw), None, None)]]
    found = source.execute("ZREVRANGE" if backwards else "ZRANGE", key, offset, last, "WITHSCORES")
    return [size, [part for n in range(0, len(found), 2) for part in (found[n], len(found[n]), found[n + 1], None)]]


def find(
    source: Source, namespace: str, queue: str, job_id: str, score: str, most: int, after: int, *, sets: bool
) -> Reply:
    """As `find.lua`. Cost: 1 round trip."""
    names = ("dead", "retry", "schedule") if sets else ()
    in_list = bool(queue) and not score
    commands: list[Command] = [
        ("ZRANGEBYSCORE", f"{namespace}{name}", score, score, "LIMIT", 0, most)
        if score
        else ("ZREVRANGE", f"{namespace}{name}", after, after + most - 1, "WITHSCORES")
        for name in names
    ]
    commands += [("ZCARD", f"{namespace}{name}") for name in names]
    if in_list:
        key = f"{namespace}queue:{queue}"
        commands += [("LRANGE", key, -after - most, -after - 1), ("LLEN", key)]
    wanted = job_id.encode("utf-8", "surrogateescape")
    replies = [*source.batch(commands), *([] if in_list else [[], 0])]
    in_sets, (*sizes, listed, length) = replies[: len(names)], replies[len(names) :]
    found: list[Reply] = []
    if isinstance(listed, list):
        places = [n for n, raw in enumerate(reversed(listed)) if wanted in raw and _may_be(raw, job_id)]
        found += [
            [f"queue:{queue}".encode(), raw, len(raw), None, after + n, None]
            for n in places[: 1 if wanted else NAMELESS_AT]
            for raw in [listed[-1 - n]]
        ]
    for name, members in zip(names, in_sets, strict=True):
        if not isinstance(members, list):
            continue
        scored = (
            [(raw, score.encode()) for raw in members] if score else list(zip(members[::2], members[1::2], strict=True))
        )
        found += [[name.encode(), raw, len(raw), at, None, None] for raw, at in scored if wanted in raw]
    return [found, max((size for size in (*sizes, length) if isinstance(size, int)), default=0)]


def _may_be(raw: bytes, job_id: str) -> bool:
    """Whether an entry in which an id stands is that job, and no other that names it in its arguments."""
    known = jid_of(raw)
    return not job_id or known is None or known["jid"] == job_id


def work(source: Source, namespace: str) -> Reply:
    """As `work.lua`. Cost: 2 round trips."""
    identities = _scanned(source.batch([("SSCAN", f"{namespace}processes", 0, *SOME)])[0])
    return _processes(source, [(namespace, identities)]).get(namespace, [])


def _processes(source: Source, spaces: Sequence[tuple[str, list[bytes]]]) -> dict[str, list[list[Any]]]:
    commands: list[Command] = []
    for namespace, identities in spaces:
        for identity in identities:
            key = namespace.encode("utf-8", "surrogateescape") + identity
            commands += [("HMGET", key, *PROCESS_FIELDS), ("HGETALL", key + b":work"), ("HGETALL", key + b":workers")]
    replies = iter(source.batch(commands))
    found: dict[str, list[list[Any]]] = {}
    for namespace, identities in spaces:
        for identity in identities:
            fields, newer, older = next(replies), next(replies), next(replies)
            alive = isinstance(fields, list) and fields[0] is not None
            running = next((reply for reply in (newer, older) if isinstance(reply, list) and reply), [])
            found.setdefault(namespace, []).append([identity, fields if alive else None, running])
    return found


def _scanned(reply: Reply) -> list[bytes]:
    return list(reply[1]) if isinstance(reply, list) else []


def _enqueued_at(head: Reply) -> bytes | None:
    payload = loads_dict(head if isinstance(head, bytes) else None)
    at = payload.get("enqueued_at") or payload.get("created_at")
    return repr(at).encode() if isinstance(at, int | float) else None


def _queue_of(work_: bytes) -> bytes:
    queue = loads_dict(work_).get("queue")
    return queue.encode("utf-8", "replace") if isinstance(queue, str) else b""
