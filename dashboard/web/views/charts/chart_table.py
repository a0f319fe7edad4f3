"""The figures of a chart page as a table, for screen readers and browsers without scripts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .chart_data import ChartData
from .charts import Chart

# Longer tables are hard to read: each row then stands for several slots.
MOST_ROWS = 48


class TableColumn(NamedTuple):
    """One column: `values` by row, None where unknown; in `unit`."""

    chart: str
    label: str
    unit: str
    values: list[float | int | None]


class ChartTable(NamedTuple):
    """Rows newest first, each `step_s` long; `starts_s` in seconds since 1970. Columns without values are left out.

    `notes`: what is estimated or unknown, by the title of the chart.
    """

    step_s: int
    starts_s: list[int]
    columns: list[TableColumn]
    notes: dict[str, str]


def build_chart_table(charts: Sequence[Chart], data: ChartData) -> ChartTable:
    """At most MOST_ROWS rows: the highest value of the slots that each of them stands for."""
    count = (data.end_s - data.start_s) // data.step_s
    joined = max(1, -(-count // MOST_ROWS))
    columns = []
    for chart in charts:
        for line in chart.lines:
            values = [_highest(data.values[line.figure][place : place + joined]) for place in range(0, count, joined)]
            if any(value is not None for value in values):
                columns.append(TableColumn(chart.title, line.label, chart.unit, values[::-1]))
    starts = list(range(data.start_s, data.end_s, data.step_s * joined))
    notes = {chart.title: data.notes[chart.id] for chart in charts if chart.id in data.notes}
    return ChartTable(data.step_s * joined, starts[::-1], columns, notes)


def _highest(values: Sequence[float | int | None]) -> float | int | None:
    return max((value for value in values if value is not None), default=None)
