"""Rates of Celery where results are not stored: the truth by what tells, or unknown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.rates import FlowFacts
from dashboard.backends.celery.results import run_balance
from dashboard.backends.celery.results.ended_tasks import EndedTasks
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.celery_library import CeleryLibrary
from tests.contract.celery_live import Shop
from tests.contract.sampling_looks import Looks, told
from tests.contract.test_celery import SEP, tell
from tests.waiting import wait_until

GOOD, BAD = 9, 3
TRUTH = (12, 3, 0.25)
NOTHING = (None, None, None)


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Celery]:
    """The backend of a process that samples and has heard the server from the start."""
    source = Source("main", server.url)
    backend = Celery(source, SourceSettings(name="main", url=server.url))
    for key in ("alpha", "beta"):
        for prefix in ("", "mute:"):
            redis_client.sadd(f"{prefix}_kombu.binding.{key}", f"{key}\x06\x16\x06\x16{key}")
    CeleryLibrary().prepare(backend, redis_client)
    yield backend
    backend.close()
    source.close()


def ended(backend: Celery, name: str) -> int:
    """How many tasks a worker has ended, by its last heartbeat."""
    assert backend._keeper is not None
    beat = backend._keeper.workers.heartbeats[name]
    return int(beat["processed"]) - int(beat["active"])


def run(backend: Celery, shop: Shop, worker: str, queue: str, **options: Any) -> None:
    """Tasks to their end; a heartbeat has told of it."""
    target = ended(backend, worker) + GOOD + BAD
    for number in range(GOOD + BAD):
        shop.app.send_task("shop.send", ("anna", number >= GOOD), queue=queue, **options)
    wait_until(lambda: ended(backend, worker) == target, what="all tasks")


def test_rates_are_the_truth_or_unknown(backend: Celery, server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    library = CeleryLibrary()
    looks = Looks(backend, lambda: library.settle(backend, redis_client))
    shop, mute = Shop(server.url), Shop(server.url, options={"global_keyprefix": "mute:"})
    nowhere = {"result_backend": "disabled://"}
    with contextlib.ExitStack() as stack:
        stack.callback(mute.close)
        stack.callback(shop.close)
        stack.enter_context(shop.worker("alpha,beta", conf={"task_store_errors_even_if_ignored": True}))
        stack.enter_context(mute.worker("alpha", "-E", name="two@shop", conf=nowhere))
        keeper = backend._keeper
        assert keeper is not None
        wait_until(lambda: {"one@shop", "two@shop"} <= keeper.workers.heartbeats.keys(), what="both workers")
        looks.look()
        assert told(looks.look()["alpha"]) == NOTHING  # nothing was ever heard of results here

        run(backend, shop, "one@shop", "alpha")
        run(backend, mute, "two@shop", "alpha")
        rows = looks.look()
        assert told(rows["alpha"]) == TRUTH
        assert told(rows["beta"])[:2] == (0, 0)
        assert (rows["*"].counts.completed, rows["*"].counts.dead) == (GOOD, BAD)
        assert told(rows["mute:alpha"]) == NOTHING
        assert told(rows["mute:*"]) == (12, None, None)
        assert (rows["mute:*"].counts.completed, rows["mute:*"].counts.dead) == (None, None)
        assert "ignore_result" in (rows["mute:*"].flow_reason or "")
        assert rows["mute:alpha"].progress_known or rows["mute:alpha"].depth == 0

        # The worker of the other queue begins tasks all the time, and this one stands; more and more wait in it.
        for _ in range(2):
            mute.app.send_task("shop.send", ("anna", False), queue="beta")
            looks.look()
            run(backend, mute, "two@shop", "alpha")
            standing = looks.look()["mute:beta"]
            assert (standing.progress_known, standing.finished_ago_s) == (True, None)
        mute.marks.rpop("mute:beta")
        mute.app.send_task("shop.send", ("anna", False), queue="beta")
        assert looks.look()["mute:beta"].finished_ago_s == 0  # as many wait, and the next one is another

        # From here on some are stored and some not; of the other queue's tasks only errors.
        run(backend, shop, "one@shop", "beta", ignore_result=True)
        rows = looks.look()
        assert told(rows["alpha"]) == NOTHING
        assert told(rows["beta"]) == (None, BAD, None)
        assert told(rows["*"]) == (12, None, None)
        assert rows["*"].counts.dead == 2 * BAD  # these can be opened


@pytest.mark.parametrize("queues", [("alpha",), ("alpha", "beta")])
def test_progress_is_what_workers_begin_where_only_one_queue_is_there(backend: Celery, queues: tuple[str, ...]) -> None:
    keeper = backend._keeper
    assert keeper is not None
    shown = {("", queue) for queue in queues}
    keeper.tally.traces.workers = {"": 1}

    def progressed(ended: EndedTasks, now: float) -> bool | None:
        facts = FlowFacts(keeper, ended, 2.0, now, {}, shown, shown, hiding=(), nameless=False)
        return facts.has_progressed(("", "alpha"))

    assert progressed(EndedTasks(), 1000.0) is False
    begun = EndedTasks()
    begun.started[""] = 5
    keeper.tally.traces.started_at[""] = 1000.0
    assert progressed(begun, 1000.0) is (True if len(queues) == 1 else None)
    assert progressed(EndedTasks(), 1010.0) is None
    assert progressed(EndedTasks(), 1040.0) is False
    keeper.tally.traces.workers = {"": None}
    assert progressed(EndedTasks(), 1040.0) is None


def test_rates_are_unknown_until_each_worker_has_told_twice(
    backend: Celery, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that, tasks that leave no record would be missed, and the visible part would pass for all."""
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 3600.0)
    library = CeleryLibrary()
    looks = Looks(backend, lambda: library.settle(backend, redis_client))
    redis_client.sadd("_kombu.binding.celery.pidbox", SEP + SEP + b"a@h.celery.pidbox")
    record = json.dumps({"status": "SUCCESS", "queue": "alpha", "task_id": "seen"})

    def beat(number: int, processed: int) -> None:
        told_by = {"hostname": "a@h", "pid": 1, "active": 0, "processed": processed, "timestamp": number}
        wait_until(lambda: tell(redis_client, "/0.celeryev/worker.heartbeat", told_by), what="a listener")

    def end_one() -> None:
        redis_client.set("celery-task-meta-seen", record, ex=3600)
        wait_until(lambda: redis_client.publish("celery-task-meta-seen", record), what="a listener")

    looks.look()
    for number in range(2):
        end_one()
        row = looks.look()["alpha"]
        assert told(row) == NOTHING
        assert "Just subscribed" in (row.flow_reason or "")
        beat(number, 100)  # the first of them: the look after it still knows nothing of what came between
    end_one()
    beat(2, 101)
    assert told(looks.look()["alpha"])[0] == 1
    for number in range(3, 6):
        beat(number, 101 + 10 * number)
        looks.look()
    assert told(looks.look()["alpha"]) == NOTHING  # tasks ended that left no record
