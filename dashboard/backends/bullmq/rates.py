"""Jobs that finished between two samples, per queue, from the events streams or from the retained finished jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...model import FlowDelta, QueueFlow, QueueRef
from ...sources.source import Command, Source
from ..base import FLOW_WINDOW_S
from ..lua_reads import Scripts
from . import keys
from .flow.cursor import EventCursor
from .flow.events import flow_of_queue
from .flow.finished_sets import FinishedSets, count_finished, count_or_zero, flow_from_sets
from .flow.reasons import NO_SCRIPTS

# The script is sent with every call, and takes longer to parse than a few more queues at rest take to read.
QUEUES_PER_CALL = 45
# The events that one sample reads over all queues: at 2 to 5 µs each, this limits the cost to Redis.
EVENTS_PER_LOOK = 5000


def read_flow(
    source: Source, scripts: Scripts, refs: Sequence[QueueRef], cursor: Mapping[str, EventCursor]
) -> tuple[FlowDelta, dict[str, EventCursor]]:
    """Return the flow of `refs` since `cursor`, and the next cursor. Cost: 1 round trip, 2 without scripts."""
    chunks = scripts.split(refs, QUEUES_PER_CALL, keys.queue_key)
    calls: list[list[bytes | str | int]] = []
    for chunk in chunks:
        call: list[bytes | str | int] = [EVENTS_PER_LOOK * len(chunk) // len(refs), int(FLOW_WINDOW_S * 1000)]
        for ref in chunk:
            look = cursor.get(ref.key)
            call.extend((ref.key, look.last_id, look.at_ms) if look else (ref.key, "", ""))
            call.append("" if look is None or look.names is None else "1")
        calls.append(call)
    answered = scripts.run(keys.load_script("flow"), calls, at=[chunk[0].key for chunk in chunks])
    if answered is None:
        return _read_without_lua(source, refs, cursor)
    flows: list[QueueFlow] = []
    following: dict[str, EventCursor] = {}
    for chunk, reply in zip(chunks, answered[0], strict=True):
        rows = reply if isinstance(reply, list) else [reply] * len(chunk)
        for ref, row in zip(chunk, rows, strict=True):
            flow, look = flow_of_queue(ref.key, row, cursor.get(ref.key))
            flows.append(flow)
            if look:
                following[ref.key] = look
    return FlowDelta(queues=tuple(flows)), following


# Jobs move down this list, so that a job that moves during the count is counted twice rather than not at all.
_UNENDED = (
    *(("ZCARD", name) for name in ("waiting-children", "delayed", "prioritized")),
    *(("LLEN", name) for name in ("paused", "wait", "active")),
)


def _read_without_lua(
    source: Source, refs: Sequence[QueueRef], cursor: Mapping[str, EventCursor]
) -> tuple[FlowDelta, dict[str, EventCursor]]:
    """Read the same with plain commands, without the events, which contain return values of any size. 2 round trips."""
    now, starts, lefts = _read_starts(source, refs, cursor)
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
        completed, all_completed, dead, all_dead = map(count_or_zero, counts[n * 4 : n * 4 + 4])
        finished_sets = FinishedSets(completed, dead, starts[n], left=lefts[n], listed=all_completed + all_dead)
        flow, looks[ref.key] = flow_from_sets(
            ref.key, finished_sets, EventCursor(b"", now, {}), cursor.get(ref.key), NO_SCRIPTS
        )
        flows.append(flow)
    return FlowDelta(queues=tuple(flows)), looks


def _read_starts(
    source: Source, refs: Sequence[QueueRef], cursor: Mapping[str, EventCursor]
) -> tuple[int, list[int | None], list[int | None]]:
    """The server's time in ms, and per queue since when completed jobs are retained and how many jobs finished."""
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
        lefts.append(count_finished(added, sum(count_or_zero(size) for size in sizes)))
    return now, starts, lefts


def _since_ms(before: EventCursor | None, now_ms: int) -> int:
    return before.at_ms if before else now_ms - int(FLOW_WINDOW_S * 1000)
