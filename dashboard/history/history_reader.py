"""Reads the history: any process does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..store.redis_store import Store
from .coarsening import narrow_steps
from .columns import SOURCE, Record, SeriesKind
from .encoding import decode_block, decode_tail, split_blocks
from .series_keys import IDS, SeriesKey, blocks_key, pack_key, parse_stored, tail_key
from .slots import Slot, StoredSeries, sampled_slots, slice_series
from .tiers import Tier, slot_of, tiers_of

# A chart on a large screen is about so many pairs of pixels wide.
MOST_SLOTS = 400


class HistoryRange(NamedTuple):
    """A range of time in slots: `start_s` is a multiple of `step_s`; `end_s` is exclusive. Seconds since 1970."""

    start_s: int
    end_s: int
    step_s: int


def choose_tier(kind: SeriesKind, start_s: float, now_s: float, step_s: int = 0) -> Tier:
    """The finest tier that still has the records since `start_s`; the coarsest if none does.

    With `step_s`, only of the tiers whose slots make up slots of that length.
    """
    tiers = [tier for tier in tiers_of(kind) if step_s % tier.step_s == 0] or list(tiers_of(kind)[:1])
    return next((tier for tier in tiers if now_s - start_s <= tier.keep_s), tiers[-1])


def choose_range(kind: SeriesKind, start_s: float, end_s: float, now_s: float, least_step_s: float = 0) -> HistoryRange:
    """The slots to show for a range: of the finest tier that has it, and no more than MOST_SLOTS."""
    tier = choose_tier(kind, start_s, now_s)
    least_s = max((end_s - start_s) / MOST_SLOTS, least_step_s, tier.step_s)
    step_s = next((step for step in _STEPS_S if step >= least_s and step % tier.step_s == 0), _STEPS_S[-1])
    first_s = slot_of(start_s, step_s)
    return HistoryRange(first_s, max(slot_of(end_s, step_s), first_s) + step_s, step_s)


# Steps that people can name, up to a week.
_STEPS_S = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400, 172_800, 604_800)


class HistoryReader:
    """Reads series from the store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read_slots(self, keys: Sequence[SeriesKey], wanted: HistoryRange, now_s: float) -> dict[SeriesKey, list[Slot]]:
        """The slots of each series, all gaps for one that is not stored.

        Raises BackendUnavailable, Forbidden. Cost: 2 round trips, of at most 4 values for each series and source.
        """
        sources = {key: SeriesKey(SOURCE, key.source) for key in keys}
        stored = self._read_series(list(dict.fromkeys((*keys, *sources.values()))), wanted, now_s)
        sampled = {
            source: sampled_slots(stored[source].records, wanted.start_s, wanted.end_s, wanted.step_s)
            for source in set(sources.values())
        }
        return {key: slice_series(key.kind, stored[key], sampled[sources[key]], *wanted) for key in keys}

    def _read_series(
        self, keys: Sequence[SeriesKey], wanted: HistoryRange, now_s: float
    ) -> dict[SeriesKey, StoredSeries]:
        (raw,) = self._store.read_keys(("HMGET", IDS, *(pack_key(key) for key in keys)))
        ids = {key: parse_stored(value) for key, value in zip(keys, raw or [None] * len(keys), strict=True)}
        parts = [
            (key, tier, since_s, stored.series_id)
            for key, stored in ids.items()
            if stored is not None
            for tier, since_s in _tiers_to_read(key.kind, wanted, now_s)
        ]
        values = self._store.read_keys(
            *(("GET", name(tier.name, number)) for _, tier, _, number in parts for name in (blocks_key, tail_key))
        )
        found: dict[SeriesKey, list[tuple[Record, int]]] = {key: [] for key in keys}
        for place, (key, tier, since_s, _) in enumerate(parts):
            found[key] += decode_values(key.kind, values[2 * place], values[2 * place + 1], tier, since_s)
        return {key: _joined(records) for key, records in found.items()}


def _tiers_to_read(kind: SeriesKind, wanted: HistoryRange, now_s: float) -> list[tuple[Tier, float]]:
    """The tier that has the records since `start_s`, and the next finer one since the slot that is not stored yet."""
    tier = choose_tier(kind, wanted.start_s, now_s, wanted.step_s)
    tiers = tiers_of(kind)
    finer = tiers[max(0, tiers.index(tier) - 1)]
    return [(tier, 0.0)] if finer is tier else [(tier, 0.0), (finer, slot_of(now_s, tier.step_s))]


def _joined(records: list[tuple[Record, int]]) -> StoredSeries:
    records.sort(key=lambda pair: pair[0].start_s)
    return StoredSeries([record for record, _ in records], [span_s for _, span_s in records])


def decode_values(
    kind: SeriesKind, raw_blocks: bytes | None, raw_tail: bytes | None, tier: Tier, since_s: float
) -> list[tuple[Record, int]]:
    """The records since `since_s` in the two values of a series, and for each the seconds that its durations cover."""
    found: list[tuple[Record, int]] = []
    for block in split_blocks(raw_blocks):
        if block.kind is kind and block.last_s + block.step_s > since_s:
            records = decode_block(block)
            if block.step_s > tier.step_s:
                records = [part for one in records for part in narrow_steps(kind, one, block.step_s, tier.step_s)]
            found += [(record, block.span_s) for record in records if record.start_s >= since_s]
    return found + [(record, tier.step_s) for record in decode_tail(kind, raw_tail) if record.start_s >= since_s]
