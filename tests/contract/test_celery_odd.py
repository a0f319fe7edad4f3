"""Unusual records, messages and key names of Celery, written by real workers and producers."""

from __future__ import annotations

import base64
import json
import pickle
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.actions.audit_log import Actor
from dashboard.actions.bulk.operation import BulkRequest, JobListRef
from dashboard.actions.bulk.selection import preview_jobs
from dashboard.backends.actions import Action, ActionOptions, JobBackup, JobRef, Outcome
from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.results import index
from dashboard.backends.celery.results.decoding import RawRecord
from dashboard.backends.celery.results.record_scan import RecordScan
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import NotFound
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Reply, Source
from tests.contract.celery_library import CeleryLibrary
from tests.contract.celery_live import Shop
from tests.contract.sample_series import SampleSeries, rates_of
from tests.contract.test_celery import SEP, declare_queues, discover, message, publish_event, stats, store_result
from tests.waiting import wait_until

OWN_PREFIX = {"result_backend_transport_options": {"global_keyprefix": "my_prefix_"}}
LONG = "A" * 300_000


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Celery]:
    """The backend of a process that samples, on an empty server."""
    assert redis_client.dbsize() == 0
    source = Source("main", server.url)
    backend = Celery(source, SourceSettings(name="main", url=server.url))
    backend.own_source = source
    yield backend
    backend.close()
    source.close()


def ids_of(backend: Celery, ref: QueueRef, state: State) -> list[str]:
    """The ids of a list."""
    return [job.id for job in backend.list_jobs(ref, JobQuery(state=state, per_page=100)).jobs]


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_records_of_any_size_and_serializer_under_a_prefix_are_read_retried_and_deleted(
    server: EmbeddedRedis, backend: Celery, redis_client: redis.Redis, serializer: str
) -> None:
    conf = {**OWN_PREFIX, "result_serializer": serializer, "result_accept_content": ["json", "pickle"]}
    shop = Shop(server.url, conf=conf)
    library = CeleryLibrary()
    try:
        redis_client.set("broken", "1")
        with shop.worker():
            discover(backend)
            library.prepare(backend, redis_client)
            small, large = shop.send("small"), shop.send("large", LONG)
            refused = str(shop.app.send_task("shop.refuse", queue="alpha").id)
            result = str(shop.app.send_task("shop.long", (300_000,), queue="alpha").id)
            names = {task: f"my_prefix_celery-task-meta-{task}" for task in (small, large, refused, result)}
            wait_until(lambda: all(redis_client.exists(name) for name in names.values()), what="the ends")
            refs = discover(backend)
            backend.read_flow(list(refs.values()), None)
            library.settle(backend, redis_client)
            shared = refs["*"]
            figures = stats(backend, "*")
            assert (figures.counts.dead, figures.counts.completed, figures.at_least) == (3, 1, ())
            assert set(ids_of(backend, shared, State.DEAD)) == {small, large, refused}
            assert ids_of(backend, shared, State.COMPLETED) == [result]
            for task, native in ((small, "FAILURE"), (large, "FAILURE"), (refused, "FAILURE"), (result, "SUCCESS")):
                job = backend.read_job(shared, task)
                assert (job.native_state, job.state) == (native, State.DEAD if native == "FAILURE" else State.COMPLETED)
                assert job.queue == "alpha"
                assert ("too large" in (job.problem or "")) == (task in (large, result))
            error = backend.read_job(shared, small).error
            assert error is not None
            assert (error.class_name, error.message) == ("ValueError", "cannot mark small")
            error = backend.read_job(shared, refused).error
            assert error is not None
            assert error.message is not None
            assert "card refused" in error.message
            assert "opensesame" not in error.message
            searched = backend.search_page(shared, JobQuery(state=State.DEAD)).rows
            assert any("cannot mark small" in row.text for row in searched)

            redis_client.delete("broken")
            answers = backend.act_on_jobs(shared, Action.RETRY, State.DEAD, [JobRef(id=small), JobRef(id=large)])
            if serializer == "json":
                assert [answer.outcome for answer in answers] == [Outcome.DONE, Outcome.DONE]
                wait_until(lambda: shop.read_marks("ran") == {"small": 1, "large": 1}, what="the second runs")
                wait_until(lambda: b'"SUCCESS"' in (redis_client.get(names[large]) or b""), what="its record")
                library.settle(backend, redis_client)
                assert stats(backend, "*").counts.completed == 3
            else:
                assert [answer.outcome for answer in answers] == [Outcome.REFUSED, Outcome.REFUSED]
                assert "encoded as pickle" in (answers[0].detail or "")
        # Delete and restore by the key in the index.
        query = JobQuery(state=State.COMPLETED if serializer == "json" else State.DEAD, per_page=100)
        job_refs = backend.list_job_refs(shared, query)
        assert len(job_refs) == 3
        backups = [one for one in backend.backup_jobs(shared, query.state, job_refs) if isinstance(one, JobBackup)]
        before = {name: redis_client.get(name) for name in redis_client.scan_iter("my_prefix_*")}
        assert [one.outcome for one in backend.delete_jobs(shared, query.state, backups)] == [Outcome.DONE] * 3
        assert len(list(redis_client.scan_iter("my_prefix_celery-task-meta-*"))) == 1
        with pytest.raises(NotFound):
            backend.read_job(shared, backups[0].id)
        assert [one.outcome for one in backend.restore_jobs(shared, query.state, backups)] == [Outcome.DONE] * 3
        assert {name: redis_client.get(name) for name in redis_client.scan_iter("my_prefix_*")} == before
    finally:
        shop.close()


def test_results_of_any_size_and_serializer_count_in_the_rates(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    library = CeleryLibrary()
    library.prepare(backend, redis_client)
    series = SampleSeries(backend, lambda: library.settle(backend, redis_client))
    series.take_sample()
    store_result(redis_client, "small", "SUCCESS", queue="mails")
    store_result(redis_client, "long", "SUCCESS", result="x" * 300_000, queue="mails")
    for name, size in (("tall", 100_000), ("huge", 300_000)):
        failed = {"exc_type": "Boom", "exc_message": ["x" * size], "exc_module": "x"}
        store_result(redis_client, name, result=failed, queue="mails")
    for status in ("FAILURE", "SUCCESS"):
        packed = pickle.dumps({"status": status, "result": None, "queue": "mails", "task_id": f"packed-{status}"})
        redis_client.set(f"celery-task-meta-packed-{status}", packed)
        redis_client.publish(f"celery-task-meta-packed-{status}", packed)
    rows = series.take_sample()
    assert rates_of(rows["mails"]) == (6, 3, 0.5)
    assert (rows["*"].counts.completed, rows["*"].counts.dead) == (3, 3)


def test_a_huge_record_is_not_fetched_and_can_be_deleted(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    raw = b'{"status": "FAILURE", "result": {"exc_type": "Boom", "exc_message": ["' + b"x" * 60_000_000
    raw += (
        b'"]}, "traceback": null, "children": [], "date_done": "2026-11-24T03:00:00", "queue": "mails", "task_id": "t"}'
    )
    redis_client.set("celery-task-meta-t", raw)
    sent = redis_client.info("stats")["total_net_output_bytes"]
    shared = discover(backend)["*"]
    CeleryLibrary().prepare(backend, redis_client)
    job = backend.read_job(shared, "t")
    assert (job.state, job.native_state, job.queue) == (State.DEAD, "FAILURE", "mails")
    assert job.error is not None
    assert job.error.class_name == "Boom"
    assert ids_of(backend, shared, State.DEAD) == ["t"]
    job_refs = backend.list_job_refs(shared, JobQuery(state=State.DEAD))
    (answer,) = backend.act_on_jobs(shared, Action.RETRY, State.DEAD, job_refs)
    assert (answer.outcome, "larger than" in (answer.detail or "")) == (Outcome.REFUSED, True)
    (backup,) = backend.backup_jobs(shared, State.DEAD, job_refs)
    assert isinstance(backup, JobBackup)
    assert [one.outcome for one in backend.delete_jobs(shared, State.DEAD, [backup])] == [Outcome.DONE]
    assert not redis_client.exists("celery-task-meta-t")
    assert redis_client.info("stats")["total_net_output_bytes"] - sent < 5_000_000


def test_counts_are_unknown_while_results_are_stored_elsewhere(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    discover(backend)
    library = CeleryLibrary()
    library.prepare(backend, redis_client)
    assert (stats(backend, "*").counts.dead, stats(backend, "*").counts.completed) == (0, 0)
    publish_event(redis_client, "/0.celeryev/worker.heartbeat", {"hostname": "a@h", "active": 0, "processed": 7})
    library.settle(backend, redis_client)
    figures = stats(backend, "*")
    assert (figures.counts.dead, figures.counts.completed) == (None, None)
    assert any("result_url" in note for note in figures.notes)
    store_result(redis_client, "t1", queue="mails")
    library.settle(backend, redis_client)
    assert (stats(backend, "*").counts.dead, stats(backend, "*").counts.completed) == (1, 0)


def test_an_unreadable_result_makes_the_counts_lower_bounds(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    redis_client.set("celery-task-meta-signed", "c2lnbmVkIGJ5IHRoZSBhcHA=")
    store_result(redis_client, "t1", queue="mails")
    shared = discover(backend)["*"]
    CeleryLibrary().prepare(backend, redis_client)
    figures = stats(backend, "*")
    assert (figures.counts.dead, figures.counts.completed, figures.at_least) == (1, None, (State.DEAD,))
    job = backend.read_job(shared, "signed")
    assert (job.state, job.native_state) == (None, None)
    assert "unknown format" in (job.problem or "")


@pytest.mark.parametrize("twice", [False, True])
def test_at_no_moment_a_full_index_passes_for_all_records(
    backend: Celery, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, twice: bool
) -> None:
    """Another process may read between any two round trips of the one that maintains the index.

    On a busy machine the first steps of the scan find nothing in their time, so that the first scan to find the records
    is the one since the feed connected, or that before.
    """
    monkeypatch.setitem(index.KEPT, State.DEAD, 10)
    declare_queues(redis_client, "mails")
    for n in range(25):
        store_result(redis_client, f"t{n}", queue="mails", date_done=f"2026-11-24T03:00:{n:02}+00:00")
    shared = discover(backend)["*"]
    run_batch, read_step = Source.run_batch, RecordScan.read_step
    seen: list[bool] = []
    steps: list[bool] = []

    def find_late(scan: RecordScan) -> Iterator[list[tuple[bytes, RawRecord]]]:
        steps.append(scan._missed)
        if len(steps) > 1 and (twice or not scan._missed):
            yield from read_step(scan)

    def run_and_look(source: Source, *arguments: Any, **options: Any) -> list[Reply]:
        replies = run_batch(source, *arguments, **options)
        with pytest.MonkeyPatch.context() as aside:
            aside.setattr(Source, "run_batch", run_batch)
            seen.append(backend.list_jobs(shared, JobQuery(state=State.DEAD)).at_least)
        return replies

    monkeypatch.setattr(RecordScan, "read_step", find_late)
    monkeypatch.setattr(Source, "run_batch", run_and_look)
    library = CeleryLibrary()
    library.prepare(backend, redis_client)
    library.settle(backend, redis_client)
    assert len(seen) > 4
    assert all(seen), seen


def test_counts_are_lower_bounds_while_the_index_is_full(
    backend: Celery, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(index.KEPT, State.DEAD, 10)
    declare_queues(redis_client, "mails")
    for n in range(25):
        store_result(redis_client, f"t{n}", queue="mails", date_done=f"2026-11-24T03:00:{n:02}+00:00")
    shared = discover(backend)["*"]
    library = CeleryLibrary()
    library.prepare(backend, redis_client)
    seen = []
    for _ in range(6):
        figures = stats(backend, "*")
        page = backend.list_jobs(shared, JobQuery(state=State.DEAD))
        known = figures.counts.dead
        seen.append((known, State.DEAD in figures.at_least, page.at_least))
        if known is not None and not page.at_least:
            break
        place = JobListRef(ref=shared, state=State.DEAD)
        request = BulkRequest(action=Action.DELETE, job_lists=(place,), actor=Actor(name="anna", role="admin"))
        assert not preview_jobs(request, lambda *_: backend, None, 100).exact  # type: ignore[arg-type]
        backups = [
            one
            for one in backend.backup_jobs(
                shared, State.DEAD, backend.list_job_refs(shared, JobQuery(state=State.DEAD))
            )
            if isinstance(one, JobBackup)
        ]
        backend.delete_jobs(shared, State.DEAD, backups)
        after = stats(backend, "*")
        assert (after.counts.dead, after.at_least) == (None, ())  # not 0: more are there
        # The search for more begins with the next sample.
        for _ in range(3):
            backend.maintain()
    assert seen == [(10, True, True), (10, True, True), (5, False, False)]


def test_messages_of_protocol_1_are_read_and_changed(
    server: EmbeddedRedis, backend: Celery, redis_client: redis.Redis
) -> None:
    shop = Shop(server.url, conf={"task_protocol": 1})
    try:
        for n in range(3):
            shop.send(f"key-{n}", n, task_id=f"proto-{n}")
        shop.send("later", task_id="proto-eta", countdown=3600)
        declare_queues(redis_client, "beta")
        refs = discover(backend)
        alpha = refs["alpha"]
        rows = {job.id: job for job in backend.list_jobs(alpha, JobQuery(state=State.WAITING)).jobs}
        assert set(rows) == {"proto-0", "proto-1", "proto-2", "proto-eta"}
        row = rows["proto-0"]
        assert (row.name, row.attempts, row.problem, row.summary) == ("shop.mark", 0, None, "('key-0', 0)")
        assert rows["proto-eta"].scheduled_for is not None
        job = backend.read_job(alpha, "proto-1")
        assert job.payload is not None
        assert job.payload.value == {"args": ["key-1", 1], "kwargs": {}}
        matches = backend.scan_matches(alpha, State.WAITING, "key-2", 0)
        assert matches is not None
        assert any("key-2" in found.text for found in matches.rows)

        def act(action: Action, name: str, **options: Any) -> Outcome:
            return backend.act_on_jobs(alpha, action, State.WAITING, [JobRef(id=name)], ActionOptions(**options))[
                0
            ].outcome

        assert act(Action.DUPLICATE, "proto-0") is Outcome.DONE
        assert act(Action.EDIT, "proto-1", payload='{"args": ["edited", 1.50], "kwargs": {}}') is Outcome.DONE
        assert act(Action.MOVE, "proto-2", target="beta") is Outcome.DONE
        assert act(Action.PROMOTE, "proto-eta") is Outcome.DONE
        (backup,) = backend.backup_jobs(alpha, State.WAITING, [JobRef(id="proto-1")])
        assert isinstance(backup, JobBackup)
        assert backend.delete_jobs(alpha, State.WAITING, [backup])[0].outcome is Outcome.DONE
        with shop.worker():
            expected = {"key-0": 2, "edited": 1, "key-2": 1, "later": 1}
            wait_until(lambda: shop.read_marks("ran") == expected, what="all of them to run")
        assert json.loads(redis_client.hget("given", "edited") or b"") == [[1.5], {}]
    finally:
        shop.close()


def test_running_and_reserved_tasks_are_distinguished_by_events(
    server: EmbeddedRedis, backend: Celery, redis_client: redis.Redis
) -> None:
    shop = Shop(server.url)
    library = CeleryLibrary()
    try:
        with shop.worker("alpha", "-E", gently=False):
            discover(backend)
            library.prepare(backend, redis_client)
            later = shop.send("later", countdown=3600)
            tasks = [str(shop.app.send_task("shop.busy", (str(n),), queue="alpha").id) for n in range(5)]
            wait_until(lambda: redis_client.hlen("began") == 2, what="two that run")
            wait_until(lambda: redis_client.hlen("unacked") == 6, what="what the worker holds")
            shared = discover(backend)["*"]

            def read_figures() -> tuple[Any, ...]:
                backend.maintain()
                found = backend.read_stats([shared])[0]
                counts = found.counts
                return counts.active, counts.waiting, found.depth, counts.scheduled, found.at_least

            wait_until(lambda: read_figures() == (2, 3, 3, 1, ()), what="two that run, three that wait")
            running = {tasks[int(n)] for n in redis_client.hkeys("began")}
            assert set(ids_of(backend, shared, State.ACTIVE)) == running
            assert set(ids_of(backend, shared, State.WAITING)) == set(tasks) - running
            held = backend.read_job(shared, next(iter(set(tasks) - running)))
            assert (held.state, held.native_state) == (State.WAITING, "reserved")
            assert backend.read_job(shared, next(iter(running))).native_state == "running"

            # Revoked while the worker holds it until its ETA: the message stays and will not run.
            shop.app.control.revoke(later)
            shop.await_status(later, "REVOKED")
            wait_until(lambda: read_figures() == (2, 3, 3, 0, ()), what="the revoked one to be counted no more")
            assert redis_client.hlen("unacked") == 6
            assert ids_of(backend, shared, State.SCHEDULED) == []
            job = backend.read_job(shared, later)
            assert (job.state, job.native_state) == (State.CANCELED, "REVOKED")
            assert "a worker still holds it" in dict(job.facts)["Message"]
    finally:
        shop.close()


@pytest.mark.parametrize(
    ("flags", "figures"),
    [((), (2, 3, (State.WAITING,))), (("--without-heartbeat",), (None, None, ()))],
    ids=["heartbeats", "nothing"],
)
def test_tasks_that_a_worker_without_events_may_run_are_not_called_reserved(
    server: EmbeddedRedis,
    backend: Celery,
    redis_client: redis.Redis,
    flags: tuple[str, ...],
    figures: tuple[int | None, int | None, tuple[State, ...]],
) -> None:
    """With `acks_late` and without -E: heartbeats give at most the number of running tasks."""
    shop = Shop(server.url)
    library = CeleryLibrary()
    try:
        with shop.worker("alpha", *flags, gently=False):
            discover(backend)
            library.prepare(backend, redis_client)
            tasks = {str(shop.app.send_task("shop.busy", (str(n),), queue="alpha").id) for n in range(5)}
            wait_until(lambda: redis_client.hlen("began") == 2, what="two that run")
            wait_until(lambda: redis_client.hlen("unacked") == 5, what="what the worker holds")
            shared = discover(backend)["*"]

            def read_figures() -> tuple[Any, ...]:
                backend.maintain()
                found = backend.read_stats([shared])[0]
                return found.counts.active, found.counts.waiting, found.at_least

            wait_until(lambda: read_figures() == figures, what="the figures")
            page = backend.list_jobs(shared, JobQuery(state=State.WAITING))
            assert {job.id: job.native_state for job in page.jobs} == dict.fromkeys(tasks, "reserved or running")
            assert (page.total, ids_of(backend, shared, State.ACTIVE)) == (None, [])
    finally:
        shop.close()


def test_which_held_tasks_run_is_unknown_without_events(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    for n in range(8):
        redis_client.hset("unacked", f"tag{n}", json.dumps([json.loads(message(f"t{n}")), "", "mails"]))
        redis_client.zadd("unacked_index", {f"tag{n}": n})
    shared = discover(backend)["*"]
    library = CeleryLibrary()
    library.prepare(backend, redis_client)
    figures = backend.read_stats([shared])[0]
    assert (figures.counts.active, figures.counts.waiting, figures.depth) == (None, None, None)
    assert backend.scan_matches(shared, State.WAITING, "anna", 0) is None

    def words() -> list[str | None]:
        page = backend.list_jobs(shared, JobQuery(state=State.WAITING))
        found = [row.job.native_state for row in backend.search_page(shared, JobQuery(state=State.WAITING)).rows]
        assert found == [job.native_state for job in page.jobs]
        # Those that may run are not counted as waiting.
        assert (page.total is None) == ("reserved or running" in found)
        one = backend.read_job(shared, "t1")
        assert one.native_state in found
        assert ("With a worker" in dict(one.facts)) == (one.native_state == "reserved or running")
        return found

    assert words() == ["reserved or running"] * 8
    publish_event(redis_client, "/0.celeryev/worker.heartbeat", {"hostname": "a@h", "active": 2})
    library.settle(backend, redis_client)
    figures = backend.read_stats([shared])[0]
    assert words() == ["reserved or running"] * 8
    assert (figures.counts.active, figures.counts.waiting, figures.at_least) == (2, 6, (State.WAITING,))
    publish_event(redis_client, "/0.celeryev/worker.heartbeat", {"hostname": "a@h", "active": 0})
    library.settle(backend, redis_client)
    figures = backend.read_stats([shared])[0]
    assert (figures.counts.active, figures.counts.waiting, figures.at_least) == (0, 8, ())
    assert words() == ["reserved"] * 8
    # A mailbox of a worker without a heartbeat may belong to one that runs tasks.
    redis_client.sadd(
        "_kombu.binding.celery.pidbox", *(SEP + SEP + name + b".celery.pidbox" for name in (b"a@h", b"b@h"))
    )
    assert State.ACTIVE in backend.read_stats([shared])[0].at_least
    assert words() == ["reserved or running"] * 8


def test_a_held_job_that_has_started_is_active(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    for n, more in enumerate(
        ({"eta": "2026-01-01T00:00:00+00:00"}, {"eta": "2026-01-01T00:00:00+00:00", "retries": 1})
    ):
        redis_client.hset("unacked", f"tag{n}", json.dumps([json.loads(message(f"t{n}", **more)), "", "mails"]))
        redis_client.zadd("unacked_index", {f"tag{n}": n})
    shared = discover(backend)["*"]
    library = CeleryLibrary()
    library.prepare(backend, redis_client)
    counts = backend.read_stats([shared])[0].counts
    assert (counts.active, counts.scheduled, counts.retrying) == (None, 1, 1)
    for n in range(2):
        store_result(redis_client, f"t{n}", "STARTED")
        redis_client.publish(f"celery-task-meta-t{n}", redis_client.get(f"celery-task-meta-t{n}") or b"")
    library.settle(backend, redis_client)
    counts = backend.read_stats([shared])[0].counts
    assert (counts.active, counts.scheduled, counts.retrying) == (2, 0, 0)
    assert ids_of(backend, shared, State.SCHEDULED) == ids_of(backend, shared, State.RETRYING) == []
    assert set(ids_of(backend, shared, State.ACTIVE)) == {"t0", "t1"}
    assert backend.read_job(shared, "t0").state is State.ACTIVE


def test_a_revoked_waiting_message_is_marked_revoked(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    redis_client.lpush("mails", message("t1"))
    store_result(redis_client, "t1", "REVOKED")
    job = backend.read_job(discover(backend)["mails"], "t1")
    assert job.state is State.WAITING
    assert "discard it" in dict(job.facts)["Revoked"]
    assert job.native_state == "queued, revoked"
    redis_client.lpush("mails", *(message(f"t{n}") for n in range(2, 52)))
    ref, query = discover(backend)["mails"], JobQuery(state=State.WAITING)
    wanted = {"t1": "queued, revoked", **{f"t{n}": "queued" for n in range(2, 51)}}
    for read in (backend.list_jobs(ref, query).jobs, [row.job for row in backend.search_page(ref, query).rows]):
        assert {job.id: job.native_state for job in read} == wanted
        assert {job.state for job in read} == {State.WAITING}
    with measure_cost() as meter:
        backend.list_jobs(ref, query)
    assert meter.round_trips == 3
    matches = backend.scan_matches(ref, State.WAITING, "shop", 0)
    assert matches is not None
    assert {row.job.native_state for row in matches.rows if row.job.id == "t1"} == {"queued, revoked"}
    with measure_cost() as meter:
        assert len(backend.list_job_refs(ref, query)) == 50
    assert meter.round_trips == 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_messages_of_protocol_1_are_read_in_every_pickle_protocol(
    backend: Celery, redis_client: redis.Redis, protocol: int
) -> None:
    declare_queues(redis_client, "mails")
    call = {"task": "shop.send", "id": "t1", "args": [1], "kwargs": {"password": "hunter2"}, "retries": 0}
    one = {**json.loads(message("t1")), "headers": {}, "content-type": "application/x-python-serialize"}
    one["body"] = base64.b64encode(pickle.dumps(call, protocol)).decode()
    one["properties"] |= {"body_encoding": "base64"}
    redis_client.lpush("mails", json.dumps(one))
    job = backend.read_job(discover(backend)["mails"], "t1")
    assert (job.name, job.problem) == ("shop.send", None)
    assert "hunter2" not in str(job)
    (row,) = backend.search_page(discover(backend)["mails"], JobQuery(state=State.WAITING)).rows
    assert '"task": "shop.send"' in row.text
    assert "hunter2" not in row.text


@pytest.mark.parametrize(
    ("body", "content_type", "compression"),
    [
        (pickle.dumps(([], {"password": "hunter2"}, {})), "application/x-python-serialize", None),
        (b"kwargs: \x01 password \x01 hunter2", "application/x-yaml", None),
        (b'[[], {"passwo\x01rd": "hunter2"}]', "application/json", "application/x-gzip"),
    ],
)
def test_a_body_that_is_not_shown_is_not_searched(
    backend: Celery, redis_client: redis.Redis, body: bytes, content_type: str, compression: str | None
) -> None:
    declare_queues(redis_client, "mails")
    one = {**json.loads(message("t1")), "content-type": content_type, "body": base64.b64encode(body).decode()}
    one["headers"] |= {"compression": compression}
    redis_client.lpush("mails", json.dumps(one))
    (row,) = backend.search_page(discover(backend)["mails"], JobQuery(state=State.WAITING)).rows
    assert "shop.send" in row.text
    assert "hunter2" not in row.text


def test_a_binding_of_the_wrong_type_hides_no_messages(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    redis_client.set("_kombu.binding.cash", "x")
    redis_client.lpush("_kombu.binding.celery.pidbox", "x")
    redis_client.set("shop-_kombu.binding.none", "x")  # without other keys of Celery
    redis_client.lpush("cash", message("t1"))
    found = discover(backend)
    assert found.keys() == {"*", "mails", "cash"}
    assert backend.read_stats([found["cash"]])[0].depth == 1
    assert ids_of(backend, found["cash"], State.WAITING) == ["t1"]


@pytest.mark.parametrize("prefix", ["myapp:redbeat:", "shop", "redbeat:"])
def test_schedules_of_redbeat_are_found_under_any_prefix(
    backend: Celery, redis_client: redis.Redis, prefix: str
) -> None:
    """Laid out as redbeat 2.4.2 writes them with `redbeat_key_prefix`."""
    declare_queues(redis_client, "mails")
    definition = {"name": "nightly", "task": "shop.mark", "args": ["a"], "kwargs": {}, "enabled": True,
                  "options": {"queue": "mails"}, "schedule": {"__type__": "interval", "every": 60.0}}  # fmt: skip
    redis_client.hset(f"{prefix}nightly", mapping={"definition": json.dumps(definition), "meta": "{}"})
    redis_client.zadd(f"{prefix}:schedule", {f"{prefix}nightly": 1_900_000_000})
    redis_client.zadd("other:schedule", {'{"class": "a job of Sidekiq"}': 1})
    refs = list(discover(backend).values())
    CeleryLibrary().prepare(backend, redis_client)
    other = Celery(backend.source, backend.settings)  # a process that did not search, such as one that serves pages
    other.own_source = backend.source
    for each in (backend, other):
        (found,) = each.list_schedules(refs)
        assert (found.id, found.name, found.queue) == (f"{prefix}nightly", "shop.mark", "mails")
    assert other.act_on_schedule(found, Action.PAUSE_SCHEDULE).outcome is Outcome.DONE
    assert json.loads(redis_client.hget(f"{prefix}nightly", "definition") or b"")["enabled"] is False
    assert other.act_on_schedule(found, Action.TRIGGER).outcome is Outcome.DONE
    assert redis_client.llen("mails") == 1
    assert other.act_on_schedule(found, Action.REMOVE_SCHEDULE).outcome is Outcome.DONE
    assert other.list_schedules(refs) == []


@pytest.mark.parametrize("escape", [False, True], ids=["plain", "slashes escaped"])
def test_messages_of_protocol_1_with_another_correlation_id_are_found_by_task_id(
    server: EmbeddedRedis, backend: Celery, redis_client: redis.Redis, escape: bool
) -> None:
    """The format of gocelery: no headers, and a correlation id that is not the task's id."""
    declare_queues(redis_client, "alpha")
    ids = ["7", "-5", "abc", *(f"{'?' * (n % 3)}{uuid.UUID(int=n)}" for n in range(9))]
    for n, task_id in enumerate(ids):
        call = {"id": task_id, "task": "shop.note", "args": [f"key-{n}"], "kwargs": {}, "retries": 0, "eta": None}
        properties = {"body_encoding": "base64", "correlation_id": "one for all", "delivery_tag": f"tag-{n}"}
        body = base64.b64encode(json.dumps(call).encode()).decode()
        envelope = {"body": body, "headers": None, "content-type": "application/json", "properties": properties}
        raw, entry = (
            json.dumps(each).replace("/", "\\/" if escape else "/") for each in (envelope, [envelope, "", "alpha"])
        )
        if n < 11:
            redis_client.lpush("alpha", raw)
        else:
            redis_client.hset("unacked", "tag", entry)
            redis_client.zadd("unacked_index", {"tag": 1})
    refs = discover(backend)
    alpha = refs["alpha"]
    waiting, held = ids[:11], ids[11]
    assert sorted(ids_of(backend, alpha, State.WAITING)) == sorted(waiting)
    for task_id in ids:
        assert backend.read_job(alpha, task_id).id == task_id
    with pytest.raises(NotFound):
        backend.read_job(alpha, ids[4][1:])
    job_refs = [JobRef(id=task_id) for task_id in waiting]
    for some in (job_refs[:1], job_refs):  # few jobs are searched for in another way than many
        kept = backend.backup_jobs(alpha, State.WAITING, some)
        assert [each.id for each in kept if isinstance(each, JobBackup)] == [job_ref.id for job_ref in some]
    deleted = backend.delete_jobs(alpha, State.WAITING, [each for each in kept if isinstance(each, JobBackup)])
    assert {each.outcome for each in deleted} == {Outcome.DONE}
    assert redis_client.llen("alpha") == 0
    (result,) = backend.act_on_jobs(refs["*"], Action.DUPLICATE, State.WAITING, [JobRef(id=held)], ActionOptions())
    assert result.outcome is Outcome.DONE, result
    assert ids_of(backend, alpha, State.WAITING) == [result.new_id]


@pytest.mark.parametrize("name", ["a\u200bb", "a\x00b", "\ud83c", "a\xa0b"])
@pytest.mark.parametrize("ascii_", [True, False])
def test_a_job_whose_id_cannot_be_shown_is_deleted_by_a_substitute_id(
    backend: Celery, redis_client: redis.Redis, name: str, ascii_: bool
) -> None:
    declare_queues(redis_client, "alpha")
    for each in ("before", name, "after"):
        raw = json.dumps(json.loads(message(each)), ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
        redis_client.lpush("alpha", raw)
    alpha = discover(backend)["alpha"]
    (odd,) = (job for job in backend.list_jobs(alpha, JobQuery(state=State.WAITING)).jobs if job.id.startswith("raw"))
    assert backend.read_job(alpha, odd.id).id == odd.id
    for job_ref in (JobRef(id=odd.id), JobRef(id=odd.id, version=odd.version)):
        (backup,) = backend.backup_jobs(alpha, State.WAITING, [job_ref])
        assert isinstance(backup, JobBackup), backup
    assert [each.outcome for each in backend.delete_jobs(alpha, State.WAITING, [backup])] == [Outcome.DONE]
    assert ids_of(backend, alpha, State.WAITING) == ["before", "after"]
