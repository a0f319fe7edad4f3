"""The tasks that finished in each queue between two samples, from what the live feed reported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ...clock import monotonic_s
from ...model import FlowDelta, Quality, QueueFlow, QueueRef, State
from . import keys
from .results.ended_tasks import MAX_RUNTIMES, EndedTasks, ResultTraces
from .results.index import ResultIndex

NOT_LISTENING = "rates come from Celery's result channel, which the sampling process subscribes to when it starts"
GAP = "the subscription to the result channel was interrupted"
EACH = "each queue has its own rate"
HIDDEN = "Not all results are stored (ignore_result, or no result backend). See the entry for all Celery queues."
ERRORS_ALONE = "Only errors are stored (ignore_result), so the number of completed jobs is unknown."
BY_RUNS = (
    "Counted from worker heartbeats, including retries: not all results are stored (ignore_result, or no backend)."
)
JUST_BEGUN = "Just subscribed. Rates appear in about 10 s, once each worker has reported its tasks."
SILENT = "No results or worker heartbeats received, so the rate is unknown."
# If all workers have been silent for this long, no jobs are being processed.
IDLE_AFTER_S = 30.0
BOTH = (State.COMPLETED, State.DEAD)
NO_QUEUE = "results do not name their queue: set result_extended = True in the app; see the entry for all Celery queues"


class FlowFacts(NamedTuple):
    """What finished since the last call, and what is known about the queues."""

    keeper: ResultIndex
    ended: EndedTasks
    span_s: float
    now: float
    moved: Mapping[tuple[str, str], bool]  # whether the next message of a queue changed
    shown: Collection[tuple[str, str]]  # (prefix, queue); empty if only shared entries are shown
    known: Collection[tuple[str, str | None]]  # these and, if they matter, queues that the settings hide
    hiding: Collection[str]  # the prefixes of which not all results are stored
    nameless: bool  # results do not name their queue

    def has_progressed(self, where: tuple[str, str]) -> bool | None:
        """Whether a queue made progress: its next message changed or, failing that, workers report started tasks.

        Workers report the latter for all queues of the prefix together.
        """
        if where in self.moved:
            return self.moved[where]
        prefix = where[0]
        if self.ended.started[prefix]:
            return True if sum(each[0] == prefix for each in self.known) == 1 else None
        traces = self.keeper.tally.traces
        idle = self.now - traces.started_at.get(prefix, -IDLE_AFTER_S) >= IDLE_AFTER_S
        return False if idle and traces.workers.get(prefix) is not None else None


def read_flow(refs: Sequence[QueueRef], keeper: ResultIndex | None, cursor: float | None) -> tuple[FlowDelta, float]:
    """Return what finished since the last call, from the live feed. Cost: none."""
    now = monotonic_s()
    if keeper is None:
        unknown = [_unknown_flow(ref.key, NOT_LISTENING) for ref in refs]
        return FlowDelta(queues=tuple(unknown)), now
    ended = keeper.tally.take_ended()
    span_s = now - cursor if cursor is not None else 0.0
    places = {ref.key: keys.location_of(ref) for ref in refs}
    shown = {(place.prefix, place.queue) for place in places.values() if place.queue is not None}
    # True for as long as rates look back. Queues then have no rate of their own; the shared entry has the total.
    nameless = keeper.tally.is_nameless(now)
    traces = keeper.tally.traces
    hiding = {prefix for prefix in {place.prefix for place in places.values()} if traces.hides_tasks(prefix, now)}
    known: Collection[tuple[str, str | None]] = shown
    if hiding or nameless:
        # Workers may also consume queues that the settings hide.
        known = {*shown, *((place.prefix, place.queue) for place in map(keys.place_of_key, keeper.queues))}
    facts = FlowFacts(keeper, ended, span_s, now, traces.moved_queues(), shown, known, hiding, nameless)
    flows = []
    for ref in refs:
        prefix, queue = places[ref.key].prefix, places[ref.key].queue
        if cursor is None:
            flows.append(_unknown_flow(ref.key, "just subscribed to the result channel"))
        elif not keeper.runs.knows_all_runs(prefix):
            flows.append(_unknown_flow(ref.key, JUST_BEGUN))
        elif queue is None:
            flows.append(_flow_of_shared(ref.key, prefix, facts))
        else:
            flows.append(_flow_of_queue(ref.key, (prefix, queue), facts))
    return FlowDelta(queues=tuple(flows)), now


def _flow_of_shared(key: str, prefix: str, facts: FlowFacts) -> QueueFlow:
    """The flow of the entry for all queues of a prefix: of those without a rate of their own."""
    ended, nameless = facts.ended, facts.nameless
    if prefix in facts.hiding:
        traces = facts.keeper.tally.traces
        return _by_runs(key, prefix, ended, traces, facts.now, facts.span_s, nameless=nameless or not facts.shown)
    rest = [where for where in {**ended.completed, **ended.dead} if where[0] == prefix]
    if not nameless:
        rest = [where for where in rest if where not in facts.shown]
    if nameless or rest or not facts.shown:
        return _unknown_if_silent(_build_flow(key, ended, rest, facts.span_s), prefix, facts.keeper)
    return _unknown_flow(key, EACH)


def _flow_of_queue(key: str, where: tuple[str, str], facts: FlowFacts) -> QueueFlow:
    prefix = where[0]
    if facts.nameless:
        return msgspec.structs.replace(_unknown_flow(key, NO_QUEUE), progressed=facts.has_progressed(where))
    flow = _build_flow(key, facts.ended, [where], facts.span_s)
    if prefix in facts.hiding:
        errors = facts.keeper.tally.traces.errors_alone(where, facts.now)
        return msgspec.structs.replace(
            flow,
            hidden=(State.COMPLETED,) if errors else BOTH,
            reason=ERRORS_ALONE if errors else HIDDEN,
            progressed=facts.has_progressed(where),
        )
    flow = _unknown_if_silent(flow, prefix, facts.keeper)
    if flow.quality is Quality.UNKNOWN:
        flow = msgspec.structs.replace(flow, progressed=facts.moved.get(where))
    return flow


def _by_runs(
    key: str, prefix: str, ended: EndedTasks, traces: ResultTraces, now: float, span_s: float, *, nameless: bool
) -> QueueFlow:
    """Return the runs that workers finished in all queues of `prefix` together.

    If records name no queue, stored errors are counted here.
    """
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


def _unknown_if_silent(flow: QueueFlow, prefix: str, keeper: ResultIndex) -> QueueFlow:
    """Return `flow`, or an unknown flow if nothing was received and no worker is known that would send anything."""
    traces = keeper.tally.traces
    if prefix in traces.recorded or (keeper.runs.is_settled and traces.workers.get(prefix) is not None):
        return flow
    return _unknown_flow(flow.key, SILENT)


def _unknown_flow(key: str, reason: str) -> QueueFlow:
    return QueueFlow(key=key, completed=0, dead=0, span_s=0.0, quality=Quality.UNKNOWN, reason=reason)


def _build_flow(key: str, ended: EndedTasks, where: Sequence[tuple[str, str]], span_s: float) -> QueueFlow:
    return QueueFlow(
        key=key,
        completed=sum(ended.completed[each] for each in where),
        dead=sum(ended.dead[each] for each in where),
        span_s=max(span_s, 0.001),
        quality=Quality.EXACT if ended.whole else Quality.ESTIMATED,
        reason=None if ended.whole else GAP,
        runtimes_s=tuple(seconds for each in where for seconds in ended.runtimes.get(each, ()))[:MAX_RUNTIMES],
    )
