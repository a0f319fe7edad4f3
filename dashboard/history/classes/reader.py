"""Reads what is stored of all job classes: any process does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...store.redis_store import Store
from ..coarsening import is_plausible, narrow_steps
from ..columns import CLASS, SOURCE
from ..encoding import decode_slice, decode_tail, split_blocks
from ..history_reader import HistoryRange, HistoryReader
from ..series_keys import IDS, SeriesKey, blocks_key, parse_ids, tail_key
from ..tiers import CLASS_HOURS, CLASS_QUARTERS, WRITTEN_WITHIN_S, Tier, slot_of
from .ranking import ClassKey, ClassRanking, WindowTotals, rank_classes
from .totals import SampledTime, StoredRecord, add_up
from .windows import STEP_S, ClassWindows, Window, choose_windows

# More classes than this are not read.
MAX_CLASSES = 8_000
# So many series are read in a round trip: their values are some megabytes.
SERIES_AT_ONCE = 500


class PartToRead(NamedTuple):
    """The slots of a tier from `start_s` until before `end_s`; with `before`, also the last one before them."""

    tier: Tier
    start_s: int
    end_s: int
    before: bool = True


RecordsByTier = dict[Tier, list[StoredRecord]]


class ClassReader:
    """Reads the totals of classes from the store. Thread-safe."""

    def __init__(self, store: Store, within_s: float = WRITTEN_WITHIN_S) -> None:
        """`within_s`: a slot is stored so many seconds after its end, see `written_within_s`."""
        self._store = store
        self._history = HistoryReader(store)
        self._within_s = within_s

    def read_ranking(
        self,
        range_s: int,
        now_s: float,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        merged: bool = False,
    ) -> ClassRanking:
        """All classes in the last `range_s` seconds, before now or before `until_s`: see ClassRanking, choose_windows
        and rank_classes.

        Raises BackendUnavailable, Forbidden. Cost: 3 round trips, and 1 for each SERIES_AT_ONCE of at most MAX_CLASSES
        classes; about 0.3 ms of computing for each class with jobs all the time, up to 3 ms for 30 days.
        """
        windows = choose_windows(range_s, now_s, since_s, until_s, self._within_s)
        (raw,) = self._store.read_keys(("HGETALL", IDS))
        stored = {key: entry.series_id for key, entry in parse_ids(raw).items() if key.kind is CLASS}
        keys = sorted(stored, key=lambda key: key[1:])[:MAX_CLASSES]
        sampled = self._read_sampled({key.source for key in keys}, windows, now_s)
        totals: dict[ClassKey, WindowTotals] = {}
        for place in range(0, len(keys), SERIES_AT_ONCE):
            part = keys[place : place + SERIES_AT_ONCE]
            for key, records in zip(part, self._read_records([stored[key] for key in part], windows), strict=True):
                found = (
                    window and add_up(records_of(window, records, windows.current.end_s), window, sampled[key.source])
                    for window in windows
                )
                totals[ClassKey(*key[1:])] = WindowTotals(*found)
        return rank_classes(windows, totals, merged=merged, unread=len(stored) - len(keys))

    def _read_sampled(self, sources: set[str], windows: ClassWindows, now_s: float) -> dict[str, SampledTime]:
        start_s = slot_of(min(window.start_s for window in windows.known), STEP_S)
        wanted = HistoryRange(start_s, windows.current.end_s, STEP_S)
        keys = [SeriesKey(SOURCE, source) for source in sources]
        slots = self._history.read_slots(keys, wanted, now_s) if keys else {}
        return {key.source: SampledTime(start_s, [slot.sampled_ms for slot in slots[key]]) for key in keys}

    def _read_records(self, series_ids: Sequence[int], windows: ClassWindows) -> Iterator[RecordsByTier]:
        """The records of each series, as far as the windows need them."""
        parts = parts_to_read(windows)
        names = [
            name(part.tier.name, series_id)
            for series_id in series_ids
            for part in parts
            for name in (blocks_key, tail_key)
        ]
        values = iter(self._store.read_keys(*(("GET", name) for name in names)))
        for _ in series_ids:
            yield {part.tier: decode_part(next(values), next(values), part) for part in parts}


def parts_to_read(windows: ClassWindows) -> list[PartToRead]:
    """What to read of each tier. The slots of the coarser tier that are not stored yet are read from the finer one."""
    coarse = [window for window in windows.known if window.tier is CLASS_HOURS]
    starts = [window.start_s for window in windows.known if window.tier is CLASS_QUARTERS]
    end_s = windows.current.end_s
    if not coarse:
        return [PartToRead(CLASS_QUARTERS, min(starts), end_s)]
    open_s = slot_of(end_s, CLASS_HOURS.step_s)
    return [
        PartToRead(CLASS_HOURS, min(window.start_s for window in coarse), open_s),
        PartToRead(CLASS_QUARTERS, min([open_s, *starts]), end_s, before=bool(starts)),
    ]


def records_of(window: Window, records: RecordsByTier, end_s: int) -> list[StoredRecord]:
    """The records that a window is made of, by time. `end_s`: until when slots of 15 minutes are stored."""
    fine = records.get(CLASS_QUARTERS, [])
    if window.tier is CLASS_QUARTERS:
        return fine
    open_s = slot_of(end_s, CLASS_HOURS.step_s)
    return records[CLASS_HOURS] + [stored for stored in fine if stored.record.start_s >= open_s]


def decode_part(raw_blocks: bytes | None, raw_tail: bytes | None, part: PartToRead) -> list[StoredRecord]:
    """The records of a class in a part, by time; those before it may be among them."""
    tier, start_s, end_s, before = part
    found: list[StoredRecord] = []
    blocks = [block for block in split_blocks(raw_blocks) if is_plausible(block, CLASS, tier)]
    for place, block in enumerate(blocks):
        is_older = any(later.first_s <= start_s for later in blocks[place + 1 : place + 2])
        if is_older or block.first_s >= end_s or not (before or block.last_s + block.step_s > start_s):
            continue
        records = decode_slice(block, start_s, end_s)
        if block.step_s > tier.step_s:
            records = [piece for one in records for piece in narrow_steps(CLASS, one, block.step_s, tier.step_s)]
        found += [StoredRecord(record, tier.step_s, block.span_s) for record in records]
    found += [
        StoredRecord(record, tier.step_s, tier.step_s)
        for record in decode_tail(CLASS, raw_tail)
        if record.start_s < end_s
    ]
    return sorted(found, key=_start_of)


def _start_of(stored: StoredRecord) -> int:
    return stored.record.start_s
