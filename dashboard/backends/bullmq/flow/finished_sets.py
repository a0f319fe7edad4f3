"""The flow of a queue without events, from the sets of retained finished jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ....model import Quality, QueueFlow
from ....sources.source import Reply
from ...completion_balance import BALANCED
from ...payloads.nesting import is_too_deep
from .. import keys
from .cursor import ENDS, NOTHING_GONE, EventCursor
from .reasons import HIDDEN, NOTHING_KEPT, REMOVED_BEFORE, UNTRACED

# A difference of this share to the number of events can be caused by clocks.
SMALL_SHARE = 0.05
SHORTEST_SPAN_S = 1.0


class FinishedSets(NamedTuple):
    """What the sets of finished jobs contain since `start_ms`, which is None if no completed job is retained."""

    completed: int
    dead: int
    start_ms: float | None
    left: int | None = None  # jobs ever added, less those that have not finished
    listed: int = 0
    # Whether the options of a current job remove it once it has completed, or failed.
    removes: tuple[bool, bool] | None = None
    dead_since: int = 0  # failed jobs since the last sample
    dead_before: bool = False  # a job that failed earlier is retained


def parse_finished(replies: Sequence[Reply]) -> FinishedSets:
    """The sets of finished jobs in a reply of flow.lua."""
    completed, dead, start, added, unended, listed, opts, dead_since, dead_before = replies
    return FinishedSets(
        completed=count_or_zero(completed),
        dead=count_or_zero(dead),
        start_ms=keys.parse_number(start if isinstance(start, bytes) else None),
        left=count_finished(added, unended),
        listed=count_or_zero(listed),
        removes=removal_flags(opts) if isinstance(opts, bytes) else None,
        dead_since=count_or_zero(dead_since),
        dead_before=dead_before == 1,
    )


def count_finished(added: Reply, unended: Reply) -> int | None:
    """The jobs ever added, less those that have not finished; None if the former is not a number."""
    count = keys.parse_integer(added if isinstance(added, bytes) else None)
    return None if count is None else count - count_or_zero(unended)


def count_or_zero(reply: Reply) -> int:
    """The number in a reply; 0 for an error."""
    return reply if isinstance(reply, int) else 0


def removal_flags(opts: bytes) -> tuple[bool, bool] | None:
    """Return whether a job with these options is removed immediately once it has completed, and once it has failed.

    None if they cannot be read.
    """
    if is_too_deep(opts):
        return None
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


def flow_from_sets(
    key: str, finished_sets: FinishedSets, cursor: EventCursor, before: EventCursor | None, reason: str
) -> tuple[QueueFlow, EventCursor]:
    """Return the flow from the retained jobs, if these can be all finished jobs.

    The number of finished jobs follows from the jobs ever added and those that have not finished. It includes jobs that
    a user removed, so it is not used as a rate.
    """
    balance, gone = before.balance if before else BALANCED, before.gone if before else NOTHING_GONE
    if before is not None and before.left is not None and finished_sets.left is not None:
        came = max(finished_sets.completed + finished_sets.dead, finished_sets.listed - before.listed)
        # Fewer than before: the queue was emptied and starts over.
        balance = balance.add(cursor.at_ms / 1000, max(0, finished_sets.left - before.left), came)
    gone = finished_sets.removes or gone
    cursor = cursor._replace(balance=balance, left=finished_sets.left, listed=finished_sets.listed, gone=gone)
    if before is None and (
        finished_sets.left is None or finished_sets.left - finished_sets.listed > SMALL_SHARE * finished_sets.left
    ):
        return QueueFlow.unknown(key, REMOVED_BEFORE), cursor
    states = tuple(state for state, is_gone in zip(ENDS, gone, strict=True) if is_gone)
    untraced = balance.hides_jobs(cursor.at_ms / 1000)
    hidden = (states or ENDS) if untraced else states if before is None else ()
    nothing = finished_sets.start_ms is None and (before is None or finished_sets.left is None)
    if nothing and not hidden:
        return QueueFlow.unknown(key, NOTHING_KEPT), cursor
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
