"""Reads a few hours of each of the last weeks from the store: much less than all of a month."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...store.redis_store import Store
from ..coarsening import is_plausible, narrow_steps
from ..columns import SOURCE, Record, SeriesKind
from ..encoding import Block, decode_slice, decode_tail, split_blocks
from ..series_keys import IDS, SeriesKey, blocks_key, pack_key, parse_stored, tail_key
from ..slots import Slot, StoredSeries, sampled_slots, slice_series
from ..tiers import QUARTERS, Tier, tiers_of
from .usual_activity import step_of

# From and until before; multiples of the step of the series.
TimeRange = tuple[int, int]


class PastReader:
    """Reads slots of the coarsest tier. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read_ranges(
        self, kind: SeriesKind, keys: Sequence[SeriesKey], ranges: Sequence[TimeRange]
    ) -> dict[SeriesKey, list[Slot]]:
        """The slots of some series of one kind in all of the ranges, in their order, without durations; gaps for one
        that is not stored, and for what is newer than the coarsest tier.

        Raises BackendUnavailable, Forbidden. Cost: 2 round trips, and 1 to 3 ms of computing for each series and 4
        ranges.
        """
        sources = list(dict.fromkeys(SeriesKey(SOURCE, key.source) for key in keys))
        values = self._read_values([*sources, *keys])
        sampled = {source.source: _sampled(values[source], ranges, step_of(kind)) for source in sources}
        return {key: list(_slots_of(kind, values[key], sampled[key.source], ranges)) for key in keys}

    def _read_values(self, keys: Sequence[SeriesKey]) -> dict[SeriesKey, _Stored]:
        (raw,) = self._store.read_keys(("HMGET", IDS, *map(pack_key, keys)))
        ids = {key: parse_stored(value) for key, value in zip(keys, raw or [None] * len(keys), strict=True)}
        stored = {key: entry.series_id for key, entry in ids.items() if entry is not None}
        tiers = {key: QUARTERS if key.kind is SOURCE else tiers_of(key.kind)[-1] for key in stored}
        replies = self._store.read_keys(
            *(
                ("MGET", blocks_key(tiers[key].name, number), tail_key(tiers[key].name, number))
                for key, number in stored.items()
            )
        )
        found = {key: _Stored(key.kind, tiers_of(key.kind)[-1], None, None) for key in keys}
        for key, reply in zip(stored, replies, strict=True):
            found[key] = _Stored(key.kind, tiers[key], *(reply or (None, None)))
        return found


class _Stored:
    """What is stored of the coarsest tier of a series."""

    def __init__(self, kind: SeriesKind, tier: Tier, raw_blocks: bytes | None, raw_tail: bytes | None) -> None:
        self._kind = kind
        self._tier = tier
        self._blocks = [block for block in split_blocks(raw_blocks) if is_plausible(block, kind, tier)]
        self._tail = decode_tail(kind, raw_tail)

    def slice(self, start_s: int, end_s: int) -> StoredSeries:
        """The records of a range by time, with the last one before it."""
        records = [record for record in self._tail if record.start_s < end_s]
        for place, block in enumerate(self._blocks):
            is_older = any(later.first_s <= start_s for later in self._blocks[place + 1 : place + 2])
            if not is_older and block.first_s < end_s:
                records += self._decode(block, start_s, end_s)
        records.sort(key=lambda record: record.start_s)
        return StoredSeries(list(map(_without_durations, records)), [self._tier.step_s] * len(records))

    def _decode(self, block: Block, start_s: int, end_s: int) -> list[Record]:
        records, step_s = decode_slice(block, start_s, end_s), self._tier.step_s
        if block.step_s > step_s:
            return [part for one in records for part in narrow_steps(self._kind, one, block.step_s, step_s)]
        return records


def _without_durations(record: Record) -> Record:
    """A record without its histograms, which take the most time to merge."""
    return Record(record.start_s, tuple(None if isinstance(cell, dict) else cell for cell in record.cells))


def _sampled(stored: _Stored, ranges: Sequence[TimeRange], step_s: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for start_s, end_s in ranges:
        found |= sampled_slots(stored.slice(start_s, end_s).records, start_s, end_s, step_s)
    return found


def _slots_of(
    kind: SeriesKind, stored: _Stored, sampled: Mapping[int, int], ranges: Sequence[TimeRange]
) -> Iterator[Slot]:
    step_s = step_of(kind)
    for start_s, end_s in ranges:
        yield from slice_series(kind, stored.slice(start_s, end_s), sampled, start_s, end_s, step_s)
