"""Counts the jobs of one objective from the records of its queues. Pure: no Redis, no clock."""

from __future__ import annotations

from ..history.columns import Record
from ..history.series_keys import SeriesKey
from ..history.slots import StoredSeries
from ..history.tiers import HOUR_S, QUARTERS
from ..settings import SloSettings
from ..settings.slos import covers_queue
from .good_jobs import JobCounts, count_good_jobs, covered_records, finished_of, lacks_measure
from .slo_counts import SloCounts
from .slo_report import BURN_WINDOWS, QueueName, SloReport, SloStep, digest_of

# The window of a report has about so many steps, of whole hours.
STEPS = 120
MAX_UNKNOWN = 20
SHARED_ROW = "*"  # figures of all queues of a library together


class SloTracker:
    """The counts of one objective. Not thread-safe."""

    def __init__(self, slo: SloSettings) -> None:
        self.slo = slo
        self._counts = SloCounts()
        # Queues with jobs that could be counted, and that could not, with the start of the last such record.
        self._counted: dict[SeriesKey, int] = {}
        self._lacking: dict[SeriesKey, int] = {}
        self._digest = digest_of(slo)

    def covers(self, key: SeriesKey) -> bool:
        """Whether the objective is about the queue of a series."""
        return covers_queue(self.slo, key.source, key.backend, key.name)

    def add_minute(self, key: SeriesKey, record: Record) -> None:
        """Count the record of a minute, also in its quarter of an hour."""
        counts = self._count(key, record, finished_of(record.cells))
        if counts is not None:
            self._counts.add_minutes(record.start_s, 1, counts)
            self._counts.add_quarters(record.start_s, 1, counts)

    def add_past_minutes(self, key: SeriesKey, stored: StoredSeries, start_s: int, end_s: int) -> None:
        """Count what is stored of a time by minute; its quarters of an hour are counted by `add_past_quarters`."""
        for record, span_s, finished in covered_records(stored, self.slo, start_s, end_s):
            if (counts := self._count(key, record, finished)) is not None:
                self._counts.add_minutes(record.start_s, span_s, counts)

    def add_past_quarters(self, key: SeriesKey, stored: StoredSeries, start_s: int, end_s: int) -> None:
        """Count what is stored of a time by quarter of an hour."""
        for record, span_s, finished in covered_records(stored, self.slo, start_s, end_s):
            if (counts := self._count(key, record, finished)) is not None:
                self._counts.add_quarters(record.start_s, span_s, counts)

    def _count(self, key: SeriesKey, record: Record, finished: int | None) -> JobCounts | None:
        counts = count_good_jobs(self.slo, record.cells, finished)
        if counts is not None:
            _note_last(self._counted, key, record.start_s)
        elif lacks_measure(record.cells):
            _note_last(self._lacking, key, record.start_s)
        return counts

    def report(self, now_s: int) -> SloReport:
        """The counts until `now_s`, the end of a minute; forgets what is too old to count."""
        window_s, counts = self.slo.window_s, self._counts
        counts.forget_before(now_s, max(window_s, *BURN_WINDOWS.values()))
        for queues in (self._counted, self._lacking):
            for key in [key for key, last_s in queues.items() if last_s < now_s - window_s - QUARTERS.step_s]:
                del queues[key]
        unknown = sorted(key[1:4] for key in self._lacking.keys() - self._counted if not self._is_in_shared_row(key))
        step_s = max(1, round(window_s / STEPS / HOUR_S)) * HOUR_S
        return SloReport(
            slo_id=self.slo.id,
            digest=self._digest,
            at=now_s,
            window=counts.within(window_s, now_s),
            recent={name: counts.within(seconds, now_s) for name, seconds in BURN_WINDOWS.items()},
            since_s=counts.first_s(window_s, now_s),
            step_s=step_s,
            steps=tuple(
                SloStep(start_s=start_s, counts=each) for start_s, each in counts.in_steps(window_s, now_s, step_s)
            ),
            counted_queues=len(self._counted),
            unknown_count=len(unknown),
            unknown=tuple(QueueName(source=one[0], backend=one[1], name=one[2]) for one in unknown[:MAX_UNKNOWN]),
        )

    def _is_in_shared_row(self, key: SeriesKey) -> bool:
        """Whether the jobs of a queue are counted with those of all queues of its library."""
        return key._replace(name=SHARED_ROW) in self._counted


def _note_last(queues: dict[SeriesKey, int], key: SeriesKey, start_s: int) -> None:
    queues[key] = max(start_s, queues.get(key, start_s))
