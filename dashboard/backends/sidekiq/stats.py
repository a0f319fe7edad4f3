"""The stats of many queues, and of the sets that all queues of a namespace share, in one round trip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from ...model import Counts, NativeCount, QueueRef, QueueStats, State
from ...sources.source import Reply, Source, text
from ..lua_reads import Scripts
from ..payloads.decoding import loads_dict, names_in, text_or_none
from ..unreadable_data import describe_error
from . import keys, without_lua
from .job_decoding import MILLISECONDS
from .processes import NamespaceProcesses, read_all

QUEUES_PER_CALL = 40
# How many more calls read the next jobs of queues for which very long jobs left no room; the age of others is unknown.
HEAD_CALLS = 8
SEE_ALL = "scheduled, retrying and dead jobs are stored for all queues together"


class NamespaceFigures(NamedTuple):
    """What the live processes of a namespace report about its queues."""

    running: Counter[str]
    listeners: Counter[str]
    paused: frozenset[str] | None  # None: cannot be read
    version: str | None
    concurrency: int
    processes: int
    whole: bool = True  # no process is missing
    doubt: bool = False  # more jobs may be running than are counted
    why: str | None = None  # why nothing is known about the processes


class SeenQueue(NamedTuple):
    """One queue as of the last sample: what was read, and the stats built from it."""

    reported: tuple[Any, ...]
    queue: QueueStats  # its latency is that of the sample in which it was built
    since: float | None  # when its oldest waiting job was enqueued, if there is one


def read_stats(
    source: Source, scripts: Scripts, refs: Sequence[QueueRef], seen: dict[str, SeenQueue] | None = None
) -> list[QueueStats]:
    """The stats of `refs`, in their order. `seen`: what earlier samples stored, by key; this call updates it.

    Cost: 1 round trip with scripts, at most HEAD_CALLS more if the jobs that are next are very long; without scripts as
    `without_lua.read_stats_replies`.
    """
    groups = list(_queue_groups(refs))
    # What all queues of a namespace share is read once, with the first of them.
    firsts = {namespace: n for n, (namespace, _) in reversed(list(enumerate(groups)))}
    calls = [
        (namespace, "1" if firsts[namespace] == n else "0", *(name for _, name in queues))
        for n, (namespace, queues) in enumerate(groups)
    ]
    answered = scripts.run(keys.load_script("stats"), calls)
    replies = answered[0] if answered is not None else without_lua.read_stats_replies(source, calls)
    if answered is not None:
        _read_further_heads(scripts, calls, replies)
    found: dict[int, QueueStats] = {}
    now = source.now_s()
    seen = {} if seen is None else seen
    common = {namespace: replies[n] for namespace, n in firsts.items()}
    known = {
        namespace: _namespace_figures(read_all(scripts, "processes", namespace, reply[2]), reply[3])
        for namespace, reply in common.items()
        if not isinstance(reply, ResponseError)
    }
    for (namespace, queues), reply in zip(groups, replies, strict=True):
        shared = known.get(namespace)
        if shared is None or isinstance(reply, ResponseError):
            wrong = reply if isinstance(reply, ResponseError) else common[namespace]
            found.update((n, _broken_stats(refs[n], wrong)) for n, _ in queues)
            continue
        for (n, name), figures in zip(queues, reply[0], strict=True):
            found[n] = _stats_of_queue(refs[n], name, namespace, figures, shared, now, seen)
    for n, ref in enumerate(refs):
        if ref.shared:
            namespace = keys.location_of(ref).namespace
            shared = known.get(namespace)
            reply = common[namespace]
            found[n] = _broken_stats(ref, reply) if shared is None else _stats_of_sets(ref, reply[1], shared, now)
    return [found[n] for n in range(len(refs))]


def _read_further_heads(scripts: Scripts, calls: Sequence[Sequence[str]], replies: Sequence[Reply]) -> None:
    """Complete `replies` in which very long jobs left no room for the next jobs of other queues."""
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
        answered = scripts.run(keys.load_script("stats"), [(space, "0", *(queue for _, queue, _ in some))])
        reply: Any = answered[0][0] if answered is not None else None
        if not isinstance(reply, list):
            return
        for (*_, figures), more in zip(some, reply[0], strict=True):
            figures[:] = more


def _queue_groups(refs: Sequence[QueueRef]) -> Iterable[tuple[str, list[tuple[int, str]]]]:
    """Queues by namespace, in groups that one call of the script reads."""
    spaces: dict[str, list[tuple[int, str]]] = {}
    for n, ref in enumerate(refs):
        place = keys.location_of(ref)
        queues = spaces.setdefault(place.namespace, [])
        if place.queue is not None:
            queues.append((n, place.queue))
    for namespace, queues in spaces.items():
        for start in range(0, max(1, len(queues)), QUEUES_PER_CALL):
            yield namespace, queues[start : start + QUEUES_PER_CALL]


def _namespace_figures(found: NamespaceProcesses, paused: Reply) -> NamespaceFigures:
    running: Counter[str] = Counter()
    listeners: Counter[str] = Counter()
    version, concurrency, alive = None, 0, 0
    whole, doubt = found.whole, not found.whole
    for info, own_concurrency, queues in found.rows:
        if isinstance(info, ResponseError):
            whole, doubt = False, True
        if not isinstance(info, bytes):
            continue
        alive += 1
        doubt = doubt or queues is None
        known = loads_dict(info)
        names = known.get("queues")
        listeners.update(set(names_in(names)) if isinstance(names, list) else ())
        running.update(text(queue) for queue in queues or ())
        version = version or text_or_none(known.get("version"), 100)
        threads = text(own_concurrency) if isinstance(own_concurrency, bytes) else str(known.get("concurrency", ""))
        concurrency += int(threads) if threads.isascii() and threads.isdigit() and len(threads) < 7 else 0
    names_paused = frozenset(text(name) for name in paused) if isinstance(paused, list) else None
    return NamespaceFigures(
        running, listeners, names_paused, version, concurrency, alive, whole=whole, doubt=doubt, why=found.why
    )


def _stats_of_queue(
    ref: QueueRef,
    name: str,
    namespace: str,
    figures: Sequence[Reply],
    shared: NamespaceFigures,
    now: float,
    seen: dict[str, SeenQueue],
) -> QueueStats:
    """The stats of one queue: rebuilt if what was read changed, else the previous ones with their latency as of now."""
    active = None if shared.why else shared.running.get(name, 0)
    workers = shared.listeners.get(name, 0) if shared.whole else None
    paused = None if shared.paused is None else name in shared.paused
    reported = (ref, figures, active, workers, paused, shared.version, shared.doubt)
    before = seen.get(ref.key)
    if before is None or before.reported != reported:
        before = seen[ref.key] = _remember_reply(reported, namespace)
    if before.since is None:
        return before.queue
    return msgspec.structs.replace(before.queue, latency_s=max(0.0, now - before.since))


def _remember_reply(reported: tuple[Any, ...], namespace: str) -> SeenQueue:
    ref, (size, enqueued_at, _), active, workers, paused, version, doubt = reported
    waiting = size if isinstance(size, int) else None
    queue = QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        prefix=namespace or None,
        library_version=version,
        paused=paused,
        counts=Counts(waiting=waiting, active=active),
        native=(
            NativeCount(native=keys.NATIVE[State.WAITING], state=State.WAITING, count=waiting),
            NativeCount(native=keys.NATIVE[State.ACTIVE], state=State.ACTIVE, count=active),
        ),
        depth=waiting,
        latency_s=0.0 if waiting == 0 else None,
        workers=workers,
        at_least=(State.ACTIVE,) if doubt and active is not None else (),
        notes=(SEE_ALL,),
        error=describe_error(size) if isinstance(size, ResponseError) else None,
    )
    return SeenQueue(reported, queue, None if waiting == 0 else _waits_since(enqueued_at))


def _stats_of_sets(ref: QueueRef, sets: Sequence[Reply], shared: NamespaceFigures, now: float) -> QueueStats:
    *sizes, schedule, retry = sets
    counted = dict(zip(keys.SETS, (size if isinstance(size, int) else None for size in sizes), strict=True))
    due = [at for at in (_parse_seconds(schedule), _parse_seconds(retry)) if at is not None]
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        shared=True,
        prefix=keys.location_of(ref).namespace or None,
        library_version=shared.version,
        counts=Counts(scheduled=counted[State.SCHEDULED], retrying=counted[State.RETRYING], dead=counted[State.DEAD]),
        native=tuple(
            NativeCount(native=keys.NATIVE[state], state=state, count=count) for state, count in counted.items()
        ),
        overdue_s=max(0.0, now - min(due)) if due else 0.0,
        workers=shared.processes if shared.whole else None,
        notes=() if shared.why else (_processes_note(shared),),
        error=next((describe_error(size) for size in sizes if isinstance(size, ResponseError)), shared.why),
    )


def _processes_note(shared: NamespaceFigures) -> str:
    noun = "process" if shared.processes == 1 and shared.whole else "processes"
    return f"{'' if shared.whole else 'at least '}{shared.processes} {noun}, {shared.concurrency} threads"


def _waits_since(enqueued_at: Reply) -> float | None:
    at = _parse_seconds(enqueued_at)
    return None if at is None else at / 1000 if at > MILLISECONDS else at


def _parse_seconds(raw: Reply) -> float | None:
    if not isinstance(raw, bytes):
        return None
    try:
        found = float(raw)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _broken_stats(ref: QueueRef, reply: ResponseError) -> QueueStats:
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        shared=ref.shared,
        error=describe_error(reply),
    )
