"""How the canary of a bulk operation is counted before all of its jobs have a result."""

from __future__ import annotations

import pytest

from dashboard.actions.audit_log import Actor
from dashboard.actions.bulk.canary import CanaryCounts, count_canary
from dashboard.actions.bulk.operation import BulkOperation, BulkPhase, BulkRequest
from dashboard.backends.actions import Action


def operation(
    phase: BulkPhase, *, canary: int = 10, processed: int = 10, done: int = 10, **counts: int
) -> BulkOperation:
    request = BulkRequest(action=Action.RETRY, actor=Actor(name="anna", role="operator"), canary=canary)
    return BulkOperation(
        id="1",
        request=request,
        phase=phase,
        matched=100,
        processed=processed,
        outcomes={"done": done, "gone": processed - done},
        canary_failed=counts.get("failed", 0),
        canary_open=counts.get("open", 0),
    )


@pytest.mark.parametrize(
    ("shown", "counted"),
    [
        (operation(BulkPhase.COLLECTING, processed=0, done=0), None),
        (operation(BulkPhase.RUNNING, canary=0), None),
        (operation(BulkPhase.RUNNING, processed=11, done=11), None),  # the others are being processed
        (operation(BulkPhase.RUNNING, canary=100, processed=20, done=20), None),  # all of them: no canary
        (operation(BulkPhase.CANARY, processed=4, done=3), CanaryCounts(failed=0, succeeded=0, open=9, skipped=1)),
        (operation(BulkPhase.WATCHING, failed=2, open=3), CanaryCounts(failed=2, succeeded=5, open=3, skipped=0)),
        (operation(BulkPhase.WATCHING, done=8, open=3), CanaryCounts(failed=0, succeeded=5, open=3, skipped=2)),
        (operation(BulkPhase.PAUSED, failed=99, open=99), CanaryCounts(failed=10, succeeded=0, open=0, skipped=0)),
    ],
)
def test_each_job_is_counted_once(shown: BulkOperation, counted: CanaryCounts | None) -> None:
    assert count_canary(shown) == counted
    assert counted is None or sum(counted) == 10
