"""Bulk operations at every step: the process dies there, or another user acts on the same jobs there.

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
from dashboard.actions.bulk.undo import build_undo, undo_batch_of
from dashboard.backends.actions import Action, Outcome
from dashboard.demo.embedded import EmbeddedRedis
from tests.actions.conftest import ACTOR, before_exchange, expire_lease
from tests.actions.test_bulk_libraries import DEAD, WAITING, read_library_keys
from tests.bench.bulk import LIBRARIES, Parts

BATCH = 3
JOBS = BATCH + 2  # two batches
library_by_name = pytest.mark.parametrize("library", LIBRARIES)


class Killed(BaseException):
    """Not caught by any handler of the product, like SIGKILL."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A separate Redis: these tests empty it."""
    with EmbeddedRedis() as found:
        yield found


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of BATCH jobs: a step costs what its jobs cost, and more jobs make no more steps."""
    monkeypatch.setattr(bulk_runner, "RunningOperation", partial(bulk_runner.RunningOperation, batch_limit=BATCH))
    monkeypatch.setattr(pacing, "LEAST_BATCH", BATCH)


def run_to_end(parts: Parts, bulk_id: str, holder: str) -> BulkOperation:
    runner = parts.runner(holder)
    while (operation := parts.bulk_store.get(bulk_id)).phase not in ENDED:
        runner.run_turn()
    return operation


def count_steps(run: Callable[[int], bool]) -> int:
    """Call `run` with step 0, 1, 2 … until a step is not reached. Return the number of steps."""
    step = 0
    while run(step):
        step += 1
    return step


@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE, Action.UNDO])
@library_by_name
def test_no_job_is_lost_or_processed_twice_when_the_process_dies(
    server: EmbeddedRedis, library: str, action: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_at(step: int) -> bool:
        with (
            redis.Redis.from_url(server.url) as client,
            Parts(server.url, library) as parts,
            Parts(server.url, library) as other,
        ):
            client.flushall()
            LIBRARIES[library][0](client, JOBS)
            before = read_library_keys(client)
            request: BulkRequest = parts.request(Action.RETRY if action is Action.RETRY else Action.DELETE)
            bulk_id = parts.bulk_store.create(request)
            deleted = None
            if action is Action.UNDO:
                deleted = run_to_end(parts, bulk_id, "deletes")
                bulk_id = parts.bulk_store.create(build_undo(deleted, ACTOR))

            def die() -> None:
                raise Killed

            with monkeypatch.context() as patch:
                reached = before_exchange(parts._source, step, die, patch)
                try:
                    runner = parts.runner("killed")
                    while other.bulk_store.get(bulk_id).phase not in ENDED:
                        runner.run_turn()
                except Killed:
                    pass
            expire_lease(client, bulk_id)
            operation = run_to_end(other, bulk_id, "continues")
            assert (operation.phase, operation.processed) == (BulkPhase.DONE, JOBS), step
            if action is Action.RETRY:
                waiting = WAITING[library](client)
                assert len(waiting) == len(set(waiting)) == JOBS, step
                assert library not in DEAD or client.zcard(DEAD[library]) == 0
                return bool(reached)
            assert operation.outcomes == {"done": JOBS}, step
            if deleted is None:
                back = other.actions.restore_batch(
                    ACTOR, undo_batch_of(operation.id, operation.request.job_lists[0], operation.request)
                )
                assert back.count(Outcome.DONE) == JOBS, step
            assert read_library_keys(client) == before, step
            assert client.zcard("{queuedeck}:bin") == 0
            return bool(reached)

    assert count_steps(die_at) > 15


@pytest.mark.parametrize("first", [Action.RETRY, Action.DELETE])
@library_by_name
def test_each_job_is_processed_once_when_two_users_act_on_it(
    server: EmbeddedRedis, library: str, first: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user retries all jobs while another deletes them: each job is processed by one of the two."""
    second = Action.DELETE if first is Action.RETRY else Action.RETRY

    def act_at(step: int) -> bool:
        with (
            redis.Redis.from_url(server.url) as client,
            Parts(server.url, library) as parts,
            Parts(server.url, library) as other,
        ):
            client.flushall()
            LIBRARIES[library][0](client, JOBS)
            bulk_id = parts.bulk_store.create(parts.request(first))
            later: list[BulkOperation] = []

            def act_on_same_jobs() -> None:
                other_id = other.bulk_store.create(other.request(second))
                runner = other.runner("other")
                # This runner must not pick up the operation of the other process.
                monkeypatch.setattr(other.bulk_store, "open_ids", lambda: [other_id])
                while (operation := other.bulk_store.get(other_id)).phase not in ENDED:
                    runner.run_turn()
                later.append(operation)

            with monkeypatch.context() as patch:
                reached = before_exchange(parts._source, step, act_on_same_jobs, patch)
                operation = run_to_end(parts, bulk_id, "first")
            if not later:
                return bool(reached)
            done = {operation.request.action: operation.done for operation in (operation, *later)}
            assert sum(done.values()) == JOBS, (step, done)
            assert all(each.phase is BulkPhase.DONE for each in (operation, *later))
            waiting = WAITING[library](client)
            assert len(waiting) == len(set(waiting)) == done[Action.RETRY], step
            return bool(reached)

    assert count_steps(act_at) > 15
