"""What the leader records: readings, filed into the slots of each tier. Pure: no Redis, no clock.

What was not sampled is a gap: a new leader, an outage or a stalled process never becomes a spike, a negative or a
doubled count. A queue of which nothing changes has no records: its levels hold from the last one on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..model import Snapshot
from .activity.recent_jobs import RecentJobs
from .class_counts import ClassCounts
from .columns import (
    CLASS,
    QUEUE,
    SOURCE,
    Cell,
    Cells,
    Record,
    carry_cells,
    is_idle_after,
    levels_of,
    merge_slot,
    share_cells,
    with_levels,
)
from .readings import Flows, Reading, SampleReadings
from .run_times import RecentRunTimes
from .series_keys import SeriesKey
from .tiers import MOST_TIERS, Tier, slot_of, tiers_of

_RUN_TIMES = QUEUE.index_of("runtimes")
_ARRIVED, _FINISHED, _UNCOUNTED = map(QUEUE.index_of, ("enqueued", "finished", "uncounted_ms"))


class ClosedSlot(NamedTuple):
    """A record that is complete, of one tier of a series."""

    key: SeriesKey
    tier: Tier
    record: Record


class _OpenSlot:
    """The slot of one tier of a series that is being filled, and what was written last."""

    __slots__ = ("before", "records", "start_s")

    def __init__(self) -> None:
        self.start_s = 0
        self.records: list[Record] = []
        self.before: Cells | None = None


class HistoryRecorder:
    """Builds the records of one leader. Not thread-safe."""

    def __init__(self, run_times: RecentRunTimes | None = None, jobs: RecentJobs | None = None) -> None:
        """`run_times` and `jobs` take in those of all samples, too."""
        self._classes = ClassCounts(run_times, jobs)
        self._jobs = jobs
        self._readings = SampleReadings(self._classes)
        self._run_times = run_times
        self._open: dict[SeriesKey, list[_OpenSlot]] = {}  # one for each tier of the series
        self._filled: list[set[SeriesKey]] = [
            set() for _ in range(MOST_TIERS)
        ]  # series with records in that tier's slot
        self._seen: dict[SeriesKey, Cells] = {}  # as of the last sample
        self._closed: list[ClosedSlot] = []

    def know_stored(self, keys: Iterable[SeriesKey]) -> None:
        """Continue with the job classes of the history so far. To be called before the first sample."""
        self._classes.know_stored(keys)

    def add_sample(self, snapshot: Snapshot, flows: Flows) -> list[ClosedSlot]:
        """Add a sample with what finished since the one before; the records of the slots that ended.

        `flows` are those that the sample was made from. A queue that is gone gets one last record of unknown figures.
        """
        present: set[SeriesKey] = set()
        for reading in self._readings.read_sample(snapshot, flows):
            present.add(reading.key)
            self._file_reading(reading)
            if reading.key.kind is QUEUE:
                self._pass_on(reading)
        reached = {source.name for source in snapshot.sources if source.reachable}
        for key in [key for key in self._seen.keys() - present if key.source in reached]:
            self._end_series(key, snapshot.sampled_at)
        self._file_classes()
        return self._close_before(snapshot.sampled_at)

    def _pass_on(self, reading: Reading) -> None:
        durations = reading.cells[_RUN_TIMES]
        if self._run_times is not None and isinstance(durations, dict):
            self._run_times.add(reading.key, reading.end_s, durations)
        if self._jobs is not None and reading.key.name:
            arrived, finished, uncounted_ms = (reading.cells[place] for place in (_ARRIVED, _FINISHED, _UNCOUNTED))
            begin_s = reading.begin_s + (uncounted_ms / 1000 if isinstance(uncounted_ms, int) else 0.0)
            self._jobs.add_queue(reading.key, begin_s, reading.end_s, _count_of(arrived), _count_of(finished))

    def known_classes(self) -> list[SeriesKey]:
        """The job classes that are recorded by name."""
        return self._classes.known_keys()

    def is_sampled(self, key: SeriesKey) -> bool:
        """Whether the last sample had figures of a series; of a class, whether jobs of it finished lately."""
        return self._classes.is_known(key) if key.kind is CLASS else key in self._seen

    def close(self) -> list[ClosedSlot]:
        """The records of all slots that are open, as far as they are filled. What another leader adds to the same slots
        is merged with them."""
        self._classes.end_slot()
        self._file_classes()
        for tier, keys in enumerate(self._filled):
            for key in list(keys):
                self._close_slot(key, tier, continues=False)
        closed, self._closed = self._closed, []
        return closed

    def _file_reading(self, reading: Reading) -> None:
        key, kind = reading.key, reading.key.kind
        before = self._seen.get(key)
        self._seen[key] = reading.cells
        if before is not None and kind is not SOURCE and is_idle_after(kind, before, reading.cells):
            return
        for record in _split_reading(reading, before, tiers_of(kind)[0].step_s):
            self._add_record(key, 0, record)

    def _file_classes(self) -> None:
        records = self._classes.take_records()
        for key, record in records:
            self._add_record(key, 0, record)
        if records:
            self._forget_closed()

    def _forget_closed(self) -> None:
        """Forget the series that are gone, once all that was known of them is in `_closed`."""
        for key, slots in list(self._open.items()):
            if not self.is_sampled(key) and not any(slot.records for slot in slots):
                del self._open[key]

    def _end_series(self, key: SeriesKey, at: float) -> None:
        unknown: Cells = (None,) * len(key.kind.columns)
        self._add_record(key, 0, Record(slot_of(at, tiers_of(key.kind)[0].step_s), unknown))
        del self._seen[key]

    def _add_record(self, key: SeriesKey, tier: int, record: Record) -> None:
        if key not in self._open:
            self._open[key] = [_OpenSlot() for _ in tiers_of(key.kind)]
        slot, start_s = self._open[key][tier], slot_of(record.start_s, tiers_of(key.kind)[tier].step_s)
        while slot.records and slot.start_s != start_s:
            self._close_slot(key, tier, continues=slot.start_s < start_s)
        slot.start_s = start_s
        slot.records.append(record)
        self._filled[tier].add(key)

    def _close_before(self, at: float) -> list[ClosedSlot]:
        for tier, keys in enumerate(self._filled):
            for key in list(keys):
                slot, step_s = self._open[key][tier], tiers_of(key.kind)[tier].step_s
                while slot.records and slot.start_s < slot_of(at, step_s):
                    self._close_slot(key, tier, continues=True)
                if key not in self._seen and not any(one.records for one in self._open[key]):
                    del self._open[key]
        closed, self._closed = self._closed, []
        return closed

    def _close_slot(self, key: SeriesKey, tier: int, *, continues: bool) -> None:
        """Write the record of a slot, unless nothing changed, and pass it on to the next tier.

        A level that was higher within the slot than at its end needs one more record, in the next slot if time
        `continues`: a level holds until the next record.
        """
        kind, slot, tiers = key.kind, self._open[key][tier], tiers_of(key.kind)
        cells, last = merge_slot(kind, slot.start_s, slot.before, slot.records), slot.records[-1].cells
        slot.records = []
        self._filled[tier].discard(key)
        if kind is SOURCE or slot.before is None or not is_idle_after(kind, slot.before, cells):
            record = Record(slot.start_s, cells)
            self._closed.append(ClosedSlot(key, tiers[tier], record))
            slot.before = cells
            if tier + 1 < len(tiers):
                self._add_record(key, tier + 1, record)
        if continues and kind is not SOURCE and levels_of(kind, cells) != levels_of(kind, last):
            slot.start_s += tiers[tier].step_s
            slot.records = [Record(slot.start_s, carry_cells(kind, last))]
            self._filled[tier].add(key)


def _count_of(cell: Cell) -> int | None:
    return cell if isinstance(cell, int) else None


def _split_reading(reading: Reading, before: Cells | None, step_s: int) -> Iterator[Record]:
    """The records of the slots that a reading covers, each with its share of what was counted.

    Levels were not looked at meanwhile: until the last slot, they are as `before`.
    """
    kind, (_, begin_s, end_s, cells) = reading.key.kind, reading
    last_s, passed_s = slot_of(end_s, step_s), end_s - begin_s
    done = 0.0
    for start_s in range(slot_of(begin_s, step_s), last_s, step_s):
        share = (start_s + step_s - max(begin_s, start_s)) / passed_s
        if before is not None:
            yield Record(start_s, share_cells(kind, with_levels(kind, cells, before), done, share))
        done += share
    yield Record(last_s, share_cells(kind, cells, done, 1.0) if done else cells)
