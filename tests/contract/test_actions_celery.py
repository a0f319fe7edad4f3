"""Actions on jobs of Celery, checked with real workers."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.base import NO_OPTIONS
from dashboard.backends.celery import keys, protocol
from dashboard.backends.celery.actions import result_retry, unacked, worker_control
from dashboard.backends.celery.backend import Celery
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.celery_library import CeleryLibrary
from tests.contract.celery_live import Shop
from tests.contract.script_time import assert_short_scripts
from tests.contract.test_celery import SEP, backend, declare_queues, discover, message, store_result
from tests.waiting import CEILING_S, wait_until

__all__ = ["backend"]
ALPHA: dict[str, Any] = {
    "queue": "alpha",
    "name": "shop.mark",
    "args": ["k", 1.50],
    "kwargs": {"pin": "ü"},
    "retries": 2,
}
WRITER = "on >secret resetkeys ~* resetchannels &* -@all +@read +@connection +ping +select +info"


@pytest.fixture
def shop(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Shop]:
    """Real workers on an empty server."""
    assert redis_client.dbsize() == 0
    shop = Shop(server.url)
    yield shop
    shop.close()


@pytest.fixture
def live(server: EmbeddedRedis, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The backend for `shop`, as in the process that samples; it waits long for workers on a busy machine."""
    monkeypatch.setattr(worker_control, "ANSWER_S", 30.0)
    yield from _backend(server.url, shop)


@pytest.fixture(params=["together", "apart"])
def stores(request: pytest.FixtureRequest, server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Shop]:
    """Workers whose results are in the broker's database, or in another."""
    assert redis_client.dbsize() == 0
    results = server.url.removesuffix("/0") + "/4" if request.param == "apart" else None
    shop = Shop(server.url, results)
    yield shop
    shop.close()


@pytest.fixture
def stores_backend(server: EmbeddedRedis, stores: Shop) -> Iterator[Celery]:
    """The backend for `stores`."""
    yield from _backend(server.url, stores)


def _backend(url: str, shop: Shop) -> Iterator[Celery]:
    source = Source("main", url)
    results = shop.results if shop.results != url else None
    backend = Celery(source, SourceSettings(name="main", url=url, result_url=results))
    backend.own_source = source
    yield backend
    backend.close()
    source.close()


def outcomes(answers: list[ActionResult]) -> list[Outcome]:
    """The outcome of each result."""
    return [answer.outcome for answer in answers]


def act(
    backend: Celery,
    action: Action,
    state: State,
    *job_refs: JobRef,
    on: str | None = None,
    options: ActionOptions = NO_OPTIONS,
) -> list[ActionResult]:
    """The results of an action on a queue; by default on the shared queue, for waiting jobs on `alpha`."""
    ref = discover(backend)[on or ("alpha" if state is State.WAITING else "*")]
    return backend.act_on_jobs(ref, action, state, job_refs, options)


@pytest.mark.parametrize("name", ["Rechnung-ä-7", 'say "hi"', "back\\slash", "a/b", "\U0001f600", "plain"])
def test_a_waiting_job_whose_id_json_escapes_is_deleted_by_id(
    backend: Celery, any_redis: redis.Redis, name: str
) -> None:
    """The API acts on one job by its id only."""
    declare_queues(any_redis, "alpha")
    for other in ("before", name, "after"):
        any_redis.lpush("alpha", message(other))
    ref = discover(backend)["alpha"]
    shown = job_refs_of(backend, State.WAITING)[1].id
    (found,) = backend.backup_jobs(ref, State.WAITING, [JobRef(id=shown)])
    assert isinstance(found, JobBackup), found
    assert outcomes(backend.delete_jobs(ref, State.WAITING, [found])) == [Outcome.DONE]
    assert [each["headers"]["id"] for each in waiting_messages(any_redis)] == ["before", "after"]


@pytest.mark.parametrize("name", ["Rechnung-ä-7", 'say "hi"', "back\\slash"])
def test_each_action_finds_an_id_that_json_escapes(backend: Celery, any_redis: redis.Redis, name: str) -> None:
    """Waiting and held by a worker, by the id only; waiting jobs also many at a time, as in bulk operations."""
    edited = ActionOptions(payload='{"args": ["edited"], "kwargs": {}}')
    for escaped in (True, False):
        raw = json.dumps(json.loads(message(name)), ensure_ascii=escaped)
        any_redis.flushdb()
        declare_queues(any_redis, "alpha")
        declare_queues(any_redis, "beta")
        any_redis.lpush("alpha", message("before"), raw, message("after"))
        job_ref = JobRef(id=name)
        for action, options in ((Action.DUPLICATE, NO_OPTIONS), (Action.EDIT, edited)):
            assert outcomes(act(backend, action, State.WAITING, job_ref, on="alpha", options=options)) == [Outcome.DONE]
        moved = act(
            backend, Action.MOVE, State.WAITING, job_ref, JobRef(id="after"), options=ActionOptions(target="beta")
        )
        assert outcomes(moved) == [Outcome.DONE] * 2
        assert {each["headers"]["id"] for each in waiting_messages(any_redis, "beta")} == {name, "after"}
        held = json.dumps([json.loads(raw), "", "alpha"], ensure_ascii=escaped)
        any_redis.hset("unacked", "tag", held)
        any_redis.zadd("unacked_index", {"tag": 1})
        # While the first copy of a job is known no second one is made.
        any_redis.delete(*any_redis.scan_iter("{queuedeck}:*"))
        job = backend.read_job(discover(backend)["*"], name)
        assert job.id == name
        (copied,) = act(backend, Action.DUPLICATE, State.WAITING, job_ref, on="*")
        assert copied.outcome is Outcome.DONE, copied


def job_refs_of(backend: Celery, state: State, on: str | None = None) -> list[JobRef]:
    """All jobs of a state."""
    ref = discover(backend)[on or ("alpha" if state is State.WAITING else "*")]
    query = JobQuery(state=state, per_page=1000)
    job_refs = backend.list_job_refs(ref, query)
    assert job_refs == [JobRef(id=job.id, version=job.version) for job in backend.list_jobs(ref, query).jobs]
    return job_refs


def update_index(backend: Celery, shop: Shop) -> None:
    """Bring the backend's index of finished jobs up to date."""
    with redis.Redis.from_url(shop.url) as client:
        CeleryLibrary().prepare(backend, client)


def waiting_messages(client: redis.Redis, queue: str = "alpha") -> list[dict[str, Any]]:
    """The messages of a queue, next to run first."""
    return [json.loads(raw) for raw in reversed(client.lrange(queue, 0, -1))]


def dump_keys(client: redis.Redis) -> dict[bytes, bytes]:
    """The dumps of all keys except our own."""
    return {key: client.dump(key) or b"" for key in client.scan_iter(count=1000) if not key.startswith(b"{queuedeck}")}


def fail_jobs(shop: Shop, backend: Celery, *names: str) -> dict[str, str]:
    """Run jobs that fail in a real worker. Return their ids by name; the index contains them."""
    shop.marks.set("broken", 1)
    ids = {name: shop.send(name, 1.5, [None, 'ü " \\']) for name in names}
    for task_id in ids.values():
        shop.await_status(task_id, "FAILURE")
    shop.marks.delete("broken")
    update_index(backend, shop)
    return ids


# Finished jobs.


def test_a_retried_job_runs_once_under_its_id(stores: Shop, stores_backend: Celery) -> None:
    with stores.worker():
        ids = fail_jobs(stores, stores_backend, "one", "two")
        given = stores.marks.hget("given", "one")
        old = job_refs_of(stores_backend, State.DEAD)
        assert {job_ref.id for job_ref in old} == set(ids.values())
        first = act(stores_backend, Action.RETRY, State.DEAD, *old)
        assert outcomes(first) == [Outcome.DONE] * 2
        assert [answer.new_id for answer in first] == [None, None]
        assert outcomes(act(stores_backend, Action.RETRY, State.DEAD, *old)) == [Outcome.CHANGED] * 2
        assert job_refs_of(stores_backend, State.DEAD) == []
        for task_id in ids.values():
            stores.await_status(task_id, "SUCCESS")
        assert stores.read_marks("ran") == {"one": 1, "two": 1}
        assert stores.read_marks("failed") == {"one": 1, "two": 1}
        assert stores.marks.hget("given", "one") == given
        # After the next failure it may be retried, but not with the version seen before.
        stores.marks.set("broken", 1)
        again = stores.send("three")
        stores.await_status(again, "FAILURE")
        update_index(stores_backend, stores)
        (before,) = job_refs_of(stores_backend, State.DEAD)
        act(stores_backend, Action.RETRY, State.DEAD, before)
        wait_until(lambda: stores.read_marks("failed").get("three") == 2, what="the second failure")
        stores.await_status(again, "FAILURE")
        assert outcomes(act(stores_backend, Action.RETRY, State.DEAD, before)) == [Outcome.CHANGED]


def test_a_retry_repeated_after_a_crash_sends_the_job_once(
    server: EmbeddedRedis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(server.url, server.url.removesuffix("/0") + "/4")
    backend = next(_backend(server.url, shop))
    declare_queues(redis_client, "alpha")
    store_result(shop.marks, "t1", **ALPHA)
    store_result(shop.marks, "t2", **ALPHA)
    job_ref = JobRef(id="t1", version=repr(datetime(2026, 11, 24, 3, tzinfo=UTC).timestamp()))

    def die(*_: Any) -> Any:
        raise BackendUnavailable("gone", source="main", reason="lost")

    with monkeypatch.context() as patched:
        patched.setattr(result_retry.ResultRetry, "_confirm_sent", die)
        with pytest.raises(BackendUnavailable):
            act(backend, Action.RETRY, State.DEAD, job_ref)
    assert len(waiting_messages(redis_client)) == 1
    assert shop.status("t1") == "FAILURE"  # sent, and still recorded as failed
    assert outcomes(act(backend, Action.RETRY, State.DEAD, job_ref)) == [Outcome.DONE]
    assert len(waiting_messages(redis_client)) == 1
    assert shop.status("t1") == "RETRY"
    assert outcomes(act(backend, Action.RETRY, State.DEAD, job_ref)) == [Outcome.CHANGED]
    shop.close()
    backend.close()


def test_a_retried_revoked_job_gets_a_new_id(shop: Shop, live: Celery) -> None:
    with shop.worker():
        task_id = shop.send("one", expires=-5)
        shop.await_status(task_id, "REVOKED")
        update_index(live, shop)
        (job_ref,) = job_refs_of(live, State.CANCELED)
        (answer,) = act(live, Action.RETRY, State.CANCELED, job_ref)
        assert (answer.outcome, answer.new_id == task_id) == (Outcome.DONE, False)
        assert answer.new_id
        shop.await_status(answer.new_id, "SUCCESS")
        (repeat,) = act(live, Action.RETRY, State.CANCELED, job_ref)
        assert (repeat.outcome, repeat.new_id) == (Outcome.CHANGED, answer.new_id)
        assert shop.read_marks("ran") == {"one": 1}


def test_a_retry_keeps_the_attempts_unless_they_are_reset(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    for task_id in ("t1", "t2"):
        store_result(any_redis, task_id, **ALPHA)
    act(backend, Action.RETRY, State.DEAD, JobRef(id="t1"))
    act(backend, Action.RETRY, State.DEAD, JobRef(id="t2"), options=ActionOptions(reset_attempts=True))
    assert [found["headers"]["retries"] for found in waiting_messages(any_redis)] == [2, 0]
    assert base64.b64decode(waiting_messages(any_redis)[0]["body"]) == (
        b'[["k", 1.5], {"pin": "\\u00fc"}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    )
    assert any_redis.ttl("celery-task-meta-t1") > 3000
    assert json.loads(any_redis.get("celery-task-meta-t1") or b"")["status"] == "RETRY"


@pytest.mark.parametrize(
    ("raw", "outcome", "words"),
    [
        (None, Outcome.GONE, "expired"),
        (b'{"status": "FAILURE"}', Outcome.REFUSED, "result_extended"),
        (b'{"status": "FAILURE", "name": "x", "args": [], "kwargs": {}}', Outcome.REFUSED, "queue"),
        (b'{"status": "FAILURE", "name": "x", "args": "[]", "kwargs": {}, "queue": "alpha"}', Outcome.REFUSED, "arg"),
        (b'{"status": "FAILURE", "name": "x", "args": [], "kwargs": {}, "queue": "no"}', Outcome.REFUSED, "no queue"),
        (b'{"status": "FAILURE", "name": "x", "args": [], "kwargs": {}, "queue": "odd"}', Outcome.REFUSED, "wrong t"),
        (pickle.dumps({"status": "FAILURE"}), Outcome.REFUSED, "pickle"),
        (b"\0celery-compressed\0x\0y", Outcome.REFUSED, "unknown format"),
        (b'{"status": "FAILURE", "name": "\xff"}', Outcome.REFUSED, "not fully readable JSON"),
        (b'{"a":' * 50_000, Outcome.REFUSED, "unknown format"),
        (b"[]", Outcome.REFUSED, "unknown format"),
        (b'{"status": ["FAILURE"]}', Outcome.REFUSED, "unknown format"),
        (b'{"status": "SUCCESS"}', Outcome.CHANGED, "SUCCESS"),
        (b'{"status": "FAILURE", "date_done": "2026-11-24T04:00:00"}', Outcome.CHANGED, "it ran again"),
        (b'{"status": "FAILURE", "x": "' + b"y" * 1_100_000 + b'"}', Outcome.REFUSED, "larger"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_retried_does_not_affect_others(
    backend: Celery, any_redis: redis.Redis, raw: bytes | None, outcome: Outcome, words: str
) -> None:
    declare_queues(any_redis, "alpha", "odd")
    any_redis.set("odd", "no list")
    store_result(any_redis, "sound", **ALPHA)
    if raw is not None:
        any_redis.set("celery-task-meta-bad", raw)
    before = dump_keys(any_redis)
    bad = JobRef(id="bad", version="1.0" if raw else None)
    answer, sound = act(backend, Action.RETRY, State.DEAD, bad, JobRef(id="sound"))
    assert (answer.outcome, sound.outcome) == (outcome, Outcome.DONE)
    assert words in (answer.detail or "")
    after = dump_keys(any_redis)
    assert after.get(b"celery-task-meta-bad") == before.get(b"celery-task-meta-bad")
    assert [found["headers"]["id"] for found in waiting_messages(any_redis)] == ["sound"]
    assert any_redis.get("odd") == b"no list"


def test_keys_of_the_wrong_type_and_odd_ids_are_gone(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    any_redis.hset("celery-task-meta-hash", "a", "b")
    job_refs = [JobRef(id=name) for name in ("hash", "\udcff\udcfe", "", "*", "x" * 5000)]
    assert outcomes(act(backend, Action.RETRY, State.DEAD, *job_refs)) == [Outcome.GONE] * 5
    ref = discover(backend)["*"]
    assert [type(found) for found in backend.backup_jobs(ref, State.DEAD, job_refs)] == [ActionResult] * 5
    blobs = [None, b"", b"\xff", b"\x80" * 9]
    lies = [JobBackup(id="hash", version=None, blob=blob, size_bytes=3) for blob in blobs]
    assert outcomes(backend.delete_jobs(ref, State.DEAD, lies)) == [Outcome.GONE] * 4
    assert outcomes(backend.restore_jobs(ref, State.DEAD, lies)) == [Outcome.REFUSED] * 4
    assert any_redis.hgetall("celery-task-meta-hash") == {b"a": b"b"}


def test_a_record_does_not_name_the_prefix_of_its_queue(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    declare_queues(any_redis, "alpha", prefix="shop:")
    store_result(any_redis, "t1", **ALPHA)
    CeleryLibrary().prepare(backend, any_redis)
    (answer,) = act(backend, Action.RETRY, State.DEAD, JobRef(id="t1"))
    assert answer.outcome is Outcome.REFUSED
    assert "several key prefixes" in (answer.detail or "")


@pytest.mark.parametrize("state", [State.DEAD, State.COMPLETED, State.CANCELED])
def test_undo_restores_deleted_records_unchanged(backend: Celery, any_redis: redis.Redis, state: State) -> None:
    declare_queues(any_redis, "alpha")
    for n in range(5):
        store_result(any_redis, f"t{n}", keys.NATIVE[state], **ALPHA)
    any_redis.persist("celery-task-meta-t4")
    CeleryLibrary().prepare(backend, any_redis)
    ref, before = discover(backend)["*"], dump_keys(any_redis)
    job_refs = job_refs_of(backend, state)
    results = backend.backup_jobs(ref, state, [*job_refs, JobRef(id="t0", version="1.0")])
    assert isinstance(results.pop(), ActionResult)
    backups = [one for one in results if isinstance(one, JobBackup)]
    assert (len(backups), backups[0].name) == (5, "shop.mark")
    assert dump_keys(any_redis) == before
    any_redis.append("celery-task-meta-t3", " ")  # written again in between
    answers = {answer.id: answer.outcome for answer in backend.delete_jobs(ref, state, backups)}
    assert answers.pop("t3") is Outcome.CHANGED
    assert set(answers.values()) == {Outcome.DONE}
    assert [job_ref.id for job_ref in job_refs_of(backend, state)] in ([], ["t3"])
    any_redis.set("celery-task-meta-t2", "another app")
    back = {answer.id: answer.outcome for answer in backend.restore_jobs(ref, state, backups)}
    assert (back.pop("t2"), back.pop("t3"), set(back.values())) == (Outcome.CHANGED, Outcome.CHANGED, {Outcome.DONE})
    assert {answer.outcome for answer in backend.restore_jobs(ref, state, backups) if answer.id in back} == {
        Outcome.DONE
    }
    after = dump_keys(any_redis)
    assert {key: after[key] for key in before if key[-2:] not in (b"t2", b"t3")} == {
        key: dump for key, dump in before.items() if key[-2:] not in (b"t2", b"t3")
    }
    assert any_redis.ttl("celery-task-meta-t4") == -1
    assert 3500 < any_redis.ttl("celery-task-meta-t0") <= 3600
    assert {job_ref.id for job_ref in job_refs_of(backend, state)} >= {"t0", "t1", "t4"}


def test_a_huge_record_is_deleted_without_a_backup(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    store_result(any_redis, "huge", **(ALPHA | {"args": ["x" * 1_200_000]}))
    ref = discover(backend)["*"]
    (backup,) = backend.backup_jobs(ref, State.DEAD, [JobRef(id="huge")])
    assert isinstance(backup, JobBackup)
    assert backup.blob is None
    assert backup.size_bytes > 1_200_000
    assert outcomes(backend.delete_jobs(ref, State.COMPLETED, [backup])) == [Outcome.CHANGED]
    assert outcomes(backend.delete_jobs(ref, State.DEAD, [backup])) == [Outcome.DONE]
    assert outcomes(backend.delete_jobs(ref, State.DEAD, [backup])) == [Outcome.GONE]


# Waiting jobs.


def test_undo_restores_deleted_messages_to_their_positions_once(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    any_redis.lpush("alpha", *(message(f"t{n}") for n in range(8)), b"\xff no message", message("t9"))
    any_redis.lpush(b"alpha" + SEP + b"3", message("p1"), message("p2"))
    before, ref = dump_keys(any_redis), discover(backend)["alpha"]
    job_refs = job_refs_of(backend, State.WAITING)
    chosen = [job_refs[n] for n in (0, 1, 4, 8, 11)]
    kept = backend.backup_jobs(ref, State.WAITING, [*chosen, JobRef(id="none"), JobRef(id="t5", version="rawother")])
    assert [type(one) for one in kept] == [JobBackup] * 5 + [ActionResult] * 2
    assert outcomes(kept[5:]) == [Outcome.GONE, Outcome.CHANGED]  # type: ignore[arg-type]
    found = [one for one in kept if isinstance(one, JobBackup)]
    assert dump_keys(any_redis) == before
    assert outcomes(backend.restore_jobs(ref, State.WAITING, found)) == [Outcome.CHANGED] * 5  # none was deleted
    assert outcomes(backend.delete_jobs(ref, State.WAITING, found)) == [Outcome.DONE] * 5
    assert outcomes(backend.delete_jobs(ref, State.WAITING, found)) == [Outcome.DONE] * 5  # the repeat after a crash
    assert len(job_refs_of(backend, State.WAITING)) == 7
    assert outcomes(backend.restore_jobs(ref, State.WAITING, found)) == [Outcome.DONE] * 5
    assert outcomes(backend.restore_jobs(ref, State.WAITING, found)) == [Outcome.CHANGED] * 5
    assert dump_keys(any_redis) == before
    assert any_redis.exists(keys.notes_key("main")) == 0
    any_redis.rpop("alpha", 8)  # workers picked them up
    assert outcomes(backend.delete_jobs(ref, State.WAITING, found))[:3] == [Outcome.GONE] * 3
    assert outcomes(backend.restore_jobs(ref, State.WAITING, found))[:3] == [Outcome.CHANGED] * 3


def test_a_message_too_deep_in_its_queue_is_refused(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_queues(any_redis, "alpha")
    any_redis.lpush("alpha", *(message(f"t{n}") for n in range(2500)))
    ref = discover(backend)["alpha"]
    (backup,) = backend.backup_jobs(ref, State.WAITING, [JobRef(id="t2345")])
    assert isinstance(backup, JobBackup)
    monkeypatch.setattr("dashboard.backends.celery.messages.lookup.LOOK_THROUGH", 1000)
    (deep,) = backend.backup_jobs(ref, State.WAITING, [JobRef(id="t2345")])
    assert isinstance(deep, ActionResult)
    assert (deep.outcome, "1,000" in (deep.detail or "")) == (Outcome.REFUSED, True)


MOST_OF_YARDSTICK = 0.3


def test_messages_of_a_long_queue_are_deleted_and_moved_while_it_changes(
    backend: Celery, any_redis: redis.Redis
) -> None:
    """No script searches all of the queue."""
    declare_queues(any_redis, "alpha")
    declare_queues(any_redis, "beta")
    names = [f"t{n}" for n in range(6_000)]
    any_redis.lpush("alpha", *(message(name) for name in names))
    refs = discover(backend)
    chosen = names[::10]
    backups = [
        one
        for start in (0, 300)
        for one in backend.backup_jobs(
            refs["alpha"], State.WAITING, [JobRef(id=each) for each in chosen[start : start + 300]]
        )
        if isinstance(one, JobBackup)
    ]
    assert len(backups) == 600
    # A worker picks up more than the search around the old position covers, and the app sends others.
    any_redis.rpop("alpha", 250)
    any_redis.lpush("alpha", *(message(f"new{n}") for n in range(50)))
    with assert_short_scripts(any_redis, MOST_OF_YARDSTICK):
        results = backend.delete_jobs(refs["alpha"], State.WAITING, backups)
    assert outcomes(results) == [*[Outcome.GONE] * 25, *[Outcome.DONE] * 575]
    left = [name for n, name in enumerate(names) if n >= 250 and n % 10] + [f"new{n}" for n in range(50)]
    assert [entry["headers"]["id"] for entry in waiting_messages(any_redis)] == left
    moved = left[1::9]
    asked, options = [JobRef(id=each) for each in reversed(moved)], ActionOptions(target="beta")
    with assert_short_scripts(any_redis, MOST_OF_YARDSTICK):
        results = backend.act_on_jobs(refs["alpha"], Action.MOVE, State.WAITING, asked, options)
    assert outcomes(results) == [Outcome.DONE] * len(moved)
    gone = set(moved)
    assert [entry["headers"]["id"] for entry in waiting_messages(any_redis)] == [
        each for each in left if each not in gone
    ]
    assert [entry["headers"]["id"] for entry in waiting_messages(any_redis, "beta")] == moved


def test_promoted_messages_keep_their_order_at_the_front(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    names = [f"t{n}" for n in range(700)]
    eta = "2099-01-01T00:00:00+00:00"
    any_redis.lpush("alpha", *(message(name, eta=eta if n % 2 else None) for n, name in enumerate(names)))
    job_refs = [JobRef(id=name) for name in names[1::2]]
    results = backend.act_on_jobs(discover(backend)["alpha"], Action.PROMOTE, State.WAITING, job_refs)
    assert outcomes(results) == [Outcome.DONE] * 350
    assert [entry["headers"]["id"] for entry in waiting_messages(any_redis)] == [*names[1::2], *names[::2]]


@pytest.mark.parametrize("command", ["lset", "lrem", "lpush", "zadd"])
def test_an_action_without_a_needed_permission_removes_no_message(
    backend: Celery, any_server: EmbeddedRedis, any_redis: redis.Redis, command: str
) -> None:
    declare_queues(any_redis, "alpha")
    declare_queues(any_redis, "beta")
    any_redis.lpush("alpha", *(message(f"t{n}") for n in range(5)))
    ref, job_refs = discover(backend)["alpha"], [JobRef(id="t1"), JobRef(id="t3")]
    backups = [one for one in backend.backup_jobs(ref, State.WAITING, job_refs) if isinstance(one, JobBackup)]
    before = dump_keys(any_redis)
    any_redis.execute_command("ACL", "SETUSER", "half", "on", ">secret", "~*", "&*", "+@all", f"-{command}")  # type: ignore[no-untyped-call]
    source = Source("main", f"redis://half:secret@127.0.0.1:{any_server.port}/0")
    half = Celery(source, SourceSettings(name="main", url=any_server.url))
    half.own_source = backend.own_source
    answers: list[ActionResult] = []
    if command != "lpush":
        answers += half.delete_jobs(ref, State.WAITING, backups)
    if command != "zadd":
        answers += half.act_on_jobs(ref, Action.MOVE, State.WAITING, job_refs, ActionOptions(target="beta"))
    assert answers
    assert set(outcomes(answers)) == {Outcome.REFUSED}
    assert dump_keys(any_redis) == before
    source.close()
    any_redis.execute_command("ACL", "DELUSER", "half")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "raw",
    [
        b"not json", b"\xff\xfe\x00", b"[1,2]", b"{}", b'{"headers": 5}', b'{"headers": {"id": ["x"]}}',
        b'{"a":' * 3000, b"",
        b'{"headers": {"id": "x"}, "properties": 5}', message(body=5), message(eta="soon"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("action", [Action.MOVE, Action.PROMOTE, Action.DUPLICATE, Action.EDIT, Action.CANCEL])
def test_odd_messages_get_one_result_each_and_can_be_deleted(
    backend: Celery, any_redis: redis.Redis, raw: bytes, action: Action
) -> None:
    declare_queues(any_redis, "alpha", "beta")
    any_redis.lpush("alpha", raw, message("sound"))
    job_refs = job_refs_of(backend, State.WAITING)
    options = ActionOptions(target="beta", payload='{"args": [1]}')
    answers = act(backend, action, State.WAITING, *job_refs, options=options)
    assert len(answers) == 2
    ref = discover(backend)["alpha"]
    backups = [one for one in backend.backup_jobs(ref, State.WAITING, job_refs) if isinstance(one, JobBackup)]
    assert all(one is Outcome.DONE for one in outcomes(backend.delete_jobs(ref, State.WAITING, backups)))


def test_a_moved_job_is_unchanged_and_runs_in_the_other_queue(
    shop: Shop, live: Celery, redis_client: redis.Redis
) -> None:
    declare_queues(redis_client, "beta")
    ids = [shop.send(f"k{n}", 1.50, "ü", priority=n % 2 * 9) for n in range(4)]
    before = {
        found["headers"]["id"]: found
        for queue in ("alpha", "alpha\x06\x169")
        for found in waiting_messages(redis_client, queue)
    }
    job_refs = job_refs_of(live, State.WAITING)
    assert (
        outcomes(act(live, Action.MOVE, State.WAITING, *job_refs, options=ActionOptions(target="gone")))
        == [Outcome.REFUSED] * 4
    )
    assert (
        outcomes(act(live, Action.MOVE, State.WAITING, *job_refs, options=ActionOptions(target="alpha")))
        == [Outcome.REFUSED] * 4
    )
    assert (
        outcomes(act(live, Action.MOVE, State.WAITING, *job_refs, options=ActionOptions(target="beta")))
        == [Outcome.DONE] * 4
    )
    assert (
        outcomes(act(live, Action.MOVE, State.WAITING, *job_refs, options=ActionOptions(target="beta")))
        == [Outcome.GONE] * 4
    )
    moved = [*waiting_messages(redis_client, "beta"), *waiting_messages(redis_client, "beta\x06\x169")]
    assert [found["headers"]["id"] for found in moved] == [ids[0], ids[2], ids[1], ids[3]]
    for found in moved:
        old = before[found["headers"]["id"]]
        assert found["properties"]["delivery_info"]["routing_key"] == "beta"
        old["properties"]["delivery_info"]["routing_key"] = "beta"
        assert found == old
    with shop.worker("beta"):
        for task_id in ids:
            shop.await_status(task_id, "SUCCESS")
    assert shop.read_marks("ran") == {f"k{n}": 1 for n in range(4)}


def test_a_promoted_message_goes_to_the_front_without_its_eta(shop: Shop, live: Celery) -> None:
    plain, timed = shop.send("plain"), shop.send("timed", countdown=3600)
    answers = act(live, Action.PROMOTE, State.WAITING, *job_refs_of(live, State.WAITING))
    assert outcomes(answers) == [Outcome.REFUSED, Outcome.DONE]
    assert [found["headers"]["id"] for found in waiting_messages(shop.marks)] == [timed, plain]
    with shop.worker():
        shop.await_status(timed, "SUCCESS")


def test_repeating_a_copy_makes_no_second_job(shop: Shop, live: Celery) -> None:
    old = shop.send("one", "ü", queue="alpha")
    (job_ref,) = job_refs_of(live, State.WAITING)
    (copy,) = act(live, Action.DUPLICATE, State.WAITING, job_ref)
    (repeat,) = act(live, Action.DUPLICATE, State.WAITING, job_ref)
    assert (copy.outcome, repeat.outcome, repeat.new_id) == (Outcome.DONE, Outcome.CHANGED, copy.new_id)
    first, second = waiting_messages(shop.marks)
    assert first["body"] == second["body"]
    options = ActionOptions(payload='{"args": ["edited"], "kwargs": {"pin": 2}}')
    (edit,) = act(live, Action.EDIT, State.WAITING, job_ref, options=options)
    for wrong in ("", "[1]", '{"args": 1}', '{"kwargs": []}', '{"x": 1}', "[" * 100_000):
        (bad,) = act(live, Action.EDIT, State.WAITING, job_ref, options=ActionOptions(payload=wrong))
        assert bad.outcome is Outcome.INVALID
    with shop.worker():
        for task_id in (old, copy.new_id, edit.new_id):
            shop.await_status(str(task_id), "SUCCESS")
        update_index(live, shop)
        done = next(found for found in job_refs_of(live, State.COMPLETED) if found.id == old)
        (again,) = act(live, Action.DUPLICATE, State.COMPLETED, done)
        (other,) = act(live, Action.EDIT, State.COMPLETED, done, options=options)
        shop.await_status(str(again.new_id), "SUCCESS")
        shop.await_status(str(other.new_id), "SUCCESS")
    assert shop.read_marks("ran") == {"one": 3, "edited": 2}
    assert json.loads(shop.marks.hget("given", "edited") or b"") == [[], {"pin": 2}]


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_copy_has_no_attempts_and_no_past_expiry(
    server: EmbeddedRedis, redis_client: redis.Redis, live: Celery, protocol: int
) -> None:
    shop = Shop(server.url, conf={"task_protocol": protocol})
    shop.send("late", queue="alpha", expires=-60, retries=2)
    shop.send("soon", queue="alpha", expires=86_400, retries=2)
    job_refs = job_refs_of(live, State.WAITING)
    copies = act(live, Action.DUPLICATE, State.WAITING, *job_refs)
    options = ActionOptions(payload='{"args": ["edited"], "kwargs": {}}')
    late = next(
        job_ref
        for job_ref in job_refs
        if live.read_job(discover(live)["alpha"], job_ref.id).payload.value["args"] == ["late"]
    )
    (edit,) = act(live, Action.EDIT, State.WAITING, late, options=options)
    assert outcomes([*copies, edit]) == [Outcome.DONE] * 3
    new = {str(each.new_id) for each in (*copies, edit)}
    found = [
        one["headers"] if protocol == 2 else json.loads(base64.b64decode(one["body"]))
        for one in waiting_messages(redis_client)
    ]
    made = [one for one in found if one["id"] in new]
    assert [one["retries"] for one in made] == [0] * 3
    assert sorted(one["expires"] is None for one in made) == [False, True, True]
    with shop.worker():
        for each in (*copies, edit):
            shop.await_status(str(each.new_id), "SUCCESS")
    shop.close()


def test_members_of_a_chord_are_not_copied(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    body = base64.b64encode(json.dumps([[], {}, {"chord": {"task": "x"}}]).encode()).decode()
    any_redis.lpush("alpha", message("t1", group="g"), message("t2", body=body))
    answers = act(backend, Action.DUPLICATE, State.WAITING, *job_refs_of(backend, State.WAITING))
    assert outcomes(answers) == [Outcome.REFUSED] * 2


# Jobs held by workers.


def test_a_held_job_can_be_promoted_or_canceled(
    shop: Shop, live: Celery, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.worker():
        now, never = shop.send("now", "ü", countdown=3600), shop.send("never", countdown=3600)
        soon = shop.send("soon", countdown=3600)
        wait_until(lambda: redis_client.hlen("unacked") == 3, what="the worker picking them up")
        job_refs = {job_ref.id: job_ref for job_ref in job_refs_of(live, State.SCHEDULED)}
        (promoted,) = act(live, Action.PROMOTE, State.SCHEDULED, job_refs[now])
        assert promoted.outcome is Outcome.DONE
        assert promoted.new_id not in (None, now)
        assert outcomes(act(live, Action.PROMOTE, State.SCHEDULED, job_refs[now])) == [Outcome.GONE]
        with monkeypatch.context() as later:
            later.setattr(unacked, "TOO_LATE_S", 7200.0)  # as if it were due within seconds
            assert outcomes(act(live, Action.PROMOTE, State.SCHEDULED, job_refs[soon])) == [Outcome.REFUSED]
        (untouched,) = act(live, Action.PROMOTE, State.SCHEDULED, job_refs[soon])
        assert untouched.outcome is Outcome.DONE
        assert outcomes(act(live, Action.CANCEL, State.SCHEDULED, job_refs[never])) == [Outcome.DONE]
        shop.await_status(str(promoted.new_id), "SUCCESS")
        shop.await_status(now, "REVOKED")
        shop.await_status(never, "REVOKED")
        shop.await_status(str(untouched.new_id), "SUCCESS")
        assert shop.read_marks("ran") == {"now": 1, "soon": 1}
    # A worker that stops returns the messages it holds; revoked ones are not among them.
    assert (redis_client.hlen("unacked"), redis_client.llen("alpha")) == (0, 0)


def test_a_held_job_is_not_changed_without_a_worker(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha")
    eta = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    entry = json.dumps([json.loads(message("t1", eta=eta)), "", "alpha"])
    any_redis.hset("unacked", "tag", entry)
    any_redis.zadd("unacked_index", {"tag": 1})
    before = dump_keys(any_redis)
    (job_ref,) = job_refs_of(backend, State.SCHEDULED)
    for action in (Action.PROMOTE, Action.CANCEL):
        (answer,) = act(backend, action, State.SCHEDULED, job_ref)
        assert (answer.outcome, "no worker" in (answer.detail or "")) == (Outcome.REFUSED, True)
    assert outcomes(act(backend, Action.CANCEL, State.RETRYING, job_ref)) == [Outcome.CHANGED]
    assert dump_keys(any_redis) == before


def test_a_canceled_waiting_job_is_revoked_and_its_message_stays(shop: Shop, live: Celery) -> None:
    with shop.worker("beta", name="other@shop"):
        task_id = shop.send("never")
        (job_ref,) = job_refs_of(live, State.WAITING)
        assert outcomes(act(live, Action.CANCEL, State.WAITING, job_ref)) == [Outcome.DONE]
        shop.await_status(task_id, "REVOKED")
    assert len(waiting_messages(shop.marks)) == 1  # the message itself stays, as the preview says


def test_a_running_job_can_be_stopped(shop: Shop, live: Celery) -> None:
    with shop.worker(pool="prefork", size=1):
        task_id = str(shop.app.send_task("shop.busy", ("one",), queue="alpha").id)
        wait_until(lambda: shop.marks.hget("began", "one"), what="the start")
        (job_ref,) = job_refs_of(live, State.WAITING, on="*")
        assert outcomes(act(live, Action.STOP, State.WAITING, job_ref, on="*")) == [Outcome.DONE]
        shop.await_status(task_id, "REVOKED")


# Queues, workers, schedules.


def test_resume_restores_only_the_workers_that_consumed_the_queue(shop: Shop, live: Celery) -> None:
    with shop.worker("alpha", name="one@shop"), shop.worker("beta", name="two@shop"):
        refs = discover(live)
        assert live.act_on_queue(refs["alpha"], Action.RESUME).outcome is Outcome.REFUSED
        assert live.act_on_queue(refs["alpha"], Action.PAUSE).outcome is Outcome.DONE
        # Named workers are waited for until both have answered, and no longer.
        inspect = shop.app.control.inspect(["one@shop", "two@shop"], timeout=20)

        def read() -> dict[str, list[str]]:
            found = inspect.active_queues() or {}
            return {name: sorted(queue["name"] for queue in queues) for name, queues in found.items()}

        wait_until(lambda: read() == {"one@shop": [], "two@shop": ["beta"]}, what="the pause")
        task_id = shop.send("one")
        assert live.act_on_queue(refs["alpha"], Action.PAUSE).outcome is Outcome.REFUSED
        assert live.act_on_queue(refs["alpha"], Action.RESUME).outcome is Outcome.DONE
        shop.await_status(task_id, "SUCCESS")
        wait_until(lambda: read() == {"one@shop": ["alpha"], "two@shop": ["beta"]}, what="the queues before the pause")
        assert not [key for key in shop.marks.scan_iter() if b"reply.celery.pidbox" in key and b"binding" not in key]


def test_a_queue_is_paused_until_a_worker_may_consume_it_again(shop: Shop, live: Celery) -> None:
    """As far as known: a worker that was not there at the pause, or was started again, consumes the queue."""

    def paused() -> dict[str, bool | None]:
        live.maintain()
        return {queue.name: queue.paused for queue in live.read_stats(list(refs.values())) if not queue.shared}

    def beating() -> set[str]:
        live.maintain()
        return {worker.id for worker in live.list_workers(list(refs.values())) if worker.pid is not None}

    with shop.worker("alpha", name="one@shop"):
        refs = discover(live)
        with shop.worker("beta", name="two@shop"):
            refs = wait_until(lambda: found if "beta" in (found := discover(live)) else None, what="both queues")
            wait_until(lambda: beating() == {"one@shop", "two@shop"}, what="the heartbeats")
            assert paused() == {"alpha": None, "beta": None}
            assert live.act_on_queue(refs["alpha"], Action.PAUSE).outcome is Outcome.DONE
            assert paused() == {"alpha": True, "beta": None}
            assert live.act_on_queue(refs["alpha"], Action.RESUME).outcome is Outcome.DONE
            assert paused() == {"alpha": None, "beta": None}
            assert live.act_on_queue(refs["alpha"], Action.PAUSE).outcome is Outcome.DONE
        with shop.worker("alpha", name="three@shop"):
            wait_until(lambda: paused()["alpha"] is None, what="the worker that consumes it")


def test_a_live_worker_is_shut_down_and_a_dead_one_refused(
    shop: Shop, live: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_queues(shop.marks, "alpha")
    shop.marks.sadd("_kombu.binding.celery.pidbox", SEP + SEP + b"dead@h.celery.pidbox")
    with shop.worker(name="one@shop") as process:
        workers = {worker.id: worker for worker in live.list_workers(list(discover(live).values()))}
        with monkeypatch.context() as impatient:
            impatient.setattr(
                worker_control, "ANSWER_S", 0.0
            )  # no worker answers in its place, however long that takes
            assert live.act_on_worker(workers["dead@h"], Action.STOP_WORKER).outcome is Outcome.REFUSED
        assert live.act_on_worker(workers["one@shop"], Action.QUIET).outcome is Outcome.UNSUPPORTED
        assert live.act_on_worker(workers["one@shop"], Action.STOP_WORKER).outcome is Outcome.DONE
        assert process.process.wait(CEILING_S) == 0


def test_obliterate_deletes_a_queue_and_only_its_messages(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha", "beta")
    any_redis.sadd("_kombu.binding.alpha", b"alpha" + SEP + SEP + b"other")
    any_redis.lpush("alpha", message("t1"))
    any_redis.lpush(b"alpha" + SEP + b"9", message("t2"))
    any_redis.lpush("beta", message("t3"))
    refs = discover(backend)
    assert backend.act_on_queue(refs["*"], Action.OBLITERATE).outcome is Outcome.UNSUPPORTED
    answer = backend.act_on_queue(refs["alpha"], Action.OBLITERATE)
    assert (answer.outcome, answer.detail) == (Outcome.DONE, "2 messages deleted with it")
    assert set(any_redis.keys()) == {b"beta", b"_kombu.binding.beta", b"_kombu.binding.alpha"}
    assert any_redis.smembers("_kombu.binding.alpha") == {b"alpha" + SEP + SEP + b"other"}
    any_redis.set("odd", "x")
    declare_queues(any_redis, "odd")
    assert backend.act_on_queue(discover(backend)["odd"], Action.OBLITERATE).outcome is Outcome.REFUSED
    assert any_redis.get("odd") == b"x"


# As redbeat 2.4.2 wrote them.
NIGHTLY = (
    b'{"name": "nightly", "task": "shop.mark", "args": ["night"], "kwargs": {}, "options": {"queue": "alpha"}, '
    b'"schedule": {"__type__": "crontab", "minute": 0, "hour": 3, "day_of_week": "*", "day_of_month": "*", '
    b'"month_of_year": "*"}, "enabled": true}'
)
OFTEN = (
    b'{"name": "often", "task": "shop.mark", "args": ["often"], "kwargs": {"pin": 1}, "options": {}, "schedule": '
    b'{"__type__": "interval", "every": 60.0, "relative": false}, "enabled": true}'
)
META = (
    b'{"last_run_at": {"__type__": "datetime", "year": 2026, "month": 11, "day": 25, "hour": 0, "minute": 51, '
    b'"second": 21, "microsecond": 937175, "timezone": "UTC"}}'
)


def test_schedules_of_redbeat_are_listed_paused_triggered_and_removed(
    shop: Shop, live: Celery, redis_client: redis.Redis
) -> None:
    declare_queues(redis_client, "alpha")
    for name, definition, due in (("nightly", NIGHTLY, 1795575600), ("often", OFTEN, 1795567941)):
        redis_client.hset(f"redbeat:{name}", mapping={"definition": definition, "meta": META})
        redis_client.zadd("redbeat::schedule", {f"redbeat:{name}": due})
    redis_client.zadd("redbeat::schedule", {b"redbeat:broken": 1, b"redbeat:\xff": 2})
    redis_client.set("redbeat:broken", "no hash")
    refs = list(discover(live).values())
    found = {schedule.id: schedule for schedule in live.list_schedules(refs)}
    nightly, often, broken = (found[f"redbeat:{name}"] for name in ("nightly", "often", "broken"))
    assert (nightly.pattern, nightly.queue, nightly.paused) == ("0 3 * * *", "alpha", False)
    assert nightly.last_run_at == datetime(2026, 11, 25, 0, 51, 21, 937175, UTC)
    assert (often.pattern, often.queue) == ("every 60 s", None)
    assert broken.problem
    assert live.act_on_schedule(broken, Action.TRIGGER).outcome is Outcome.REFUSED
    assert live.act_on_schedule(nightly, Action.PAUSE_SCHEDULE).outcome is Outcome.DONE
    assert redis_client.hget("redbeat:nightly", "definition") == NIGHTLY.replace(
        b'"enabled": true', b'"enabled": false'
    )
    paused = next(schedule for schedule in live.list_schedules(refs) if schedule.id == nightly.id)
    assert (paused.paused, paused.next_run_at) == (True, None)
    assert live.act_on_schedule(nightly, Action.RESUME_SCHEDULE).outcome is Outcome.DONE
    assert redis_client.hget("redbeat:nightly", "definition") == NIGHTLY
    assert live.act_on_schedule(often, Action.TRIGGER).outcome is Outcome.REFUSED  # no beat runs that could route it
    redis_client.set("redbeat::lock", "token")
    assert live.act_on_schedule(often, Action.TRIGGER).outcome is Outcome.DONE
    assert json.loads(redis_client.hget("redbeat:often", "meta") or b"") == {"last_run_at": None}
    assert redis_client.zscore("redbeat::schedule", "redbeat:often") == 0
    with shop.worker():
        answer = live.act_on_schedule(nightly, Action.TRIGGER)
        assert live.act_on_schedule(nightly, Action.TRIGGER).outcome is Outcome.CHANGED
        shop.await_status(str(answer.new_id), "SUCCESS")
    assert shop.read_marks("ran") == {"night": 1}
    assert live.act_on_schedule(nightly, Action.REMOVE_SCHEDULE).outcome is Outcome.DONE
    assert live.act_on_schedule(nightly, Action.REMOVE_SCHEDULE).outcome is Outcome.GONE
    assert not redis_client.exists("redbeat:nightly")


# The wire format, permissions, and races.


def test_broadcasts_and_messages_equal_those_of_the_library(shop: Shop, redis_client: redis.Redis) -> None:
    def decode_message(raw: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(raw)
        found["body"] = json.loads(base64.b64decode(found["body"]))
        found["properties"].pop("delivery_tag")
        return found

    feed = redis_client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    feed.psubscribe("*celery.pidbox")
    feed.get_message(timeout=1)
    shop.app.conf.broker_transport_options = {"global_keyprefix": "shop:"}
    sent_by = shop.app.control
    calls: list[tuple[Any, tuple[str, dict[str, Any], list[str] | None]]] = [
        (
            lambda: sent_by.revoke(["a", "b"]),
            ("revoke", {"task_id": ["a", "b"], "terminate": False, "signal": "SIGTERM"}, None),
        ),
        (lambda: sent_by.cancel_consumer("q", ["w@h"]), ("cancel_consumer", {"queue": "q"}, ["w@h"])),
        (
            lambda: sent_by.add_consumer("q", destination=["w@h"]),
            ("add_consumer", {"queue": "q", "exchange": None, "exchange_type": "direct", "routing_key": None}, ["w@h"]),
        ),
        (lambda: sent_by.shutdown(["w@h"]), ("shutdown", {}, ["w@h"])),
    ]
    for call_library, arguments in calls:
        call_library()
        published = wait_until(lambda: feed.get_message(timeout=0.2), what="the broadcast")
        assert published["channel"].decode() == protocol.channel("shop:", 0)
        written, sent = decode_message(protocol.broadcast(*arguments)), decode_message(published["data"])
        assert {**written, "headers": None} == {**sent, "headers": None}
        assert set(written["headers"]) == set(sent["headers"])
    feed.close()
    shop.app.send_task("shop.mark", (1,), {"a": "ü"}, queue="alpha", task_id="t1")
    sent = decode_message(redis_client.rpop("shop:alpha"))
    written = decode_message(protocol.call("shop.mark", "t1", "alpha", b"[1]", json.dumps({"a": "ü"}).encode()))
    for found in (sent, written):
        for name in ("origin", "argsrepr", "kwargsrepr"):
            assert isinstance(found["headers"].pop(name), str)
        found["properties"].pop("reply_to")
    assert written == sent


def test_the_backend_does_not_import_celery() -> None:
    code = "import sys, dashboard.backends.celery.backend; print([m for m in ('celery', 'kombu') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[]"


def test_a_user_without_permission_gets_an_error(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "alpha", "beta")
    any_redis.lpush("alpha", message("t1"))
    store_result(any_redis, "t2", **ALPHA)
    before = dump_keys(any_redis)
    for more in ("", "+eval"):
        any_redis.execute_command("ACL", "SETUSER", "watcher", *WRITER.split(), *more.split())  # type: ignore[no-untyped-call]
        url = f"redis://watcher:secret@127.0.0.1:{any_server.port}/0"
        source = Source("main", url)
        backend = Celery(source, SourceSettings(name="main", url=url))
        (job_ref,) = job_refs_of(backend, State.WAITING)
        ref = discover(backend)["alpha"]
        backups = [one for one in backend.backup_jobs(ref, State.WAITING, [job_ref]) if isinstance(one, JobBackup)]
        records = [
            one
            for one in backend.backup_jobs(discover(backend)["*"], State.DEAD, [JobRef(id="t2")])
            if isinstance(one, JobBackup)
        ]
        answers = [
            *act(backend, Action.RETRY, State.DEAD, JobRef(id="t2")),
            *act(backend, Action.MOVE, State.WAITING, job_ref, options=ActionOptions(target="beta")),
            *act(backend, Action.DUPLICATE, State.WAITING, job_ref),
            *act(backend, Action.CANCEL, State.WAITING, job_ref),
            *backend.delete_jobs(ref, State.WAITING, backups),
            *backend.delete_jobs(discover(backend)["*"], State.DEAD, records),
            *backend.restore_jobs(discover(backend)["*"], State.DEAD, records),
            backend.act_on_queue(ref, Action.OBLITERATE),
        ]
        assert outcomes(answers) == [Outcome.REFUSED] * 8
        assert all("not permitted" in (answer.detail or "") for answer in answers), answers
        assert dump_keys(any_redis) == before
        source.close()
    any_redis.execute_command("ACL", "DELUSER", "watcher")  # type: ignore[no-untyped-call]


@pytest.mark.soak
def test_actions_beside_a_live_worker_neither_lose_nor_duplicate_jobs(
    shop: Shop, live: Celery, redis_client: redis.Redis
) -> None:
    dead, more = 1000, 2000
    with shop.worker(size=4):
        redis_client.set("broken", 1)
        for n in range(dead):
            shop.send(f"dead{n}")
        wait_until(lambda: len(shop.read_marks("failed")) == dead, what="the failures")
        wait_until(
            lambda: sum(1 for _ in redis_client.scan_iter("celery-task-meta-*", count=5000)) == dead,
            what="records",
        )
        redis_client.delete("broken")
        update_index(live, shop)
        job_refs, ref = job_refs_of(live, State.DEAD), discover(live)
        problems: list[BaseException] = []
        retried: list[ActionResult] = []
        deleted: set[str] = set()
        names = {}

        def retry() -> None:
            for start in range(0, dead, 100):
                retried.extend(live.act_on_jobs(ref["*"], Action.RETRY, State.DEAD, job_refs[start : start + 100]))

        def delete() -> None:
            while sending.is_alive() or redis_client.llen("alpha"):
                found = live.list_job_refs(ref["alpha"], JobQuery(state=State.WAITING, per_page=40))[::3]
                backups = [
                    one for one in live.backup_jobs(ref["alpha"], State.WAITING, found) if isinstance(one, JobBackup)
                ]
                gone = live.delete_jobs(ref["alpha"], State.WAITING, backups)
                deleted.update(answer.id for answer in gone if answer.outcome is Outcome.DONE)
                back = live.restore_jobs(ref["alpha"], State.WAITING, backups[::2])
                live.restore_jobs(ref["alpha"], State.WAITING, backups[::2])
                deleted.difference_update(answer.id for answer in back if answer.outcome is Outcome.DONE)

        def move() -> None:
            while sending.is_alive() or redis_client.llen("alpha"):
                found = live.list_job_refs(ref["alpha"], JobQuery(state=State.WAITING, per_page=60))[30:]
                live.act_on_jobs(ref["alpha"], Action.MOVE, State.WAITING, found, ActionOptions(target="beta"))

        def send() -> None:
            sender = Shop(shop.url)
            for n in range(more):
                names[sender.send(f"more{n}")] = f"more{n}"
            sender.close()

        def collect_errors(work: Any) -> Any:
            def run() -> None:
                try:
                    work()
                except BaseException as exc:  # reported by the thread of the test
                    problems.append(exc)

            return run

        declare_queues(redis_client, "beta")
        sending = threading.Thread(target=collect_errors(send))
        threads = [sending, *(threading.Thread(target=collect_errors(work)) for work in (retry, retry, delete, move))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        assert not problems, problems
        lost = {names[task_id] for task_id in deleted if task_id in names}
        lost |= {key for key, task_id in ((job_ref.id, job_ref.id) for job_ref in job_refs) if task_id in deleted}
        expected = dead + more - len(deleted)
        wait_until(lambda: sum(shop.read_marks("ran").values()) >= expected, what="the end of all")
        wait_until(lambda: not redis_client.exists("alpha", "beta", "unacked"), what="the acknowledgements")
    ran = shop.read_marks("ran")
    assert set(ran.values()) == {1}
    assert len(ran) == expected
    assert sorted(outcomes(retried)) == [Outcome.CHANGED] * dead + [Outcome.DONE] * dead
    assert not {f"more{n}" for n in range(more)} - set(ran) - lost
    assert deleted
