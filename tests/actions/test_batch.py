"""The largest number of jobs of one action."""

from __future__ import annotations

import pytest

from dashboard.backends.actions import MAX_BATCH, Action, JobRef
from dashboard.errors import Conflict
from dashboard.model import State
from tests.actions.conftest import ACTOR, Bench


def test_one_action_on_too_many_jobs_is_refused(bench: Bench) -> None:
    job_refs = [JobRef(id=str(n)) for n in range(MAX_BATCH + 1)]
    results = bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.RETRY, job_refs[:-1]).results
    assert len(results) == MAX_BATCH
    with pytest.raises(Conflict, match="At most 1,000 jobs per action"):
        bench.actions.on_jobs(ACTOR, bench.ref(), State.DEAD, Action.RETRY, job_refs)
