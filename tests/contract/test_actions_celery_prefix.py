"""Actions on jobs of Celery where apps share a server by key prefixes, or use another separator."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, JobBackup, JobRef, Outcome
from dashboard.backends.celery.actions.backups import RecordBackup, pack_backup
from dashboard.backends.celery.backend import Celery
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.celery_library import CeleryLibrary
from tests.contract.celery_live import Shop
from tests.contract.test_actions_celery import (
    ALPHA,
    act,
    dump_keys,
    fail_jobs,
    job_refs_of,
    live,
    outcomes,
    update_index,
    waiting_messages,
)
from tests.contract.test_bullmq import READER
from tests.contract.test_celery import SEP, backend, declare_queues, discover, message
from tests.waiting import CEILING_S, wait_until

__all__ = ["backend", "live"]
FAILED = {"status": "FAILURE", "result": None, "date_done": "2026-11-24T03:00:00+00:00", **ALPHA}


@pytest.fixture
def shop(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Shop]:
    """An app with a key prefix and another separator."""
    assert redis_client.dbsize() == 0
    shop = Shop(server.url, options={"global_keyprefix": "shop:", "sep": "::"})
    yield shop
    shop.close()


def store_failure(client: redis.Redis, key: str, **fields: object) -> None:
    """Store the record of a failure under `key`."""
    client.set(key, json.dumps({**FAILED, **fields}), ex=3600)


def test_a_retried_job_of_a_prefix_runs_under_that_prefix(shop: Shop, live: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "alpha")  # of another app, with the same name
    with shop.worker("alpha"):
        ids = fail_jobs(shop, live, "one")
        old = job_refs_of(live, State.DEAD, on="shop:*")
        assert [job_ref.id for job_ref in old] == [ids["one"]]
        assert outcomes(act(live, Action.RETRY, State.DEAD, *old)) == [Outcome.GONE]
        assert outcomes(act(live, Action.RETRY, State.DEAD, *old, on="shop:*")) == [Outcome.DONE]
        assert outcomes(act(live, Action.RETRY, State.DEAD, *old, on="shop:*")) == [Outcome.CHANGED]
        assert job_refs_of(live, State.DEAD, on="shop:*") == []
        shop.await_status(ids["one"], "SUCCESS")
        assert (shop.read_marks("ran"), shop.read_marks("failed")) == ({"one": 1}, {"one": 1})
        update_index(live, shop)
        assert [job_ref.id for job_ref in job_refs_of(live, State.COMPLETED, on="shop:*")] == [ids["one"]]
    assert redis_client.exists("alpha") == 0


def test_a_queue_with_another_separator_can_be_paused_and_obliterated(
    shop: Shop, live: Celery, redis_client: redis.Redis
) -> None:
    with shop.worker("alpha", name="one@shop") as process:
        ref = discover(live)["alpha"]
        update_index(live, shop)
        assert live.act_on_queue(ref, Action.PAUSE).outcome is Outcome.DONE
        inspect = shop.app.control.inspect(["one@shop"], timeout=20)
        wait_until(lambda: (inspect.active_queues() or {}) == {"one@shop": []}, what="the pause")
        assert live.act_on_queue(ref, Action.RESUME).outcome is Outcome.DONE
        shop.await_status(shop.send("one", priority=3), "SUCCESS")
        (worker,) = [worker for worker in live.list_workers([ref]) if worker.id == "one@shop"]
        assert live.act_on_worker(worker, Action.STOP_WORKER).outcome is Outcome.DONE
        assert process.process.wait(CEILING_S) == 0
    assert live.act_on_queue(ref, Action.OBLITERATE).outcome is Outcome.DONE
    assert redis_client.exists("shop:_kombu.binding.alpha") == 0


NAMES = {"unacked_key": "shop.held", "unacked_index_key": "shop.held.since", "unacked_mutex_key": "shop.mutex"}


@pytest.mark.parametrize("prefix", ["", "shop:"])
def test_held_jobs_under_custom_key_names_are_listed_and_changed(
    server: EmbeddedRedis, redis_client: redis.Redis, prefix: str
) -> None:
    shop = Shop(server.url, options={**NAMES, **({"global_keyprefix": prefix} if prefix else {})})
    source = Source("main", server.url)
    names = {name: NAMES[name] for name in ("unacked_key", "unacked_index_key")}
    live = Celery(source, SourceSettings(name="main", url=server.url, **names))
    live.own_source = source
    with shop.worker():
        now, never, held = (
            shop.send("now", countdown=3600),
            shop.send("never", countdown=3600),
            shop.send("held", queue="beta", countdown=3600),
        )
        wait_until(lambda: redis_client.hlen(f"{prefix}shop.held") == 3, what="the worker picking them up")
        assert not redis_client.exists(f"{prefix}unacked", f"{prefix}unacked_index")
        refs = discover(live)
        shared = refs["*"]
        assert live.read_stats([shared])[0].counts.scheduled == 3
        assert live.read_job(refs["beta"], held).state is State.SCHEDULED
        job_refs = {job_ref.id: job_ref for job_ref in job_refs_of(live, State.SCHEDULED)}
        assert set(job_refs) == {now, never, held}
        (promoted,) = act(live, Action.PROMOTE, State.SCHEDULED, job_refs[now])
        assert promoted.outcome is Outcome.DONE
        assert outcomes(act(live, Action.CANCEL, State.SCHEDULED, job_refs[never])) == [Outcome.DONE]
        shop.await_status(str(promoted.new_id), "SUCCESS")
        shop.await_status(never, "REVOKED")
        # A worker stores the result before it acknowledges the message.
        wait_until(lambda: redis_client.zcard(f"{prefix}shop.held.since") == 1, what="acknowledging two messages")
        assert live.read_stats([shared])[0].counts.scheduled == 1
    live.close()
    source.close()
    shop.close()


def test_held_jobs_under_custom_key_names_are_counted_without_scripts(
    any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
    entry = json.dumps([json.loads(message("t1")), "", "alpha"])
    declare_queues(any_redis, "alpha")
    any_redis.hset("shop.held", "tag", entry)
    source = Source("main", f"redis://reader:secret@127.0.0.1:{any_server.port}/0")
    plain = Celery(source, SourceSettings(name="main", url="", unacked_key="shop.held"))
    assert plain.read_stats([discover(plain)["*"]])[0].notes[0].startswith("1 unacknowledged message")
    source.close()
    any_redis.execute_command("ACL", "DELUSER", "reader")


# The prefix of a broker, and the text before the records of its app.
@pytest.mark.parametrize(("prefix", "before"), [("shop:", "shop:"), ("blog", "blog_"), ("shop:", "")])
def test_undo_restores_records_of_a_prefix_to_their_keys(
    backend: Celery, any_redis: redis.Redis, prefix: str, before: str
) -> None:
    declare_queues(any_redis, "alpha", prefix=prefix)
    store_failure(any_redis, f"{before}celery-task-meta-t1")
    store_failure(any_redis, f"{before}celery-task-meta-huge", args=["x" * 1_200_000])
    CeleryLibrary().prepare(backend, any_redis)
    ref, old = discover(backend)["*"], dump_keys(any_redis)
    backups = [
        one
        for one in backend.backup_jobs(ref, State.DEAD, [JobRef(id="t1"), JobRef(id="huge")])
        if isinstance(one, JobBackup)
    ]
    assert outcomes(backend.delete_jobs(ref, State.DEAD, backups)) == [Outcome.DONE] * 2
    assert set(old) - set(dump_keys(any_redis)) == {
        f"{before}celery-task-meta-{name}".encode() for name in ("t1", "huge")
    }
    assert job_refs_of(backend, State.DEAD) == []
    assert outcomes(backend.restore_jobs(ref, State.DEAD, backups)) == [Outcome.DONE, Outcome.REFUSED]
    assert dump_keys(any_redis) == {key: dump for key, dump in old.items() if not key.endswith(b"huge")}
    assert [job_ref.id for job_ref in job_refs_of(backend, State.DEAD)] == ["t1"]


def test_only_the_record_of_the_job_is_restored(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    before = dump_keys(any_redis)
    blob = pack_backup(RecordBackup(key=b"session:admin", raw=b"{}", until_ms=None))
    lie = JobBackup(id="t1", version=None, blob=blob, size_bytes=2)
    assert outcomes(backend.restore_jobs(discover(backend)["*"], State.DEAD, [lie])) == [Outcome.REFUSED]
    assert dump_keys(any_redis) == before


def test_the_record_in_the_requested_state_is_retried(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha", prefix="shop:")
    store_failure(any_redis, "shop:celery-task-meta-t1", status="SUCCESS")
    store_failure(any_redis, "celery-task-meta-t1")
    before = any_redis.get("shop:celery-task-meta-t1")
    assert outcomes(act(backend, Action.RETRY, State.DEAD, JobRef(id="t1"))) == [Outcome.DONE]
    assert outcomes(act(backend, Action.RETRY, State.DEAD, JobRef(id="t1"))) == [Outcome.CHANGED]
    assert [found["headers"]["id"] for found in waiting_messages(any_redis, "shop:alpha")] == ["t1"]
    assert any_redis.get("shop:celery-task-meta-t1") == before


def test_a_moved_job_with_a_priority_is_in_a_list_that_workers_read(backend: Celery, any_redis: redis.Redis) -> None:
    for queue in ("alpha", "beta"):
        any_redis.sadd(f"_kombu.binding.{queue}", f"{queue}::::{queue}")
    any_redis.lpush("alpha::3", message("t1"), message("t2"))
    CeleryLibrary().prepare(backend, any_redis)
    first, second = job_refs_of(backend, State.WAITING)
    answers = act(backend, Action.MOVE, State.WAITING, first, options=ActionOptions(target="beta"))
    answers += act(backend, Action.DUPLICATE, State.WAITING, second)
    assert outcomes(answers) == [Outcome.DONE] * 2
    assert (any_redis.llen("beta::3"), any_redis.llen("alpha::3")) == (1, 2)
    assert not any_redis.exists(b"beta" + SEP + b"3", b"alpha" + SEP + b"3")
    ref = discover(backend)["alpha"]
    backups = [one for one in backend.backup_jobs(ref, State.WAITING, [second]) if isinstance(one, JobBackup)]
    assert outcomes(backend.delete_jobs(ref, State.WAITING, backups)) == [Outcome.DONE]
    assert outcomes(backend.restore_jobs(ref, State.WAITING, backups)) == [Outcome.DONE]
    assert any_redis.llen("alpha::3") == 2
