"""What ended in many queues between two looks, from their events streams, or from the finished jobs they keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from dashboard.backends.base import FLOW_WINDOW_S
from dashboard.backends.bullmq import keys
from dashboard.backends.bullmq.stats import QUEUES_PER_CALL
from dashboard.backends.script import Scripts
from dashboard.model import FlowDelta, Quality, QueueFlow, QueueRef
from dashboard.sources import Reply, Source

# Events read in one look at all queues together: at 2 to 5 µs each, this is what a look may cost Redis.
EVENTS_PER_LOOK = 5000
MAX_RUNTIMES = 200
# Jobs of one queue that are known to run, remembered until they end.
MAX_STARTED = 300
DEFAULT_MAX_EVENTS = 10_000
SHORTEST_SPAN_S = 1.0

NO_SCRIPTS = "this Redis user may not run scripts, so only the finished jobs that are kept are counted"
NO_EVENTS = "this queue keeps no events, so only the finished jobs that are kept are counted"
NOTHING_KEPT = "neither events nor finished jobs are kept, so nothing tells what ended"
BUSY = "more events than are read at once: the newest were counted"
BUSY_KEPT = "more events than are read at once: the finished jobs that are kept were counted"
TRIMMED = "the events stream is short: it reaches back {span:.0f} s"


class Look(NamedTuple):
    """What is remembered of one queue until the next look."""

    last_id: bytes  # of the events stream; b"" when it was empty
    at_ms: int  # the server's clock
    started: dict[bytes, int]  # job id -> ms


class Kept(NamedTuple):
    """What the sets of finished jobs tell of the time since `start_ms`; None when no completed job is kept."""

    completed: int
    dead: int
    start_ms: float | None


def read(
    source: Source, scripts: Scripts, refs: Sequence[QueueRef], cursor: Mapping[str, Look]
) -> tuple[FlowDelta, dict[str, Look]]:
    """The flow of `refs` since `cursor`, and the next cursor. Cost: 1 round trip."""
    chunks = [refs[start : start + QUEUES_PER_CALL] for start in range(0, len(refs), QUEUES_PER_CALL)]
    calls: list[list[bytes | str | int]] = []
    for chunk in chunks:
        call: list[bytes | str | int] = [EVENTS_PER_LOOK * len(chunk) // len(refs), int(FLOW_WINDOW_S * 1000)]
        for ref in chunk:
            look = cursor.get(ref.key)
            call.extend((ref.key, look.last_id, look.at_ms) if look else (ref.key, "", ""))
        calls.append(call)
    answered = scripts.run(_script(), calls)
    if answered is None:
        return _plain(source, refs, cursor)
    flows: list[QueueFlow] = []
    following: dict[str, Look] = {}
    for chunk, reply in zip(chunks, answered[0], strict=True):
        rows = reply if isinstance(reply, list) else [reply] * len(chunk)
        for ref, row in zip(chunk, rows, strict=True):
            flow, look = _queue(ref.key, row, cursor.get(ref.key))
            flows.append(flow)
            if look:
                following[ref.key] = look
    return FlowDelta(queues=tuple(flows)), following


@cache
def _script() -> str:
    return keys.script("flow")


def _unknown(key: str, reason: str) -> QueueFlow:
    return QueueFlow(key=key, completed=0, dead=0, span_s=0.0, quality=Quality.UNKNOWN, reason=reason)


def _queue(key: str, row: Reply, before: Look | None) -> tuple[QueueFlow, Look | None]:
    if isinstance(row, ResponseError):
        return _unknown(key, "the events of this queue cannot be read"), None
    if isinstance(row, int) and before:
        flow = QueueFlow(key=key, completed=0, dead=0, span_s=_span_s(before.at_ms, row, before), quality=Quality.EXACT)
        return flow, before._replace(at_ms=row)
    now, since, length, limit, last_id, seen, oldest_ms, completed, dead, runtimes, started, ended, kept = row
    running = dict(before.started) if before else {}
    started, ended = started or (), ended or ()
    times = [ms / 1000 for ms in runtimes or ()] + _matched(running, ended)
    running.update(zip(started[::2], started[1::2], strict=True))
    look = Look(last_id or (before.last_id if before else b""), now, _newest(running))
    if not seen and length == 0 and keys.whole(limit):
        # BullMQ writes an event with each job that is added: no stream, no jobs yet.
        span_s = _span_s(since if before else now, now, before)
        return QueueFlow(key=key, completed=0, dead=0, span_s=span_s, quality=Quality.EXACT), look
    if not seen and length == 0:
        return _from_kept(key, _kept(kept), now, NO_EVENTS), look
    sets = _kept(kept) if kept else None
    reason = None
    start = since
    if sets is not None and sets.start_ms is not None and sets.start_ms <= since:
        completed, dead, reason = sets.completed, sets.dead, BUSY_KEPT
    elif sets is not None:
        start, reason = oldest_ms, BUSY
    elif seen and seen == length:
        # Nothing older is left: what came before was either trimmed or never was, and nothing is known of that time.
        start = oldest_ms
        if (before and before.last_id) or length >= (keys.whole(limit) or DEFAULT_MAX_EVENTS):
            reason = TRIMMED.format(span=(now - oldest_ms) / 1000)
    return QueueFlow(
        key=key,
        completed=completed,
        dead=dead,
        span_s=_span_s(start, now, before),
        quality=Quality.ESTIMATED if reason else Quality.EXACT,
        reason=reason,
        runtimes_s=tuple(time for time in times if time >= 0)[:MAX_RUNTIMES],
    ), look


def _span_s(start_ms: float, now_ms: float, before: Look | None) -> float:
    span_s = (now_ms - start_ms) / 1000
    # A queue that was born a moment ago would otherwise show a rate without measure.
    return max(span_s, 0.001 if before else SHORTEST_SPAN_S)


def _matched(running: dict[bytes, int], ended: Sequence[Any]) -> list[float]:
    """Run times of jobs that started before the last look and ended after it; they leave `running`."""
    pairs = zip(ended[::2], ended[1::2], strict=True)
    return [(end - start) / 1000 for job_id, end in pairs if (start := running.pop(job_id, None)) is not None]


def _newest(running: dict[bytes, int]) -> dict[bytes, int]:
    if len(running) <= MAX_STARTED:
        return running
    return dict(sorted(running.items(), key=lambda item: item[1])[-MAX_STARTED:])


def _kept(replies: Sequence[Reply]) -> Kept:
    completed, dead, start = replies
    return _counted(completed, dead, keys.number(start if isinstance(start, bytes) else None))


def _counted(completed: Reply, dead: Reply, start_ms: float | None) -> Kept:
    return Kept(completed if isinstance(completed, int) else 0, dead if isinstance(dead, int) else 0, start_ms)


def _from_kept(key: str, kept: Kept, now_ms: float, reason: str) -> QueueFlow:
    if kept.start_ms is None:
        return _unknown(key, NOTHING_KEPT)
    return QueueFlow(
        key=key,
        completed=kept.completed,
        dead=kept.dead,
        span_s=max((now_ms - kept.start_ms) / 1000, SHORTEST_SPAN_S),
        quality=Quality.ESTIMATED,
        reason=reason,
    )


def _plain(source: Source, refs: Sequence[QueueRef], cursor: Mapping[str, Look]) -> tuple[FlowDelta, dict[str, Look]]:
    """The same by plain commands: the events carry return values of any size, so they are left alone. 2 round trips."""
    clock, *heads = source.batch([("TIME",), *(("ZRANGE", f"{ref.key}:completed", 0, 0, "WITHSCORES") for ref in refs)])
    now = int(clock[0]) * 1000 + int(clock[1]) // 1000
    starts: list[int | None] = []
    for ref, head in zip(refs, heads, strict=True):
        look = cursor.get(ref.key)
        oldest = keys.whole(head[1]) if isinstance(head, list) and len(head) == 2 else None
        since = look.at_ms if look else now - int(FLOW_WINDOW_S * 1000)
        starts.append(None if oldest is None else max(since, oldest - 1))
    counts = source.batch(
        [
            ("ZCOUNT", f"{ref.key}:{ended}", f"({start or 0}", now)
            for ref, start in zip(refs, starts, strict=True)
            for ended in ("completed", "failed")
        ]
    )
    flows = [
        _from_kept(ref.key, _counted(counts[n * 2], counts[n * 2 + 1], starts[n]), now, NO_SCRIPTS)
        for n, ref in enumerate(refs)
    ]
    return FlowDelta(queues=tuple(flows)), {ref.key: Look(b"", now, {}) for ref in refs}
