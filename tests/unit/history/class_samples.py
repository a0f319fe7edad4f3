"""Records of job classes whose true figures are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dashboard.history.columns import CLASS, SOURCE, Record, merge_cells
from dashboard.history.histogram import Histogram, add_durations
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import ClosedSlot
from dashboard.history.series_keys import SeriesKey
from dashboard.history.tiers import CLASS_HOURS, CLASS_QUARTERS, FINE, MINUTES, QUARTERS, slot_of
from dashboard.model import Quality
from dashboard.sources.source import Source
from dashboard.store.redis_store import LEAD, Store

LEASE = "past:1"
CODES = {Quality.EXACT: 2, Quality.ESTIMATED: 1}


def class_key(job_class: str, queue: str = "mail", backend: str = "rq", source: str = "main") -> SeriesKey:
    return SeriesKey(CLASS, source, backend, queue, job_class)


def class_record(
    start_s: int, jobs: int, failed: int = 0, runtime_s: float | None = 0.5, *, quality: Quality = Quality.EXACT
) -> Record:
    """What finished in a slot: `jobs`, each of which ran `runtime_s`."""
    runtimes: Histogram = {}
    if runtime_s is not None:
        add_durations(runtimes, [runtime_s], jobs)
    return Record(start_s, (CODES[quality], 0, jobs, failed, runtimes or None))


def unknown_record(start_s: int, uncounted_ms: int | None = 900_000) -> Record:
    """A slot in which nothing of the class was known."""
    return Record(start_s, (0 if uncounted_ms else None, uncounted_ms, None, None, None))


def closed_slots(key: SeriesKey, records: Sequence[Record]) -> Iterator[ClosedSlot]:
    """Records of 15 minutes of a class, in each of its tiers."""
    hours: dict[int, list[Record]] = {}
    for record in records:
        yield ClosedSlot(key, CLASS_QUARTERS, record)
        hours.setdefault(slot_of(record.start_s, CLASS_HOURS.step_s), []).append(record)
    for start_s, parts in hours.items():
        yield ClosedSlot(key, CLASS_HOURS, Record(start_s, merge_cells(CLASS, [part.cells for part in parts])))


def sampled_slots_of(source: str, start_s: int, end_s: int) -> Iterator[ClosedSlot]:
    """A source that was sampled all the time."""
    for tier in (QUARTERS, MINUTES, FINE):
        first_s = slot_of(max(start_s, end_s - tier.keep_s), tier.step_s)
        for at_s in range(first_s, end_s, tier.step_s):
            cells = (tier.step_s * 1000, *[None] * (len(SOURCE.columns) - 1))
            yield ClosedSlot(SeriesKey(SOURCE, source), tier, Record(at_s, cells))


def record_classes(source: Source, slots: Iterator[ClosedSlot], now_s: float) -> HistoryWriter:
    """Store slots as a leader would, and compress them."""
    source.execute("SET", LEAD, LEASE, "PX", 60_000)
    writer = HistoryWriter(Store(source), 64 * 2**20)
    writer.load_series()
    assert writer.append_slots(LEASE, list(slots))
    while writer.compact(LEASE, now_s):
        pass
    source.execute("DEL", LEAD)
    return writer
