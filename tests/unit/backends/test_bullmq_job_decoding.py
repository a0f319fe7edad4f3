"""Reading a job's hash, field by field, whatever stands in it."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from dashboard.backends.bullmq.job_decoding import (
    JobFields,
    find_problem,
    is_missing,
    max_attempts,
    parse_error,
    parse_stacks,
)

PYTHON = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nshop.errors.CardDeclined: no money\n'


@pytest.mark.parametrize(
    ("stack", "class_name"),
    [
        ("TypeError: x is not a function\n    at f (a.js:1:2)", "TypeError"),
        (PYTHON, "CardDeclined"),
        ("Error\n    at f", None),
        ("something: went wrong", "something"),
        ("<b>no</b>: class", None),
        ("Traceback ", None),
        ("NoneType: None", None),
    ],
)
def test_the_class_of_an_error_is_read_from_its_stack(stack: str, class_name: str | None) -> None:
    found = parse_error("why", stack)
    assert found is not None
    assert (found.class_name, found.message, found.stack) == (class_name, "why", stack)


def test_no_error_without_a_trace_of_one() -> None:
    assert parse_error(None) is None
    assert parse_error("", None) is None


def test_an_invalid_field_is_unknown_and_reported() -> None:
    fields = JobFields({"timestamp": b"soon", "priority": b"high", "name": [70_000], "opts": b"[1]", "atm": b"1e999"})
    assert fields.instant("timestamp") is None
    assert fields.integer("priority") is None
    assert fields.text("name") is None
    assert fields.options() is None
    assert fields.attempts is None
    assert len(fields.troubles) == 5


@pytest.mark.parametrize("raw", [b"0", b"-5", b"99999999999999999", b"1e300"])
def test_a_time_that_no_calendar_holds_is_unknown(raw: bytes) -> None:
    assert JobFields({"timestamp": raw}).instant("timestamp") is None


def test_attempts_count_from_nothing_and_try_at_least_once() -> None:
    assert JobFields({"atm": None, "attemptsMade": None, "timestamp": b"1700000000000"}).attempts == 0
    assert JobFields({"name": b"x"}).attempts == 0
    assert JobFields({"atm": None, "attemptsMade": b"3"}).attempts == 3
    assert max_attempts({"attempts": 0}) == 1
    assert max_attempts({"attempts": 5}) == 5
    assert max_attempts({}) == 1
    assert max_attempts({"attempts": None}) == 1


def test_attempts_that_are_not_recorded_are_unknown() -> None:
    assert JobFields({}).attempts is None
    # What a worker writes of a job that was removed while it ran.
    assert JobFields({"progress": b"50", "processedOn": b"1700000000000", "pb": b"w"}).attempts is None
    assert JobFields({"timestamp": b"1", "attemptsMade": b"-3"}).attempts is None
    for odd in ("many", 2.5, True, [3]):
        assert max_attempts({"attempts": odd}) is None
    assert max_attempts(None) is None


@pytest.mark.parametrize(
    ("raw", "progress"),
    [(None, None), (b"0", None), (b"50", 50), (b'{"step": 2}', {"step": 2}), (b"\xff", "\\xff"), (b"NaN", "NaN")],
)
def test_progress_is_whatever_the_job_said(raw: bytes | None, progress: object) -> None:
    assert JobFields({"progress": raw}).progress == progress


def test_stacks_are_texts_oldest_first() -> None:
    assert parse_stacks(b'["a", "b", 3]') == ("a", "b")
    assert parse_stacks(b"[" * 100_000) == ("[" * 10_000 + "…",)
    assert parse_stacks(b"{}") == ()
    assert parse_stacks(None) == ()


def test_a_missing_or_wrong_hash_is_reported() -> None:
    assert is_missing([None, None])
    assert find_problem([None]) == "its data no longer exists, only its id is left"
    assert find_problem([b"x"]) is None
    assert find_problem(ResponseError("WRONGTYPE Operation")) == "its key has the wrong type"
