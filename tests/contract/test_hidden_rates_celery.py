"""Rates of Celery where results are not stored: the truth by what tells, or unknown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.keys import SEPARATOR, QueueLocation
from dashboard.backends.celery.rates import FeedSample
from dashboard.backends.celery.results import run_balance
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import Quality, QueueRef
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.celery_library import CeleryLibrary
from tests.contract.celery_live import Shop
from tests.contract.sample_series import SampleSeries, classes_of, rates_of
from tests.contract.test_celery import SEP, publish_event
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


def count_finished(backend: Celery, name: str) -> int:
    """How many tasks a worker has ended, by its last heartbeat."""
    assert backend._keeper is not None
    beat = backend._keeper.workers.heartbeats[name]
    return int(beat["processed"]) - int(beat["active"])


def run_tasks(backend: Celery, shop: Shop, worker: str, queue: str, **options: Any) -> None:
    """Tasks to their end; a heartbeat has told of it."""
    target = count_finished(backend, worker) + GOOD + BAD
    for number in range(GOOD + BAD):
        shop.app.send_task("shop.send", ("anna", number >= GOOD), queue=queue, **options)
    wait_until(lambda: count_finished(backend, worker) == target, what="all tasks")


def test_rates_are_the_truth_or_unknown(backend: Celery, server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    library = CeleryLibrary()
    series = SampleSeries(backend, lambda: library.settle(backend, redis_client))
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
        series.take_sample()
        assert rates_of(series.take_sample()["alpha"]) == NOTHING  # nothing was ever heard of results here

        run_tasks(backend, shop, "one@shop", "alpha")
        run_tasks(backend, mute, "two@shop", "alpha")
        rows = series.take_sample()
        assert rates_of(rows["alpha"]) == TRUTH
        flow = series.flows["alpha"]
        assert (classes_of(flow), flow.classes_quality) == ({"shop.send": (GOOD, BAD)}, Quality.EXACT)
        assert series.flows["mute:*"].classes is None
        assert rates_of(rows["beta"])[:2] == (0, 0)
        assert (rows["*"].counts.completed, rows["*"].counts.dead) == (GOOD, BAD)
        assert rates_of(rows["mute:alpha"]) == NOTHING
        assert rates_of(rows["mute:*"]) == (12, None, None)
        assert (rows["mute:*"].counts.completed, rows["mute:*"].counts.dead) == (None, None)
        assert "ignore_result" in (rows["mute:*"].flow_reason or "")
        assert rows["mute:alpha"].progress_known or rows["mute:alpha"].depth == 0

        # The worker of the other queue begins tasks all the time, and this one stands; more and more wait in it.
        for _ in range(2):
            mute.app.send_task("shop.send", ("anna", False), queue="beta")
            series.take_sample()
            run_tasks(backend, mute, "two@shop", "alpha")
            standing = series.take_sample()["mute:beta"]
            assert (standing.progress_known, standing.finished_ago_s) == (True, None)
        mute.marks.rpop("mute:beta")
        mute.app.send_task("shop.send", ("anna", False), queue="beta")
        assert series.take_sample()["mute:beta"].finished_ago_s == 0  # as many wait, and the next one is another

        # From here on some are stored and some not; of the other queue's tasks only errors.
        run_tasks(backend, shop, "one@shop", "beta", ignore_result=True)
        rows = series.take_sample()
        assert series.flows["beta"].classes is None
        assert rates_of(rows["alpha"]) == NOTHING
        assert rates_of(rows["beta"]) == (None, BAD, None)
        assert rates_of(rows["*"]) == (12, None, None)
        assert rows["*"].counts.dead == 2 * BAD  # these can be opened


@pytest.mark.parametrize("queues", [("alpha",), ("alpha", "beta")])
def test_progress_is_what_workers_begin_where_only_one_queue_is_there(backend: Celery, queues: tuple[str, ...]) -> None:
    keeper = backend._keeper
    assert keeper is not None
    keys = {queue: QueueLocation("", queue, SEPARATOR).key for queue in queues}
    refs = [QueueRef(source="main", backend="celery", name=queue, key=key) for queue, key in keys.items()]

    def progress(now: float, started: int = 0) -> bool | None:
        keeper.tally.ended.started[""] = started
        return FeedSample(refs, keeper, now, 2.0).has_progressed(("", "alpha"))

    keeper.tally.traces.workers = {"": 1}
    assert progress(1000.0) is False
    keeper.tally.traces.started_at[""] = 1000.0
    assert progress(1000.0, started=5) is (True if len(queues) == 1 else None)
    assert progress(1010.0) is None
    assert progress(1040.0) is False
    keeper.tally.traces.workers = {"": None}
    assert progress(1040.0) is None


def test_rates_are_unknown_until_each_worker_has_reported_twice(
    backend: Celery, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that, tasks that leave no record would be missed, and the visible part would pass for all."""
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 3600.0)
    library = CeleryLibrary()
    series = SampleSeries(backend, lambda: library.settle(backend, redis_client))
    redis_client.sadd("_kombu.binding.celery.pidbox", SEP + SEP + b"a@h.celery.pidbox")
    record = json.dumps({"status": "SUCCESS", "queue": "alpha", "task_id": "seen"})

    def beat(number: int, processed: int) -> None:
        told_by = {"hostname": "a@h", "pid": 1, "active": 0, "processed": processed, "timestamp": number}
        wait_until(lambda: publish_event(redis_client, "/0.celeryev/worker.heartbeat", told_by), what="a listener")

    def end_one() -> None:
        redis_client.set("celery-task-meta-seen", record, ex=3600)
        wait_until(lambda: redis_client.publish("celery-task-meta-seen", record), what="a listener")

    series.take_sample()
    for number in range(2):
        end_one()
        row = series.take_sample()["alpha"]
        assert rates_of(row) == NOTHING
        assert "Just subscribed" in (row.flow_reason or "")
        beat(number, 100)  # the first of them: the look after it still knows nothing of what came between
    end_one()
    beat(2, 101)
    assert rates_of(series.take_sample()["alpha"])[0] == 1
    for number in range(3, 6):
        beat(number, 101 + 10 * number)
        series.take_sample()
    assert rates_of(series.take_sample()["alpha"]) == NOTHING  # tasks ended that left no record
