"""The tasks that finished in each queue between two samples, from what the live feed reported."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from ...clock import monotonic_s
from ...model import FlowDelta, Quality, QueueFlow, QueueRef, State
from ..class_tally import ClassTally
from . import keys
from .results.ended_tasks import MAX_RUNTIMES, NO_NAME, EndedTasks
from .results.index import ResultIndex

NOT_LISTENING = "rates come from Celery's result channel, which the sampling process subscribes to when it starts"
GAP = "the subscription to the result channel was interrupted"
EACH = "each queue has its own rate"
HIDDEN = "Not all results are stored (ignore_result, or no result backend). See the entry for all Celery queues."
ERRORS_ALONE = "Only errors are stored (ignore_result), so the number of completed jobs is unknown."
BY_RUNS = (
    "Counted from worker heartbeats, including retries: not all results are stored (ignore_result, or no backend)."
)
JUST_SUBSCRIBED = "just subscribed to the result channel"
JUST_BEGUN = "Just subscribed. Rates appear in about 10 s, once each worker has reported its tasks."
SILENT = "No results or worker heartbeats received, so the rate is unknown."
# If all workers have been silent for this long, no jobs are being processed.
IDLE_AFTER_S = 30.0
BOTH = (State.COMPLETED, State.DEAD)
NO_QUEUE = "results do not name their queue: set result_extended = True in the app; see the entry for all Celery queues"


def read_flow(refs: Sequence[QueueRef], keeper: ResultIndex | None, cursor: float | None) -> tuple[FlowDelta, float]:
    """Return what finished since the last call, from the live feed. Cost: none."""
    now = monotonic_s()
    if keeper is None:
        return FlowDelta(queues=tuple(QueueFlow.unknown(ref.key, NOT_LISTENING) for ref in refs)), now
    sample = FeedSample(refs, keeper, now, now - cursor if cursor is not None else 0.0)
    if cursor is None:
        return FlowDelta(queues=tuple(QueueFlow.unknown(ref.key, JUST_SUBSCRIBED) for ref in refs)), now
    return FlowDelta(queues=tuple(sample.flow_of(ref) for ref in refs)), now


class FeedSample:
    """What the live feed reported since the last sample, and how much of it each queue can be given."""

    def __init__(self, refs: Sequence[QueueRef], keeper: ResultIndex, now: float, span_s: float) -> None:
        self._keeper = keeper
        self._traces = keeper.tally.traces
        self._ended = keeper.tally.take_ended()
        self._now, self._span_s = now, span_s
        self._places = {ref.key: keys.location_of(ref) for ref in refs}
        self._shown = {(place.prefix, place.queue) for place in self._places.values() if place.queue is not None}
        # True for as long as rates look back. Queues then have no rate of their own; the shared entry has the total.
        self._nameless = keeper.tally.is_nameless(now)
        prefixes = {place.prefix for place in self._places.values()}
        self._hiding = {prefix for prefix in prefixes if self._traces.hides_tasks(prefix, now)}
        self._known: Collection[tuple[str, str | None]] = self._shown
        if self._hiding or self._nameless:
            # Workers may also consume queues that the settings hide.
            consumed = map(keys.place_of_key, keeper.queues)
            self._known = {*self._shown, *((place.prefix, place.queue) for place in consumed)}
        self._moved = self._traces.moved_queues()

    def flow_of(self, ref: QueueRef) -> QueueFlow:
        """Return the flow of one queue, or of the entry for all queues of its prefix."""
        place = self._places[ref.key]
        if not self._keeper.runs.knows_all_runs(place.prefix):
            return QueueFlow.unknown(ref.key, JUST_BEGUN)
        if place.queue is None:
            return self._flow_of_all(ref.key, place.prefix)
        where = (place.prefix, place.queue)
        if self._nameless:
            return replace(QueueFlow.unknown(ref.key, NO_QUEUE), progressed=self.has_progressed(where))
        if place.prefix in self._hiding:
            return self._flow_of_errors(ref.key, where)
        flow = self._unknown_if_silent(_build_flow(ref.key, self._ended, [where], self._span_s), place.prefix)
        return replace(flow, progressed=self._moved.get(where)) if flow.quality is Quality.UNKNOWN else flow

    def _flow_of_all(self, key: str, prefix: str) -> QueueFlow:
        """Return what finished in no queue that has a row of its own."""
        nameless = self._nameless or not self._shown
        if prefix in self._hiding:
            return self._flow_of_runs(key, prefix, nameless=nameless)
        rest = [where for where in {**self._ended.completed, **self._ended.dead} if where[0] == prefix]
        if not self._nameless:
            rest = [where for where in rest if where not in self._shown]
        if not (nameless or rest):
            return QueueFlow.unknown(key, EACH)
        return self._unknown_if_silent(_build_flow(key, self._ended, rest, self._span_s), prefix)

    def _flow_of_runs(self, key: str, prefix: str, *, nameless: bool) -> QueueFlow:
        """Return the runs that workers finished in all queues of `prefix` together.

        If records name no queue, stored errors are counted here.
        """
        errors = nameless and self._traces.errors_alone((prefix, ""), self._now)
        return QueueFlow(
            key=key,
            completed=0,
            dead=self._ended.dead[prefix, ""] if errors else 0,
            ended=self._ended.runs[prefix],
            span_s=max(self._span_s, 0.001),
            quality=Quality.ESTIMATED,
            reason=BY_RUNS,
            hidden=(State.COMPLETED,) if errors else BOTH,
            unlisted=BOTH,
            unlisted_reason=BY_RUNS,
        )

    def _flow_of_errors(self, key: str, where: tuple[str, str]) -> QueueFlow:
        """Return the flow of a queue whose successful results are not stored."""
        errors = self._traces.errors_alone(where, self._now)
        return replace(
            _build_flow(key, self._ended, [where], self._span_s),
            hidden=(State.COMPLETED,) if errors else BOTH,
            reason=ERRORS_ALONE if errors else HIDDEN,
            classes=None,
            classes_quality=Quality.UNKNOWN,
            classes_reason=HIDDEN,
            retried=None,
            progressed=self.has_progressed(where),
        )

    def _unknown_if_silent(self, flow: QueueFlow, prefix: str) -> QueueFlow:
        """Return `flow`, or an unknown flow if nothing was received and no worker is known that would send anything."""
        known_workers = self._keeper.runs.is_settled and self._traces.workers.get(prefix) is not None
        return flow if prefix in self._traces.recorded or known_workers else QueueFlow.unknown(flow.key, SILENT)

    def has_progressed(self, where: tuple[str, str]) -> bool | None:
        """Whether a queue made progress: its next message changed or, failing that, workers report that they started
        tasks.

        Workers report the latter for all queues of the prefix together.
        """
        if where in self._moved:
            return self._moved[where]
        prefix = where[0]
        if self._ended.started[prefix]:
            return True if sum(each[0] == prefix for each in self._known) == 1 else None
        idle = self._now - self._traces.started_at.get(prefix, -IDLE_AFTER_S) >= IDLE_AFTER_S
        return False if idle and self._traces.workers.get(prefix) is not None else None


def _build_flow(key: str, ended: EndedTasks, where: Sequence[tuple[str, str]], span_s: float) -> QueueFlow:
    flow = QueueFlow(
        key=key,
        completed=sum(ended.completed[each] for each in where),
        dead=sum(ended.dead[each] for each in where),
        span_s=max(span_s, 0.001),
        quality=Quality.EXACT if ended.whole else Quality.ESTIMATED,
        reason=None if ended.whole else GAP,
        runtimes_s=tuple(seconds for each in where for seconds in ended.runtimes.get(each, ()))[:MAX_RUNTIMES],
        retried=sum(ended.retried[each] for each in where),
    )
    if not (flow.completed or flow.dead):
        return flow
    tally = ClassTally(NO_NAME)
    for each in where:
        if each in ended.classes:
            tally.include(ended.classes[each])
    found = tally.classes_of(flow.completed, flow.dead, flow.reason)
    return replace(flow, classes=found.classes, classes_quality=found.quality, classes_reason=found.reason)
