"""The index of what ended loses nothing that it was told, whichever round trip fails, and outlives odd keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.keys import index_key, workers_key
from dashboard.backends.celery.results import index, record_scan
from dashboard.backends.celery.results.ended_tasks import EndedTasks
from dashboard.backends.celery.results.index import ResultIndex
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.test_celery import declare_queues, store_result
from tests.search import search
from tests.waiting import wait_until

KEY = ("", "mail")


@pytest.fixture
def keeper(source: Source, redis_client: redis.Redis) -> Iterator[ResultIndex]:
    """A keeper that hears the feed and has looked through the records."""
    found = ResultIndex(source, source, source, "main")
    found.prefixes = ("",)
    wait_until(lambda: found.listener.is_connected, what="the feed")
    wait_until(lambda: found.maintain() or not found.scan.is_running, what="the look through the records")
    found.maintain()
    found.tally.ended = EndedTasks()
    yield found
    found.close()


def ends(client: redis.Redis, name: str, runtime_s: float = 2.5, status: str = "SUCCESS") -> None:
    """What a worker does as a task ends: the record, its message, the event."""
    record = json.dumps({"status": status, "task_id": name, "queue": "mail", "date_done": "2026-01-01T00:00:00"})
    key = f"celery-task-meta-{name}"
    client.set(key, record)
    client.publish(key, record)
    event = json.dumps({"type": "task-succeeded", "uuid": name, "runtime": runtime_s, "hostname": "w"})
    envelope = {"body": base64.b64encode(event.encode()).decode(), "content-type": "application/json"}
    client.publish("/0.celeryev/task.succeeded", json.dumps(envelope))


def heard(keeper: ResultIndex, records: int, events: int) -> None:
    wait_until(lambda: (keeper.listener.received, keeper.workers.heard) == (records, events), what="the feed")


def listed(client: redis.Redis) -> int:
    return int(client.zcard(index_key("main", State.COMPLETED)))


@pytest.mark.parametrize("failing", [0, 1])
def test_a_round_trip_that_fails_loses_nothing(
    keeper: ResultIndex, source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    ends(redis_client, "a")
    heard(keeper, 1, 1)
    run, trips = source.run_batch, 0

    def cut(commands: Any) -> Any:
        nonlocal trips
        trips += 1
        if trips == failing + 1:
            raise source.unavailable_error(ConnectionError("cut"))
        return run(commands)

    with monkeypatch.context() as patch:
        patch.setattr(source, "run_batch", cut)
        with pytest.raises(BackendUnavailable):
            keeper.maintain()
    ends(redis_client, "b", 1.5)
    heard(keeper, 2, 2)
    keeper.maintain()
    assert (keeper.tally.ended.completed, keeper.tally.ended.whole) == ({KEY: 2}, True)
    assert sorted(keeper.tally.ended.runtimes[KEY]) == [1.5, 2.5]
    assert listed(redis_client) == 2


def test_records_that_could_not_be_read_are_looked_for_again(
    keeper: ResultIndex, source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_client.set("celery-task-meta-old", json.dumps({"status": "SUCCESS", "date_done": "2026-01-01T00:00:00"}))
    keeper.scan.restart()
    batch = source.run_batch

    def cut(commands: Any) -> Any:
        if any(command[0] == "GETRANGE" for command in commands):
            raise source.unavailable_error(ConnectionError("cut"))
        return batch(commands)

    with monkeypatch.context() as patch:
        patch.setattr(source, "run_batch", cut)
        with pytest.raises(BackendUnavailable):
            keeper.maintain()
    wait_until(lambda: keeper.maintain() or listed(redis_client) == 1, what="the record being listed")


def test_more_than_may_wait_is_looked_for_in_the_records(
    keeper: ResultIndex, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MAX_UNWRITTEN", 0)
    ends(redis_client, "a")
    heard(keeper, 1, 1)
    monkeypatch.setattr(record_scan, "FILL_SECONDS", 5.0)
    keeper.maintain()
    assert (keeper.tally.ended.completed, listed(redis_client)) == ({KEY: 1}, 1)


@pytest.mark.parametrize("name", ["completed", "dead", "workers", "queues"])
def test_a_key_of_another_type_is_rebuilt_with_one_log_line(
    keeper: ResultIndex, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    ends(redis_client, "a")
    ends(redis_client, "b", status="FAILURE")
    heard(keeper, 2, 2)
    keeper.maintain()
    keeper.queues = frozenset({"mail"})
    key = f"{{queuedeck}}:celery:main:{name}"
    redis_client.delete(key)
    redis_client.set(key, "garbage")
    ends(redis_client, "c")
    envelope = {"body": base64.b64encode(b'{"hostname": "w"}').decode(), "content-type": "application/json"}
    redis_client.publish("/0.celeryev/worker.heartbeat", json.dumps(envelope))
    wait_until(lambda: keeper.listener.received == 3, what="the third record being heard")
    wait_until(lambda: keeper.maintain() or redis_client.type(key) != b"string", what="the key being removed")
    wait_until(lambda: keeper.maintain() or not keeper.scan.is_running, what="the look through the records")
    assert (listed(redis_client), redis_client.zcard(index_key("main", State.DEAD))) == (2, 1)
    assert caplog.messages in ([], [f"own key {key} had the wrong type: deleted, will be rebuilt"])
    assert workers_key("main") == "{queuedeck}:celery:main:workers"


def test_one_store_and_one_name_do_not_mix_two_servers(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    own = Source("store", server.url)
    dashboards = []
    for database in (1, 2):
        url = server.url.rsplit("/", 1)[0] + f"/{database}"
        with redis.Redis.from_url(url) as client:
            declare_queues(client, "mails")
            store_result(client, f"of-{database}", queue="mails")
        backend = Celery(Source("main", url), SourceSettings(name="main", url=url))
        backend.own_source = own
        dashboards.append(backend)
    dead = JobQuery(state=State.DEAD)
    try:
        shared = []
        for backend in dashboards:
            search(backend)
            ref = next(each for each in search(backend) if each.shared)
            shared.append(ref)
            wait_until(
                lambda backend=backend, ref=ref: backend.maintain() or backend.list_jobs(ref, dead).total,
                what="the record",
            )
        listed = [
            [job.id for job in backend.list_jobs(ref, dead).jobs]
            for backend, ref in zip(dashboards, shared, strict=True)
        ]
        assert listed == [["of-1"], ["of-2"]]
        assert [backend.read_stats([ref])[0].counts.dead for backend, ref in zip(dashboards, shared, strict=True)] == [
            1,
            1,
        ]
    finally:
        for backend in dashboards:
            backend.close()
        redis_client.flushall()
