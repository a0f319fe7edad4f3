"""What ended in each queue between two looks, from what RQ keeps by default.

RQ has no counter per queue. A registry keeps each job under the time of its expiry, so counting the members above a
fixed time twice tells how many came in between, less those that left. Several such bounds are looked at; each tells
at most what really came, so the largest is the best:

- high: jobs that ended since shortly before the anchor with RQ's default time to live. Old jobs that are retried or
  deleted by the thousand do not disturb it.
- low: jobs with any time to live above half a minute, less what was removed.
- never: failed jobs without expiry, which RQ keeps under -1.
- workers: what the workers that serve this queue alone completed; they also count jobs that leave no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from dashboard.backends.base import FLOW_WINDOW_S
from dashboard.backends.payload import text
from dashboard.backends.rq.decode import moment
from dashboard.backends.rq.keys import QueueKeys, script
from dashboard.backends.rq.records import Reader, Shape
from dashboard.backends.rq.workers import Worker, workers_call, workers_of
from dashboard.backends.script import Scripts
from dashboard.model import FlowDelta, Quality, QueueFlow, QueueRef, State
from dashboard.sources import Command, Reply, Source

# RQ's defaults. Source: rq 3.0, defaults.py.
TTLS_S: Mapping[State, int] = {State.COMPLETED: 500, State.DEAD: 31_536_000}
# How far a worker's clock may be off.
SKEW_S = 30
# An anchor is kept for this long, so that most looks need one count per bound; `low` must stay ahead of the clock.
ANCHOR_S = 20.0
LOW_S = 30.0
# Run times are read of at most this many jobs per look, all queues together, and of this many per queue and state.
SAMPLE_TOTAL = 400
SAMPLE_QUEUE = 20
TIMES = Shape(small=("started_at", "ended_at"), limit_bytes=64)
REASON = (
    "Counted from RQ's registries, which do not show jobs with a result_ttl of 0, nor jobs that were deleted or"
    " retried between two looks."
)
FIRST_REASON = "A first look back, which takes RQ's default times to live for granted."
UNREADABLE = "This queue's registries cannot be read."


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of a queue: counts above the bounds of an anchor, and what its newest jobs were."""

    anchor: float
    counts: Counted
    busy: bool  # jobs ended in it at the last look, so the next one asks for their ids
    newest: float  # when the newest sampled job ended, by the clock of its worker


@dataclass(frozen=True, slots=True)
class Cursor:
    """What `read_flow` remembers between two looks."""

    at: float
    anchor: float
    queues: Mapping[str, Seen]  # by QueueRef.key
    workers: Mapping[str, Worker]  # by key


@dataclass(frozen=True, slots=True)
class Counted:
    """Members above the bounds of one anchor."""

    high: Mapping[State, int]
    low: Mapping[State, int]
    never: int

    def since(self, before: Counted, *, low_holds: bool) -> dict[State, int]:
        """How many came since `before` by the best of the bounds, which must be those of the same anchor."""
        came = {
            state: max(
                0, self.high[state] - before.high[state], self.low[state] - before.low[state] if low_holds else 0
            )
            for state in TTLS_S
        }
        came[State.DEAD] += max(0, self.never - before.never)
        return came


@dataclass(slots=True)
class _Found:
    """What one look found out about a queue."""

    queue: QueueKeys
    came: dict[State, int]
    span_s: float
    reason: str
    counts: Counted
    ids: list[str]  # the newest jobs of both registries, as many as came at most
    newest: float
    runtimes: list[float] = field(default_factory=list)


def read_flow(
    source: Source, scripts: Scripts, refs: Sequence[tuple[QueueRef, QueueKeys]], before: Cursor | None
) -> tuple[FlowDelta, Cursor]:
    """What ended in `refs` since `before`, and the next cursor. Cost: 2 round trips, 1 when nothing ended."""
    now = source.now_s()
    if before is None or not 0 <= now - before.at <= FLOW_WINDOW_S:
        before = Cursor(now, now, {}, {})
    anchor = before.anchor if now - before.anchor < ANCHOR_S else now
    calls = [workers_call(prefix) for prefix in sorted({queue.prefix for _, queue in refs})]
    asked = _Asked(before, anchor, now, len(refs))
    per_queue = [asked.commands(queue) for _, queue in refs]
    commands = [command for several in per_queue for command in several]
    scripted, replies = scripts.run(script("queues"), calls, commands) or ([], source.batch(commands))
    workers = {worker.key: worker for reply in scripted for worker in workers_of(reply) or ()}
    found: dict[str, _Found] = {}
    left = iter(replies)
    for (_, queue), several in zip(refs, per_queue, strict=True):
        answer = asked.answer(queue, list(islice(left, len(several))))
        if answer is not None:
            completed = _by_workers(queue, workers, before)
            answer.came[State.COMPLETED] = max(answer.came[State.COMPLETED], completed)
            found[queue.queue] = answer
    _sample(Reader(source, scripts), list(found.values()), now)
    seen = {key: Seen(anchor, answer.counts, any(answer.came.values()), answer.newest) for key, answer in found.items()}
    flows = tuple(_flow(ref, found.get(ref.key)) for ref, _ in refs)
    return FlowDelta(queues=flows), Cursor(now, anchor, seen, workers)


class _Asked:
    """The commands of one look and how to read their replies, queue by queue."""

    def __init__(self, before: Cursor, anchor: float, now: float, queues: int) -> None:
        self._before = before
        self._anchor = anchor
        self._now = now
        busy = sum(seen.busy for seen in before.queues.values())
        self._all = queues <= SAMPLE_TOTAL // (2 * SAMPLE_QUEUE)
        self._each = min(SAMPLE_QUEUE, max(1, SAMPLE_TOTAL // (2 * max(1, queues if self._all else busy))))

    def commands(self, queue: QueueKeys) -> list[Command]:
        """What to ask about one queue."""
        seen = self._before.queues.get(queue.queue)
        commands = _bounds(queue, self._anchor)
        if seen is None:
            commands += [_window(queue, state, self._now) for state in TTLS_S]
        elif seen.anchor != self._anchor:
            commands += _bounds(queue, seen.anchor)
        if self._all or (seen is not None and seen.busy):
            commands += [_newest(queue, state, self._now, self._each) for state in TTLS_S]
        return commands

    def answer(self, queue: QueueKeys, replies: list[Reply]) -> _Found | None:
        """What the replies tell; None when a registry cannot be read."""
        seen = self._before.queues.get(queue.queue)
        numbers = [reply for reply in replies if isinstance(reply, int)]
        lists = [reply for reply in replies if isinstance(reply, list)]
        if len(numbers) + len(lists) < len(replies):
            return None
        counts, rest = _counted(numbers[:5]), numbers[5:]
        if seen is None:
            came, span_s, reason, newest = dict(zip(TTLS_S, rest, strict=True)), FLOW_WINDOW_S, FIRST_REASON, 0.0
        else:
            again = _counted(rest) if rest else counts
            came = again.since(seen.counts, low_holds=self._now < seen.anchor + LOW_S)
            span_s, reason, newest = self._now - self._before.at, REASON, seen.newest
        ids = [text(job_id) for state, ids in zip(TTLS_S, lists, strict=False) for job_id in ids[: came[state]]]
        return _Found(queue, came, span_s, reason, counts, ids, newest)


def _bounds(queue: QueueKeys, anchor: float) -> list[Command]:
    commands: list[Command] = []
    for state, ttl_s in TTLS_S.items():
        commands.append(("ZCOUNT", queue.of(state), f"({anchor - SKEW_S + ttl_s}", "+inf"))
        commands.append(("ZCOUNT", queue.of(state), f"({anchor + LOW_S}", "+inf"))
    commands.append(("ZCOUNT", queue.of(State.DEAD), "-inf", "(0"))
    return commands


def _counted(numbers: Sequence[int]) -> Counted:
    high = dict(zip(TTLS_S, numbers[0:4:2], strict=True))
    low = dict(zip(TTLS_S, numbers[1:4:2], strict=True))
    return Counted(high, low, numbers[4])


def _window(queue: QueueKeys, state: State, now: float) -> Command:
    """Jobs that ended in the last FLOW_WINDOW_S, if they had the default time to live."""
    end = now + TTLS_S[state]
    return ("ZCOUNT", queue.of(state), f"({end - FLOW_WINDOW_S}", end + SKEW_S)


def _newest(queue: QueueKeys, state: State, now: float, count: int) -> Command:
    """The ids of the newest jobs, those without expiry left out since nothing orders them."""
    return ("ZREVRANGEBYSCORE", queue.of(state), now + TTLS_S[state] + SKEW_S, f"({now}", "LIMIT", 0, count)


def _by_workers(queue: QueueKeys, workers: Mapping[str, Worker], before: Cursor) -> int:
    """What the workers that serve `queue` alone completed since `before`."""
    total = 0
    for key, worker in workers.items():
        if worker.queues != queue.name or not key.startswith(f"{queue.prefix}:worker:"):
            continue
        known = before.workers.get(key)
        if known is not None and known.birth == worker.birth:
            total += max(0, worker.completed - known.completed)
        elif before.queues and worker.born_after(before.at):
            total += worker.completed
    return total


def _sample(reader: Reader, found: Sequence[_Found], now: float) -> None:
    """Read run times of the newest jobs into `found`. Cost: 1 round trip, none when nothing ended."""
    wanted = [(answer, job_id) for answer in found for job_id in answer.ids][:SAMPLE_TOTAL]
    if not wanted:
        return
    records, _ = reader.read([(answer.queue, job_id) for answer, job_id in wanted], TIMES)
    newest: dict[str, float] = {}
    for (answer, _), record in zip(wanted, records, strict=True):
        started, ended = moment(record.text("started_at")), moment(record.text("ended_at"))
        if started is None or ended is None or ended < started:
            continue
        at = ended.timestamp()
        if at > max(answer.newest, now - FLOW_WINDOW_S - SKEW_S):
            answer.runtimes.append((ended - started).total_seconds())
            key = answer.queue.queue
            newest[key] = max(at, newest.get(key, 0.0))
    for answer in found:
        answer.newest = newest.get(answer.queue.queue, answer.newest)


def _flow(ref: QueueRef, found: _Found | None) -> QueueFlow:
    if found is None:
        return QueueFlow(key=ref.key, completed=0, dead=0, span_s=0.0, quality=Quality.UNKNOWN, reason=UNREADABLE)
    return QueueFlow(
        key=ref.key,
        completed=found.came[State.COMPLETED],
        dead=found.came[State.DEAD],
        span_s=found.span_s,
        quality=Quality.ESTIMATED,
        reason=found.reason,
        runtimes_s=tuple(found.runtimes[:200]),
    )
