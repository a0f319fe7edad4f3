"""Figures of many queues in one round trip, and rates from the live feed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redis.exceptions import ResponseError

from dashboard.backends.celery import keys
from dashboard.backends.celery.index import KEPT, Ended, Keeper, index_key
from dashboard.backends.payload import printable
from dashboard.backends.script import Scripts
from dashboard.clock import monotonic_s
from dashboard.model import Counts, FlowDelta, NativeCount, Quality, QueueFlow, QueueRef, QueueStats, State
from dashboard.sources import Reply, Source

QUEUES_PER_CALL = 100
# More unacknowledged messages than this are counted, not looked into.
LOOK_INTO = 500
NO_AGE = "Celery stores no time of sending, so the age of a waiting job is unknown"
TOGETHER = "what workers took and what ended is kept for all queues together"
NOT_LISTENING = "rates come from Celery's result channel, to which only the sampling process listens"
GAP = "the result channel was not heard all the time"
NO_QUEUE = "results do not name their queue: set result_extended = True in the app; see the entry of all queues"


def stats(
    broker: Source, scripts: Scripts, own: Source | None, refs: Sequence[QueueRef], *, listening: bool
) -> list[QueueStats]:
    """The stats of `refs`, in their order.

    Cost: 1 round trip, 2 without scripts; 1 more where Queuedeck's own keys are on another server.
    """
    groups = list(_groups(refs))
    calls: list[tuple[str | int, ...]] = [
        (prefix, LOOK_INTO, *(name for _, name in queues)) for prefix, queues in groups
    ]
    source = refs[0].source if refs else ""
    counts = [("ZCARD", index_key(source, state)) for state in keys.ENDED]
    wanted = own is not None and any(ref.shared for ref in refs)
    together = wanted and own is broker
    answered = scripts.run(keys.script("stats"), calls, also=counts if together else ())
    replies = answered[0] if answered is not None else _plain(broker, groups)
    ended: list[Reply] = [None] * len(keys.ENDED)
    if answered is not None and together:
        ended = answered[1]
    elif own is not None and wanted:
        ended = own.batch(counts)
    found: dict[int, QueueStats] = {}
    for (prefix, queues), reply in zip(groups, replies, strict=True):
        waiting, taken = reply if isinstance(reply, list) else ([reply] * len(queues), [None] * 4)
        for (n, _), size in zip(queues, waiting, strict=True):
            found[n] = _queue(refs[n], size)
        for n, ref in enumerate(refs):
            if ref.shared and keys.place(ref).prefix == prefix:
                found[n] = _shared(ref, taken, ended, listening=listening)
    return [found[n] for n in range(len(refs))]


def _groups(refs: Sequence[QueueRef]) -> Iterable[tuple[str, list[tuple[int, str]]]]:
    prefixes: dict[str, list[tuple[int, str]]] = {}
    for n, ref in enumerate(refs):
        place = keys.place(ref)
        queues = prefixes.setdefault(place.prefix, [])
        if place.queue is not None:
            queues.append((n, place.queue))
    for prefix, queues in prefixes.items():
        for start in range(0, max(1, len(queues)), QUEUES_PER_CALL):
            yield prefix, queues[start : start + QUEUES_PER_CALL]


def _plain(broker: Source, groups: Sequence[tuple[str, list[tuple[int, str]]]]) -> list[Reply]:
    """The answers of the script by plain commands; what stands in `unacked` is counted, not told apart."""
    answers: list[Reply] = []
    for prefix, queues in groups:
        lists = [keys.Place(prefix, name).lists() for _, name in queues]
        *sizes, unacked = broker.batch(
            [*(("LLEN", key) for several in lists for key in several), ("HLEN", f"{prefix}{keys.UNACKED}")]
        )
        width = len(keys.STEPS) + 1
        waiting: list[Reply] = []
        for n in range(len(queues)):
            several = sizes[n * width : (n + 1) * width]
            bad = next((size for size in several if isinstance(size, ResponseError)), None)
            waiting.append(bad or sum(several))
        answers.append([waiting, [unacked, None, None, None]])
    return answers


def _queue(ref: QueueRef, size: Reply) -> QueueStats:
    waiting = size if isinstance(size, int) else None
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        prefix=keys.place(ref).prefix or None,
        paused=None,
        counts=Counts(waiting=waiting),
        native=(NativeCount(native=keys.NATIVE[State.WAITING], state=State.WAITING, count=waiting),),
        depth=waiting,
        latency_s=0.0 if waiting == 0 else None,
        notes=(TOGETHER, NO_AGE),
        error=_line(size) if isinstance(size, ResponseError) else None,
    )


def _shared(ref: QueueRef, taken: Sequence[Reply], ended: Sequence[Reply], *, listening: bool) -> QueueStats:
    unacked, *split = taken
    counted = {
        state: size if isinstance(size, int) else None
        for state, size in zip((*keys.TAKEN, *keys.ENDED), (*split, *ended), strict=True)
    }
    notes = [f"{unacked} messages taken by workers and not acknowledged"] if isinstance(unacked, int) else []
    notes += [
        f"only the newest {most} of {keys.NATIVE[state]} are listed"
        for state, most in KEPT.items()
        if counted[state] is not None and (counted[state] or 0) >= most
    ]
    if not listening and all(counted[state] is None for state in keys.ENDED):
        notes.append("what ended is listed as soon as a process of Queuedeck may keep an index of its own")
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        shared=True,
        prefix=keys.place(ref).prefix or None,
        counts=Counts(
            active=counted[State.ACTIVE],
            scheduled=counted[State.SCHEDULED],
            retrying=counted[State.RETRYING],
            dead=counted[State.DEAD],
            completed=counted[State.COMPLETED],
            canceled=counted[State.CANCELED],
        ),
        native=tuple(
            NativeCount(native=keys.NATIVE[state], state=state, count=count) for state, count in counted.items()
        ),
        notes=tuple(notes),
        error=_line(unacked) if isinstance(unacked, ResponseError) else None,
    )


def _line(reply: ResponseError) -> str:
    return "a key of this queue has the wrong type" if "WRONGTYPE" in str(reply) else printable(str(reply), 200)


def flow(refs: Sequence[QueueRef], keeper: Keeper | None, cursor: float | None) -> tuple[FlowDelta, float]:
    """What ended since the last look, by the live feed. Cost: none."""
    now = monotonic_s()
    if keeper is None:
        unknown = [_unknown(ref.key, NOT_LISTENING) for ref in refs]
        return FlowDelta(queues=tuple(unknown)), now
    ended, keeper.ended = keeper.ended, Ended()
    span_s = now - cursor if cursor is not None else 0.0
    named = {keys.place(ref).queue for ref in refs}
    rest = {name for name in (*ended.completed, *ended.dead) if name not in named}
    nameless = bool(ended.completed[""] or ended.dead[""])
    flows = []
    for ref in refs:
        queue = keys.place(ref).queue
        if cursor is None:
            flows.append(_unknown(ref.key, "listening has just begun"))
        elif queue is None and not rest and ended.whole:
            # A 0 here would read as "nothing ends", above queues that tell otherwise.
            flows.append(_unknown(ref.key, "what ended is told at each queue"))
        elif queue is None:
            completed, dead = (sum(tally[name] for name in rest) for tally in (ended.completed, ended.dead))
            flows.append(_flow(ref.key, completed, dead, span_s, whole=ended.whole))
        elif nameless:
            flows.append(_unknown(ref.key, NO_QUEUE))
        else:
            flows.append(_flow(ref.key, ended.completed[queue], ended.dead[queue], span_s, whole=ended.whole))
    return FlowDelta(queues=tuple(flows)), now


def _unknown(key: str, reason: str) -> QueueFlow:
    return QueueFlow(key=key, completed=0, dead=0, span_s=0.0, quality=Quality.UNKNOWN, reason=reason)


def _flow(key: str, completed: int, dead: int, span_s: float, *, whole: bool) -> QueueFlow:
    return QueueFlow(
        key=key,
        completed=completed,
        dead=dead,
        span_s=max(span_s, 0.001),
        quality=Quality.EXACT if whole else Quality.ESTIMATED,
        reason=None if whole else GAP,
    )
