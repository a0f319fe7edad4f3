"""The charts of each kind of page: their titles, lines and units. Pure."""

from __future__ import annotations

import json
from typing import NamedTuple

from ....history.columns import CLASS, QUEUE, SOURCE, SeriesKind
from ....history.slots import FIGURES
from ....units import format_figure, shorten_number


class ChartLine(NamedTuple):
    """A line of a chart: a figure of the history, and the words of the legend. `tone` names its color in charts.css."""

    figure: str
    label: str
    tone: str
    stacked: bool = False  # a bar in front of the ones before
    area: bool = False  # what is below the line is filled


class Chart(NamedTuple):
    """One chart. `log`: it can be switched to a logarithmic scale. `own_unit`: of lines that are not of the history."""

    id: str
    title: str
    lines: tuple[ChartLine, ...]
    note: str = ""
    log: bool = False
    own_unit: str = ""

    @property
    def unit(self) -> str:
        """The unit of its axis."""
        return self.own_unit or FIGURES[self.lines[0].figure].unit


_DEPTH = Chart(
    "depth",
    "Jobs",
    (
        ChartLine("depth", "waiting", "main", area=True),
        ChartLine("active", "active", "calm"),
        ChartLine("scheduled", "scheduled", "faint"),
        ChartLine("retrying", "retrying", "warning"),
        ChartLine("dead", "dead", "critical"),
    ),
    "the highest number of waiting jobs in each interval; the last number of the others",
)
_FLOW = Chart(
    "flow",
    "Jobs per minute",
    (
        ChartLine("throughput_per_min", "processed", "calm", stacked=True),
        ChartLine("failed_per_min", "of these failed", "critical", stacked=True),
        ChartLine("enqueued_per_min", "enqueued", "main"),
    ),
)
_ERRORS = Chart("errors", "Error ratio", (ChartLine("error_ratio", "failed of those processed", "critical"),))
_RUNTIMES = Chart(
    "runtimes",
    "Run time",
    (
        ChartLine("runtime_p50_s", "median", "calm"),
        ChartLine("runtime_p95_s", "95th percentile", "main"),
        ChartLine("runtime_p99_s", "99th percentile", "warning"),
    ),
    log=True,
)
_WAITS = Chart(
    "waits",
    "Waiting time",
    (
        ChartLine("latency_s", "oldest waiting job", "warning"),
        ChartLine("wait_p50_s", "median of finished jobs", "calm"),
        ChartLine("wait_p95_s", "95th percentile of finished jobs", "main"),
    ),
    log=True,
)
_WORKERS = Chart(
    "workers", "Workers", (ChartLine("workers", "workers", "main"), ChartLine("active", "active jobs", "calm"))
)
QUEUE_CHARTS = (_DEPTH, _FLOW, _ERRORS, _RUNTIMES, _WAITS, _WORKERS)
CLASS_CHARTS = (_FLOW._replace(lines=_FLOW.lines[:2]), _ERRORS, _RUNTIMES)
SOURCE_CHARTS = (
    Chart(
        "memory",
        "Memory",
        (ChartLine("used_memory_bytes", "used", "main", area=True), ChartLine("maxmemory_bytes", "limit", "critical")),
    ),
    Chart("commands", "Commands per second", (ChartLine("ops_per_s", "all clients", "main"),)),
    Chart(
        "clients",
        "Clients",
        (ChartLine("clients", "connected", "main"), ChartLine("blocked_clients", "waiting for a job", "calm")),
    ),
    Chart("evictions", "Evicted keys per minute", (ChartLine("evicted_per_min", "evicted", "critical"),)),
    Chart(
        "fragmentation",
        "Fragmentation and hit ratio",
        (
            ChartLine("fragmentation_ratio", "memory of the process to data", "warning"),
            ChartLine("keyspace_hit_ratio", "reads that found a key", "calm"),
        ),
    ),
    Chart("keys", "Keys", (ChartLine("keys", "keys", "main"),)),
)


def charts_of(kind: SeriesKind) -> tuple[Chart, ...]:
    """The charts of a kind of series, in their order on the page."""
    return {QUEUE: QUEUE_CHARTS, CLASS: CLASS_CHARTS, SOURCE: SOURCE_CHARTS}[kind]


def chart_json(chart: Chart) -> str:
    """A chart for charts.js."""
    return json.dumps(
        {
            "id": chart.id,
            "unit": chart.unit,
            "lines": [
                {
                    "figure": line.figure,
                    "label": line.label,
                    "tone": line.tone,
                    "stacked": line.stacked,
                    "area": line.area,
                }
                for line in chart.lines
            ],
        }
    )


def chart_figure(value: float | None, unit: str) -> str:
    """A value of a chart as text; a dash for None."""
    return format_figure(value, unit) if unit in ("s", "bytes", "ratio") else shorten_number(value)
