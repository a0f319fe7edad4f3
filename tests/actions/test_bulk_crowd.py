"""Several users act on the same dead jobs while a real worker runs: each job is processed once.

At scale and at random moments; test_bulk_steps.py does it step by step.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis

from dashboard.actions.audit_log import Actor
from dashboard.actions.bulk.operation import ENDED, BulkOperation, BulkRequest, JobListRef
from dashboard.actions.bulk.undo import undo_batch_of
from dashboard.backends.actions import Action, Outcome
from dashboard.backends.base import Backend
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, State
from tests.bench.bulk import Parts
from tests.e2e.on_call import LIBRARIES, Night
from tests.search import search
from tests.waiting import wait_until

JOBS = 300
USERS = {"anna": Action.RETRY, "bert": Action.DELETE, "carl": Action.RETRY, "dora": Action.DELETE}


@pytest.mark.soak
@pytest.mark.parametrize("night", LIBRARIES, ids=repr)
def test_each_job_is_either_retried_or_deleted_when_four_users_act_on_it(night: Night) -> None:
    with (
        EmbeddedRedis() as server,
        redis.Redis.from_url(server.url) as client,
        night.dying(server.url, JOBS),
        Parts(server.url, night.name) as here,
        Parts(server.url, night.name) as there,
    ):
        place = find_dead_jobs(here.backend, night)
        ids = {who: here.bulk_store.create(build_request(who, place)) for who in USERS}
        runners = [here.runner("here"), there.runner("there")]
        with night.working(server.url):
            for runner in runners:
                runner.start()
            try:
                wait_until(
                    lambda: all(here.bulk_store.get(each).phase in ENDED for each in ids.values()), what="the ends"
                )
            finally:
                for runner in runners:
                    runner.stop()
            operations = [here.bulk_store.get(each) for each in ids.values()]
            retried, deleted = (count_done(operations, action) for action in (Action.RETRY, Action.DELETE))
            assert retried + deleted == JOBS, [
                (operation.request.action, operation.outcomes) for operation in operations
            ]
            wait_until(lambda: len(night.ran(client)) >= retried, what="the worker finishing what was retried")
            assert list(night.ran(client)) == [1] * retried
        back = sum(
            here.actions.restore_batch(
                operation.request.actor, undo_batch_of(operation.id, place, operation.request)
            ).count(Outcome.DONE)
            for operation in operations
            if operation.undoable
        )
        assert back == deleted
        assert len(here.backend.list_job_refs(place.ref, JobQuery(state=State.DEAD, per_page=JOBS + 1))) == deleted
        assert list(night.ran(client)) == [1] * retried


def find_dead_jobs(backend: Backend, night: Night) -> JobListRef:
    """The list that holds all dead jobs, once all of them are known."""

    def find_list() -> JobListRef | None:
        backend.maintain()
        refs = {ref.name: ref for ref in search(backend)}
        ref = refs.get("*") or refs.get(night.queue)
        if ref is None:
            return None
        whole = len(backend.list_job_refs(ref, JobQuery(state=State.DEAD, per_page=JOBS + 1))) == JOBS
        return JobListRef(ref=ref, state=State.DEAD) if whole else None

    place = wait_until(find_list, what="all of the dead jobs")
    assert isinstance(place, JobListRef)
    return place


def build_request(who: str, place: JobListRef) -> BulkRequest:
    """The bulk request of that user."""
    actor = Actor(name=who, role="operator", address="127.0.0.1")
    return BulkRequest(action=USERS[who], actor=actor, job_lists=(place,), pace_per_s=200)


def count_done(operations: Sequence[BulkOperation], action: Action) -> int:
    """The number of jobs on which `action` was done."""
    return sum(operation.done for operation in operations if operation.request.action is action)
