"""The figures of many queues, and of the sets that all queues of a namespace share, in one round trip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from dashboard.backends.payload import loads_dict, printable, text
from dashboard.backends.script import Scripts
from dashboard.backends.sidekiq import keys, plain
from dashboard.backends.sidekiq.entry import MILLISECONDS, words
from dashboard.model import Counts, NativeCount, QueueRef, QueueStats, State
from dashboard.sources import Reply, Source, raw_bytes

QUEUES_PER_CALL = 40
# So many more calls read the jobs that are next behind very long ones; the age of others is unknown.
HEAD_CALLS = 8
SEE_ALL = "scheduled, retried and dead jobs are kept for all queues together"


class Shared(NamedTuple):
    """What the live processes of a namespace tell of its queues."""

    running: Counter[str]
    listeners: Counter[str]
    paused: frozenset[str]
    version: str | None
    concurrency: int
    processes: int


def read(source: Source, scripts: Scripts, refs: Sequence[QueueRef]) -> list[QueueStats]:
    """The stats of `refs`, in their order.

    Cost: 1 round trip where scripts are permitted, at most HEAD_CALLS more where jobs that are next are very long; as
    `plain.stats` without.
    """
    groups = list(_groups(refs))
    calls = [(namespace, "1", *(name for _, name in queues)) for namespace, queues in groups]
    answered = scripts.run(keys.script("stats"), calls)
    replies = answered[0] if answered is not None else plain.stats(source, calls)
    if answered is not None:
        _read_further_heads(scripts, calls, replies)
    found: dict[int, QueueStats] = {}
    now = source.now_s()
    for (namespace, queues), reply in zip(groups, replies, strict=True):
        if isinstance(reply, ResponseError):
            for n, ref in enumerate(refs):
                if keys.place(ref).namespace == namespace and n not in found:
                    found[n] = _broken(ref, reply)
            continue
        lengths, sets, processes, paused = reply
        shared = _shared(processes, paused)
        for (n, _), figures in zip(queues, lengths, strict=True):
            found[n] = _queue(refs[n], figures, shared, now)
        for n, ref in enumerate(refs):
            if ref.shared and keys.place(ref).namespace == namespace:
                found[n] = _sets(ref, sets, shared, now)
    return [found[n] for n in range(len(refs))]


def _read_further_heads(scripts: Scripts, calls: Sequence[Sequence[str]], replies: Sequence[Reply]) -> None:
    """Complete `replies` where a call had no room for all jobs that are next, behind very long ones."""
    for _ in range(HEAD_CALLS):
        left = [
            (call[0], queue, figures)
            for call, reply in zip(calls, replies, strict=True)
            if isinstance(reply, list)
            for queue, figures in zip(call[2:], reply[0], strict=True)
            if figures[2]
        ]
        if not left:
            return
        space = left[0][0]
        some = [one for one in left if one[0] == space][:QUEUES_PER_CALL]
        answered = scripts.run(keys.script("stats"), [(space, "0", *(queue for _, queue, _ in some))])
        reply: Any = answered[0][0] if answered is not None else None
        if not isinstance(reply, list):
            return
        for (*_, figures), more in zip(some, reply[0], strict=True):
            figures[:] = more


def _groups(refs: Sequence[QueueRef]) -> Iterable[tuple[str, list[tuple[int, str]]]]:
    """Queues by namespace, in portions that one call of the script reads."""
    spaces: dict[str, list[tuple[int, str]]] = {}
    for n, ref in enumerate(refs):
        place = keys.place(ref)
        queues = spaces.setdefault(place.namespace, [])
        if place.queue is not None:
            queues.append((n, place.queue))
    for namespace, queues in spaces.items():
        for start in range(0, max(1, len(queues)), QUEUES_PER_CALL):
            yield namespace, queues[start : start + QUEUES_PER_CALL]


def _shared(processes: Sequence[Any], paused: Sequence[bytes]) -> Shared:
    running: Counter[str] = Counter()
    listeners: Counter[str] = Counter()
    version, concurrency = None, 0
    for info, own_concurrency, queues in processes:
        known = loads_dict(info)
        names = known.get("queues")
        listeners.update(
            {text(raw_bytes(name)) for name in names if isinstance(name, str)} if isinstance(names, list) else ()
        )
        running.update(text(queue) for queue in queues)
        version = version or words(known.get("version"), 100)
        threads = text(own_concurrency) if isinstance(own_concurrency, bytes) else str(known.get("concurrency", ""))
        concurrency += int(threads) if threads.isascii() and threads.isdigit() and len(threads) < 7 else 0
    return Shared(running, listeners, frozenset(text(name) for name in paused), version, concurrency, len(processes))


def _queue(ref: QueueRef, figures: Sequence[Reply], shared: Shared, now: float) -> QueueStats:
    place = keys.place(ref)
    assert place.queue is not None
    size, enqueued_at, _ = figures
    waiting = size if isinstance(size, int) else None
    active = shared.running[place.queue]
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        prefix=place.namespace or None,
        library_version=shared.version,
        paused=place.queue in shared.paused,
        counts=Counts(waiting=waiting, active=active),
        native=(
            NativeCount(native=keys.NATIVE[State.WAITING], state=State.WAITING, count=waiting),
            NativeCount(native=keys.NATIVE[State.ACTIVE], state=State.ACTIVE, count=active),
        ),
        depth=waiting,
        latency_s=0.0 if waiting == 0 else _age_s(enqueued_at, now),
        workers=shared.listeners[place.queue],
        notes=(SEE_ALL,),
        error=_line(size) if isinstance(size, ResponseError) else None,
    )


def _sets(ref: QueueRef, sets: Sequence[Reply], shared: Shared, now: float) -> QueueStats:
    *sizes, schedule, retry = sets
    counted = dict(zip(keys.SETS, (size if isinstance(size, int) else None for size in sizes), strict=True))
    due = [at for at in (_seconds(schedule), _seconds(retry)) if at is not None]
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        shared=True,
        prefix=keys.place(ref).namespace or None,
        library_version=shared.version,
        counts=Counts(scheduled=counted[State.SCHEDULED], retrying=counted[State.RETRYING], dead=counted[State.DEAD]),
        native=tuple(
            NativeCount(native=keys.NATIVE[state], state=state, count=count) for state, count in counted.items()
        ),
        overdue_s=max(0.0, now - min(due)) if due else 0.0,
        workers=shared.processes,
        notes=(f"{shared.processes} process{'' if shared.processes == 1 else 'es'}, {shared.concurrency} threads",),
        error=next((_line(size) for size in sizes if isinstance(size, ResponseError)), None),
    )


def _age_s(enqueued_at: Reply, now: float) -> float | None:
    at = _seconds(enqueued_at)
    return None if at is None else max(0.0, now - (at / 1000 if at > MILLISECONDS else at))


def _seconds(raw: Reply) -> float | None:
    try:
        found = float(raw) if isinstance(raw, bytes) else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _broken(ref: QueueRef, reply: ResponseError) -> QueueStats:
    return QueueStats(
        source=ref.source, backend=ref.backend, name=ref.name, key=ref.key, shared=ref.shared, error=_line(reply)
    )


def _line(reply: ResponseError) -> str:
    return "a key of this queue has the wrong type" if "WRONGTYPE" in str(reply) else printable(str(reply), 200)
