"""Bulk work at every one of its steps: the process dies there, or somebody else acts on the same jobs there.

A step is one exchange of the runner with Redis. Nothing else of it can be seen by others, so these are all the moments
at which a kill or a race can make a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import redis

from dashboard.actions.bulk import pacing
from dashboard.actions.bulk import runner as bulk_runner
from dashboard.actions.bulk.operation import ENDED, BulkOperation, BulkPhase, BulkRequest
from dashboard.actions.bulk.undo import batch_of, undo_of
from dashboard.backends.actions import Action, Outcome
from dashboard.demo.embedded import EmbeddedRedis
from tests.actions.conftest import ACTOR, before_exchange, expire_lease
from tests.actions.test_bulk_libraries import DEAD, WAITING, picture
from tests.bench.bulk import LIBRARIES, Parts

BATCH = 3
JOBS = BATCH + 2  # two batches
library_by_name = pytest.mark.parametrize("library", LIBRARIES)


class Killed(BaseException):
    """What no handler of the product holds, as none holds SIGKILL."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of its own: the tests here empty it."""
    with EmbeddedRedis() as found:
        yield found


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of BATCH jobs: a step costs what its jobs cost, and more jobs make no more steps."""
    monkeypatch.setattr(bulk_runner, "RunningOperation", partial(bulk_runner.RunningOperation, batch=BATCH))
    monkeypatch.setattr(pacing, "LEAST_BATCH", BATCH)


def to_its_end(parts: Parts, work_id: str, holder: str) -> BulkOperation:
    runner = parts.runner(holder)
    while (operation := parts.works.get(work_id)).phase not in ENDED:
        runner.run_turn()
    return operation


def each_step(run: Callable[[int], bool]) -> int:
    """Run with 0, 1, 2 … as the step at which it happens, until that step is not reached; how many there are."""
    step = 0
    while run(step):
        step += 1
    return step


@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE, Action.UNDO])
@library_by_name
def test_nothing_is_lost_or_done_twice_when_the_process_dies(
    server: EmbeddedRedis, library: str, action: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_at(step: int) -> bool:
        with (
            redis.Redis.from_url(server.url) as client,
            Parts(server.url, library) as parts,
            Parts(server.url, library) as other,
        ):
            client.flushall()
            LIBRARIES[library][0](client, JOBS)
            before = picture(client)
            spec: BulkRequest = parts.spec(Action.RETRY if action is Action.RETRY else Action.DELETE)
            work_id = parts.works.create(spec)
            deleted = None
            if action is Action.UNDO:
                deleted = to_its_end(parts, work_id, "deletes")
                work_id = parts.works.create(undo_of(deleted, ACTOR))

            def die() -> None:
                raise Killed

            with monkeypatch.context() as patch:
                reached = before_exchange(parts._source, step, die, patch)
                try:
                    runner = parts.runner("killed")
                    while other.works.get(work_id).phase not in ENDED:
                        runner.run_turn()
                except Killed:
                    pass
            expire_lease(client, work_id)
            operation = to_its_end(other, work_id, "continues")
            assert (operation.phase, operation.at) == (BulkPhase.DONE, JOBS), step
            if action is Action.RETRY:
                waiting = WAITING[library](client)
                assert len(waiting) == len(set(waiting)) == JOBS, step
                assert library not in DEAD or client.zcard(DEAD[library]) == 0
                return bool(reached)
            assert operation.outcomes == {"done": JOBS}, step
            if deleted is None:
                back = other.actions.undo_batch(
                    ACTOR, batch_of(operation.id, operation.spec.job_lists[0], operation.spec)
                )
                assert back.count(Outcome.DONE) == JOBS, step
            assert picture(client) == before, step
            assert client.zcard("{queuedeck}:bin") == 0
            return bool(reached)

    assert each_step(dies_at) > 15


@pytest.mark.parametrize("first", [Action.RETRY, Action.DELETE])
@library_by_name
def test_two_people_act_on_the_same_jobs(
    server: EmbeddedRedis, library: str, first: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One retries all of them while the other one deletes all of them: each job is dealt with by one of the two."""
    second = Action.DELETE if first is Action.RETRY else Action.RETRY

    def other_acts_at(step: int) -> bool:
        with (
            redis.Redis.from_url(server.url) as client,
            Parts(server.url, library) as parts,
            Parts(server.url, library) as other,
        ):
            client.flushall()
            LIBRARIES[library][0](client, JOBS)
            work_id = parts.works.create(parts.spec(first))
            later: list[BulkOperation] = []

            def act() -> None:
                other_id = other.works.create(other.spec(second))
                runner = other.runner("other")
                # Not its turn of the work that the other process holds, or would take.
                monkeypatch.setattr(other.works, "open_ids", lambda: [other_id])
                while (operation := other.works.get(other_id)).phase not in ENDED:
                    runner.run_turn()
                later.append(operation)

            with monkeypatch.context() as patch:
                reached = before_exchange(parts._source, step, act, patch)
                operation = to_its_end(parts, work_id, "first")
            if not later:
                return bool(reached)
            done = {operation.spec.action: operation.done for operation in (operation, *later)}
            assert sum(done.values()) == JOBS, (step, done)
            assert all(each.phase is BulkPhase.DONE for each in (operation, *later))
            waiting = WAITING[library](client)
            assert len(waiting) == len(set(waiting)) == done[Action.RETRY], step
            return bool(reached)

    assert each_step(other_acts_at) > 15
