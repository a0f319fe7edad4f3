"""Who paused a queue: recorded with the pause, forgotten with the resume or a resume elsewhere."""

from __future__ import annotations

import pytest
import redis
from msgspec.structs import replace

from dashboard.actions import pauses
from dashboard.actions.audit_log import AuditLog
from dashboard.actions.pauses import PauseLog, describe_pause
from dashboard.actions.service import ActionService
from dashboard.actions.trash import Trash
from dashboard.backends.actions import Action
from dashboard.backends.base import Backend
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.rq.backend import RQ
from dashboard.model import QueueStats
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.actions.conftest import ACTOR

SETTINGS = SourceSettings(name="main", url="redis://127.0.0.1")


def queue_of(backend: str, name: str = "mail", *, paused: bool = True) -> QueueStats:
    return QueueStats(source="main", backend=backend, name=name, key=f"{backend}:{name}", prefix="p", paused=paused)


def actions_of(source: Source, backend: Backend) -> tuple[ActionService, PauseLog]:
    store = Store(source)
    log = PauseLog(store)
    service = ActionService(lambda _s, _n: backend, Trash(store, 1024), AuditLog(source), pauses=log)
    return service, log


def test_a_pause_is_attributed_until_the_resume(source: Source, redis_client: redis.Redis) -> None:
    redis_client.hset("bull:mail:meta", "opts.maxLenEvents", "10")
    service, log = actions_of(source, BullMQ(source, SETTINGS))
    queue = replace(queue_of("bullmq"), key="bull:mail")
    service.on_queue(ACTOR, queue, Action.PAUSE)
    found = log.list_pauses()
    record = found.find_pause(queue)
    assert record is not None
    assert describe_pause(record) == "paused by anna"
    assert abs(record.at - redis_client.time()[0]) < 60
    assert found.find_pause(replace(queue, name="other")) is None
    assert found.find_pause(replace(queue, paused=False)) is None
    service.on_queue(ACTOR, queue, Action.RESUME)
    assert log.list_pauses().find_pause(queue) is None
    assert describe_pause(None) == "paused outside Queuedeck"


def test_a_pause_of_a_whole_library_is_attributed_on_all_its_queues(source: Source, redis_client: redis.Redis) -> None:
    service, log = actions_of(source, RQ(source, SETTINGS))
    queue = replace(queue_of("rq"), prefix=None, key="rq:queue:mail")
    service.on_queue(ACTOR, queue, Action.PAUSE)
    assert redis_client.exists("rq:suspended")
    assert log.list_pauses().find_pause(replace(queue, name="other")) is not None
    service.on_queue(ACTOR, replace(queue, name="other", key="rq:queue:other"), Action.RESUME)
    assert len(log.list_pauses()) == 0


def test_a_resume_outside_queuedeck_ends_the_record(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PauseLog(Store(source))
    queue = queue_of("bullmq")
    log.record_pause(queue, "anna", whole_library=False)
    running, now = [replace(queue, paused=False)], Store(source).now_s()
    log.forget_ended(running, now)  # this sample can be older than the pause
    log.forget_ended([replace(queue, paused=None)], now + 3600)
    assert log.list_pauses().find_pause(queue) is not None
    log.forget_ended(running, now + 3600)
    assert log.list_pauses().find_pause(queue) is None


def test_records_are_bounded_and_broken_ones_are_left_out(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "MAX_PAUSES", 2)
    log = PauseLog(Store(source))
    for name in ("a", "b", "c", "a"):
        log.record_pause(queue_of("bullmq", name), name * 900, whole_library=False)
    assert len(log.list_pauses()) == 2
    (record,) = [log.list_pauses().find_pause(queue_of("bullmq", "a"))]
    assert record is not None
    assert len(record.who) == pauses.MAX_WHO
    redis_client.hset(pauses.PAUSES, "main\0bullmq\0a", b"\xff\xff")
    assert len(log.list_pauses()) == 1
