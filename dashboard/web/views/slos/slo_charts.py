"""The charts of one objective: how its error budget was used over the window, and when jobs were not good. Pure."""

from __future__ import annotations

from ....history.tiers import slot_of
from ....slos.slo_report import SloStatus
from ..charts.chart_data import ChartData
from ..charts.charts import Chart, ChartLine

SLO_CHARTS = (
    Chart(
        "budget",
        "Error budget used",
        (ChartLine("used_ratio", "used", "main", area=True), ChartLine("budget_ratio", "all of it", "critical")),
        "since the beginning of the window, as a share of what the jobs in it allow",
        own_unit="ratio",
    ),
    Chart(
        "bad",
        "Jobs that were not good",
        (ChartLine("bad_ratio", "share of jobs", "warning"), ChartLine("allowed_ratio", "allowed", "critical")),
        "in each interval; gaps are times without jobs",
        own_unit="ratio",
    ),
)


def build_slo_data(status: SloStatus, start_s: float | None = None, end_s: float | None = None) -> ChartData:
    """The values of SLO_CHARTS over the window, or of the part of it between two moments; none while unknown."""
    report, budget = status.report, status.budget_jobs
    names = [line.figure for chart in SLO_CHARTS for line in chart.lines]
    if report is None or not budget:
        return ChartData(start_s=0, step_s=3600, end_s=0, values={name: [] for name in names})
    step_s, first_s = report.step_s, slot_of(max(report.at - status.slo.window_s, report.since_s or 0), report.step_s)
    last_s = slot_of(report.at, step_s) + step_s
    begin_s = first_s if start_s is None else min(max(first_s, slot_of(start_s, step_s)), last_s - step_s)
    stop_s = last_s if end_s is None else max(begin_s + step_s, min(last_s, slot_of(end_s, step_s) + step_s))
    by_start = {step.start_s: step.counts for step in report.steps}
    values: dict[str, list[float | int | None]] = {name: [] for name in names}
    bad = 0.0
    for slot_s in range(first_s, stop_s, step_s):
        counts = by_start.get(slot_s)
        bad += counts.bad if counts is not None else 0.0
        if slot_s >= begin_s:
            values["used_ratio"].append(float(f"{bad / budget:.4g}"))
            values["budget_ratio"].append(1.0)
            ratio = counts.bad / counts.total if counts is not None and counts.total else None
            values["bad_ratio"].append(None if ratio is None else float(f"{ratio:.4g}"))
            values["allowed_ratio"].append(float(f"{status.allowed_ratio:.4g}"))
    return ChartData(start_s=begin_s, step_s=step_s, end_s=stop_s, values=values)
