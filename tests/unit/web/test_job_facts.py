"""Progress and former errors on the page of a job."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.model import Job, JobError, State
from dashboard.web.views.jobs.job_facts import describe_progress, former_error_title


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
