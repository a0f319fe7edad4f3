"""Series over a range of time, in slots of any length. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .columns import Cells, Merge, Record, SeriesKind, carry_cells, merge_slot
from .histogram import Histogram, add_histogram, percentiles
from .tiers import slot_of


class StoredSeries(NamedTuple):
    """Records of a series by time, and for each the seconds that its durations cover."""

    records: Sequence[Record]
    spans_s: Sequence[int]


class Slot(NamedTuple):
    """A series in one slot. `cells` is None in a gap: its source was not sampled, or nothing of it was known yet."""

    start_s: int
    sampled_ms: int
    cells: Cells | None


def sampled_slots(records: Iterable[Record], start_s: int, end_s: int, step_s: int) -> dict[int, int]:
    """Start of a slot -> milliseconds in which the source was sampled, from the records of the source."""
    found: dict[int, int] = {}
    for record in records:
        if start_s <= record.start_s < end_s and isinstance(sampled_ms := record.cells[0], int):
            slot_s = slot_of(record.start_s, step_s)
            found[slot_s] = found.get(slot_s, 0) + max(0, sampled_ms)
    return found


def slice_series(
    kind: SeriesKind, series: StoredSeries, sampled: Mapping[int, int], start_s: int, end_s: int, step_s: int
) -> list[Slot]:
    """The slots of a series from `start_s` (a multiple of `step_s`) until before `end_s`, oldest first.

    A level holds from the last record before on; where there are no records, nothing was counted. `sampled` comes from
    `sampled_slots` of the source.
    """
    in_slot: dict[int, list[Record]] = {}
    before: Cells | None = None
    for record in series.records:
        if record.start_s < start_s:
            before = record.cells
        elif record.start_s < end_s:
            in_slot.setdefault(slot_of(record.start_s, step_s), []).append(record)
    durations = _durations_by_slot(kind, series, start_s, end_s, step_s)
    found: list[Slot] = []
    carried = carry_cells(kind, before) if before is not None else None
    for slot_s in range(start_s, end_s, step_s):
        cells = carried
        if records := in_slot.get(slot_s):
            cells, before = merge_slot(kind, slot_s, before, records), records[-1].cells
            carried = carry_cells(kind, before)
        sampled_ms = sampled.get(slot_s, 0)
        if cells is not None and (records or slot_s in durations):
            cells = _with_durations(cells, durations.get(slot_s, {}))
        found.append(Slot(slot_s, sampled_ms, cells if sampled_ms else None))
    return found


def _durations_by_slot(
    kind: SeriesKind, series: StoredSeries, start_s: int, end_s: int, step_s: int
) -> dict[int, dict[int, Histogram]]:
    """Slot -> position of a column -> its durations. Those that cover several slots belong to each of them."""
    places = [place for place, column in enumerate(kind.columns) if column.merge is Merge.HISTOGRAM]
    found: dict[int, dict[int, Histogram]] = {}
    for record, span_s in zip(series.records, series.spans_s, strict=True):
        if record.start_s + span_s <= start_s or record.start_s >= end_s:
            continue
        for place in places:
            if not isinstance(histogram := record.cells[place], dict):
                continue
            first_s = max(start_s, slot_of(record.start_s, step_s))
            for slot_s in range(first_s, min(end_s, record.start_s + max(1, span_s)), step_s):
                add_histogram(found.setdefault(slot_s, {}).setdefault(place, {}), histogram)
    return found


def _with_durations(cells: Cells, durations: Mapping[int, Histogram]) -> Cells:
    return tuple(
        durations.get(place) if place in durations or isinstance(cell, dict) else cell
        for place, cell in enumerate(cells)
    )


class Figure(NamedTuple):
    """A figure that charts show: its unit, and the columns that it is made of."""

    unit: str
    column: str
    share: float | None = None  # for durations: the percentile
    per_min: bool = False
    of: str | None = None  # a ratio: `column` of this one
    scale: float = 1.0


_DURATIONS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
FIGURES: Mapping[str, Figure] = {
    **{name: Figure("jobs", name) for name in ("depth", "active", "scheduled", "retrying", "dead")},
    "workers": Figure("workers", "workers"),
    "latency_s": Figure("s", "latency_ms", scale=1e-3),
    "throughput_per_min": Figure("jobs/min", "finished", per_min=True),
    **{f"{name}_per_min": Figure("jobs/min", name, per_min=True) for name in ("failed", "enqueued", "retried")},
    "error_ratio": Figure("ratio", "failed", of="finished"),
    **{f"runtime_{name}_s": Figure("s", "runtimes", share=share) for name, share in _DURATIONS.items()},
    **{f"wait_{name}_s": Figure("s", "waits", share=share) for name, share in _DURATIONS.items()},
    **{name: Figure("bytes", name) for name in ("used_memory_bytes", "maxmemory_bytes", "replica_lag_bytes")},
    **{name: Figure("clients", name) for name in ("clients", "blocked_clients")},
    "ops_per_s": Figure("commands/s", "ops_per_s"),
    "keys": Figure("keys", "keys"),
    "fragmentation_ratio": Figure("ratio", "fragmentation_permille", scale=1e-3),
    "keyspace_hit_ratio": Figure("ratio", "hit_permille", scale=1e-3),
    **{f"{name}_per_min": Figure("per minute", name, per_min=True) for name in ("evicted", "rejected")},
}


def figure_values(kind: SeriesKind, name: str, slots: Sequence[Slot]) -> list[float | int | None]:
    """The values of one of FIGURES, one for each slot; None in a gap and where it is unknown.

    Raises KeyError for a figure that this kind of series does not have.
    """
    figure = FIGURES[name]
    place = kind.index_of(figure.column)
    whole = kind.index_of(figure.of) if figure.of else None
    uncounted = kind.index_of("uncounted_ms") if figure.per_min and "uncounted_ms" in kind.names else None
    return [_value_of(figure, slot, place, whole, uncounted) for slot in slots]


def _value_of(figure: Figure, slot: Slot, place: int, whole: int | None, uncounted: int | None) -> float | int | None:
    cell = None if slot.cells is None else slot.cells[place]
    if slot.cells is None or cell is None:
        return None
    if isinstance(cell, dict):
        return None if figure.share is None else _rounded(percentiles(cell, [figure.share])[0])
    if figure.per_min:
        not_counted = slot.cells[uncounted] if uncounted is not None else 0
        counted_ms = slot.sampled_ms - (not_counted if isinstance(not_counted, int) else 0)
        return _rounded(cell * 60_000 / counted_ms) if counted_ms > 0 else None
    if whole is not None:
        total = slot.cells[whole]
        return _rounded(cell / total) if isinstance(total, int) and total > 0 else None
    return cell if figure.scale == 1 else _rounded(cell * figure.scale)


def _rounded(value: float | None) -> float | None:
    """With four significant digits: charts and tables show no more."""
    return None if value is None else float(f"{value:.4g}")
