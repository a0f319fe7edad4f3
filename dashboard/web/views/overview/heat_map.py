"""The heat map: one cell per queue at a steady place, its mark sized by what waits and colored by severity. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from ....model import QueueStats, State
from ....units import format_count, format_number, shorten_at_least, shorten_number
from ...formatting import queue_title
from ...urls import quote_segment
from ..problems.problem import Problem, ProblemLevel
from .overview_data import OverviewData
from .queue_table import QueueTableQuery, filter_queues

MAX_CELLS = 2000
# From so many waiting jobs on, the mark of a cell has the next size.
STEPS = (1, 10, 100, 1_000, 10_000)
# Up to so many cells have this class, largest ones first; more are "dense".
DENSITIES = ((60, "roomy"), (300, "named"))


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One queue. `path` identifies it and ends its URL, `css` names its level and its size, `label` says everything
    that the cell shows and more."""

    path: str
    name: str
    css: str
    label: str
    figure: str


@dataclass(frozen=True, slots=True)
class HeatGroup:
    """The queues of one library on one source, by name. `count` includes those that have no cell."""

    source: str
    backend: str
    cells: tuple[HeatCell, ...]
    count: int


@dataclass(frozen=True, slots=True)
class HeatMap:
    """`density`: how much of a queue fits in a cell; `rest` says what has no cell, "" when nothing is left out."""

    groups: tuple[HeatGroup, ...]
    density: str
    total: int  # queues that match
    rest: str


def build_heat_map(overview: OverviewData, query: QueueTableQuery, titles: Mapping[str, str]) -> HeatMap:
    """The cells of the queues that match, by source, library and name.

    A queue changes its color and the size of its mark, never its place. Beyond MAX_CELLS the worst keep their cells,
    then the first healthy ones by name.
    """
    queues, problems = overview.queues, overview.problems_by_queue
    found = filter_queues(overview, overview.by_name, query)
    chosen = _choose(overview, found)
    found.sort(key=lambda n: (queues[n].source, queues[n].backend))  # stable: by name within a group
    groups = []
    for (source, backend), members in groupby(found, key=lambda n: (queues[n].source, queues[n].backend)):
        numbers = list(members)
        is_known, is_down = source in overview.taken_at, source in overview.down
        cells = tuple(
            build_cell(queues[n], problems[n], titles[backend], last_known=is_known, down=is_down)
            for n in numbers
            if chosen is None or n in chosen
        )
        groups.append(HeatGroup(source, backend, cells, len(numbers)))
    shown = sum(len(group.cells) for group in groups)
    density = next((css for most, css in DENSITIES if shown <= most), "dense")
    hidden = [] if chosen is None else [n for n in found if n not in chosen]
    return HeatMap(tuple(groups), density, len(found), _describe_rest(overview, hidden))


def _choose(overview: OverviewData, found: list[int]) -> set[int] | None:
    """The queues that get a cell; None for all. Healthy ones are chosen by name, so that the choice seldom changes."""
    if len(found) <= MAX_CELLS:
        return None
    problems = overview.problems_by_queue
    ranked = sorted(found, key=lambda n: problems[n][0].rank if problems[n] else (0.0, 0.0))
    return set(ranked[:MAX_CELLS])


def _describe_rest(overview: OverviewData, hidden: list[int]) -> str:
    if not hidden:
        return ""
    bad = sum(bool(overview.problems_by_queue[n]) for n in hidden)
    if not bad:
        return format_count(len(hidden), "more healthy queue")
    more = format_count(len(hidden), "more queue")
    return f"{more}, {'with problems' if bad == len(hidden) else f'{format_number(bad)} of them with problems'}"


def build_cell(
    queue: QueueStats, problems: tuple[Problem, ...], title: str, *, last_known: bool = False, down: bool = False
) -> HeatCell:
    """The cell of one queue; `title` of its library. `last_known`: its figures are from before an outage."""
    depth = queue.depth
    more = State.WAITING in queue.at_least
    unknown = down or depth is None or queue.error is not None
    level = problems[0].level if problems else ProblemLevel.OK
    step = sum(depth >= least for least in STEPS) if depth is not None else 0
    css = [f"s{step}", level.word] if level else [f"s{step}"]
    css += ["unknown"] if unknown else []
    css += ["paused"] if queue.paused and not level and not unknown else []
    waiting = "waiting unknown" if depth is None else f"{format_number(depth)}{'+' if more else ''} waiting"
    parts = [waiting, *(["last known"] if last_known else ["unknown"] if down else [])]
    if problems:
        parts.append(f"{level.word}: {', '.join(problem.kind.value for problem in problems)}")
    elif queue.paused:
        parts.append("paused")
    name = queue_title(queue, title)
    return HeatCell(
        path=_path_of(queue.source, queue.backend, queue.name),
        name=name,
        css=" ".join(css),
        label=f"{name} ({title}): {', '.join(parts)}",
        figure="–" if depth is None else shorten_at_least(depth) if more else shorten_number(depth),
    )


@lru_cache(maxsize=2 * MAX_CELLS)
def _path_of(*parts: str) -> str:
    return "/".join(map(quote_segment, parts))
