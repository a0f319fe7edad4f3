"""The flow of a queue from its events stream, with the retained jobs where events are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from ....model import Quality, QueueFlow, State
from ....sources.source import Reply
from ....units import format_duration
from ...base import FLOW_WINDOW_S
from ...class_tally import ClassTally
from ...completion_balance import BALANCED
from .. import keys
from .classes import ClassReply, parse_classes, remember_names
from .cursor import ENDS, NOTHING_GONE, EventCursor
from .finished_sets import (
    SHORTEST_SPAN_S,
    SMALL_SHARE,
    FinishedSets,
    count_finished,
    flow_from_sets,
    parse_finished,
)
from .reasons import CUT, CUT_KEPT, FIRST_BUSY, FIRST_TRIMMED, HIDDEN, NO_EVENTS, UNKNOWN_ENDED, UNSPLIT

MAX_RUNTIMES = 200
# The running jobs that are remembered per queue until they finish.
MAX_STARTED = 300
DEFAULT_MAX_EVENTS = 10_000
NOTHING_READ = ClassReply(ClassTally(), (), 0)
# This many jobs must be seen to be retained before all are assumed to be.
ENOUGH = 5
# If the stream was trimmed to less than this, the first sample has no rate.
SHORTEST_STREAM_S = 10.0


def flow_of_queue(key: str, row: Reply, before: EventCursor | None) -> tuple[QueueFlow, EventCursor | None]:
    """The flow of a queue from its reply of flow.lua, and its cursor.

    A reply that is a number is the time of a queue without new events, as most are in every sample.
    """
    if isinstance(row, ResponseError):
        return QueueFlow.unknown(key, "the events of this queue cannot be read"), None
    if isinstance(row, int) and before:
        # Takes a third of the time of _replace, for most queues in every sample.
        cursor = EventCursor(before.last_id, row, *before[2:])
        span_s = _span_s(before.at_ms, row, before)
        if before.unknown_at == before.unsplit_at == -math.inf and before.gone == NOTHING_GONE:
            return QueueFlow(key=key, completed=0, dead=0, span_s=span_s, quality=Quality.EXACT, retried=0), cursor
        return _by_events(key, cursor, 0, 0, span_s, None, NOTHING_READ), cursor
    return _flow_of_row(key, row, before)


def _flow_of_row(key: str, row: Sequence[Any], before: EventCursor | None) -> tuple[QueueFlow, EventCursor]:
    """The flow of a queue from a whole reply of flow.lua, and its cursor."""
    now, since, length, limit, last_id, seen, oldest_ms, completed, dead, *more = row
    runtimes, started, ended, kept, gone, added, unended, in_vain, classes, retried, names = more
    running = dict(before.started) if before else {}
    started, ended = started or (), ended or ()
    found, removed = parse_classes(classes, None if kept else retried or 0, before)
    times = [ms / 1000 for ms in runtimes or ()] + (_match_run_times(running, ended) if ended else [])
    running.update(zip(started[::2], started[1::2], strict=True))
    last_id, running = last_id or (before.last_id if before else b""), _newest_starts(running)
    former = (before.unsplit_at, before.unknown_at) if before else (-math.inf, -math.inf)
    left = count_finished(added, unended) if seen or length != 0 else None
    cursor = EventCursor(
        last_id, now, running, _newest_are_gone(gone, before), BALANCED, left, 0, *former, _gone_at(gone, now, before)
    )._replace(names=remember_names(names, removed, before))
    if not seen and length == 0 and not (before and before.last_id) and keys.parse_integer(limit):
        # BullMQ writes an event for each job that is added: no stream means no jobs yet.
        span_s = _span_s(since if before else now, now, before)
        return QueueFlow(key=key, completed=0, dead=0, span_s=span_s, quality=Quality.EXACT, retried=0), cursor
    if not seen and length == 0:
        flow, cursor = flow_from_sets(key, parse_finished(kept), cursor, before, NO_EVENTS)
        if flow.quality is Quality.UNKNOWN:
            return flow, cursor
        return msgspec.structs.replace(
            flow, **found.flow_fields(flow.completed, flow.dead, flow.reason, counted=not flow.hidden)
        ), cursor
    reason = None
    start = since
    if before is None:
        start, reason = _first_start(since, oldest_ms, seen, length, limit, now, more=bool(kept))
        if reason and not kept and now - start < SHORTEST_STREAM_S * 1000:
            return QueueFlow.unknown(key, reason), cursor
    if kept:
        # Without their earlier events, only short jobs may be matched, and then none are returned; hashes have the run
        # times of all.
        times = found.tally.runtimes_s or (times if runtimes else [])
        sets = parse_finished(kept)
        if _are_all(sets, completed, dead, before) and sets.start_ms is not None and sets.start_ms <= since:
            completed, dead, start, reason = sets.completed, sets.dead, since, CUT_KEPT
        elif before is not None:
            completed, dead, cursor = _completed_by_ids(completed, dead, sets, in_vain, cursor, before)
            reason = CUT
    return _by_events(key, cursor, completed, dead, _span_s(start, now, before), reason, found, times), cursor


def _first_start(
    since: int, oldest_ms: int | None, seen: int, length: int, limit: Reply, now: int, *, more: bool
) -> tuple[int, str | None]:
    """Return (since when the events are complete in the first sample, why that is later than `since`)."""
    if oldest_ms is None or (seen != length and not more):
        return since, None  # there are older events, and none later than `since` was skipped
    span = format_duration((now - oldest_ms) / 1000)
    if more:
        return oldest_ms, FIRST_BUSY.format(span=span)
    # No older events are left: either they were trimmed or there were none, so that time is unknown.
    most = keys.parse_integer(limit if isinstance(limit, bytes) else None)
    trimmed = length >= (DEFAULT_MAX_EVENTS if most is None else most)
    return oldest_ms, FIRST_TRIMMED.format(span=span) if trimmed else None


def _completed_by_ids(
    completed: int, dead: int, finished_sets: FinishedSets, in_vain: int, cursor: EventCursor, before: EventCursor
) -> tuple[int, int, EventCursor]:
    """Return (completed, dead, the cursor that records what is unknown), when some events are missing.

    The number of finished jobs follows from the ids assigned and the jobs that have not finished; the number of failed
    ones is known if all failed jobs are retained, or all completed ones.
    """
    # All are retained if nothing older was dropped, and none lately of those with an event, and these are enough.
    all_done, all_dead = (_stays_listed(state, cursor) for state in ENDS)
    all_dead = all_dead and finished_sets.dead_before and finished_sets.dead_since >= dead >= ENOUGH
    all_done = (
        all_done
        and finished_sets.start_ms is not None
        and finished_sets.start_ms <= before.at_ms
        and finished_sets.completed >= completed >= ENOUGH
    )
    dead = max(dead, finished_sets.dead_since)
    completed = max(completed, finished_sets.completed)
    if all_dead and all_done:
        return completed, dead, cursor
    seen = completed + dead
    ended = None if cursor.left is None or before.left is None else cursor.left - before.left
    now_s = cursor.at_ms / 1000
    if ended is None or ended < seen * (1 - SMALL_SHARE) or (in_vain and ended - in_vain > seen * (1 + SMALL_SHARE)):
        return completed, dead, cursor._replace(unknown_at=now_s)
    rest = 0 if in_vain else max(0, ended - seen)
    if all_done:
        return completed, dead + rest, cursor
    if rest > SMALL_SHARE * ended and not all_dead:
        cursor = cursor._replace(unsplit_at=now_s)
    return completed + rest, dead, cursor


def _by_events(
    key: str,
    cursor: EventCursor,
    completed: int,
    dead: int,
    span_s: float,
    reason: str | None,
    found: ClassReply,
    times: Sequence[float] = (),
) -> QueueFlow:
    """Return the flow from events. Values that were unknown in a sample stay unknown for as long as rates look back."""
    at_s = cursor.at_ms / 1000
    unknown, unsplit = at_s - cursor.unknown_at < FLOW_WINDOW_S, at_s - cursor.unsplit_at < FLOW_WINDOW_S
    if unknown or unsplit:
        reason = UNKNOWN_ENDED if unknown else UNSPLIT
    return QueueFlow(
        key=key,
        completed=completed,
        dead=dead,
        span_s=span_s,
        quality=Quality.ESTIMATED if reason else Quality.EXACT,
        reason=reason,
        runtimes_s=tuple([time for time in times if time >= 0][:MAX_RUNTIMES]) if times else (),
        hidden=ENDS if unknown else (State.DEAD,) if unsplit else (),
        ended=None if unknown or not unsplit else completed + dead,
        **_unlisted_fields(cursor.gone),
        **found.flow_fields(completed, dead, reason, counted=not (unknown or unsplit)),
    )


def _are_all(finished_sets: FinishedSets, completed: int, dead: int, before: EventCursor | None) -> bool:
    """Whether the retained jobs are all finished jobs: as many as the events, and as the jobs that left the queue."""
    ended = (
        0 if before is None or before.left is None or finished_sets.left is None else finished_sets.left - before.left
    )
    by_events = (completed, dead, ended)
    counted = (finished_sets.completed, finished_sets.dead, finished_sets.completed + finished_sets.dead)
    return all(count >= least * (1 - SMALL_SHARE) for count, least in zip(counted, by_events, strict=True))


def _span_s(start_ms: float, now_ms: float, before: EventCursor | None) -> float:
    span_s = (now_ms - start_ms) / 1000
    # The rate of a queue that was just created would otherwise be far too high.
    return max(span_s, 0.001 if before else SHORTEST_SPAN_S)


def _match_run_times(running: dict[bytes, int], ended: Sequence[Any]) -> list[float]:
    """Return the run times of jobs that started before the last sample and finished after it; removes them from
    `running`."""
    pairs = zip(ended[::2], ended[1::2], strict=True)
    return [(end - start) / 1000 for job_id, end in pairs if (start := running.pop(job_id, None)) is not None]


def _newest_starts(running: dict[bytes, int]) -> dict[bytes, int]:
    if len(running) <= MAX_STARTED:
        return running
    return dict(sorted(running.items(), key=lambda item: item[1])[-MAX_STARTED:])


def _newest_are_gone(flags: Sequence[Reply] | None, before: EventCursor | None) -> tuple[bool, bool]:
    """Whether the newest completed job, and the newest failed job, were removed; as before if none finished since."""
    old = before.gone if before else NOTHING_GONE
    if not flags:
        return old
    completed, dead = flags[:2]
    return old[0] if completed is None else completed == 1, old[1] if dead is None else dead == 1


def _gone_at(flags: Sequence[Reply] | None, now_ms: int, before: EventCursor | None) -> tuple[float, float]:
    """Return when a completed job was last seen to be removed immediately, and a failed one."""
    old = before.gone_at if before else (-math.inf, -math.inf)
    if not flags or not (flags[2] or flags[3]):
        return old
    return now_ms / 1000 if flags[2] else old[0], now_ms / 1000 if flags[3] else old[1]


def _stays_listed(state: State, cursor: EventCursor) -> bool:
    """Whether no job in `state` was seen to be removed immediately within FLOW_WINDOW_S."""
    return cursor.at_ms / 1000 - cursor.gone_at[ENDS.index(state)] >= FLOW_WINDOW_S


@cache
def _unlisted_fields(gone: tuple[bool, bool]) -> Mapping[str, Any]:
    """Return the fields of a flow that say which lists are empty because the app does not keep such jobs."""
    states = tuple(state for state, is_gone in zip(ENDS, gone, strict=True) if is_gone)
    return {"unlisted": states, "unlisted_reason": HIDDEN.get(states)}
