"""The rule that a queue's page suggests: its metric, and thresholds from the last hour."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.alerts.rules.rule import parse_rule
from dashboard.model import Counts, QueueStats
from dashboard.sampling.recent_history import QueueHistory
from dashboard.units import read_amount
from dashboard.web.views.problems.problem import ProblemKind
from dashboard.web.views.queues.suggested_rule import percentile_95, suggest_rule


def queue(**fields: Any) -> QueueStats:
    return QueueStats(**{"source": "main", "backend": "rq", "name": "mail", "key": "mail", "depth": 5, **fields})


@pytest.mark.parametrize(
    ("points", "expected"),
    [((), None), ((None,), None), ((7,), 7), ((None, 1, 3), 3), (tuple(range(1, 101)), 95), ((*(1,) * 59, 900), 1)],
)
def test_a_short_peak_is_not_what_is_usual(points: tuple[float | None, ...], expected: float | None) -> None:
    assert percentile_95(points) == expected


@pytest.mark.parametrize(
    ("depth", "warning", "critical"),
    [((187,) * 60, 380, 940), ((0,) * 60, 10, 50), ((3,), 10, 15), ((12_345,), 25_000, 62_000), ((5,), 10, 25)],
)
def test_thresholds_are_twice_and_five_times_the_usual_figure_rounded_up(
    depth: tuple[int, ...], warning: float, critical: float
) -> None:
    found = suggest_rule(queue(), "RQ", QueueHistory(depth=depth), ())
    assert found.arguments["metric"] == "queue.depth"
    given = [read_amount(found.arguments[name], "count") for name in ("warning", "critical")]
    assert given == [warning, critical]


def test_the_reason_says_where_the_threshold_comes_from() -> None:
    found = suggest_rule(queue(), "RQ", QueueHistory(depth=(187,)), ())
    text = "Suggested warning: above 380 waiting jobs, twice the 95th percentile of the last hour (187), rounded up."
    assert found.reason == text
    failing = QueueHistory(finished_per_min=(10.0,), failed_per_min=(7.0,))
    capped = suggest_rule(queue(), "RQ", failing, (ProblemKind.FAILING,)).reason
    assert capped.endswith(
        "above 90% of jobs failed in 15 min, the maximum; the 95th percentile of the last hour is 70%."
    )
    unknown = suggest_rule(queue(), "RQ", None, ())
    assert not {"warning", "critical"} & set(unknown.arguments)
    assert unknown.reason == "No thresholds suggested: no data for the last hour."


@pytest.mark.parametrize(
    ("kinds", "fields", "metric"),
    [
        ((), {}, "queue.depth"),
        ((ProblemKind.LATENCY,), {}, "queue.depth"),
        ((ProblemKind.RISING,), {}, "queue.dead"),
        ((ProblemKind.DEAD_LETTERS, ProblemKind.FAILING), {}, "queue.error_ratio"),
        ((), {"depth": None, "counts": Counts(dead=3)}, "queue.dead"),
        ((), {"depth": None}, "queue.depth"),
    ],
)
def test_the_metric_is_that_of_the_current_problem(
    kinds: tuple[ProblemKind, ...], fields: dict[str, Any], metric: str
) -> None:
    assert suggest_rule(queue(**fields), "RQ", None, kinds).arguments["metric"] == metric


@pytest.mark.parametrize("failed", [0.0, 0.4, 3.0, 9.0, 10.0])
@pytest.mark.parametrize("name", ["mail", "a[b]c\\d", " two\nlines\x00", "x" * 500, "bad\udcff"])
def test_a_suggestion_is_a_valid_rule(failed: float, name: str) -> None:
    history = QueueHistory(finished_per_min=(10.0,) * 5, failed_per_min=(failed,) * 5)
    given = suggest_rule(queue(name=name), "RQ", history, (ProblemKind.FAILING,)).arguments
    levels = {each: read_amount(given[each], "ratio") for each in ("warning", "critical") if each in given}
    assert "warning" in levels
    scope = {"queues": [given["queues"]], "source": given["source"], "backend": given["backend"]}
    rule = parse_rule({"id": "suggested", "metric": given["metric"], **scope, **levels}, "test")
    assert 0.05 <= (rule.warning or 0) <= 0.9
