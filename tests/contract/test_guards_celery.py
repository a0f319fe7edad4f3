"""Guards of Celery's scripts that no other test covers: changes between the read and the script."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, JobRef, Outcome
from dashboard.backends.celery import keys
from dashboard.backends.celery.actions.scripts import WRITES
from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.paused_queues import decode_paused
from dashboard.model import State
from tests.contract.celery_live import Shop
from tests.contract.test_actions_celery import ALPHA, act, job_refs_of, live, shop, waiting_messages
from tests.contract.test_celery import backend, declare_queues, discover, message, store_result
from tests.waiting import wait_until

__all__ = ["backend", "live", "shop"]


def run_before_script(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Run `change` after all reads and just before the script is sent."""
    send = WRITES.run_for_each

    def change_then_send(*args: Any, **more: Any) -> Any:
        change()
        return send(*args, **more)

    monkeypatch.setattr(WRITES, "run_for_each", change_then_send)


@pytest.mark.parametrize("date_done", ["2026-11-24T03:00:01+00:00", "2026-11-24T03:00:00+00:00"])
def test_a_retry_is_refused_when_the_record_changed_since_it_was_read(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, date_done: str
) -> None:
    """A record of the same length with another date, and one with the same date and another length."""
    declare_queues(any_redis, "alpha")
    store_result(any_redis, "t1", **ALPHA)
    longer = {} if date_done.endswith("01+00:00") else {"worker": "other"}

    def write_record() -> None:
        store_result(any_redis, "t1", date_done=date_done, **longer, **ALPHA)

    run_before_script(monkeypatch, write_record)
    (answer,) = act(backend, Action.RETRY, State.DEAD, JobRef(id="t1"))
    assert answer.outcome is Outcome.CHANGED
    assert waiting_messages(any_redis) == []
    assert json.loads(any_redis.get("celery-task-meta-t1") or b"")["status"] == "FAILURE"


@pytest.mark.parametrize("action", [Action.PROMOTE, Action.CANCEL])
def test_a_held_message_that_was_replaced_is_not_changed(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    declare_queues(any_redis, "alpha")
    eta = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    def hold(task_id: str) -> None:
        any_redis.hset("unacked", "tag", json.dumps([json.loads(message(task_id, eta=eta)), "", "alpha"]))

    hold("t1")
    any_redis.zadd("unacked_index", {"tag": 1})
    (job_ref,) = job_refs_of(backend, State.SCHEDULED)
    run_before_script(monkeypatch, lambda: hold("t2"))
    with any_redis.pubsub() as worker:
        worker.subscribe("/0.celery.pidbox")
        assert worker.get_message(timeout=60)
        (answer,) = act(backend, action, State.SCHEDULED, job_ref)
        assert worker.get_message() is None
    assert answer.outcome is Outcome.CHANGED
    assert waiting_messages(any_redis) == []
    assert json.loads(any_redis.hget("unacked", "tag") or b"")[0]["headers"]["id"] == "t2"
    assert any_redis.zscore("unacked_index", "tag") == 1


def test_a_second_pause_remembers_the_workers_of_the_first(shop: Shop, live: Celery) -> None:
    with shop.worker("alpha", name="one@shop"):
        alpha = discover(live)["alpha"]
        assert live.act_on_queue(alpha, Action.PAUSE).outcome is Outcome.DONE
        with shop.worker("alpha", name="two@shop"):
            inspect = shop.app.control.inspect(["one@shop", "two@shop"], timeout=20)

            def consuming_workers() -> set[str]:
                return {name for name, queues in (inspect.active_queues() or {}).items() if queues}

            wait_until(lambda: consuming_workers() == {"two@shop"}, what="the pause of the first worker")
            assert live.act_on_queue(alpha, Action.PAUSE).outcome is Outcome.DONE
            wait_until(lambda: consuming_workers() == set(), what="the pause of the second worker")
            noted = shop.marks.hget(keys.paused_key("main"), keys.location_of(alpha).key)
            assert decode_paused(noted).asked == ("one@shop", "two@shop")
            assert live.act_on_queue(alpha, Action.RESUME).outcome is Outcome.DONE
            wait_until(
                lambda: consuming_workers() == {"one@shop", "two@shop"}, what="both workers taking from the queue again"
            )


def test_a_moved_message_names_its_new_queue(backend: Celery, any_redis: redis.Redis) -> None:
    """A worker that stops returns a message to the queue that the message names."""
    declare_queues(any_redis, "alpha", "beta")
    any_redis.lpush("alpha", message("t1"))
    answers = act(
        backend, Action.MOVE, State.WAITING, *job_refs_of(backend, State.WAITING), options=ActionOptions(target="beta")
    )
    assert [answer.outcome for answer in answers] == [Outcome.DONE]
    (moved,) = waiting_messages(any_redis, "beta")
    assert moved["properties"]["delivery_info"] == {"exchange": "", "routing_key": "beta"}
