"""The columns of each kind of series, and how the values of several records become one. Pure: no Redis, no clock.

All values are whole numbers, so that columns compress well: durations are in milliseconds, ratios in thousandths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from ..model import Quality
from .histogram import Histogram, add_histogram


class Merge(Enum):
    """How the values of consecutive records become one. A missing value (None) is skipped, except in WORST."""

    LAST = "last"
    PEAK = "peak"
    SUM = "sum"
    LOWEST = "lowest"
    HISTOGRAM = "histogram"


class Column(NamedTuple):
    """One figure of a record. Levels hold until the next record; sums and histograms belong to their record alone."""

    name: str
    merge: Merge
    is_level: bool


@dataclass(frozen=True, slots=True, eq=False)
class SeriesKind:
    """What a series describes: a queue, a job class or a source. There is one object for each.

    `code` is stored; never reuse one.
    """

    name: str
    code: int
    columns: tuple[Column, ...]
    histogram_places: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Note the positions of the histograms."""
        places = (place for place, column in enumerate(self.columns) if column.merge is Merge.HISTOGRAM)
        object.__setattr__(self, "histogram_places", tuple(places))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in the order of the cells."""
        return tuple(column.name for column in self.columns)

    def index_of(self, column: str) -> int:
        """The position of a column in each record. Raises KeyError if there is none."""
        for position, one in enumerate(self.columns):
            if one.name == column:
                return position
        raise KeyError(column)


def _columns(**merges: Merge) -> tuple[Column, ...]:
    levels = (Merge.LAST, Merge.PEAK, Merge.LOWEST)
    return tuple(Column(name, merge, merge in levels) for name, merge in merges.items())


# How reliable the counts of finished jobs are: see QUALITY_CODES. The worst of all records counts.
# `uncounted_ms`: sampled time of the slot in which finished jobs were not counted; rates are over the rest.
_ENDS = {"quality": Merge.LOWEST, "uncounted_ms": Merge.SUM, "finished": Merge.SUM, "failed": Merge.SUM}
QUALITY_CODES = {Quality.UNKNOWN: 0, Quality.ESTIMATED: 1, Quality.EXACT: 2}
QUEUE = SeriesKind(
    "queue",
    1,
    _columns(
        depth=Merge.PEAK,
        active=Merge.LAST,
        scheduled=Merge.LAST,
        retrying=Merge.LAST,
        dead=Merge.LAST,
        latency_ms=Merge.PEAK,
        workers=Merge.LOWEST,
        **_ENDS,
        enqueued=Merge.SUM,
        retried=Merge.SUM,
        runtimes=Merge.HISTOGRAM,
        waits=Merge.HISTOGRAM,
    ),
)
CLASS = SeriesKind("class", 2, _columns(**_ENDS, runtimes=Merge.HISTOGRAM))
SOURCE = SeriesKind(
    "source",
    3,
    _columns(
        sampled_ms=Merge.SUM,
        used_memory_bytes=Merge.PEAK,
        maxmemory_bytes=Merge.LAST,
        clients=Merge.PEAK,
        blocked_clients=Merge.PEAK,
        ops_per_s=Merge.PEAK,
        keys=Merge.LAST,
        fragmentation_permille=Merge.LAST,
        hit_permille=Merge.LAST,
        replica_lag_bytes=Merge.PEAK,
        evicted=Merge.SUM,
        rejected=Merge.SUM,
    ),
)
KINDS = {kind.code: kind for kind in (QUEUE, CLASS, SOURCE)}

Cell = int | Histogram | None
Cells = tuple[Cell, ...]


class Record(NamedTuple):
    """The figures of one slot of a series. `start_s`: its beginning, seconds since 1970, a multiple of the step."""

    start_s: int
    cells: Cells


def merge_cells(kind: SeriesKind, parts: Sequence[Cells]) -> Cells:
    """The cells of several records of one kind, oldest first, as one record. `parts` must not be empty."""
    if len(parts) == 1:
        return parts[0]
    return tuple(
        _merge_column(column.merge, [part[position] for part in parts]) for position, column in enumerate(kind.columns)
    )


def _merge_column(merge: Merge, cells: list[Cell]) -> Cell:
    if merge is Merge.HISTOGRAM:
        merged: Histogram = {}
        for cell in cells:
            if isinstance(cell, dict):
                add_histogram(merged, cell)
        return merged or None
    known = [cell for cell in cells if isinstance(cell, int)]
    if not known:
        return None
    match merge:
        case Merge.LAST:
            return known[-1]
        case Merge.PEAK:
            return max(known)
        case Merge.LOWEST:
            return min(known)
        case _:
            return sum(known)


def is_idle_after(kind: SeriesKind, previous: Cells, cells: Cells) -> bool:
    """Whether `cells` say no more than that everything stayed as `previous` left it: equal levels, nothing counted."""
    return all(
        cell == before if column.is_level else not cell and (cell is None) == (before is None)
        for column, before, cell in zip(kind.columns, previous, cells, strict=True)
        if column.merge is not Merge.HISTOGRAM or cell
    )


def carry_cells(kind: SeriesKind, previous: Cells) -> Cells:
    """The cells of an idle slot after `previous`: the same levels; 0 for each sum that was known, no durations."""
    return tuple(
        before if column.is_level else 0 if isinstance(before, int) else None
        for column, before in zip(kind.columns, previous, strict=True)
    )


def merge_slot(kind: SeriesKind, start_s: int, before: Cells | None, records: Sequence[Record]) -> Cells:
    """The cells of a slot that begins at `start_s`, from the records in it by time and the cells `before` them.

    What held before counts, too, unless a record begins with the slot: a depth of 100 that ended within the slot is its
    peak. `records` must not be empty.
    """
    late_ms = (records[0].start_s - start_s) * 1000
    parts = [record.cells for record in records]
    if before is None or not late_ms:
        return merge_cells(kind, parts)
    merged = list(merge_cells(kind, [carry_cells(kind, before), *parts]))
    if kind is not SOURCE and before[kind.index_of("finished")] is None:
        place = kind.index_of("uncounted_ms")
        uncounted_ms = merged[place]
        merged[place] = late_ms + (uncounted_ms if isinstance(uncounted_ms, int) else 0)
    return tuple(merged)


def levels_of(kind: SeriesKind, cells: Cells) -> Cells:
    """The cells that hold until the next record."""
    return tuple(cell for column, cell in zip(kind.columns, cells, strict=True) if column.is_level)


def share_cells(kind: SeriesKind, cells: Cells, done: float, share: float) -> Cells:
    """The part of the sums that belongs to a `share` of the time, after a share of `done`; levels as they are.

    The parts of a time add up to its sums. Durations are in the last part.
    """

    def part(column: Column, cell: Cell) -> Cell:
        if column.merge is Merge.HISTOGRAM:
            return cell if done < 1 <= done + share else None
        if column.merge is Merge.SUM and isinstance(cell, int):
            return round(cell * min(1.0, done + share)) - round(cell * done)
        return cell

    return tuple(part(column, cell) for column, cell in zip(kind.columns, cells, strict=True))


def with_levels(kind: SeriesKind, cells: Cells, levels: Cells) -> Cells:
    """`cells` with the levels of `levels`."""
    return tuple(
        level if column.is_level else cell for column, cell, level in zip(kind.columns, cells, levels, strict=True)
    )


def with_durations(kind: SeriesKind, cells: Cells, durations: Cells) -> Cells:
    """`cells` with the histograms of `durations`."""
    return tuple(
        other if column.merge is Merge.HISTOGRAM else cell
        for column, cell, other in zip(kind.columns, cells, durations, strict=True)
    )
