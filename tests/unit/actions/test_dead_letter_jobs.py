"""Dead letters as jobs of bulk operations: where they can return to, and what a list says about them."""

from __future__ import annotations

import pytest

from dashboard.actions.dead_letter_jobs import RestoreQueues, listed_job
from dashboard.dead_letters.fingerprint import NormalizedError
from dashboard.dead_letters.groups import GroupMember
from dashboard.dead_letters.index import DeadLetter
from dashboard.model import JobError, QueueRef, QueueStats, State

REF = QueueRef(source="main", backend="rq", name="mail-dlq", key="mail-dlq")
QUEUES = [
    QueueStats(source="main", backend="rq", name="mail-dlq", key="mail-dlq"),
    QueueStats(source="main", backend="rq", name="mail", key="mail"),
    QueueStats(source="main", backend="rq", name="*", key="*", shared=True),
    QueueStats(source="other", backend="rq", name="cash", key="cash"),
    QueueStats(source="main", backend="celery", name="web", key="web"),
]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [("mail", "mail"), ("mail-dlq", None), ("*", None), ("cash", None), ("web", None), ("gone", None), (None, None)],
)
def test_a_job_returns_only_to_another_queue_of_its_library(origin: str | None, expected: str | None) -> None:
    assert RestoreQueues(QUEUES).queue_for(REF, origin) == expected


@pytest.mark.parametrize(
    ("class_name", "text", "error"),
    [
        ("E", "boom 7", JobError(class_name="E", message="boom 7")),
        ("E", None, JobError(class_name="E")),
        (None, "boom 7", JobError(message="boom 7")),
        (None, None, None),
    ],
)
def test_a_listed_job_has_its_stamp_and_its_error(
    class_name: str | None, text: str | None, error: JobError | None
) -> None:
    row = DeadLetter(NormalizedError("f", class_name, "boom <n>", ()), "1", "v", "mail", "send", None, None, text)
    job = listed_job(GroupMember(REF, State.DEAD, row))
    assert (job.id, job.version, job.state, job.name, job.queue, job.error) == (
        *("1", "v", State.DEAD, "send", "mail"),
        error,
    )
