"""The charts of an incident report: those of its queues, and the memory of its Redis servers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ....history.columns import QUEUE, SOURCE
from ....history.series_keys import SeriesKey
from ....history.slots import Slot, figure_values
from ....incidents.incident_reader import IncidentRecords
from ..charts.chart_data import ChartData, drop_beginning
from ..charts.chart_marks import ChartMark
from ..charts.charts import QUEUE_CHARTS, SOURCE_CHARTS, Chart
from .svg_chart import SvgChart, draw_chart

_MEMORY = tuple(chart for chart in SOURCE_CHARTS if chart.id == "memory")


def draw_charts(records: IncidentRecords, marks: Sequence[ChartMark]) -> list[SvgChart]:
    """The charts of all stored series of the records, with `marks` as lines."""
    found = []
    is_open = bool(records.series) and _ends_open(records)
    for key, slots in records.series.items():
        charts = QUEUE_CHARTS if key.kind is QUEUE else _MEMORY
        about = f"Redis {key.source}" if key.kind is SOURCE else ""
        data = _data_of(records, key, charts, slots[:-1] if is_open else slots)
        found += [draw_chart(chart, data, marks, about) for chart in charts]
    return found


def _ends_open(records: IncidentRecords) -> bool:
    """Whether the last slot has only just begun, so that it is no gap either."""
    slots = drop_beginning(records.series[records.scope.series], records.slots.step_s, records.read_at_s)
    return len(slots) > 1 and slots[-1].cells is None and records.slots.end_s > records.end_s


def _data_of(records: IncidentRecords, key: SeriesKey, charts: Iterable[Chart], slots: Sequence[Slot]) -> ChartData:
    start_s, _, step_s = records.slots
    whole = drop_beginning(slots, step_s, records.read_at_s)
    figures = dict.fromkeys(line.figure for chart in charts for line in chart.lines)
    values = {figure: figure_values(key.kind, figure, whole) for figure in figures}
    return ChartData(start_s=start_s, step_s=step_s, end_s=start_s + len(slots) * step_s, values=values)
