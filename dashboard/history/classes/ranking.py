"""All job classes, regressions first. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...model import Quality
from .changes import ClassChange, ClassFigures, compare_figures, figures_of
from .totals import ClassTotals, merge_totals
from .windows import ClassWindows

_UNKNOWN = ClassTotals(0, Quality.UNKNOWN, None, None, {})


class ClassKey(NamedTuple):
    """A class of a queue; of all queues of a library on a source if the queue is None."""

    source: str
    backend: str
    queue: str | None
    job_class: str


class WindowTotals(NamedTuple):
    """The totals of a class in each of ClassWindows; None where nothing is known of it."""

    current: ClassTotals | None
    before: ClassTotals | None
    since: ClassTotals | None = None
    until: ClassTotals | None = None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class with its figures in the range, and how they changed.

    `queues`: where its jobs ran. `runtime_share`: its part of the run time of all classes. `change`: from the period
    before; `since_change`: after a moment, from before it. `since`, `until`: the figures after and before it.
    """

    key: ClassKey
    queues: tuple[str, ...]
    figures: ClassFigures
    before: ClassFigures | None
    change: ClassChange
    since: ClassFigures | None
    until: ClassFigures | None
    since_change: ClassChange
    runtime_share: float | None

    @property
    def place(self) -> ClassKey:
        """The class in its queue, if it is only in one."""
        return self.key._replace(queue=self.queues[0]) if len(self.queues) == 1 else self.key

    @property
    def severity(self) -> float:
        """Of the worst regression; 0 without any."""
        return max(self.change.severity, self.since_change.severity)


@dataclass(frozen=True, slots=True)
class ClassRanking:
    """The classes of which jobs finished in the range or in the period before: regressions first, the worst one first,
    then those whose jobs ran longest in all.

    `unread`: stored series of classes beyond the limit.
    """

    windows: ClassWindows
    rows: tuple[ClassRow, ...]
    unread: int = 0


def rank_classes(
    windows: ClassWindows, totals: Mapping[ClassKey, WindowTotals], *, merged: bool = False, unread: int = 0
) -> ClassRanking:
    """The ranking of classes by queue; with `merged`, those of the same source, library and name are one row."""
    groups: dict[ClassKey, list[ClassKey]] = {}
    for key in totals:
        groups.setdefault(key._replace(queue=None) if merged else key, []).append(key)
    of_groups = {key: _merge_windows([totals[each] for each in keys]) for key, keys in groups.items()}
    shown = {key: found for key, found in of_groups.items() if _has_jobs(found)}
    figures = {key: figures_of(found.current or _UNKNOWN) for key, found in shown.items()}
    total_s = sum(each.total_s or 0.0 for each in figures.values())
    rows = [
        _row_of(key, [each.queue or "" for each in groups[key]], shown[key], figures[key], total_s) for key in shown
    ]
    return ClassRanking(windows, tuple(sorted(rows, key=rank_of)), unread)


def rank_of(row: ClassRow) -> tuple[float, float, int, ClassKey]:
    """What rows are sorted by: the first one has the worst regression."""
    return -row.severity, -(row.figures.total_s or 0.0), -(row.figures.finished or 0), _sortable(row.key)


def _sortable(key: ClassKey) -> ClassKey:
    return key._replace(queue=key.queue or "")


def _row_of(
    key: ClassKey, queues: Iterable[str], totals: WindowTotals, figures: ClassFigures, total_s: float
) -> ClassRow:
    before, since, until = (figures_of(each) if each else None for each in totals[1:])
    return ClassRow(
        key=key,
        queues=tuple(sorted(queues)),
        figures=figures,
        before=before,
        change=compare_figures(figures, before),
        since=since,
        until=until,
        since_change=compare_figures(since, until) if since else ClassChange(),
        runtime_share=figures.total_s / total_s if figures.total_s is not None and total_s > 0 else None,
    )


def _merge_windows(parts: Sequence[WindowTotals]) -> WindowTotals:
    if len(parts) == 1:
        return parts[0]
    columns = ([each for each in column if each is not None] for column in zip(*parts, strict=True))
    return WindowTotals(*(merge_totals(known) if known else None for known in columns))


def _has_jobs(totals: WindowTotals) -> bool:
    return any(each is not None and (each.finished or each.runtimes) for each in totals)
