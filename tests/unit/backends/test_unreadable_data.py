"""Unexpected data costs one row or one queue, with a reason."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from dashboard.backends.unreadable_data import describe_error, searched_row
from dashboard.model import Job, Searched, State

JOB = Job(id="1", source="main", backend="rq", queue="mails", state=State.DEAD, native_state="failed")


def test_a_searched_row_is_built_from_the_job_and_its_data() -> None:
    assert searched_row(lambda job, raw: Searched(job=job, text=raw.decode()), JOB, b"text").text == "text"


def test_a_searched_row_that_cannot_be_built_is_the_job_with_the_problem() -> None:
    row = searched_row(lambda job, raw: Searched(job=job, text=raw.decode()), JOB, b"\xff")
    assert (row.job.id, row.text) == ("1", "")
    assert row.job.problem == "it could not be read: UnicodeDecodeError; the log has the details"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("WRONGTYPE Operation against a key", "a key of this queue has the wrong type"),
        ("ERR password=hunter2hunter2", "ERR password=••••••"),
        ("x" * 300, "x" * 200 + "…"),
    ],
)
def test_a_refused_queue_is_described_in_one_line(error: str, text: str) -> None:
    assert describe_error(ResponseError(error)) == text
