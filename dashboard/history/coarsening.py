"""Gives up detail of the past where room is short: durations first, then steps. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from .encoding import Block, decode_block, encode_block, sorted_records
from .tiers import DAY_S, Tier, slot_of

# A block with longer slots or spans than MOST_STEPS is damaged; one that still takes in records has shorter spans.
MOST_STEPS, MOST_NEWEST_STEPS = 64, 4


class Detail(NamedTuple):
    """How coarse older blocks are, in steps of their tier: the time that a histogram covers, and a slot.

    `newest_span_steps`: the same for the block that still takes in records. `older`: slots are coarser from this share
    of the tier's time on. `kept`: the share of the tier's time that is kept at all.
    """

    span_steps: int = 1
    slot_steps: int = 1
    newest_span_steps: int = 1
    older: float = 0.5
    kept: float = 1.0


# Share of the budget in use -> detail of what is compressed from then on. The budget itself is never exceeded: see
# HistoryWriter. The last one makes room again, so that recording continues.
_DETAILS = (
    (1.00, Detail(64, 16, newest_span_steps=MOST_NEWEST_STEPS, older=0.1, kept=0.5)),
    (0.95, Detail(64, 16, newest_span_steps=MOST_NEWEST_STEPS, older=0.25)),
    (0.90, Detail(64, 4, newest_span_steps=MOST_NEWEST_STEPS, older=0.25)),
    (0.85, Detail(16, 4, newest_span_steps=MOST_NEWEST_STEPS)),
    (0.75, Detail(16, newest_span_steps=MOST_NEWEST_STEPS)),
    (0.60, Detail(16)),
    (0.40, Detail(4)),
)
# Blocks that lose detail each time that a series is compressed: so many, and more where room is short.
COARSENED_AT_ONCE, COARSENED_IN_NEED, NEED = 2, 8, 0.85
# What is dated further ahead than this was not recorded by a working clock.
AHEAD_S = DAY_S


def detail_for(used_ratio: float) -> Detail:
    """The detail of blocks while this share of the budget is in use."""
    return next((detail for least, detail in _DETAILS if used_ratio >= least), Detail())


def compact_records(
    kind: SeriesKind, tier: Tier, blocks: Sequence[Block], records: Sequence[Record], used_ratio: float, now_s: float
) -> Iterator[bytes]:
    """The blocks of one tier of a series once `records`, those of its tail, are in one of them.

    What is too old is dropped, but for the newest record before: its levels hold on.
    """
    detail = detail_for(used_ratio)
    oldest_s = now_s - tier.keep_s * detail.kept
    tail = sorted_records(kind, [record for record in records if record.start_s <= now_s + AHEAD_S])
    kept = [block for block in blocks if is_plausible(block, kind, tier) and block.first_s <= now_s + AHEAD_S]
    span_s = tier.step_s * detail.newest_span_steps
    if kept and tail and _takes_in_more(kept[-1], tier):
        newest = kept.pop()
        span_s = max(span_s, newest.span_s)
        tail = sorted_records(kind, [*decode_block(newest), *tail])
    starts = [*(block.first_s for block in kept), *(record.start_s for record in tail[:1])]
    most = COARSENED_IN_NEED if used_ratio >= NEED else COARSENED_AT_ONCE
    for number, block in enumerate(kept):
        if number + 1 < len(starts) and starts[number + 1] <= oldest_s:
            continue
        coarser = coarsen_block(block, tier, detail, now_s) if most else None
        most -= coarser is not None
        yield block.raw if coarser is None else coarser
    old = sum(record.start_s <= oldest_s for record in tail)
    tail = tail[max(0, old - 1) :]
    if tail:
        yield encode_block(kind, widen_histograms(kind, tail, span_s), tier.step_s, span_s)


def is_plausible(block: Block, kind: SeriesKind, tier: Tier) -> bool:
    """Whether a block can be one of this tier of a series of this kind.

    A damaged one could claim slots of years, made up of thousands.
    """
    return block.kind is kind and block.step_s % tier.step_s == 0 and block.span_s <= MOST_STEPS * tier.step_s


def _takes_in_more(block: Block, tier: Tier) -> bool:
    is_newest = block.step_s == tier.step_s and block.span_s <= MOST_NEWEST_STEPS * tier.step_s
    return is_newest and block.count < 2 * tier.tail_records


def coarsen_block(block: Block, tier: Tier, detail: Detail, now_s: float) -> bytes | None:
    """A block with no more than this detail; None if it has no more already."""
    step_s = tier.step_s
    if block.last_s < now_s - tier.keep_s * detail.older:
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
