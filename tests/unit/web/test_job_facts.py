"""Progress and former errors on the page of a job."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.backends.job_facts import RESULT_RETENTION, RUNS_AFTER_FAILED_PARENT
from dashboard.clock import instant
from dashboard.model import Job, JobError, State
from dashboard.web.views.jobs.job_facts import describe_facts, describe_progress, former_error_title
from dashboard.web.views.jobs.payload_tree import build_tree


@pytest.mark.parametrize(
    ("progress", "text", "percent"),
    [
        (0, "0%", 0),
        (45, "45%", 45),
        (33.333333333, "33%", 33),
        (99.96, ">99.9%", 99),
        (100, "100%", 100),
        (0.45, "0.45", None),
        (1500, "1,500", None),
        (-1, "-1", None),
        ("step 2 of 5", "step 2 of 5", None),
        ({"current": 30, "total": 40}, "30 of 40 (75%)", 75),
    ],
)
def test_progress_is_a_percentage_where_it_can_be_one(progress: Any, text: str, percent: int | None) -> None:
    described = describe_progress(progress)
    assert described is not None
    assert (described.text, described.percent, described.tree) == (text, percent, None)


@pytest.mark.parametrize(
    "progress", [{"step": "resize"}, [1, 2], True, {"current": 5, "total": 0}, {"current": None, "total": 2}, 10**400]
)
def test_any_other_progress_is_json(progress: Any) -> None:
    described = describe_progress(progress)
    assert described is not None
    assert (described.text, described.percent) == ("", None)
    assert described.tree is not None


def test_what_comes_with_current_and_total_is_kept() -> None:
    described = describe_progress({"current": 1, "total": 2, "file": "a.png"})
    assert described is not None
    assert described.tree is not None
    assert [child.key for child in described.tree.children] == ["file"]


def test_no_progress_is_none_and_no_number_is_not_drawn() -> None:
    assert describe_progress(None) is None
    described = describe_progress(float("nan"))
    assert described is not None
    assert described.percent is None


def job(state: State | None, **fields: Any) -> Job:
    error = JobError(class_name="TimeoutError", message="connection\nlost")
    return Job(id="1", source="main", backend="rq", queue="mail", state=state, error=error, **fields)


def test_the_error_of_a_job_that_is_past_it_is_a_former_one() -> None:
    assert former_error_title(job(State.COMPLETED, attempts=2)) == "Attempt 1 failed: TimeoutError: connection lost"
    later = former_error_title(job(State.COMPLETED, attempts=3))
    assert later == former_error_title(job(State.ACTIVE)) == "An earlier attempt failed: TimeoutError: connection lost"


@pytest.mark.parametrize("state", [State.DEAD, State.RETRYING, State.SCHEDULED, State.CANCELED, None])
def test_the_error_that_explains_the_state_is_no_former_one(state: State | None) -> None:
    assert former_error_title(job(state)) is None


def test_the_error_of_an_abandoned_job_is_no_former_one() -> None:
    assert former_error_title(job(State.ACTIVE, abandoned=True)) is None


@pytest.mark.parametrize(
    ("label", "text", "shown"),
    [
        ("Timeout (s)", "30", ("Timeout", "30\u202fs")),
        ("Timeout (s)", "-1", ("Timeout", "no limit")),
        ("Retry intervals (s)", "[2, 90]", ("Retry intervals", "2\u202fs, 1\u202fm 30\u202fs")),
        *(("Timeout (s)", odd, ("Timeout (s)", odd)) for odd in ("soon", "[]", "[[", "true", "1e999", "[" * 5000)),
        (RESULT_RETENTION, "-1", ("Result retention", "forever")),
        (RUNS_AFTER_FAILED_PARENT, "0", (RUNS_AFTER_FAILED_PARENT, "no")),
        ("Group", "30", ("Group", "30")),
    ],
)
def test_a_detail_is_written_as_people_write_it(label: str, text: str, shown: tuple[str, str]) -> None:
    (fact,) = describe_facts(Job(id="1", source="main", backend="rq", queue="mail", facts=((label, text),)))
    assert (fact.label, fact.text, fact.at) == (*shown, None)


def test_a_detail_without_a_value_is_left_out() -> None:
    assert describe_facts(Job(id="1", source="main", backend="rq", queue="mail", facts=(("Group", ""),))) == ()


@pytest.mark.parametrize("odd", [0, -1, True, "5", None, 10**400, float("inf"), [1], {"delay": 1}])
def test_an_option_without_a_meaning_has_none(odd: Any) -> None:
    (node,) = build_tree({"delay": odd}, {"delay": "ms"}).children
    assert (node.duration, node.at) == ("", None)


def test_only_the_option_at_its_path_has_a_meaning() -> None:
    backoff, delay, timestamp = build_tree(
        {"backoff": {"delay": 2000}, "delay": 500, "timestamp": 0.5}, {"backoff.delay": "ms", "timestamp": "epoch_ms"}
    ).children
    assert [backoff.children[0].duration, delay.duration, timestamp.at] == ["2\u202fs", "", instant(0.0005)]
