"""What a payload of Sidekiq tells of attempts: unknown is not zero."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dashboard.backends.sidekiq.job_decoding import job_row
from dashboard.model import Job, QueueRef, State

REF = QueueRef(source="main", backend="sidekiq", name="*", key="*", shared=True)


def job(**fields: Any) -> Job:
    raw = json.dumps({"class": "A", "args": [], "jid": "j", **fields}).encode()
    return job_row(REF, State.DEAD, "dead", raw, len(raw), b"7")


def test_tries_count_from_the_first_failure() -> None:
    assert job().attempts == 0
    assert job(retry_count=0, error_class="Boom").attempts == 1
    assert job(retry_count=3, error_class="Boom").attempts == 4


@pytest.mark.parametrize(
    "fields",
    [
        *({"retry_count": odd} for odd in ("3", 2.5, True, -4, [1])),
        *(
            {name: 1_700_000_000 if name == "failed_at" else "x"}
            for name in ("error_class", "error_message", "failed_at")
        ),
    ],
)
def test_attempts_that_are_not_recorded_are_unknown(fields: dict[str, Any]) -> None:
    assert job(**fields).attempts is None


def test_an_entry_that_is_not_a_job_has_no_fields() -> None:
    raw = b'{"jid": "j"}'
    assert job_row(REF, State.DEAD, "dead", raw, len(raw), b"7").attempts is None


@pytest.mark.parametrize(
    ("retry", "most"), [(True, 26), (False, 1), (5, 6), (0, 1), (-1, 1), (-9, 1), ("x", 26), (2.5, 26), (None, None)]
)
def test_most_tries_are_those_that_sidekiq_makes(retry: Any, most: int | None) -> None:
    """`lib/sidekiq/job_retry.rb` (retry_attempts_from): what is no Integer is the default."""
    assert job(retry=retry).max_attempts == most
