"""The forecasts of all queues of one library on one Redis, from sample to sample. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..model import FlowDelta, Quality, QueueFlow, QueueStats
from .queue_forecaster import QueueForecaster


class Forecasts:
    """The forecasts of one sampler. Not thread-safe. Queues in which nothing happens cost one look-up each."""

    def __init__(self) -> None:
        self._forecasters: dict[str, QueueForecaster] = {}  # by key; only of queues with jobs in the last hour

    def adopt(self, queue: QueueStats, at: float) -> None:
        """Continue from the forecast of a queue that another sampler published as of `at`, unless it is sampled here
        already."""
        if queue.forecast is not None and queue.depth and queue.key not in self._forecasters:
            self._forecasters[queue.key] = QueueForecaster()
            self._forecasters[queue.key].adopt(queue.forecast, at)

    def fill_forecasts(self, queues: Sequence[QueueStats], delta: FlowDelta, at: float) -> list[QueueStats]:
        """The queues, in the same order, with their forecasts. `at`: seconds on a monotonic clock."""
        flows = {flow.key: flow for flow in delta.queues}
        filled = [self._fill(queue, flows, at) for queue in queues]
        gone = self._forecasters.keys() - {queue.key for queue in queues}
        for key in gone:
            del self._forecasters[key]
        return filled

    def _fill(self, queue: QueueStats, flows: Mapping[str, QueueFlow], at: float) -> QueueStats:
        forecaster = self._forecasters.get(queue.key)
        finished = _count_finished(flows.get(queue.key))
        if forecaster is None:
            if queue.depth is None or not (queue.depth or finished):
                return queue
            forecaster = self._forecasters[queue.key] = QueueForecaster()
        filled = forecaster.fill_forecast(queue, at, finished)
        if forecaster.is_idle(at):
            del self._forecasters[queue.key]
        return filled


def _count_finished(flow: QueueFlow | None) -> int | None:
    """The jobs that finished since the sample before; None if they are not all known."""
    if flow is None or flow.quality is Quality.UNKNOWN or (flow.hidden and flow.ended is None):
        return None
    known = flow.completed + flow.dead
    return known if flow.ended is None else max(flow.ended, known)
