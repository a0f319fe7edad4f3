"""The five figures of the overview: what each says, compares and draws."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.model import Counts, QueueStats, RedisHealth, Snapshot, SourceStats
from dashboard.sampling.recent_history import History, QueueHistory
from dashboard.web.pages.overview import OverviewFigure, build_figures
from dashboard.web.views.overview.overview_data import OverviewData
from dashboard.web.views.overview.queue_table import QueueTableQuery, build_table
from dashboard.web.views.problems.problem import ProblemKind, ProblemLevel
from dashboard.web.views.sparkline import line

UP = SourceStats(name="main", address="redis://main", reachable=True)


def queue(name: str = "mail", **fields: Any) -> QueueStats:
    return QueueStats(source="main", backend="rq", name=name, key=name, **fields)


def overview(
    *queues: QueueStats,
    past: QueueHistory | None = None,
    step_s: int = 15,
    sources: tuple[SourceStats, ...] = (UP,),
    memory: dict[str, tuple[int | None, ...]] | None = None,
) -> OverviewData:
    snapshot = Snapshot(sampled_at=1.0, interval_s=2.0, sequence=1, sampler="", epoch=0, sources=sources, queues=queues)
    return OverviewData(snapshot, History(step_s=step_s, totals=past or QueueHistory(), memory=memory or {}))


def figures(data: OverviewData) -> dict[str, OverviewFigure]:
    return {figure.label: figure for figure in build_figures(data)}


@pytest.mark.parametrize(
    ("points", "step_s", "text"),
    [
        (60, 60, "+514 in 1\u202fh"),
        (59, 15, "+514 since start (14\u202fm)"),
        (2, 15, "+514 since start (30\u202fs)"),
    ],
)
def test_a_change_is_of_one_hour_or_says_that_it_is_since_the_start(points: int, step_s: int, text: str) -> None:
    past = QueueHistory(depth=(100,) * points)
    assert figures(overview(queue(depth=614), past=past, step_s=step_s))["Waiting"].change == text


def test_a_change_after_a_gap_says_since_when() -> None:
    past = QueueHistory(depth=(None,) * 20 + (100,) * 40)
    change = figures(overview(queue(depth=90), past=past, step_s=60))["Waiting"].change
    assert change == "\N{MINUS SIGN}10 in 40\u202fm"


def test_the_error_ratio_draws_ratios_and_not_failures_per_minute() -> None:
    past = QueueHistory(
        depth=(1, 1, 1), finished_per_min=(10, 100, 1000), failed_per_min=(5, 50, 500), error_ratio=(0.5, 0.5, 0.5)
    )
    drawn = figures(overview(queue(), past=past))["Error ratio"].path
    assert drawn == line((0.5, 0.5, 0.5), 3, 132, 36, top=0.5)


@pytest.mark.parametrize(
    ("ratio", "level"),
    [(0.05, ProblemLevel.OK), (0.2, ProblemLevel.WARNING), (0.26, ProblemLevel.CRITICAL), (1.0, ProblemLevel.CRITICAL)],
)
def test_one_error_ratio_has_one_level_in_the_list_the_table_and_the_figure(ratio: float, level: ProblemLevel) -> None:
    failing = queue(throughput_per_min=60.0, failed_per_min=60.0 * ratio, error_ratio=ratio)
    data = overview(failing)
    (row,) = build_table(data, QueueTableQuery()).groups[0].rows
    listed = {problem.level for problem in data.problems if problem.kind is ProblemKind.FAILING}
    assert row.error_level is figures(data)["Error ratio"].level is level
    assert listed == ({level} if level else set())


def test_a_single_failed_job_is_no_level_anywhere() -> None:
    data = overview(queue(throughput_per_min=0.2, failed_per_min=0.2, error_ratio=1.0))
    (row,) = build_table(data, QueueTableQuery()).groups[0].rows
    assert row.error_level is figures(data)["Error ratio"].level is ProblemLevel.OK


def source(name: str, used: int | None, limit: int | None) -> SourceStats:
    health = RedisHealth(used_memory_bytes=used, maxmemory_bytes=limit)
    return SourceStats(name=name, address="redis://x", reachable=used is not None, health=health)


def test_memory_has_a_limit_only_if_every_server_has_one() -> None:
    both = overview(sources=(source("a", 2**20, 2**30), source("b", 2**20, 2**30)))
    assert (figures(both)["Redis memory"].value, figures(both)["Redis memory"].title) == (
        *("2\u202fMiB", "of 2\u202fGiB"),
    )
    one = overview(sources=(source("a", 2**20, 2**30), source("b", 2**20, 0)))
    assert figures(one)["Redis memory"].title == "not every server has a limit"
    assert figures(one)["Redis memory"].change == ""


def test_memory_without_a_server_is_a_lower_bound_and_no_change() -> None:
    memory = {"a": (2**20, 2**20), "b": (2**30, None)}
    data = overview(sources=(source("a", 2**20, None), source("b", None, None)), memory=memory)
    figure = figures(data)["Redis memory"]
    assert (figure.value, figure.change) == ("1\u202fMiB+", "")
    assert figure.title == "without 1 of 2 servers, whose memory is unknown"


def test_a_large_lower_bound_is_short() -> None:
    data = overview(queue(counts=Counts(waiting=12_345_678), depth=12_345_678, at_least=("waiting",)))
    assert figures(data)["Waiting"].value == "12.3M+"
