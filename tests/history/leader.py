"""A leader of the history whose clock is the test's, and readers of what it stored."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard.history.columns import QUEUE
from dashboard.history.history_reader import HistoryReader, choose_range
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import HistoryRecorder
from dashboard.history.series_keys import SeriesKey
from dashboard.history.slots import figure_values
from dashboard.model import QueueFlow, QueueStats
from dashboard.store.redis_store import LEAD, Store
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of

MAIL, CASH = SeriesKey(QUEUE, "main", "rq", "mail"), SeriesKey(QUEUE, "main", "rq", "cash\udcff")
START_S = 1_700_000_100
BUDGET_BYTES = 64 * 2**20
STEP_S = 10


class Leader:
    """A leader whose samples are STEP_S apart by a clock of their own."""

    def __init__(self, store: Store, name: str, budget_bytes: int = BUDGET_BYTES) -> None:
        self.store = store
        self.lead = f"{name}:1"
        store.source.execute("SET", LEAD, self.lead, "PX", 10_000_000)
        self.writer = HistoryWriter(store, budget_bytes)
        self.writer.load_series()
        self.recorder = HistoryRecorder()
        self.recorder.know_stored(self.writer.stored_keys())

    def run(self, start_s: int, end_s: int, *, depth: int = 4, jobs: int = 10) -> bool:
        """Sample from `start_s` until before `end_s`, with so many jobs in each sample; whether everything was
        stored."""
        stored = True
        for second in range(start_s, end_s, STEP_S):
            mail = flow_of("mail", jobs, 0, *([0.5] * jobs), span_s=STEP_S)
            rows = [queue_row("mail", depth + second // STEP_S % 3), queue_row("cash\udcff", 1)]
            stored &= self.sample(second, rows, [mail, flow_of("cash\udcff", span_s=STEP_S)])
        return stored

    def sample(self, at: float, rows: Sequence[QueueStats], flows: Sequence[QueueFlow]) -> bool:
        """One sample, and what a leader does after it; whether it was stored."""
        stored = self.writer.append_slots(self.lead, self.recorder.add_sample(snapshot_of(at, *rows), flows_of(*flows)))
        self.writer.compact(self.lead, at)
        self.writer.visit_series(self.lead, at, self.recorder.is_sampled)
        return stored

    def stop(self) -> bool:
        return self.writer.append_slots(self.lead, self.recorder.close())


def read(store: Store, key: SeriesKey, figure: str, start_s: int, end_s: int) -> list[float | int | None]:
    wanted = choose_range(key.kind, start_s, end_s, end_s)
    return figure_values(key.kind, figure, HistoryReader(store).read_slots([key], wanted, end_s)[key])
