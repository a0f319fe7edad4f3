"""Figures of many queues in one round trip, and rates from the live feed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from redis.exceptions import ResponseError

from dashboard.backends.base import FLOW_WINDOW_S
from dashboard.backends.celery import keys
from dashboard.backends.celery.index import (
    KEPT,
    MAX_RUNTIMES,
    Ended,
    Keeper,
    Traces,
    beats_of,
    filled_key,
    index_key,
    workers_key,
)
from dashboard.backends.celery.workers import is_alive, mailboxes
from dashboard.backends.payload import printable
from dashboard.backends.script import Scripts
from dashboard.clock import monotonic_s
from dashboard.model import Counts, FlowDelta, NativeCount, Quality, QueueFlow, QueueRef, QueueStats, State
from dashboard.sources import Command, Reply, Source

QUEUES_PER_CALL = 40
# More unacknowledged messages than this are counted, not looked into.
LOOK_INTO = 500
NO_AGE = "Celery stores no time of sending, so the age of a waiting job is unknown"
TOGETHER = "what workers took and what ended is kept for all queues together"
NOT_LISTENING = "rates come from Celery's result channel, to which the sampling process listens from its start"
GAP = "the result channel was not heard all the time"
EACH = "each queue tells its own rate"
HIDDEN = "Not all results are stored (ignore_result, or no result backend). See the entry of all queues."
ERRORS_ALONE = "Only errors are stored here (ignore_result), so what succeeded is unknown."
BY_RUNS = "Counted by worker heartbeats, retries included: not all results are stored (ignore_result, or no backend)."
SILENT = "No result and no worker heartbeat was heard, so nothing tells what ended."
# While all workers are silent for so long, nothing is being worked off.
IDLE_AFTER_S = 30.0
BOTH = (State.COMPLETED, State.DEAD)
NO_QUEUE = "results do not name their queue: set result_extended = True in the app; see the entry of all queues"


class Told(NamedTuple):
    """What else is known of one prefix: the index, and the workers by their heartbeats; None = unknown."""

    ended: tuple[int | None, ...]  # in the order of keys.ENDED
    whole: bool  # the index holds what was there before, too
    running: int | None
    workers: int | None


def stats(
    broker: Source,
    scripts: Scripts,
    own: Source | None,
    refs: Sequence[QueueRef],
    keeper: Keeper | None,
    unacked: keys.Unacked,
) -> list[QueueStats]:
    """The stats of `refs`, in their order.

    Cost: 1 round trip, 2 without scripts; 1 more where Queuedeck's own keys are on another server, and 1 more while all
    workers that were heard are silent.
    """
    groups = list(_groups(refs))
    calls: list[tuple[str | int, ...]] = [
        (prefix, LOOK_INTO, separator, unacked.entries, *(name for _, name in queues))
        for (prefix, separator), queues in groups
    ]
    prefixes = list(dict.fromkeys(prefix for (prefix, _), _ in groups))
    source = refs[0].source if refs else ""
    boxes: list[Command] = [("SCARD", f"{prefix}{keys.MAILBOX}") for prefix in prefixes]
    kept: list[Command] = [("HGETALL", workers_key(source)), ("EXISTS", filled_key(source))]
    kept += [("ZCARD", index_key(source, state, prefix)) for prefix in prefixes for state in keys.ENDED]
    together = own is broker
    answered = scripts.run(keys.script("stats"), calls, also=[*boxes, *kept] if together else boxes)
    replies = answered[0] if answered is not None else _plain(broker, groups, unacked)
    beside = answered[1] if answered is not None else []
    if own is not None and not (together and answered is not None):
        beside = [*(beside or [None] * len(boxes)), *own.batch(kept)]
    separators = {separator for (_, separator), _ in groups}
    told = _told(broker, prefixes, separators, beside, len(kept), keeper)
    if keeper is not None:
        keeper.traces.workers = {prefix: each.workers for prefix, each in told.items()}
    found: dict[int, QueueStats] = {}
    for ((prefix, _), queues), reply in zip(groups, replies, strict=True):
        waiting, taken = reply if isinstance(reply, list) else ([reply] * len(queues), [None] * 4)
        for (n, _), size in zip(queues, waiting, strict=True):
            # Which worker serves which queue Redis does not tell; where no worker is, none does.
            found[n] = _queue(refs[n], size, 0 if told[prefix].workers == 0 else None)
        for n, ref in enumerate(refs):
            if ref.shared and keys.place(ref).prefix == prefix:
                found[n] = _shared(ref, taken, told[prefix])
    return [found[n] for n in range(len(refs))]


def _told(
    broker: Source,
    prefixes: Sequence[str],
    separators: Collection[str],
    beside: Sequence[Reply],
    kept: int,
    keeper: Keeper | None,
) -> dict[str, Told]:
    boxes, index = beside[: len(prefixes)], beside[len(prefixes) :]
    beats = beats_of(index[0]) if len(index) == kept else {}
    whole = len(index) == kept and index[1] == 1
    now = broker.now_s()
    heard_all = keeper is not None and keeper.heard_all_workers
    counted = {prefix: box for prefix, box in zip(prefixes, boxes, strict=False) if heard_all and isinstance(box, int)}
    silent = _silent_alone(broker, counted, separators, beats, now)
    found = {}
    for n, prefix in enumerate(prefixes):
        ended = index[2 + n * len(keys.ENDED) :][: len(keys.ENDED)] if len(index) == kept else [None] * len(keys.ENDED)
        alive = [beat for beat in beats.values() if beat.get("prefix", "") == prefix and is_alive(beat, now)]
        running = [active for beat in alive if isinstance(active := beat.get("active"), int)]
        nobody = not alive and (counted.get(prefix) == 0 or prefix in silent)
        found[prefix] = Told(
            ended=tuple(size if isinstance(size, int) else None for size in ended),
            whole=whole,
            running=sum(running) if alive else None,
            workers=len(alive) if alive else 0 if nobody else None,
        )
    return found


def _silent_alone(
    broker: Source,
    counted: Mapping[str, int],
    separators: Collection[str],
    beats: Mapping[str, Mapping[str, object]],
    now: float,
) -> set[str]:
    """The prefixes all of whose mailboxes are those of workers that were heard and are dead by now.

    Who is killed leaves the mailbox, so that it says nothing; but one of a worker that was never heard may be that of
    one without heartbeats. Cost: none, or 1 round trip.
    """
    dead: dict[str, set[str]] = {prefix: set() for prefix in counted}
    for name, beat in beats.items():
        prefix = str(beat.get("prefix", ""))
        if is_alive(beat, now):
            dead.pop(prefix, None)
        elif prefix in dead:
            dead[prefix].add(name)
    asked = [prefix for prefix, names in dead.items() if 0 < counted[prefix] <= len(names)]
    found = mailboxes(broker, asked, separators) if asked else {}
    return {prefix for prefix, names in found.items() if names is not None and names <= dead[prefix]}


def _groups(refs: Sequence[QueueRef]) -> Iterable[tuple[tuple[str, str], list[tuple[int, str]]]]:
    """((prefix, separator), queues of both by place in `refs`), in portions that one call of the script reads."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for n, ref in enumerate(refs):
        place = keys.place(ref)
        queues = found.setdefault((place.prefix, place.separator), [])
        if place.queue is not None:
            queues.append((n, place.queue))
    for where, queues in found.items():
        for start in range(0, max(1, len(queues)), QUEUES_PER_CALL):
            yield where, queues[start : start + QUEUES_PER_CALL]


def _plain(
    broker: Source, groups: Sequence[tuple[tuple[str, str], list[tuple[int, str]]]], names: keys.Unacked
) -> list[Reply]:
    """The answers of the script by plain commands; what stands in `unacked` is counted, not told apart."""
    answers: list[Reply] = []
    for (prefix, separator), queues in groups:
        lists = [keys.Place(prefix, name, separator).lists() for _, name in queues]
        *sizes, unacked = broker.batch(
            [*(("LLEN", key) for several in lists for key in several), ("HLEN", names.keys(prefix)[0])]
        )
        width = len(keys.STEPS) + 1
        waiting: list[Reply] = []
        for n in range(len(queues)):
            several = sizes[n * width : (n + 1) * width]
            bad = next((size for size in several if isinstance(size, ResponseError)), None)
            waiting.append(bad or sum(several))
        answers.append([waiting, [unacked, None, None, None]])
    return answers


def _queue(ref: QueueRef, size: Reply, workers: int | None) -> QueueStats:
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
        workers=workers,
        notes=(TOGETHER, NO_AGE),
        error=_line(size) if isinstance(size, ResponseError) else None,
    )


def _shared(ref: QueueRef, taken: Sequence[Reply], told: Told) -> QueueStats:
    unacked, *split = taken
    counted = {
        state: size if isinstance(size, int) else None
        for state, size in zip((*keys.TAKEN, *keys.ENDED), (*split, *told.ended), strict=True)
    }
    notes = [f"{unacked} messages taken by workers and not acknowledged"] if isinstance(unacked, int) else []
    notes += [
        f"only the newest {most} of {keys.NATIVE[state]} are listed"
        for state, most in KEPT.items()
        if counted[state] is not None and (counted[state] or 0) >= most
    ]
    if told.running is not None:
        tasks = "1 task" if told.running == 1 else f"{told.running} tasks"
        notes.append(f"workers tell that they run {tasks}; one that is acknowledged early stands in no list")
    if all(counted[state] is None for state in keys.ENDED):
        notes.append("what ended is listed as soon as a process of Queuedeck may keep an index of its own")
    elif not told.whole:
        notes.append("results are still being looked for: there may be more that ended than is told")
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        shared=True,
        prefix=keys.place(ref).prefix or None,
        counts=Counts(
            active=_most(counted[State.ACTIVE], told.running),
            scheduled=counted[State.SCHEDULED],
            retrying=counted[State.RETRYING],
            dead=counted[State.DEAD],
            completed=counted[State.COMPLETED],
            canceled=counted[State.CANCELED],
        ),
        native=tuple(
            NativeCount(native=keys.NATIVE[state], state=state, count=count) for state, count in counted.items()
        ),
        workers=told.workers,
        notes=tuple(notes),
        error=_line(unacked) if isinstance(unacked, ResponseError) else None,
    )


def _line(reply: ResponseError) -> str:
    return "a key of this queue has the wrong type" if "WRONGTYPE" in str(reply) else printable(str(reply), 200)


def _most(reserved: int | None, running: int | None) -> int | None:
    """How many tasks are in the hands of workers at least: those in `unacked` and those that run overlap."""
    return max((count for count in (reserved, running) if count is not None), default=None)


def flow(refs: Sequence[QueueRef], keeper: Keeper | None, cursor: float | None) -> tuple[FlowDelta, float]:
    """What ended since the last look, by the live feed. Cost: none."""
    now = monotonic_s()
    if keeper is None:
        unknown = [_unknown(ref.key, NOT_LISTENING) for ref in refs]
        return FlowDelta(queues=tuple(unknown)), now
    ended, keeper.ended = keeper.ended, Ended()
    span_s = now - cursor if cursor is not None else 0.0
    places = {ref.key: keys.place(ref) for ref in refs}
    shown = {(place.prefix, place.queue) for place in places.values() if place.queue is not None}
    # For as long as rates look back: queues then know no rate of their own, and all that ended is told together.
    nameless = now - keeper.nameless_at < FLOW_WINDOW_S
    traces = keeper.traces
    hiding = {prefix for prefix in {place.prefix for place in places.values()} if traces.hides(prefix, now)}
    flows = []
    for ref in refs:
        prefix, queue = places[ref.key].prefix, places[ref.key].queue
        if cursor is None:
            flows.append(_unknown(ref.key, "listening has just begun"))
        elif queue is None:
            everything = {**ended.completed, **ended.dead}
            alone = not any(place.queue is not None for place in places.values())
            rest = [where for where in everything if where[0] == prefix]
            if prefix in hiding:
                flows.append(_by_runs(ref.key, prefix, ended, traces, now, span_s, nameless=nameless or alone))
                continue
            if not nameless:
                rest = [where for where in rest if where not in shown]
            if nameless or rest or alone:
                flows.append(_silence(_flow(ref.key, ended, rest, span_s), prefix, keeper))
            else:
                flows.append(_unknown(ref.key, EACH))
        elif nameless:
            flow = _unknown(ref.key, NO_QUEUE)
            flows.append(msgspec.structs.replace(flow, progressed=_progress(prefix, ended, traces, shown, now)))
        elif prefix in hiding:
            errors = traces.errors_alone((prefix, queue), now)
            flows.append(
                msgspec.structs.replace(
                    _flow(ref.key, ended, [(prefix, queue)], span_s),
                    hidden=(State.COMPLETED,) if errors else BOTH,
                    reason=ERRORS_ALONE if errors else HIDDEN,
                    progressed=_progress(prefix, ended, traces, shown, now),
                )
            )
        else:
            flows.append(_silence(_flow(ref.key, ended, [(prefix, queue)], span_s), prefix, keeper))
    return FlowDelta(queues=tuple(flows)), now


def _by_runs(
    key: str, prefix: str, ended: Ended, traces: Traces, now: float, span_s: float, *, nameless: bool
) -> QueueFlow:
    """What workers ended of all queues of `prefix` together; where records name no queue, stored errors are here."""
    errors = nameless and traces.errors_alone((prefix, ""), now)
    return QueueFlow(
        key=key,
        completed=0,
        dead=ended.dead[prefix, ""] if errors else 0,
        ended=ended.runs[prefix],
        span_s=max(span_s, 0.001),
        quality=Quality.ESTIMATED,
        reason=BY_RUNS,
        hidden=(State.COMPLETED,) if errors else BOTH,
        unlisted=BOTH,
        unlisted_reason=BY_RUNS,
    )


def _silence(flow: QueueFlow, prefix: str, keeper: Keeper) -> QueueFlow:
    """`flow`, unknown where nothing was heard and nobody would be."""
    traces = keeper.traces
    if prefix in traces.recorded or (keeper.settled and traces.workers.get(prefix) is not None):
        return flow
    return _unknown(flow.key, SILENT)


def _progress(
    prefix: str, ended: Ended, traces: Traces, shown: Collection[tuple[str, str | None]], now: float
) -> bool | None:
    """Whether a queue of `prefix` was worked off: workers tell what they begin, of all their queues together."""
    if ended.started[prefix]:
        return True if sum(where[0] == prefix for where in shown) == 1 else None
    idle = now - traces.started_at.get(prefix, -IDLE_AFTER_S) >= IDLE_AFTER_S
    return False if idle and traces.workers.get(prefix) is not None else None


def _unknown(key: str, reason: str) -> QueueFlow:
    return QueueFlow(key=key, completed=0, dead=0, span_s=0.0, quality=Quality.UNKNOWN, reason=reason)


def _flow(key: str, ended: Ended, where: Sequence[tuple[str, str]], span_s: float) -> QueueFlow:
    return QueueFlow(
        key=key,
        completed=sum(ended.completed[each] for each in where),
        dead=sum(ended.dead[each] for each in where),
        span_s=max(span_s, 0.001),
        quality=Quality.EXACT if ended.whole else Quality.ESTIMATED,
        reason=None if ended.whole else GAP,
        runtimes_s=tuple(seconds for each in where for seconds in ended.runtimes.get(each, ()))[:MAX_RUNTIMES],
    )
