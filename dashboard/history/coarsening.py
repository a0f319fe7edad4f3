"""Gives up detail of the past where room is short: durations first, then steps. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from .columns import (
    Cells,
    Merge,
    Record,
    SeriesKind,
    carry_cells,
    levels_of,
    merge_cells,
    merge_slot,
    share_cells,
    with_durations,
)
from .encoding import Block, decode_block, encode_block
from .tiers import Tier, slot_of


class Detail(NamedTuple):
    """How coarse older blocks are, in steps of their tier: the time that a histogram covers, and a slot."""

    span_steps: int = 1
    slot_steps: int = 1


# Share of the budget in use -> detail of what is compressed from then on. The budget itself is never exceeded: see
# HistoryWriter.
_DETAILS = (
    (0.85, Detail(span_steps=16, slot_steps=4)),
    (0.65, Detail(span_steps=16)),
    (0.40, Detail(span_steps=4)),
)
# Slots become coarser only in the older half of what a tier stores.
_OLDER = 0.5


def detail_for(used_ratio: float) -> Detail:
    """The detail of blocks while this share of the budget is in use."""
    return next((detail for least, detail in _DETAILS if used_ratio >= least), Detail())


def coarsen_block(block: Block, tier: Tier, detail: Detail, now_s: float) -> bytes | None:
    """A block with no more than this detail; None if it has no more already."""
    step_s = tier.step_s
    if block.last_s < now_s - tier.keep_s * _OLDER:
        step_s *= detail.slot_steps
    span_s = max(step_s, tier.step_s * detail.span_steps)
    if block.step_s >= step_s and block.span_s >= span_s:
        return None
    records = decode_block(block)
    if step_s > block.step_s:
        records = widen_steps(block.kind, records, step_s)
    if not records:
        return None
    step_s, span_s = max(step_s, block.step_s), max(span_s, block.span_s)
    return encode_block(block.kind, widen_histograms(block.kind, records, span_s), step_s, span_s)


def widen_histograms(kind: SeriesKind, records: Sequence[Record], span_s: int) -> list[Record]:
    """Records by time whose histograms each cover `span_s`: the first record of each span holds all of its span."""
    places = [place for place, column in enumerate(kind.columns) if column.merge is Merge.HISTOGRAM]
    found: list[Record] = []
    for _, group in groupby(records, key=lambda record: slot_of(record.start_s, span_s)):
        of_span = list(group)
        merged = merge_cells(kind, [record.cells for record in of_span])
        for number, record in enumerate(of_span):
            cells = list(record.cells)
            for place in places:
                cells[place] = merged[place] if number == 0 else None
            found.append(Record(record.start_s, tuple(cells)))
    return found


def widen_steps(kind: SeriesKind, records: Sequence[Record], step_s: int) -> list[Record]:
    """Records by time, merged into slots of `step_s`. Where a level was higher within a slot than at its end, the next
    slot has a record, too."""
    found: list[Record] = []
    last: Record | None = None  # of those to be merged
    for start_s, group in groupby(records, key=lambda record: slot_of(record.start_s, step_s)):
        of_slot = list(group)
        if last is not None and found[-1].start_s + step_s < start_s:
            found += _settle(kind, found[-1], last.cells, step_s)
        found.append(Record(start_s, merge_slot(kind, start_s, last.cells if last else None, of_slot)))
        last = of_slot[-1]
    return [*found, *_settle(kind, found[-1], last.cells, step_s)] if last is not None else found


def narrow_steps(kind: SeriesKind, record: Record, from_s: int, to_s: int) -> list[Record]:
    """A record of a slot of `from_s` as those of its slots of `to_s`: equal shares of its sums, the same levels, all
    durations in the first."""
    share = to_s / from_s
    found: list[Record] = []
    for place in range(max(1, from_s // to_s)):
        cells = share_cells(kind, record.cells, place * share, share)
        durations = record.cells if place == 0 else (None,) * len(cells)
        found.append(Record(record.start_s + place * to_s, with_durations(kind, cells, durations)))
    return found


def _settle(kind: SeriesKind, merged: Record, last: Cells, step_s: int) -> list[Record]:
    """The record after `merged` that says which levels held on, if its own do not."""
    if levels_of(kind, merged.cells) == levels_of(kind, last):
        return []
    return [Record(merged.start_s + step_s, carry_cells(kind, last))]
