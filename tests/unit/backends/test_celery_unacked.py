"""Whether it is known which unacknowledged messages of Celery are running."""

from __future__ import annotations

import pytest

from dashboard.backends.celery.messages.unacked import _tells_all

NOW = 10_000.0
LIVES, IDLE, ENDED = {"at": NOW, "active": 2}, {"at": NOW, "active": 0}, {"at": NOW - 3_600, "active": 1}


@pytest.mark.parametrize(
    ("beats", "boxes", "started", "expected"),
    [
        ([LIVES], 1, 2, True),
        ([LIVES], 1, 1, False),  # one more runs
        ([IDLE], 1, 5, True),  # what was started has ended
        ([LIVES], 2, 2, False),  # a worker sends no heartbeats
        ([LIVES, ENDED], 1, 2, True),
        ([LIVES, ENDED], 2, 2, False),  # the worker that ended does not make up for the one without heartbeats
        ([ENDED], 1, 0, False),
        ([ENDED], 0, 0, True),
        ([], 0, 0, False),
        ([{"at": NOW}], 1, 0, False),
        ([LIVES], None, 2, False),
    ],
)
def test_all_running_tasks_are_known_where_each_worker_reports_them(
    beats: list[dict[str, object]], boxes: int | None, started: int, expected: bool
) -> None:
    assert _tells_all(beats, boxes, started, NOW) is expected
