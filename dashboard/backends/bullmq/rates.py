"""Jobs that finished between two samples, per queue, from the events streams or from the retained finished jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from ...model import FlowDelta, Quality, QueueFlow, QueueRef, State
from ...sources.source import Command, Reply, Source
from ...units import format_duration
from ..base import FLOW_WINDOW_S
from ..completion_balance import BALANCED, CompletionBalance
from ..lua_reads import Scripts
from . import keys
from .stats import QUEUES_PER_CALL

# The events that one sample reads over all queues: at 2 to 5 µs each, this limits the cost to Redis.
EVENTS_PER_LOOK = 5000
MAX_RUNTIMES = 200
# The running jobs that are remembered per queue until they finish.
MAX_STARTED = 300
DEFAULT_MAX_EVENTS = 10_000
SHORTEST_SPAN_S = 1.0
NOTHING_GONE = (False, False)

NO_SCRIPTS = "this Redis user may not run scripts, so only retained finished jobs are counted"
NO_EVENTS = "this queue has no events, so only retained finished jobs are counted"
NOTHING_KEPT = "neither events nor finished jobs are retained, so the rates are unknown"
FIRST_BUSY = "more events than one sample reads: the first sample covers {span}"
FIRST_TRIMMED = "the events stream is short: the first sample covers {span}"
CUT = "events were trimmed or exceed one sample: counted from assigned ids and retained jobs"
CUT_KEPT = "events were trimmed or exceed one sample: counted from retained finished jobs"
UNSPLIT = "events were trimmed or exceed one sample, and finished jobs are removed: the number of failures is unknown"
UNTOLD = (
    "events were trimmed or exceed one sample, and finished jobs are removed: the number of finished ones is unknown"
)
REMOVED_BEFORE = "not all finished jobs are retained, and nothing else counts them: rates start with the second sample"
HIDDEN = {
    (State.COMPLETED,): "completed jobs leave no trace here: removeOnComplete is set",
    (State.DEAD,): "failed jobs leave no trace here: removeOnFail is set",
    (State.COMPLETED, State.DEAD): "finished jobs leave no trace here: removeOnComplete and removeOnFail are set",
}
UNTRACED = "more jobs finished than are retained: the app removes them immediately, or unfinished jobs were deleted"
ENDS = (State.COMPLETED, State.DEAD)
# This many jobs must be seen to be retained before all are assumed to be.
ENOUGH = 5
# If the stream was trimmed to less than this, the first sample has no rate.
SHORTEST_STREAM_S = 10.0
# A difference of this share to the number of events can be caused by clocks.
SMALL_SHARE = 0.05


class EventCursor(NamedTuple):
    """What is remembered of one queue until the next sample."""

    last_id: bytes  # of the events stream; b"" when it was empty
    at_ms: int  # the server's clock
    started: dict[bytes, int]  # job id -> ms
    gone: tuple[bool, bool] = (False, False)  # whether completed jobs are removed immediately, and failed ones
    balance: CompletionBalance = BALANCED  # of finished jobs, if there are no events
    left: int | None = None  # jobs ever added, less those that have not finished
    listed: int = 0  # finished jobs that were retained at that time
    unsplit_at: float = -math.inf  # seconds; when the number of failed among finished jobs was last unknown
    untold_at: float = -math.inf  # and the number of finished jobs
    gone_at: tuple[float, float] = (
        -math.inf,
        -math.inf,
    )  # when a completed job was last removed immediately, and a failed one


class FinishedSets(NamedTuple):
    """What the sets of finished jobs contain since `start_ms`, which is None if no completed job is retained."""

    completed: int
    dead: int
    start_ms: float | None
    left: int | None = None  # jobs ever added, less those that have not finished
    listed: int = 0
    removes: tuple[bool, bool] | None = (
        None  # whether the options of a current job remove it once it has completed, or failed
    )
    dead_since: int = 0  # failed jobs since the last sample
    dead_before: bool = False  # a job that failed earlier is retained


def read_flow(
    source: Source, scripts: Scripts, refs: Sequence[QueueRef], cursor: Mapping[str, EventCursor]
) -> tuple[FlowDelta, dict[str, EventCursor]]:
    """Return the flow of `refs` since `cursor`, and the next cursor. Cost: 1 round trip, 2 without scripts."""
    chunks = [refs[start : start + QUEUES_PER_CALL] for start in range(0, len(refs), QUEUES_PER_CALL)]
    calls: list[list[bytes | str | int]] = []
    for chunk in chunks:
        call: list[bytes | str | int] = [EVENTS_PER_LOOK * len(chunk) // len(refs), int(FLOW_WINDOW_S * 1000)]
        for ref in chunk:
            look = cursor.get(ref.key)
            call.extend((ref.key, look.last_id, look.at_ms) if look else (ref.key, "", ""))
        calls.append(call)
    answered = scripts.run(keys.load_script("flow"), calls)
    if answered is None:
        return _read_without_lua(source, refs, cursor)
    flows: list[QueueFlow] = []
    following: dict[str, EventCursor] = {}
    for chunk, reply in zip(chunks, answered[0], strict=True):
        rows = reply if isinstance(reply, list) else [reply] * len(chunk)
        for ref, row in zip(chunk, rows, strict=True):
            flow, look = _flow_of_queue(ref.key, row, cursor.get(ref.key))
            flows.append(flow)
            if look:
                following[ref.key] = look
    return FlowDelta(queues=tuple(flows)), following


def _unknown_flow(key: str, reason: str) -> QueueFlow:
    return QueueFlow(key=key, completed=0, dead=0, span_s=0.0, quality=Quality.UNKNOWN, reason=reason)


def _flow_of_queue(key: str, row: Reply, before: EventCursor | None) -> tuple[QueueFlow, EventCursor | None]:
    if isinstance(row, ResponseError):
        return _unknown_flow(key, "the events of this queue cannot be read"), None
    if isinstance(row, int) and before:
        cursor = EventCursor(
            before.last_id, row, *before[2:]
        )  # takes a third of the time of _replace, for most queues in every sample
        span_s = _span_s(before.at_ms, row, before)
        if before.untold_at == before.unsplit_at == -math.inf and before.gone == NOTHING_GONE:
            return QueueFlow(key=key, completed=0, dead=0, span_s=span_s, quality=Quality.EXACT), cursor
        return _by_events(key, cursor, 0, 0, span_s, None), cursor
    now, since, length, limit, last_id, seen, oldest_ms, completed, dead, runtimes, started, ended, kept, gone = row[
        :14
    ]
    added, unended, in_vain = row[14:]
    running = dict(before.started) if before else {}
    started, ended = started or (), ended or ()
    times = [ms / 1000 for ms in runtimes or ()] + (_match_run_times(running, ended) if ended else [])
    running.update(zip(started[::2], started[1::2], strict=True))
    last_id, running = last_id or (before.last_id if before else b""), _newest_starts(running)
    former = (before.unsplit_at, before.untold_at) if before else (-math.inf, -math.inf)
    left = _count_finished(added, unended) if seen or length != 0 else None
    cursor = EventCursor(
        last_id, now, running, _newest_are_gone(gone, before), BALANCED, left, 0, *former, _gone_at(gone, now, before)
    )
    if not seen and length == 0 and not (before and before.last_id) and keys.parse_integer(limit):
        # BullMQ writes an event for each job that is added: no stream means no jobs yet.
        span_s = _span_s(since if before else now, now, before)
        return QueueFlow(key=key, completed=0, dead=0, span_s=span_s, quality=Quality.EXACT), cursor
    if not seen and length == 0:
        return _from_kept(key, _parse_finished(kept), cursor, before, NO_EVENTS)
    reason = None
    start = since
    if before is None:
        start, reason = _first_start(since, oldest_ms, seen, length, limit, now, more=bool(kept))
        if reason and not kept and now - start < SHORTEST_STREAM_S * 1000:
            return _unknown_flow(key, reason), cursor
    if kept:
        sets = _parse_finished(kept)
        if _are_all(sets, completed, dead, before) and sets.start_ms is not None and sets.start_ms <= since:
            completed, dead, start, reason = sets.completed, sets.dead, since, CUT_KEPT
        elif before is not None:
            completed, dead, cursor = _completed_by_ids(completed, dead, sets, in_vain, cursor, before)
            reason = CUT
    return _by_events(key, cursor, completed, dead, _span_s(start, now, before), reason, times), cursor


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
        return completed, dead, cursor._replace(untold_at=now_s)
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
    times: Sequence[float] = (),
) -> QueueFlow:
    """Return the flow from events. Values that were unknown in a sample stay unknown for as long as rates look back."""
    at_s = cursor.at_ms / 1000
    untold, unsplit = at_s - cursor.untold_at < FLOW_WINDOW_S, at_s - cursor.unsplit_at < FLOW_WINDOW_S
    if untold or unsplit:
        reason = UNTOLD if untold else UNSPLIT
    return QueueFlow(
        key=key,
        completed=completed,
        dead=dead,
        span_s=span_s,
        quality=Quality.ESTIMATED if reason else Quality.EXACT,
        reason=reason,
        runtimes_s=tuple([time for time in times if time >= 0][:MAX_RUNTIMES]) if times else (),
        hidden=ENDS if untold else (State.DEAD,) if unsplit else (),
        ended=None if untold or not unsplit else completed + dead,
        **_unlisted_fields(cursor.gone),
    )


def _are_all(finished_sets: FinishedSets, completed: int, dead: int, before: EventCursor | None) -> bool:
    """Whether the retained jobs are all finished jobs: as many as the events, and as the jobs that left the queue."""
    ended = (
        0 if before is None or before.left is None or finished_sets.left is None else finished_sets.left - before.left
    )
    told = (completed, dead, ended)
    counted = (finished_sets.completed, finished_sets.dead, finished_sets.completed + finished_sets.dead)
    return all(count >= least * (1 - SMALL_SHARE) for count, least in zip(counted, told, strict=True))


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


def _parse_finished(replies: Sequence[Reply]) -> FinishedSets:
    completed, dead, start, added, unended, listed, opts, dead_since, dead_before = replies
    return FinishedSets(
        completed=_parse_integer(completed),
        dead=_parse_integer(dead),
        start_ms=keys.parse_number(start if isinstance(start, bytes) else None),
        left=_count_finished(added, unended),
        listed=_parse_integer(listed),
        removes=removal_flags(opts) if isinstance(opts, bytes) else None,
        dead_since=_parse_integer(dead_since),
        dead_before=dead_before == 1,
    )


def _count_finished(added: Reply, unended: Reply) -> int | None:
    count = keys.parse_integer(added if isinstance(added, bytes) else None)
    return None if count is None else count - _parse_integer(unended)


def _parse_integer(reply: Reply) -> int:
    return reply if isinstance(reply, int) else 0


def removal_flags(opts: bytes) -> tuple[bool, bool] | None:
    """Return whether a job with these options is removed immediately once it has completed, and once it has failed.

    None if they cannot be read.
    """
    try:
        options = msgspec.json.decode(opts)
    except msgspec.DecodeError:
        return None
    if not isinstance(options, dict):
        return None
    completed, dead = (_at_once(options.get(name)) for name in ("removeOnComplete", "removeOnFail"))
    return completed, dead


def _at_once(setting: object) -> bool:
    if isinstance(setting, dict):
        return any(setting.get(name) == 0 for name in ("count", "age"))
    return setting is True or (setting == 0 and setting is not False)


def _from_kept(
    key: str, finished_sets: FinishedSets, cursor: EventCursor, before: EventCursor | None, reason: str
) -> tuple[QueueFlow, EventCursor]:
    """Return the flow from the retained jobs, if these can be all finished jobs.

    The number of finished jobs follows from the jobs ever added and those that have not finished. It includes jobs that
    a user removed, so it is not used as a rate.
    """
    balance, gone = before.balance if before else BALANCED, before.gone if before else (False, False)
    if before is not None and before.left is not None and finished_sets.left is not None:
        came = max(finished_sets.completed + finished_sets.dead, finished_sets.listed - before.listed)
        # Fewer than before: the queue was emptied and starts over.
        balance = balance.add(cursor.at_ms / 1000, max(0, finished_sets.left - before.left), came)
    gone = finished_sets.removes or gone
    cursor = cursor._replace(balance=balance, left=finished_sets.left, listed=finished_sets.listed, gone=gone)
    if before is None and (
        finished_sets.left is None or finished_sets.left - finished_sets.listed > SMALL_SHARE * finished_sets.left
    ):
        return _unknown_flow(key, REMOVED_BEFORE), cursor
    states = tuple(state for state, is_gone in zip(ENDS, gone, strict=True) if is_gone)
    untraced = balance.hides_jobs(cursor.at_ms / 1000)
    hidden = (states or ENDS) if untraced else states if before is None else ()
    nothing = finished_sets.start_ms is None and (before is None or finished_sets.left is None)
    if nothing and not hidden:
        return _unknown_flow(key, NOTHING_KEPT), cursor
    start = before.at_ms if finished_sets.start_ms is None and before else finished_sets.start_ms
    why = (HIDDEN.get(states) or UNTRACED) if hidden else reason
    return QueueFlow(
        key=key,
        completed=finished_sets.completed,
        dead=finished_sets.dead,
        span_s=max((cursor.at_ms - (start or cursor.at_ms)) / 1000, SHORTEST_SPAN_S if before is None else 0.001),
        quality=Quality.ESTIMATED,
        reason=why,
        hidden=hidden,
        unlisted=hidden if untraced else states,
        unlisted_reason=why if untraced else HIDDEN.get(states),
    ), cursor


# Jobs move down this list, so that a job that moves during the count is counted twice rather than not at all.
_UNENDED = (
    *(("ZCARD", name) for name in ("waiting-children", "delayed", "prioritized")),
    *(("LLEN", name) for name in ("paused", "wait", "active")),
)


def _read_without_lua(
    source: Source, refs: Sequence[QueueRef], cursor: Mapping[str, EventCursor]
) -> tuple[FlowDelta, dict[str, EventCursor]]:
    """Read the same with plain commands, without the events, which contain return values of any size. 2 round trips."""
    heads: list[Command] = [
        command
        for ref in refs
        for command in (
            ("ZRANGE", f"{ref.key}:completed", 0, 0, "WITHSCORES"),
            ("GETRANGE", f"{ref.key}:id", 0, 19),
            *((command, f"{ref.key}:{name}") for command, name in _UNENDED),
        )
    ]
    clock, *replies = source.run_batch([("TIME",), *heads])
    now = int(clock[0]) * 1000 + int(clock[1]) // 1000
    width = len(heads) // len(refs) if refs else 0
    starts: list[int | None] = []
    lefts: list[int | None] = []
    for n, ref in enumerate(refs):
        head, added, *sizes = replies[n * width : (n + 1) * width]
        look = cursor.get(ref.key)
        oldest = keys.parse_integer(head[1]) if isinstance(head, list) and len(head) == 2 else None
        since = look.at_ms if look else now - int(FLOW_WINDOW_S * 1000)
        starts.append(None if oldest is None else max(since, oldest - 1))
        lefts.append(_count_finished(added, sum(_parse_integer(size) for size in sizes)))
    counts = source.run_batch(
        [
            command
            for ref, start in zip(refs, starts, strict=True)
            for ended in ("completed", "failed")
            for command in (
                ("ZCOUNT", f"{ref.key}:{ended}", f"({start or _since_ms(cursor.get(ref.key), now)}", "+inf"),
                ("ZCARD", f"{ref.key}:{ended}"),
            )
        ]
    )
    flows: list[QueueFlow] = []
    looks: dict[str, EventCursor] = {}
    for n, ref in enumerate(refs):
        completed, all_completed, dead, all_dead = map(_parse_integer, counts[n * 4 : n * 4 + 4])
        finished_sets = FinishedSets(completed, dead, starts[n], left=lefts[n], listed=all_completed + all_dead)
        flow, looks[ref.key] = _from_kept(
            ref.key, finished_sets, EventCursor(b"", now, {}), cursor.get(ref.key), NO_SCRIPTS
        )
        flows.append(flow)
    return FlowDelta(queues=tuple(flows)), looks


def _since_ms(before: EventCursor | None, now_ms: int) -> int:
    return before.at_ms if before else now_ms - int(FLOW_WINDOW_S * 1000)
