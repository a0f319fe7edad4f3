"""Reads the history: any process does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..store.redis_store import Store
from .coarsening import is_plausible, narrow_steps
from .columns import CLASS, SOURCE, Record, SeriesKind
from .encoding import decode_slice, decode_tail, split_blocks
from .series_keys import IDS, SAMPLE_END, SeriesKey, blocks_key, pack_key, parse_stored, tail_key
from .slots import Slot, StoredSeries, sampled_slots, slice_series
from .tiers import QUARTERS, Tier, slot_of, tiers_of

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

    def read_slots(
        self, keys: Sequence[SeriesKey], wanted: HistoryRange, now_s: float, *, coarse: bool = False
    ) -> dict[SeriesKey, list[Slot]]:
        """The slots of each series, all gaps for one that is not stored.

        `coarse`: of the coarsest tier whose slots make up these, which has the fewest records to decode.

        Raises BackendUnavailable, Forbidden. Cost: 2 round trips, of at most 4 values for each series and source.
        """
        found: dict[SeriesKey, list[Slot]] = {}
        sampled: dict[tuple[str, bool, int | None], dict[int, int]] = {}
        for one, stored, source, border_s in self._read_joined(keys, wanted, now_s, coarse=coarse):
            place = one.key.source, one.for_class, border_s
            if place not in sampled:
                sampled[place] = sampled_slots(_join(source, border_s).records, *wanted)
            found[one.key] = slice_series(one.key.kind, stored, sampled[place], *wanted)
        return found

    def read_records(
        self, keys: Sequence[SeriesKey], wanted: HistoryRange, now_s: float
    ) -> dict[SeriesKey, StoredSeries]:
        """The records of each series that `read_slots` would make slots of, by time; those in the last slot are finer.

        Some can lie outside the range. None of a series whose source is not stored. Raises BackendUnavailable,
        Forbidden. Cost: as for `read_slots`.
        """
        return {
            one.key: stored if source else StoredSeries((), ())
            for one, stored, source, _ in self._read_joined(keys, wanted, now_s, coarse=False)
        }

    def _read_joined(
        self, keys: Sequence[SeriesKey], wanted: HistoryRange, now_s: float, *, coarse: bool
    ) -> Iterator[tuple[_Wanted, StoredSeries, _Decoded, int | None]]:
        """Each series with its records, those of its source, and until when it is read from its coarser tier."""
        series = [_Wanted(key, key.kind is CLASS) for key in keys]
        wanted_series = list(dict.fromkeys((*(one.source for one in series), *series)))
        values = self._read_values(wanted_series, wanted, now_s, coarse=coarse)
        sources = {one.source: _decode(one.source.key.kind, values[one.source], wanted, now_s) for one in series}
        for one in series:
            border_s = _border_of(values[one], sources[one.source], now_s)
            stored = _join(_decode(one.key.kind, values[one], wanted, now_s), border_s)
            yield one, stored, sources[one.source], border_s

    def read_sample_end(self) -> int | None:
        """When the sample data of a demo ends, in seconds since 1970; None where all figures were recorded.

        Raises BackendUnavailable, Forbidden. Cost: 1 round trip.
        """
        (raw,) = self._store.read_keys(("GET", SAMPLE_END))
        return int(raw) if raw is not None and raw.isdigit() and len(raw) <= 10 else None

    def _read_values(
        self, series: Sequence[_Wanted], wanted: HistoryRange, now_s: float, *, coarse: bool
    ) -> dict[_Wanted, list[_Values]]:
        """The values of each series, of the coarser tier first. Those of one tier are read at the same moment."""
        (raw,) = self._store.read_keys(("HMGET", IDS, *(pack_key(one.key) for one in series)))
        ids = {one: parse_stored(value) for one, value in zip(series, raw or [None] * len(series), strict=True)}
        parts = [
            (one, tier, stored.series_id)
            for one, stored in ids.items()
            if stored is not None
            for tier in _tiers_to_read(one, wanted, now_s, coarse=coarse)
        ]
        replies = self._store.read_keys(
            *(("MGET", blocks_key(tier.name, number), tail_key(tier.name, number)) for _, tier, number in parts)
        )
        found: dict[_Wanted, list[_Values]] = {one: [] for one in series}
        for (one, tier, _), reply in zip(parts, replies, strict=True):
            found[one].append(_Values(tier, *(reply or (None, None))))
        return found


class _Wanted(NamedTuple):
    """A series to read. `for_class`: in the tiers of job classes."""

    key: SeriesKey
    for_class: bool

    @property
    def source(self) -> _Wanted:
        """The series that says when this one was sampled."""
        return _Wanted(SeriesKey(SOURCE, self.key.source), self.for_class)


class _Values(NamedTuple):
    """What is stored of one tier of a series."""

    tier: Tier
    blocks: bytes | None
    tail: bytes | None


# Of each tier: it, its records, and for each the seconds that its durations cover.
_Decoded = list[tuple[Tier, list[tuple[Record, int]]]]


def _tiers_to_read(one: _Wanted, wanted: HistoryRange, now_s: float, *, coarse: bool) -> list[Tier]:
    """The tier that has the records since `start_s`, and the next finer one, for the slot that is not complete yet."""
    if one.for_class and one.key.kind is SOURCE:
        return [QUARTERS]  # its slots end with those of classes
    tiers = tiers_of(one.key.kind)
    tier = choose_tier(one.key.kind, wanted.start_s, now_s, wanted.step_s)
    if coarse:
        tier = next((each for each in tiers[::-1] if wanted.step_s % each.step_s == 0), tier)
    return list(dict.fromkeys((tier, tiers[max(0, tiers.index(tier) - 1)])))


def _border_of(values: Sequence[_Values], source: _Decoded, now_s: float) -> int | None:
    """Until when a series is read from its coarser tier; what is later comes from the finer one. None: there is none.

    A slot that has just ended is stored with the leader's next sample, together with the last finer slot of the source.
    """
    if len(values) < 2 or not source:
        return None
    step_s, (finest, records) = values[0].tier.step_s, source[-1]
    border_s = slot_of(now_s, step_s)
    is_complete = any(record.start_s == border_s - finest.step_s for record, _ in records)
    return border_s if is_complete else border_s - step_s


def _decode(kind: SeriesKind, values: Sequence[_Values], wanted: HistoryRange, now_s: float) -> _Decoded:
    """What `values` hold of the range; of the finer tier only what is later than any border, see `_border_of`."""
    found: _Decoded = []
    for number, one in enumerate(values):
        step_s = values[0].tier.step_s
        later = wanted._replace(start_s=max(wanted.start_s, slot_of(now_s, step_s) - step_s)) if number else wanted
        found.append((one.tier, decode_values(kind, one.blocks, one.tail, one.tier, later)))
    return found


def _join(decoded: _Decoded, border_s: int | None) -> StoredSeries:
    """The records of a coarser tier before the border, and those of the finer one since then, by time."""
    found = [
        pair
        for number, (_, pairs) in enumerate(decoded)
        for pair in pairs
        if border_s is None or (pair[0].start_s < border_s) == (number == 0)
    ]
    found.sort(key=lambda pair: pair[0].start_s)
    return StoredSeries([record for record, _ in found], [span_s for _, span_s in found])


def decode_values(
    kind: SeriesKind, raw_blocks: bytes | None, raw_tail: bytes | None, tier: Tier, wanted: HistoryRange
) -> list[tuple[Record, int]]:
    """The records in the two values of a series, and for each the seconds that its durations cover.

    Blocks that the range does not need are left out, and what is damaged.
    """
    found: list[tuple[Record, int]] = []
    blocks = [block for block in split_blocks(raw_blocks) if is_plausible(block, kind, tier)]
    for number, block in enumerate(blocks):
        is_before = any(later.first_s <= wanted.start_s for later in blocks[number + 1 :])
        if block.first_s >= wanted.end_s or (is_before and block.last_s + block.span_s <= wanted.start_s):
            continue
        records = decode_slice(block, wanted.start_s - block.span_s, wanted.end_s)
        if block.step_s > tier.step_s:
            records = [part for one in records for part in narrow_steps(kind, one, block.step_s, tier.step_s)]
        found += [(record, block.span_s) for record in records]
    return found + [(record, tier.step_s) for record in decode_tail(kind, raw_tail)]
