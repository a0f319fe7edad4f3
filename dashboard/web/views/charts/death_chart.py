"""When the jobs of an error group died, as a chart: bars of equal length over the range of the URL. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .chart_data import ChartData, Values
from .chart_range import RANGES, ChartRange, parse_range
from .charts import Chart, ChartLine

FIGURE = "deaths"
CHARTS = (
    Chart("deaths", "Deaths over time", (ChartLine(FIGURE, "jobs died", "critical", stacked=True),), own_unit="jobs"),
)
# The length of a bar, in seconds: the shortest one with which there are not more than MOST_BARS.
STEPS_S = (1, 5, 10, 30, 60, 300, 900, 1800, 3600, 7200, 21_600)
MOST_BARS = 120
MOST_ROWS = 24


class DeathRow(NamedTuple):
    """A row of the table: from when on, and how many jobs died."""

    start_s: int
    jobs: int


class DeathChart(NamedTuple):
    """The data of the chart, without marks; its table, newest first, without times in which no job died.

    `earlier`: how many jobs died before the range. `untimed`: of how many the time is unknown. `complete_from`: when
    earlier times in the range can lack jobs, from when on they do not.
    """

    data: ChartData
    rows: list[DeathRow]
    row_s: int
    earlier: int
    untimed: int
    complete_from: float | None


def parse_death_range(
    name: str | None, start_s: float | None, end_s: float | None, first_s: float | None, now_s: float
) -> ChartRange:
    """The range of a URL; without a name, the shortest one since `first_s`, when the first job died.

    Raises Unsupported as `parse_range`.
    """
    if not name:
        age_s = now_s - first_s if first_s is not None else 0.0
        name = next((each for each, seconds in RANGES.items() if seconds >= age_s), list(RANGES)[-1])
    return parse_range(name, start_s, end_s, None, now_s)


def build_death_chart(
    times: Iterable[float | None], wanted: ChartRange, complete_from: float | None, *, is_final: bool
) -> DeathChart:
    """The chart of jobs that died at `times`, in seconds since 1970.

    Before `complete_from`, a time without deaths is unknown, since only some jobs were read; with `is_final` False, all
    are.
    """
    step_s = next((each for each in STEPS_S if each * MOST_BARS >= wanted.end_s - wanted.start_s), STEPS_S[-1])
    start_s = int(wanted.start_s // step_s) * step_s
    end_s = int(-(-wanted.end_s // step_s)) * step_s
    counts = [0] * ((end_s - start_s) // step_s)
    earlier = untimed = 0
    for at in times:
        if at is None:
            untimed += 1
        elif at < start_s:
            earlier += 1
        elif at < end_s or wanted.name:  # the clock of a worker can be ahead
            counts[min(int(at - start_s) // step_s, len(counts) - 1)] += 1
    values: Values = [
        count or (0 if is_final and (complete_from is None or start_s + slot * step_s >= complete_from) else None)
        for slot, count in enumerate(counts)
    ]
    data = ChartData(start_s=start_s, step_s=step_s, end_s=end_s, values={FIGURE: values})
    joined = max(1, -(-len(counts) // MOST_ROWS))
    rows = [
        DeathRow(start_s + slot * step_s, sum(counts[slot : slot + joined])) for slot in range(0, len(counts), joined)
    ]
    return DeathChart(
        data=data,
        rows=[row for row in reversed(rows) if row.jobs],
        row_s=joined * step_s,
        earlier=earlier,
        untimed=untimed,
        complete_from=complete_from if complete_from is not None and complete_from > start_s else None,
    )
