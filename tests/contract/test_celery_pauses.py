"""When a Celery queue that was paused here is known to be paused still, and when it is not."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import redis

from dashboard.backends.actions import Action, Outcome
from dashboard.backends.celery import keys
from dashboard.backends.celery.actions import queue_actions, worker_control
from dashboard.backends.celery.actions.worker_control import WorkerControl
from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.paused_queues import decode_paused, encode_paused
from dashboard.backends.celery.results import run_balance
from dashboard.backends.celery.stored_heartbeats import SUSPECT_AFTER_S
from dashboard.model import State
from tests.contract.celery_library import CeleryLibrary
from tests.contract.celery_live import Shop
from tests.contract.test_actions_celery import live, shop
from tests.contract.test_celery import SEP, backend, declare_queues, discover, publish_event
from tests.waiting import wait_until

__all__ = ["backend", "live", "shop"]
MAILBOXES = "_kombu.binding.celery.pidbox"


def add_mailboxes(client: redis.Redis, *workers: str) -> None:
    client.sadd(MAILBOXES, *(SEP + SEP + name.encode() + b".celery.pidbox" for name in workers))


def beat(backend: Celery, client: redis.Redis, name: str = "one@h", **fields: Any) -> None:
    """A heartbeat of a worker in a container, as it is heard."""
    told = {"hostname": name, "pid": 1, "active": 0, "processed": 5, "clock": 40, **fields}
    publish_event(client, "/0.celeryev/worker.heartbeat", told)
    CeleryLibrary().settle(backend, client)


def store_pause(backend: Celery, client: redis.Redis, *workers: str) -> None:
    """What a pause stores once these workers have confirmed it."""
    note = encode_paused(workers, workers, backend.source.now_s())
    client.hset(keys.paused_key("main"), keys.location_of(discover(backend)["mails"]).key, note)


def paused(backend: Celery) -> bool | None:
    return backend.read_stats([discover(backend)["mails"]])[0].paused


def prepare(backend: Celery, client: redis.Redis) -> None:
    declare_queues(client, "mails")
    add_mailboxes(client, "one@h")
    CeleryLibrary().prepare(backend, client)


@pytest.mark.parametrize("restarted", [{"processed": 0}, {"clock": 3}, {"pid": 2}, {"pid": None}])
def test_a_worker_that_was_started_again_ends_the_pause_for_good(
    backend: Celery, any_redis: redis.Redis, restarted: dict[str, object]
) -> None:
    """Also in a container, where each process has the number 1."""
    prepare(backend, any_redis)
    beat(backend, any_redis)
    store_pause(backend, any_redis, "one@h")
    assert paused(backend) is True
    beat(backend, any_redis, processed=6, clock=44)
    assert paused(backend) is True
    beat(backend, any_redis, **restarted)
    assert paused(backend) is None
    beat(backend, any_redis, processed=900, clock=900)  # no longer below what was known at the pause
    assert paused(backend) is None


def test_a_worker_without_a_process_number_may_be_another_one(backend: Celery, any_redis: redis.Redis) -> None:
    prepare(backend, any_redis)
    beat(backend, any_redis, pid=None)
    store_pause(backend, any_redis, "one@h")
    beat(backend, any_redis, pid=None)
    assert paused(backend) is None


def test_a_worker_that_sends_no_heartbeats_may_consume_the_queue(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that ended do not make up for it; a killed one, whose mailbox stays, is none that lives."""
    prepare(backend, any_redis)
    for name in ("one@h", "ended@h", "killed@h"):
        beat(backend, any_redis, name)
    keeper = backend._keeper
    assert keeper is not None
    for name in ("ended@h", "killed@h"):
        keeper.workers.heartbeats[name]["at"] -= 3_600
    backend.maintain()
    store_pause(backend, any_redis, "one@h")
    assert paused(backend) is True
    add_mailboxes(any_redis, "killed@h")
    assert paused(backend) is None  # not heard for long enough to say that it was killed
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 0.0)
    assert paused(backend) is True
    add_mailboxes(any_redis, "silent@h")
    assert paused(backend) is None
    assert State.ACTIVE in backend.read_stats([discover(backend)["*"]])[0].at_least


def test_the_pause_is_unknown_where_workers_cannot_be_counted(backend: Celery, any_redis: redis.Redis) -> None:
    prepare(backend, any_redis)
    beat(backend, any_redis)
    store_pause(backend, any_redis, "one@h")
    any_redis.delete(MAILBOXES)
    any_redis.set(MAILBOXES, "no set")
    assert paused(backend) is None


@pytest.mark.parametrize("reached", [0, 1])
def test_a_queue_is_not_paused_before_its_workers_confirm_it(
    shop: Shop, live: Celery, monkeypatch: pytest.MonkeyPatch, reached: int
) -> None:
    """The command reaches no worker, or one that does not stop. The workers are stored for a resume only."""
    with shop.worker("alpha", name="one@shop"):
        alpha = discover(live)["alpha"]
        wait_until(lambda: live.maintain() or shop.marks.hlen(keys.workers_key("main")), what="a heartbeat")
        with monkeypatch.context() as lost:

            def send_nothing(*_: object) -> int:
                lost.setattr(worker_control, "ANSWER_S", 0.0)  # no need to wait for what does not come
                return reached

            lost.setattr(WorkerControl, "send_command", send_nothing)
            outcome = live.act_on_queue(alpha, Action.PAUSE).outcome
        assert outcome is (Outcome.DONE if reached else Outcome.REFUSED)
        (stored,) = shop.marks.hvals(keys.paused_key("main"))
        assert decode_paused(stored).asked == ("one@shop",)
        assert live.read_stats([alpha])[0].paused is None
        assert live.act_on_queue(alpha, Action.PAUSE).outcome is Outcome.DONE
        assert live.read_stats([alpha])[0].paused is True


def test_a_resume_while_a_pause_is_confirmed_is_not_undone(
    shop: Shop, live: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.worker("alpha", name="one@shop"):
        alpha = discover(live)["alpha"]
        wait_until(lambda: live.maintain() or shop.marks.hlen(keys.workers_key("main")), what="a heartbeat")

        def resume_meanwhile(*_: object) -> bool:
            assert live.act_on_queue(alpha, Action.RESUME).outcome is Outcome.DONE
            return True

        with monkeypatch.context() as late:
            late.setattr(queue_actions, "_have_stopped", resume_meanwhile)
            assert live.act_on_queue(alpha, Action.PAUSE).outcome is Outcome.DONE
        assert live.read_stats([alpha])[0].paused is None
        assert not shop.marks.exists(keys.paused_key("main"))


def test_a_queue_can_be_paused_immediately_after_a_resume(
    shop: Shop, live: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker takes up the queue late: the resume waits for it, so that the next pause finds it."""
    with shop.worker("alpha", name="one@shop"):
        alpha = discover(live)["alpha"]
        assert live.act_on_queue(alpha, Action.PAUSE).outcome is Outcome.DONE
        send, timers = WorkerControl.send_command, list[threading.Timer]()

        def send_late(*arguments: Any) -> int:
            timers.append(threading.Timer(0.5, send, arguments))
            timers[-1].start()
            return 1

        with monkeypatch.context() as late:
            late.setattr(WorkerControl, "send_command", send_late)
            assert live.act_on_queue(alpha, Action.RESUME).outcome is Outcome.DONE
        result = live.act_on_queue(alpha, Action.PAUSE)
        for timer in timers:
            timer.join()
        assert result.outcome is Outcome.DONE, result.detail


def test_stored_heartbeats_tell_since_when_a_process_was_heard(backend: Celery, any_redis: redis.Redis) -> None:
    prepare(backend, any_redis)
    beat(backend, any_redis)
    first = json.loads(any_redis.hget(keys.workers_key("main"), "one@h") or b"")
    assert first["since"] == first["at"]
    beat(backend, any_redis, processed=6)
    then = json.loads(any_redis.hget(keys.workers_key("main"), "one@h") or b"")
    assert then["since"] == first["at"] < then["at"] < first["at"] + SUSPECT_AFTER_S
