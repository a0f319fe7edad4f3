"""What a chart cannot say with its lines: whether its figures are estimated, and why some are unknown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ....history.columns import QUALITY_CODES, SOURCE, SeriesKind
from ....history.slots import FIGURES, Slot
from ....model import Quality
from .charts import Chart

# The charts whose figures are counts of finished jobs.
COUNTED = ("flow", "errors")
# Figure -> the jobs that it counts. Other figures are unknown as well while there is nothing to measure.
JOBS: Mapping[str, str] = {
    "depth": "waiting",
    "active": "active",
    "scheduled": "scheduled",
    "retrying": "retrying",
    "dead": "dead",
    "throughput_per_min": "processed",
    "failed_per_min": "failed",
    "enqueued_per_min": "enqueued",
}


class FiguresNow(NamedTuple):
    """What is known of a series now: the title of its library, "" for several; how reliable its counts are, and why."""

    library: str = ""
    quality: Quality | None = None
    reason: str = ""


def note_charts(kind: SeriesKind, charts: Sequence[Chart], slots: Sequence[Slot], now: FiguresNow) -> dict[str, str]:
    """By the ID of a chart, one line about what is estimated or unknown in the slots; no entry if there is nothing."""
    known = [slot for slot in slots if slot.cells is not None]
    if kind is SOURCE or not known:
        return {}
    notes = {chart.id: " ".join(_sentences(kind, chart, known, now)) for chart in charts}
    return {name: note for name, note in notes.items() if note}


def _sentences(kind: SeriesKind, chart: Chart, slots: Sequence[Slot], now: FiguresNow) -> Iterator[str]:
    missing = [JOBS[name] for name in _figures_of(chart) if _share(kind, slots, FIGURES[name].column, None) == 1]
    if chart.id in COUNTED:
        reason = now.reason if chart.id == COUNTED[0] else ""  # once on a page
        if estimated := _share(kind, slots, "quality", QUALITY_CODES[Quality.ESTIMATED]):
            yield f"≈ Estimated in {_range(estimated)}{_why(reason, now.quality is Quality.ESTIMATED)}"
        if uncounted := _share(kind, slots, "finished", None):
            yield f"Unknown in {_range(uncounted)}{_why(reason, now.quality is Quality.UNKNOWN)}"
        if uncounted == 1:
            missing = [jobs for jobs in missing if jobs not in ("processed", "failed")]
    if missing:
        jobs = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
        yield f"{jobs.capitalize()} jobs are not reported by {now.library or 'every library'}."


def _figures_of(chart: Chart) -> list[str]:
    """The figures of JOBS that a chart is made of."""
    ratio = ("throughput_per_min", "failed_per_min") if chart.id == "errors" else ()
    return [name for name in (*ratio, *(line.figure for line in chart.lines)) if name in JOBS]


def _why(reason: str, is_known: bool) -> str:
    return f". {reason.rstrip('.')}." if reason and is_known else "."


def _share(kind: SeriesKind, slots: Sequence[Slot], column: str, value: int | None) -> float:
    """The share of the slots in which a column has a value; 0 for a column that this kind does not have."""
    if column not in kind.names:
        return 0.0
    place = kind.index_of(column)
    return sum(slot.cells is not None and slot.cells[place] == value for slot in slots) / len(slots)


def _range(share: float) -> str:
    return "this range" if share == 1 else "part of this range"
