"""Removed schedules of the real libraries are restored from the trash byte for byte, and continue to run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.actions.audit_log import Actor, AuditLog
from dashboard.actions.service import ActionService
from dashboard.actions.trash import SPARE_BYTES, Trash
from dashboard.backends.actions import Action, ActionResult, JobBackup, Outcome
from dashboard.backends.base import Backend
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.celery.backend import Celery
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import Conflict, NotFound
from dashboard.model import Schedule
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.contract.test_actions_bullmq import READ_BY_TYPE, REF, drive
from tests.contract.test_actions_celery import META, NIGHTLY
from tests.waiting import wait_until

ACTOR = Actor(name="anna", role="operator", address="127.0.0.1")
RELEASES = ("bullmq", "bullmq5", "bullmq4")
# What a removal leaves and a restore changes beside the schedule.
ASIDE = (b"bull:alpha:events", b"bull:alpha:marker")


@pytest.fixture
def source(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Source]:
    found = Source("main", server.url)
    yield found
    found.close()


@pytest.fixture
def backend(source: Source, server: EmbeddedRedis) -> BullMQ:
    return BullMQ(source, SourceSettings(name="main", url=server.url))


def service(backend: Backend, source: Source, room: int = 2**20) -> ActionService:
    return ActionService(lambda *_: backend, Trash(Store(source), room), AuditLog(source))


def library_keys(client: Any) -> dict[bytes, Any]:
    """Everything in Redis but our own keys and what is aside."""
    names = [key for key in client.scan_iter() if key not in ASIDE and not key.startswith(b"{queuedeck}")]
    return {key: READ_BY_TYPE[client.type(key)](client, key) for key in names}


def schedules(backend: BullMQ) -> dict[str, Schedule]:
    return {schedule.name or "": schedule for schedule in backend.list_schedules([REF])}


def remove(actions: ActionService, schedule: Schedule) -> str:
    """The batch of a removed schedule."""
    report = actions.on_schedule(ACTOR, schedule, Action.REMOVE_SCHEDULE)
    assert report.results[0].outcome is Outcome.DONE, report
    assert report.undo_batch is not None
    return report.undo_batch


@pytest.mark.parametrize("alias", RELEASES)
@pytest.mark.parametrize("name", ["hourly", "nightly"])
def test_a_schedule_of_bullmq_comes_back_byte_for_byte(
    backend: BullMQ, source: Source, server: EmbeddedRedis, redis_client: redis.Redis, alias: str, name: str
) -> None:
    drive(alias, server.url, "schedule")
    actions, before = service(backend, source), library_keys(redis_client)
    batch = remove(actions, schedules(backend)[name])
    assert name not in schedules(backend)
    assert library_keys(redis_client) != before
    (found,) = actions.trash.list_batches(5)
    assert (found[0], found[1].schedule is None, found[1].ref, found[2]) == (batch, False, REF, 1)
    assert actions.restore_batch(ACTOR, batch).results[0].outcome is Outcome.DONE
    assert library_keys(redis_client) == before
    with pytest.raises(NotFound):
        actions.restore_batch(ACTOR, batch)
    told = [(event.action, event.batch, event.outcomes) for event in actions.audit_log.list_page().events]
    assert told == [("undo", batch, {"done": 1}), ("remove_schedule", batch, {"done": 1})]


def test_a_job_scheduler_continues_to_run_after_it_is_restored(
    backend: BullMQ, source: Source, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    worker = drive("bullmq", server.url, "consume", schedulers=1, interval=150)["worker"]
    try:
        wait_until(lambda: redis_client.hlen("marks") >= 2, what="two runs")
        actions = service(backend, source)
        batch = remove(actions, schedules(backend)["tick"])
        wait_until(lambda: redis_client.llen("bull:alpha:active") == 0, what="the end of the last run")
        ran = redis_client.hlen("marks")
        assert redis_client.zcard("bull:alpha:delayed") == 0
        (result,) = actions.restore_batch(ACTOR, batch).results
        assert result.outcome is Outcome.DONE, result
        wait_until(lambda: redis_client.hlen("marks") >= ran + 3, what="three more runs")
        assert set(redis_client.hvals("marks")) == {b"1"}  # each run once
    finally:
        drive("bullmq", server.url, "stop", worker=worker)


@pytest.mark.parametrize("alias", RELEASES)
def test_a_schedule_that_ran_since_its_backup_is_not_removed(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    drive(alias, server.url, "schedule")
    hourly = schedules(backend)["hourly"]
    backup = backend.backup_schedule(hourly)
    assert isinstance(backup, JobBackup)
    (run,) = [
        key
        for key in redis_client.scan_iter("bull:alpha:repeat:*:*")
        if hourly.next_run_at
        and str(int(hourly.next_run_at.timestamp() * 1000)).encode() in key
        and redis_client.hget(key, "name") == b"hourly"
    ]
    redis_client.hset(run, "data", '{"task": "another"}')
    before = library_keys(redis_client)
    assert backend.remove_schedule(hourly, backup).outcome is Outcome.CHANGED
    assert library_keys(redis_client) == before
    again = backend.backup_schedule(hourly)
    assert isinstance(again, JobBackup)
    assert backend.remove_schedule(hourly, again).outcome is Outcome.DONE
    assert isinstance(gone := backend.backup_schedule(hourly), ActionResult)
    assert gone.outcome is Outcome.GONE
    assert backend.remove_schedule(hourly, again).outcome is Outcome.GONE


def test_a_schedule_of_the_same_name_is_not_replaced(
    backend: BullMQ, source: Source, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    def start_app() -> None:
        """The app starts, adds its schedule, and ends."""
        worker = drive("bullmq", server.url, "consume", schedulers=1, interval=3_600_000)["worker"]
        wait_until(lambda: redis_client.zcard("bull:alpha:delayed") == 1, what="the next run")
        drive("bullmq", server.url, "stop", worker=worker)

    start_app()
    actions = service(backend, source)
    batch = remove(actions, schedules(backend)["tick"])
    start_app()
    before = library_keys(redis_client)
    (result,) = actions.restore_batch(ACTOR, batch).results
    assert (result.outcome, result.detail) == (Outcome.CHANGED, "a schedule with this name exists again")
    assert library_keys(redis_client) == before
    assert actions.trash.count_left([batch]) == {batch: 1}


def test_a_schedule_whose_next_run_waits_is_restored_unless_nothing_would_continue_it(
    backend: BullMQ, source: Source, server: EmbeddedRedis, redis_client: Any
) -> None:
    drive("bullmq", server.url, "schedule")
    actions = service(backend, source)
    nightly = schedules(backend)["nightly"]
    (run,) = [raw for raw in redis_client.zrange("bull:alpha:delayed", 0, -1) if b"nightly" in raw]
    redis_client.zrem("bull:alpha:delayed", run)
    redis_client.lpush("bull:alpha:wait", run)  # it is due; no worker has picked it up
    batch = remove(actions, nightly)
    assert redis_client.lrange("bull:alpha:wait", 0, -1) == [run]
    assert actions.restore_batch(ACTOR, batch).results[0].outcome is Outcome.DONE
    batch = remove(actions, nightly)
    redis_client.lrem("bull:alpha:wait", 1, run.decode())
    redis_client.zadd("bull:alpha:completed", {run: 1})
    (result,) = actions.restore_batch(ACTOR, batch).results
    assert (result.outcome, "the app has to add it again" in (result.detail or "")) == (Outcome.REFUSED, True)
    assert redis_client.zscore("bull:alpha:repeat", "nightly") is None


def test_a_schedule_is_restored_once_however_many_ask(
    backend: BullMQ, source: Source, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    drive("bullmq", server.url, "schedule")
    actions, before = service(backend, source), library_keys(redis_client)
    batch = remove(actions, schedules(backend)["nightly"])
    barrier, told = threading.Barrier(6), list[str]()

    def restore() -> None:
        barrier.wait()
        try:
            told.extend(each.outcome.value for each in actions.restore_batch(ACTOR, batch).results)
        except NotFound:
            told.append("nothing left")

    threads = [threading.Thread(target=restore) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count("done") == 1, told
    assert library_keys(redis_client) == before
    assert redis_client.exists("{queuedeck}:bin", "{queuedeck}:bin:sizes", f"{{queuedeck}}:bin:{batch}") == 0


def test_a_restore_that_was_not_recorded_is_not_repeated(
    backend: BullMQ, source: Source, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    drive("bullmq", server.url, "schedule")
    nightly = schedules(backend)["nightly"]
    backup = backend.backup_schedule(nightly)
    assert isinstance(backup, JobBackup)
    assert backend.remove_schedule(nightly, backup).outcome is Outcome.DONE
    assert backend.restore_schedules(REF, [backup])[0].outcome is Outcome.DONE
    assert backend.act_on_schedule(nightly, Action.REMOVE_SCHEDULE).outcome is Outcome.DONE
    (result,) = backend.restore_schedules(REF, [backup])
    assert (result.outcome, result.again) == (Outcome.CHANGED, True)


def test_a_full_trash_still_takes_a_schedule_up_to_a_limit(
    backend: BullMQ, source: Source, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    drive("bullmq", server.url, "schedule")
    found, before = schedules(backend), library_keys(redis_client)
    with pytest.raises(Conflict, match="no room"):
        service(backend, source, room=-SPARE_BYTES).on_schedule(ACTOR, found["nightly"], Action.REMOVE_SCHEDULE)
    assert library_keys(redis_client) == before
    remove(service(backend, source, room=0), found["nightly"])


def test_an_entry_of_redbeat_comes_back_byte_for_byte(
    source: Source, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    backend = Celery(source, SourceSettings(name="main", url=server.url))
    backend.own_source = source
    key = b"redbeat:night\xff\x00ly"
    fields: dict[Any, Any] = {"definition": NIGHTLY, "meta": META, "other": b"\xff\x00"}
    redis_client.hset(key, mapping=fields)
    redis_client.zadd("redbeat::schedule", {key: 1795575600.123456})
    before = library_keys(redis_client)
    actions = service(backend, source)
    (nightly,) = backend.list_schedules([])
    stale = backend.backup_schedule(nightly)
    assert isinstance(stale, JobBackup)
    redis_client.zadd("redbeat::schedule", {key: 1})
    assert backend.remove_schedule(nightly, stale).outcome is Outcome.CHANGED
    redis_client.zadd("redbeat::schedule", {key: 1795575600.123456})
    redis_client.hset(key, "meta", "{}")
    assert backend.remove_schedule(nightly, stale).outcome is Outcome.CHANGED
    redis_client.hset(key, "meta", META)
    batch = remove(actions, nightly)
    assert library_keys(redis_client) == {}
    redis_client.zadd("redbeat::schedule", {key: 7})
    assert actions.restore_batch(ACTOR, batch).results[0].detail == "a schedule with this name exists again"
    redis_client.delete("redbeat::schedule")
    assert actions.restore_batch(ACTOR, batch).results[0].outcome is Outcome.DONE
    assert library_keys(redis_client) == before
    assert actions.trash.count_left([batch]) == {}
