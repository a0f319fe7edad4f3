"""What only Celery has: priorities, prefixes, messages and records of any kind, an own index, the live feed."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.base import Budget
from dashboard.backends.celery import events, keys, workers
from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.results import index, run_balance
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import NotFound
from dashboard.model import JobQuery, Quality, QueueRef, QueueStats, State, WorkerState
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.conftest import usual_in_gate
from tests.contract.celery_library import CeleryLibrary
from tests.contract.celery_live import Shop
from tests.contract.test_bullmq import READER
from tests.waiting import CEILING_S, wait_until

SEP = b"\x06\x16"
SHARED = ("*", "shop:*", "blog*")


@pytest.fixture
def backend(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Celery]:
    """The backend of a process that samples, on an empty server of each version."""
    source = Source("main", any_server.url)
    backend = Celery(source, SourceSettings(name="main", url=any_server.url))
    backend.own_source = source
    yield backend
    backend.close()
    source.close()


def declare_queues(client: redis.Redis, *queues: str, prefix: str = "") -> None:
    """Queues as a producer declares them."""
    for queue in queues:
        client.sadd(f"{prefix}_kombu.binding.{queue}", queue.encode() + SEP + SEP + queue.encode())


def message(task_id: str = "t1", *, body: Any = None, **headers: Any) -> bytes:
    """A message as kombu writes it."""
    content = body if body is not None else base64.b64encode(json.dumps([["anna"], {"pin": 1}, {}]).encode()).decode()
    known = {"task": "shop.send", "id": task_id, "eta": None, "retries": 0, "argsrepr": "('anna',)", "kwargsrepr": "{}"}
    return json.dumps(
        {
            "body": content,
            "content-type": headers.pop("content_type", "application/json"),
            "headers": known | headers,
            "properties": {"body_encoding": "base64", "priority": 0},
        }
    ).encode()


def store_result(client: redis.Redis, task_id: str, status: str = "FAILURE", **fields: Any) -> None:
    """A result as Celery stores and publishes it."""
    failed = {"exc_type": "Boom", "exc_message": ["no <b>"], "exc_module": "x"} if status == "FAILURE" else None
    value = json.dumps(
        {
            "status": status,
            "result": failed,
            "traceback": "Traceback…",
            "children": [],
            "date_done": "2026-11-24T03:00:00+00:00",
            "task_id": task_id,
            **fields,
        }
    )
    client.set(f"celery-task-meta-{task_id}", value, ex=3600)
    client.publish(f"celery-task-meta-{task_id}", value)


def publish_event(client: redis.Redis, channel: str, told: Any) -> int:
    """Publish an event as a worker does. Return the number of subscribers."""
    body = base64.b64encode(json.dumps(told).encode()).decode()
    heard: int = client.publish(channel, json.dumps({"body": body, "content-type": "application/json"}))
    return heard


@contextlib.contextmanager
def disconnected_feed(client: redis.Redis, backend: Celery) -> Iterator[None]:
    """Disconnect the feed until the end of the block."""
    keeper = backend._keeper
    assert keeper is not None
    client.execute_command("ACL", "SETUSER", "default", "-psubscribe")
    try:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: not keeper.listener.is_connected, what="the end of the feed")
        yield
    finally:
        client.execute_command("ACL", "SETUSER", "default", "+psubscribe")


def discover(backend: Celery) -> dict[str, QueueRef]:
    """All queues by the names they get."""
    found: dict[str, QueueRef] = {}
    cursor = None
    while True:
        step = backend.discover_queues(cursor, Budget(commands=50, seconds=5))
        found.update({ref.key: ref for ref in step.found})
        if step.complete:
            return {ref.name: ref for ref in backend.disambiguate(list(found.values()))}
        cursor = step.cursor


def stats(backend: Celery, name: str) -> QueueStats:
    """The stats of one queue."""
    return backend.read_stats([discover(backend)[name]])[0]


def test_priorities_are_one_queue(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    for step, count in ((b"", 3), (SEP + b"3", 2), (SEP + b"9", 1)):
        any_redis.lpush(b"mails" + step, *(message(f"{step!r}-{n}") for n in range(count)))
    ref = discover(backend)["mails"]
    assert backend.read_stats([ref])[0].counts.waiting == 6
    rows = backend.list_jobs(ref, JobQuery(state=State.WAITING)).jobs
    assert [row.id[:3] for row in rows] == ["b''"] * 3 + ["b'\\"] * 3
    assert [backend.list_jobs(ref, JobQuery(state=State.WAITING, page=n, per_page=2)).total for n in (1, 2, 3)] == [
        6,
        6,
        6,
    ]
    last = backend.read_job(ref, rows[5].id)
    assert (last.jobs_ahead, dict(last.facts)["Position"]) == (5, "5 ahead")


def test_prefixes_are_found_and_never_collide(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    declare_queues(any_redis, "mails", "only", prefix="shop:")
    any_redis.lpush("shop:mails", message())
    refs = discover(backend)
    assert set(refs) == {"*", "mails", "shop:*", "shop:mails", "only"}
    assert {
        found.name: found.counts.waiting for found in backend.read_stats(list(refs.values())) if not found.shared
    } == {
        "mails": 0,
        "shop:mails": 1,
        "only": 0,
    }


def test_mailboxes_and_events_are_no_queues(backend: Celery, any_redis: redis.Redis) -> None:
    any_redis.sadd("_kombu.binding.celery.pidbox", SEP + SEP + b"w@h.celery.pidbox")
    any_redis.sadd("_kombu.binding.celeryev", b"worker.#" + SEP + SEP + b"celeryev.1")
    any_redis.set("_kombu.binding.odd", "x")
    assert discover(backend) == {}
    assert [(worker.id, worker.state) for worker in backend.list_workers([])] == []


def inflated_message() -> bytes:
    """A message of 50 MB that is small while it is compressed; called by its test, since it takes a while to make."""
    return message(body=base64.b64encode(zlib.compress(b"0" * 50_000_000)).decode(), compression="application/x-gzip")


@pytest.mark.parametrize(
    "raw",
    [
        b"not json <script>", b"\xff\xfe\x00", b"[1,2]", b"{}", b'{"headers": 5}', b'{"headers": {"id": ["x"]}}',
        b'{"a":' * 3000, b"", message(body="!!! no base64"), message(body=5), message(eta="soon", retries="many"),
        message(body="gAVjb3MKc3lzdGVtCg==", content_type="application/x-python-serialize"),
        inflated_message,
        message(args="x" * 300_000),
    ],
)  # fmt: skip
def test_an_odd_message_does_not_affect_other_rows(
    backend: Celery, any_redis: redis.Redis, raw: bytes | Callable[[], bytes]
) -> None:
    raw = raw() if callable(raw) else raw
    declare_queues(any_redis, "mails")
    any_redis.lpush("mails", raw, message("sound"))
    any_redis.hset("unacked", mapping={"a": raw, "b": json.dumps([json.loads(message("taken")), "", "mails"])})
    any_redis.zadd("unacked_index", {"a": 1, "b": 2})
    refs = discover(backend)
    rows = backend.list_jobs(refs["mails"], JobQuery(state=State.WAITING)).jobs
    assert (len(rows), rows[1].id, rows[1].problem) == (2, "sound", None)
    for row in rows:
        job = backend.read_job(refs["mails"], row.id)
        (job.payload.text if job.payload else "").encode()
    taken = backend.list_jobs(refs["*"], JobQuery(state=State.WAITING)).jobs
    assert "taken" in [row.id for row in taken]
    assert stats(backend, "*").error is None


def test_a_pickled_body_is_not_decoded(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    body = base64.b64encode(b"cos\nsystem\n(S'touch /tmp/never'\ntR.").decode()
    any_redis.lpush("mails", message(body=body, content_type="application/x-python-serialize"))
    payload = backend.read_job(discover(backend)["mails"], "t1").payload
    assert payload is not None
    assert (payload.kind, payload.text) == ("opaque", "('anna',)")


def test_an_odd_record_does_not_affect_other_rows(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    discover(backend)
    kinds = [b"\x80\x05pickle", b"[]", b"{", b'{"status": 5}', b'{"status": "FAILURE", "result": [1], "children": 7}']
    for n, raw in enumerate(kinds):
        any_redis.set(f"celery-task-meta-odd{n}", raw)
        any_redis.zadd(keys.index_key("main", State.DEAD), {f"odd{n}": n})
    any_redis.zadd(keys.index_key("main", State.DEAD), {"gone": 100, "\xff<script>": 101})
    ref = discover(backend)["*"]
    rows = backend.list_jobs(ref, JobQuery(state=State.DEAD)).jobs
    assert len(rows) == len(kinds) + 2
    assert [row.problem is None for row in reversed(rows)][:5] == [False, False, False, False, True]
    for row in rows[2:]:
        assert backend.read_job(ref, row.id).id == row.id


def test_a_custom_status_shows_its_progress(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    ref = discover(backend)["*"]
    told = {"done": 3, "of": 10, "password": "hunter2"}
    any_redis.set("celery-task-meta-t1", json.dumps({"status": "PROGRESS", "result": told, "task_id": "t1"}))
    any_redis.set("celery-task-meta-t2", json.dumps({"status": "SUCCESS", "result": told, "task_id": "t2"}))
    job = backend.read_job(ref, "t1")
    assert (job.state, job.native_state, job.result) == (None, "PROGRESS", None)
    assert (job.progress["done"], job.progress["of"]) == (3, 10)
    assert "hunter2" not in str(job.progress)
    assert backend.read_job(ref, "t2").progress is None


def test_finished_tasks_are_received_indexed_and_expired(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    store_result(
        any_redis, "before", queue="mails"
    )  # no process was subscribed: the first scan of the records finds it
    ref = discover(backend)["*"]
    library = CeleryLibrary()
    library.prepare(backend, any_redis)
    _, cursor = backend.read_flow([ref, discover(backend)["mails"]], None)
    store_result(any_redis, "later", queue="mails", name="shop.send")
    store_result(any_redis, "fine", "SUCCESS", queue="mails")
    library.settle(backend, any_redis)
    delta, cursor = backend.read_flow([ref, discover(backend)["mails"]], cursor)
    mails = delta.queues[1]
    assert (mails.completed, mails.dead, mails.quality) == (1, 1, Quality.EXACT)
    assert {row.id for row in backend.list_jobs(ref, JobQuery(state=State.DEAD)).jobs} == {"before", "later"}
    any_redis.publish("celery-task-meta-elsewhere", '{"status": "FAILURE"}')  # a record of another database
    store_result(any_redis, "later", "SUCCESS", queue="mails")  # run again, and well
    store_result(any_redis, "nameless")
    any_redis.delete("celery-task-meta-before")
    library.settle(backend, any_redis)
    library.settle(backend, any_redis)
    assert [row.id for row in backend.list_jobs(ref, JobQuery(state=State.DEAD)).jobs] == ["nameless"]
    assert {row.id for row in backend.list_jobs(ref, JobQuery(state=State.COMPLETED)).jobs} == {"fine", "later"}
    delta, _ = backend.read_flow([ref, discover(backend)["mails"]], cursor)
    assert delta.queues[1].quality is Quality.UNKNOWN  # which queue the nameless one was of is not known
    assert delta.queues[1].reason is not None
    assert "result_extended" in delta.queues[1].reason


def test_the_index_is_bounded(backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(index.KEPT, State.DEAD, 10)
    declare_queues(any_redis, "mails")
    discover(backend)
    for n in range(25):
        store_result(any_redis, f"t{n}", date_done=f"2026-11-24T03:00:{n:02}+00:00")
    store_result(any_redis, "x" * 5000)
    CeleryLibrary().prepare(backend, any_redis)
    rows = backend.list_jobs(discover(backend)["*"], JobQuery(state=State.DEAD)).jobs
    assert [row.id for row in rows] == [f"t{n}" for n in range(24, 14, -1)]
    assert any("newest 10" in note for note in stats(backend, "*").notes)


def test_an_interrupted_feed_reconnects_and_reports_the_gap(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    ref = discover(backend)["*"]
    library = CeleryLibrary()
    library.prepare(backend, any_redis)
    store_result(any_redis, "one")  # silence tells where results are known to be stored
    library.settle(backend, any_redis)
    _, cursor = backend.read_flow([ref], None)
    with disconnected_feed(any_redis, backend):
        pass
    library.settle(backend, any_redis)  # waits for the feed to be back
    delta, cursor = backend.read_flow([ref], cursor)
    assert delta.queues[0].quality is Quality.ESTIMATED
    library.settle(backend, any_redis)
    assert backend.read_flow([ref], cursor)[0].queues[0].quality is Quality.EXACT


def test_a_missed_result_is_found_by_the_next_scan(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    ref = discover(backend)["*"]
    library = CeleryLibrary()
    library.prepare(backend, any_redis)
    with disconnected_feed(any_redis, backend):
        store_result(any_redis, "missed", queue="mails")
        assert backend.list_jobs(ref, JobQuery(state=State.DEAD)).total == 0
        backend.maintain()
        assert not any_redis.exists(keys.filled_key("main"))
        assert any("more jobs may have finished" in note for note in stats(backend, "*").notes)
    library.prepare(backend, any_redis)
    assert [row.id for row in backend.list_jobs(ref, JobQuery(state=State.DEAD)).jobs] == ["missed"]
    assert not any("more jobs may have finished" in note for note in stats(backend, "*").notes)


def test_records_that_wait_to_be_indexed_are_bounded(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_WAITING_BYTES", 200_000)
    declare_queues(any_redis, "mails")
    discover(backend)
    CeleryLibrary().prepare(backend, any_redis)
    keeper = backend._keeper
    assert keeper is not None
    seen = keeper.listener.received
    for n in range(20):
        store_result(any_redis, f"t{n}", "SUCCESS", kwargs="x" * 60_000)
    wait_until(lambda: keeper.listener.received == seen + 20, what="all records")
    taken, whole = keeper.listener.drain_records()
    assert (len(taken), whole) == (4, False)
    assert keeper.listener.drain_records() == ([], True)


def test_results_of_several_prefixes_stay_apart(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    declare_queues(any_redis, "mails", prefix="shop:")
    declare_queues(any_redis, "mails", prefix="blog")
    refs = discover(backend)
    store_result(any_redis, "plain", queue="mails")
    for prefix in ("shop:", "blog_"):
        value = json.dumps({"status": "FAILURE", "result": {"exc_type": "Boom"}, "queue": "mails"})
        any_redis.set(f"{prefix}celery-task-meta-of-{prefix}", value)
    library = CeleryLibrary()
    library.prepare(backend, any_redis)
    _, cursor = backend.read_flow(list(refs.values()), None)
    any_redis.set("shop:celery-task-meta-later", json.dumps({"status": "SUCCESS", "queue": "mails"}))
    any_redis.publish("shop:celery-task-meta-later", any_redis.get("shop:celery-task-meta-later"))
    library.settle(backend, any_redis)
    dead = {name: [row.id for row in backend.list_jobs(refs[name], JobQuery(state=State.DEAD)).jobs] for name in SHARED}
    assert dead == {"*": ["plain"], "shop:*": ["of-shop:"], "blog*": ["of-blog_"]}
    assert [backend.read_job(refs[name], ids[0]).state for name, ids in dead.items()] == [State.DEAD] * 3
    counts = {
        found.name: (found.counts.dead, found.counts.completed) for found in backend.read_stats(list(refs.values()))
    }
    assert [counts[name] for name in SHARED] == [(1, 0), (1, 1), (1, 0)]
    delta, _ = backend.read_flow(list(refs.values()), cursor)
    ended = {flow.key: flow.completed for flow in delta.queues}
    assert [ended[refs[name].key] for name in ("mails", "shop:mails", "blogmails")] == [0, 1, 0]


def test_a_custom_separator_is_recognized_from_bindings(backend: Celery, any_redis: redis.Redis) -> None:
    any_redis.sadd("_kombu.binding.mails", "mails::::mails")
    any_redis.sadd("_kombu.binding.odd", "no binding at all")
    any_redis.lpush("mails", message("a"))
    any_redis.lpush("mails::3", message("b"))
    refs = discover(backend)
    assert set(refs) == {"*", "mails"}
    assert backend.read_stats([refs["mails"]])[0].counts.waiting == 2
    assert [row.id for row in backend.list_jobs(refs["mails"], JobQuery(state=State.WAITING)).jobs] == ["a", "b"]


def test_a_job_far_back_in_its_queue_is_found_by_its_id(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    any_redis.lpush("mails" + SEP.decode() + "3", message("low"))
    for start in range(0, 24_000, 1000):
        any_redis.lpush("mails", *(message(f"job-{n}") for n in range(start, start + 1000)))
    ref = discover(backend)["mails"]
    for task, place in (("job-0", "next"), ("job-23456", "23,456 ahead"), ("low", "24,000 ahead")):
        assert ("Position", place) in backend.read_job(ref, task).facts
    with pytest.raises(NotFound):
        backend.read_job(ref, "job-99999")


def test_running_tasks_are_counted_from_heartbeats(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 3600.0)
    declare_queues(any_redis, "mails")
    ref = discover(backend)["*"]
    CeleryLibrary().prepare(backend, any_redis)
    assert (stats(backend, "*").counts.active, stats(backend, "*").workers) == (None, None)
    publish_event(any_redis, "/0.celeryev/worker.heartbeat", {"hostname": "a@h", "active": 3})
    publish_event(any_redis, "/7.celeryev/worker.heartbeat", {"hostname": "of-another-database@h", "active": 5})
    CeleryLibrary().settle(backend, any_redis)
    shared = backend.read_stats([ref])[0]
    assert (shared.counts.active, shared.workers) == (3, 1)
    assert any("workers report 3 active tasks" in note for note in shared.notes)
    assert [worker.id for worker in backend.list_workers([ref])] == ["a@h"]


def test_zero_workers_is_reported_once_it_is_certain(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_queues(any_redis, "mails")
    refs = discover(backend)
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 3600.0)
    CeleryLibrary().prepare(backend, any_redis)
    assert stats(backend, "mails").workers is None
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 0.0)
    assert [found.workers for found in backend.read_stats([refs["mails"], refs["*"]])] == [0, 0]
    any_redis.sadd("_kombu.binding.celery.pidbox", SEP + SEP + b"silent@h.celery.pidbox")
    assert [found.workers for found in backend.read_stats([refs["mails"], refs["*"]])] == [None, None]


def test_killed_workers_are_noticed_although_their_mailboxes_remain(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_queues(any_redis, "mails")
    refs = [discover(backend)[name] for name in ("mails", "*")]
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 0.0)
    CeleryLibrary().prepare(backend, any_redis)
    box = "_kombu.binding.celery.pidbox"
    any_redis.sadd(box, SEP + SEP + b"a@h.celery.pidbox", SEP + SEP + b"b@h.celery.pidbox")
    assert [found.workers for found in backend.read_stats(refs)] == [None, None]  # none of them was heard
    for name in ("a@h", "b@h"):
        publish_event(any_redis, "/0.celeryev/worker.heartbeat", {"hostname": name, "active": 1})
    CeleryLibrary().settle(backend, any_redis)
    assert [found.workers for found in backend.read_stats(refs)] == [None, 2]
    for name in ("SUSPECT_AFTER_S", "DEAD_AFTER_S"):
        monkeypatch.setattr(workers, name, -3600.0)  # and then their heartbeats stop
    with measure_cost() as meter:
        assert [found.workers for found in backend.read_stats(refs)] == [0, 0]
    assert meter.round_trips == 2
    assert {worker.id: worker.state for worker in backend.list_workers(refs)} == dict.fromkeys(
        ("a@h", "b@h"), WorkerState.DEAD
    )
    any_redis.sadd(box, SEP + SEP + b"without-heartbeat@h.celery.pidbox")
    assert [found.workers for found in backend.read_stats(refs)] == [None, None]


def test_a_worker_that_removed_its_mailbox_is_not_listed_as_dead(
    backend: Celery, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_queues(any_redis, "mails")
    refs = list(discover(backend).values())
    CeleryLibrary().prepare(backend, any_redis)
    box = "_kombu.binding.celery.pidbox"
    any_redis.sadd(box, SEP + SEP + b"killed@h.celery.pidbox", SEP + SEP + b"ended@h.celery.pidbox")
    for name in ("killed@h", "ended@h", "without-mailbox@h"):
        publish_event(any_redis, "/0.celeryev/worker.heartbeat", {"hostname": name, "active": 0})
    CeleryLibrary().settle(backend, any_redis)
    any_redis.srem(box, SEP + SEP + b"ended@h.celery.pidbox")
    assert [worker.id for worker in backend.list_workers(refs)] == ["ended@h", "killed@h", "without-mailbox@h"]
    monkeypatch.setattr(workers, "SUSPECT_AFTER_S", -3600.0)
    monkeypatch.setattr(workers, "DEAD_AFTER_S", -3600.0)
    assert [(worker.id, worker.state) for worker in backend.list_workers(refs)] == [("killed@h", WorkerState.DEAD)]
    monkeypatch.setattr(workers, "LISTED_S", -3600.0)
    assert backend.list_workers(refs) == []


@usual_in_gate
@pytest.mark.parametrize(("number", "listed"), [(signal.SIGKILL, ["one@shop"]), (signal.SIGTERM, [])])
def test_a_real_worker_that_ended_is_not_counted(
    any_server: EmbeddedRedis,
    backend: Celery,
    any_redis: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    listed: list[str],
) -> None:
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 0.0)
    shop = Shop(any_server.url)
    try:
        with shop.worker(gently=False) as worker:
            shop.await_status(shop.send("a"), "SUCCESS")
            refs = discover(backend)
            CeleryLibrary().prepare(backend, any_redis)

            def seen() -> int | None:
                backend.maintain()
                return backend.read_stats([refs["*"]])[0].workers

            wait_until(lambda: seen() == 1, what="the worker's heartbeat")
            worker.send(number)
            worker.process.wait(CEILING_S)
        monkeypatch.setattr(workers, "SUSPECT_AFTER_S", 1.0)
        monkeypatch.setattr(workers, "DEAD_AFTER_S", 1.0)
        wait_until(lambda: seen() == 0, what="no live worker")
        assert [found.workers for found in backend.read_stats([refs["alpha"], refs["*"]])] == [0, 0]
        assert [worker.id for worker in backend.list_workers(list(refs.values()))] == listed
    finally:
        shop.close()


def test_run_times_come_from_workers_that_send_events(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    refs = [discover(backend)[name] for name in ("mails", "*")]
    library = CeleryLibrary()
    library.prepare(backend, any_redis)
    _, cursor = backend.read_flow(refs, None)
    for task in ("one", "two"):
        store_result(any_redis, task, "SUCCESS", queue="mails", name=f"shop.{task}" + "x" * 5000)
    store_result(any_redis, "three", "RETRY", queue="mails", name="shop.one")
    events: list[Any] = [{"type": "task-succeeded", "uuid": "one", "runtime": 0.5}, {"type": "task-succeeded"}, 5]
    publish_event(any_redis, "/0.celeryev/task.multi", events)
    publish_event(any_redis, "/0.celeryev/task.succeeded", {"type": "task-succeeded", "uuid": "two", "runtime": 1.5})
    any_redis.publish("/0.celeryev/task.multi", b"\xff")
    # A failure reports no run time: it took from the event of its start to that of its end.
    store_result(any_redis, "bad", "FAILURE", queue="mails", name="shop.bad")
    ran: list[Any] = [{"type": "task-failed", "uuid": "bad", "timestamp": 102.5}, {"type": "task-failed", "uuid": "no"}]
    publish_event(
        any_redis, "/0.celeryev/task.multi", [{"type": "task-started", "uuid": "bad", "timestamp": 100}, *ran]
    )
    library.settle(backend, any_redis)
    delta, _ = backend.read_flow(refs, cursor)
    assert sorted(delta.queues[0].runtimes_s) == [0.5, 1.5, 2.5]
    assert {one.job_class[:8]: (one.completed, one.runtimes_s) for one in delta.queues[0].classes or ()} == {
        "shop.one": (1, (0.5,)),
        "shop.two": (1, (1.5,)),
        "shop.bad": (0, (2.5,)),
    }
    assert delta.queues[0].retried == 1
    assert max(len(one.job_class) for one in delta.queues[0].classes or ()) == 200
    assert delta.queues[1].quality is Quality.UNKNOWN  # all that ended is told by its queue
    store_result(any_redis, "four", "SUCCESS", queue="mails", name=["no", "name"])
    library.settle(backend, any_redis)
    delta, _ = backend.read_flow(refs, cursor)
    assert (delta.queues[0].completed, delta.queues[0].classes) == (1, None)
    assert "result_extended" in (delta.queues[0].classes_reason or "")


def end_task(client: redis.Redis, keeper: index.ResultIndex, task: str, runtime: float) -> None:
    """End a task as a worker with -E does: the record, then the event. Return when both have arrived."""
    received, heard = keeper.listener.received, keeper.workers.heard
    store_result(client, task, "SUCCESS", queue="mails")
    publish_event(client, "/0.celeryev/task.succeeded", {"type": "task-succeeded", "uuid": task, "runtime": runtime})
    wait_until(lambda: keeper.listener.received > received, what="the record")
    wait_until(lambda: keeper.workers.heard > heard, what="the event")


@pytest.mark.parametrize("moment", ["the run times are taken", "the records are drained", "the records are checked"])
def test_a_run_time_is_kept_at_every_step_of_a_sample(
    backend: Celery, any_redis: redis.Redis, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record and the event of a task arrive before, between or after the steps of one sample."""
    declare_queues(any_redis, "mails")
    refs = [discover(backend)[name] for name in ("mails", "*")]
    CeleryLibrary().prepare(backend, any_redis)
    keeper = backend._keeper
    assert keeper is not None
    _, cursor = backend.read_flow(refs, None)
    owner, step = {
        "the run times are taken": (keeper.workers, "drain_runtimes"),
        "the records are drained": (keeper.listener, "drain_records"),
        "the records are checked": (keeper, "_ask_both"),
    }[moment]
    original = getattr(owner, step)

    def run_after_a_task_ended(*arguments: Any) -> Any:
        monkeypatch.undo()
        end_task(any_redis, keeper, "one", 1.5)
        return original(*arguments)

    monkeypatch.setattr(owner, step, run_after_a_task_ended)
    for _ in range(3):
        backend.maintain()
    delta, _ = backend.read_flow(refs, cursor)
    assert (delta.queues[0].completed, delta.queues[0].runtimes_s) == (1, (1.5,))


def test_a_run_time_that_arrives_before_its_record_is_kept(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    """Records and events come over two connections where results are kept elsewhere."""
    declare_queues(any_redis, "mails")
    source = Source("main", any_server.url)
    elsewhere = any_server.url.removesuffix("/0") + "/3"
    backend = Celery(source, SourceSettings(name="main", url=any_server.url, result_url=elsewhere))
    backend.own_source = source
    try:
        with redis.Redis.from_url(elsewhere) as results:
            refs = [discover(backend)["mails"]]
            CeleryLibrary().prepare(backend, any_redis)
            keeper = backend._keeper
            assert keeper is not None
            ping = {"type": "task-started"}
            wait_until(lambda: publish_event(any_redis, "/0.celeryev/task.succeeded", ping), what="the feed of workers")
            wait_until(lambda: keeper.workers.heard == 1, what="that event")
            _, cursor = backend.read_flow(refs, None)
            received = keeper.listener.received
            event = {"type": "task-succeeded", "uuid": "one", "runtime": 1.5}
            publish_event(any_redis, "/0.celeryev/task.succeeded", event)
            wait_until(lambda: keeper.workers.heard == 2, what="the event")
            backend.maintain()
            store_result(results, "one", "SUCCESS", queue="mails")
            wait_until(lambda: keeper.listener.received > received, what="the record")
            backend.maintain()
            delta, _ = backend.read_flow(refs, cursor)
            assert delta.queues[0].runtimes_s == (1.5,)
            publish_event(any_redis, "/0.celeryev/task.succeeded", {**event, "uuid": "of a task without a record"})
            wait_until(lambda: keeper.workers.heard == 3, what="the event")
            backend.maintain()
            assert keeper.tally.unassigned
            backend.maintain()
            assert not keeper.tally.unassigned
    finally:
        backend.close()
        source.close()


def test_worker_events_are_received_from_the_broker(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    source = Source("main", any_server.url)
    elsewhere = any_server.url.removesuffix("/0") + "/3"
    backend = Celery(source, SourceSettings(name="main", url=any_server.url, result_url=elsewhere))
    backend.own_source = source
    try:
        ref = discover(backend)["*"]
        CeleryLibrary().prepare(backend, any_redis)
        keeper = backend._keeper
        assert keeper is not None
        beat = {"hostname": "a@h", "active": 3}
        wait_until(lambda: publish_event(any_redis, "/0.celeryev/worker.heartbeat", beat), what="the feed of workers")
        wait_until(lambda: "a@h" in keeper.workers.heartbeats, what="the heartbeat")
        backend.maintain()
        assert [worker.state for worker in backend.list_workers([ref])] == [WorkerState.BUSY]
    finally:
        backend.close()
        source.close()


def test_no_feed_is_opened_on_a_server_without_celery(backend: Celery, any_redis: redis.Redis) -> None:
    backend.discover_queues(None, Budget(commands=50, seconds=5))
    backend.maintain()
    assert backend._keeper is None
    assert not set(any_redis.scan_iter("{queuedeck}*"))


def test_workers_are_found_by_heartbeat_and_mailbox(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    any_redis.sadd("_kombu.binding.celery.pidbox", SEP + SEP + b"silent@h.celery.pidbox")
    refs = list(discover(backend).values())
    CeleryLibrary().prepare(backend, any_redis)
    beat = {"hostname": "busy@h", "pid": 7, "active": 2, "processed": 40, "sw_ver": "5.7.0", "loadavg": [1, 2, 3]}
    for event in (beat, {"hostname": 5}, [], {"hostname": "x" * 9000}):
        body = base64.b64encode(json.dumps(event).encode()).decode()
        any_redis.publish(
            "/0.celeryev/worker.heartbeat", json.dumps({"body": body, "content-type": "application/json"})
        )
    any_redis.publish("/0.celeryev/worker.heartbeat", b"\xff")
    CeleryLibrary().settle(backend, any_redis)
    found = {worker.id: worker for worker in backend.list_workers(refs)}
    assert (found["busy@h"].state, found["busy@h"].busy, found["busy@h"].pid) == (WorkerState.BUSY, 2, 7)
    assert found["silent@h"].state is WorkerState.UNKNOWN
    assert found["silent@h"].reason


def test_results_are_read_from_another_database(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    source = Source("main", any_server.url)
    elsewhere = any_server.url.removesuffix("/0") + "/3"
    backend = Celery(source, SourceSettings(name="main", url=any_server.url, result_url=elsewhere))
    backend.own_source = source
    with redis.Redis.from_url(elsewhere) as results:
        store_result(results, "there", queue="mails")
        store_result(any_redis, "here", queue="mails")
        CeleryLibrary().prepare(backend, any_redis)
        rows = backend.list_jobs(discover(backend)["*"], JobQuery(state=State.DEAD)).jobs
    assert [row.id for row in rows] == ["there"]
    backend.close()
    source.close()


def test_a_user_without_scripts_sees_waiting_jobs(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    any_redis.lpush("mails", message())
    any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
    url = f"redis://reader:secret@127.0.0.1:{any_server.port}/0"
    source = Source("main", url)
    backend = Celery(source, SourceSettings(name="main", url=url))
    assert stats(backend, "mails").counts.waiting == 1
    shared = stats(backend, "*")
    assert (shared.counts.active, shared.counts.dead) == (None, None)
    source.close()
    any_redis.execute_command("ACL", "DELUSER", "reader")


def find_matches(backend: Celery, name: str, word: str) -> tuple[list[str], int]:
    """(ids that a search finds up to the end of a queue, number of steps)."""
    ref, offset, steps, found = discover(backend)[name], 0, 0, []
    while True:
        part = backend.scan_matches(ref, State.WAITING, word, offset)
        assert part is not None
        found += [row.job.id for row in part.rows]
        steps += 1
        if not part.more:
            return found, steps
        assert part.reached > offset
        offset = part.reached


def test_a_search_returns_waiting_messages_in_order(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    any_redis.lpush("mails", *(message(f"a-{n}", argsrepr=f"('user{n % 1000}',)") for n in range(4000)))
    any_redis.lpush(b"mails" + SEP + b"3", message("Late-A-39x"), b'{"headers": {"id": "l\\u0061te"}}', b"\xffnone")
    assert find_matches(backend, "mails", "USER999")[0] == [*(f"a-{n}" for n in (999, 1999, 2999, 3999)), "late"]
    found, steps = find_matches(backend, "mails", "a-39")
    assert found == ["a-39", *(f"a-{n}" for n in (*range(390, 400), *range(3900, 4000))), "Late-A-39x", "late"]
    assert 3 < steps < 100
    assert find_matches(backend, "mails", "nowhere")[0] == ["late"]
    any_redis.delete("mails", b"mails" + SEP + b"3")
    assert find_matches(backend, "mails", "user") == ([], 1)


def test_a_search_of_long_messages_runs_in_small_steps(backend: Celery, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    any_redis.lpush("mails", *(message(f"big-{n}", argsrepr="x" * 200_000) for n in range(60)))
    found, steps = find_matches(backend, "mails", "big-5")
    assert found == ["big-5", *(f"big-{n}" for n in range(50, 60))]
    assert steps >= 10
    assert backend.read_job(discover(backend)["mails"], "big-59").id == "big-59"


def test_a_search_by_scripts_is_unavailable_without_scripts(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    declare_queues(any_redis, "mails")
    any_redis.lpush("mails", message("t1"))
    any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
    url = f"redis://reader:secret@127.0.0.1:{any_server.port}/0"
    source = Source("main", url)
    backend = Celery(source, SourceSettings(name="main", url=url))
    ref = discover(backend)["mails"]
    assert backend.scan_matches(ref, State.WAITING, "t1x", 0) is None
    assert not backend.can_scan(State.WAITING)
    assert backend.read_job(ref, "t1").id == "t1"
    source.close()
    any_redis.execute_command("ACL", "DELUSER", "reader")
