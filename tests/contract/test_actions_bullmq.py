"""Actions on queues of BullMQ 4, 5 and 6, on jobs of the real library that its real worker runs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from dashboard.actions.audit_log import Actor
from dashboard.actions.bulk.operation import BulkRequest, JobListRef
from dashboard.actions.bulk.selection import select_jobs
from dashboard.backends.actions import (
    BACK,
    MAX_KEPT_BYTES,
    Action,
    ActionOptions,
    ActionResult,
    JobBackup,
    JobRef,
    Outcome,
)
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.bullmq_library import BullMQLibrary, node, running_script
from tests.search import search
from tests.waiting import wait_until

RELEASES = ("bullmq", "bullmq5", "bullmq4")
REF = QueueRef(source="main", backend="bullmq", name="alpha", key="bull:alpha")


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BullMQ]:
    source = Source("main", server.url)
    yield BullMQ(source, SourceSettings(name="main", url=server.url))
    source.close()


@contextmanager
def running_worker(alias: str, url: str, queue: str = "alpha", **options: Any) -> Iterator[None]:
    """Run a real worker on `queue` that counts each run in the hash `marks`."""
    library = BullMQLibrary(alias)
    worker = library.drive("consume", url, queue, **options)["worker"]
    try:
        yield
    finally:
        library.drive("stop", url, queue, worker=worker)


def read_marks(client: redis.Redis) -> dict[str, int]:
    return {job_id.decode(): int(count) for job_id, count in client.hgetall("marks").items()}


def drive(alias: str, url: str, command: str, **options: Any) -> Any:
    return BullMQLibrary(alias).drive(command, url, "alpha", **options)


READ_BY_TYPE = {
    b"hash": lambda client, key: client.hgetall(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
    b"set": lambda client, key: client.smembers(key),
    b"string": lambda client, key: client.get(key),
}


def read_keyspace(client: redis.Redis) -> dict[bytes, Any]:
    """The content of all keys of BullMQ, except event streams and wake-up markers."""
    others = (b":events", b":marker", BACK.encode())
    names = [key for key in client.scan_iter() if not key.endswith(others)]
    return {key: READ_BY_TYPE[client.type(key)](client, key) for key in names}


def outcomes(results: list[ActionResult]) -> list[str]:
    return [each.outcome.value for each in results]


def backups_of(backups: list[JobBackup | ActionResult]) -> list[JobBackup]:
    assert all(isinstance(each, JobBackup) for each in backups), backups
    return [each for each in backups if isinstance(each, JobBackup)]


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
@pytest.mark.parametrize("alias", RELEASES)
def test_dead_jobs_are_retried_and_run_by_the_real_worker(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str, paused: bool
) -> None:
    ids = drive(alias, server.url, "many", count=20, dead=True)["ids"]
    payload = redis_client.hget(f"bull:alpha:{ids[0]}", "data")
    if paused:
        drive(alias, server.url, "pause")
    job_refs = backend.list_job_refs(REF, JobQuery(state=State.DEAD, per_page=1000))
    assert {job_ref.id for job_ref in job_refs} == set(ids)
    with running_worker(alias, server.url):  # idle, waiting for work
        asked = [*job_refs, JobRef(id="absent"), JobRef(id=ids[0], version="1")]
        with measure_cost() as meter:
            results = backend.act_on_jobs(REF, Action.RETRY, State.DEAD, asked)
        assert meter.round_trips == 1
        assert outcomes(results) == [*["done"] * 20, "gone", "changed"]
        if paused:
            assert drive(alias, server.url, "add")
            assert read_marks(redis_client) == {}
            drive(alias, server.url, "resume")
            ids = [*ids, str(len(ids) + 1)]
        wait_until(
            lambda: read_marks(redis_client) == dict.fromkeys(ids, 1), what="the worker running all of them once"
        )
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == len(ids), what="the ends of all jobs")
    assert redis_client.hget(f"bull:alpha:{ids[0]}", "data") == payload
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, job_refs)) == ["changed"] * 20
    assert redis_client.zcard("bull:alpha:failed") == 0


@pytest.mark.parametrize("alias", RELEASES)
@pytest.mark.parametrize("priority", [0, 5])
def test_a_promoted_delayed_job_runs_once(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str, priority: int
) -> None:
    opts = {"delay": 3_600_000, **({"priority": priority} if priority else {})}
    job_id = drive(alias, server.url, "add", opts=opts)["id"]
    with running_worker(alias, server.url):
        job_refs = backend.list_job_refs(REF, JobQuery(state=State.SCHEDULED))
        assert [job_ref.id for job_ref in job_refs] == [job_id]
        assert outcomes(backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, job_refs)) == ["done"]
        wait_until(lambda: read_marks(redis_client) == {job_id: 1}, what="the worker running it")
    assert outcomes(backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, job_refs)) == ["changed"]


@pytest.mark.parametrize("alias", RELEASES)
@pytest.mark.parametrize("queue", ["alpha", "beta"])
def test_undo_restores_deleted_jobs_unchanged(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str, queue: str
) -> None:
    filled = BullMQLibrary(alias).fill(server.url)
    ref = QueueRef(source="main", backend="bullmq", name=queue, key=f"bull:{queue}")
    for state in (State.DEAD, State.COMPLETED, State.SCHEDULED, State.BLOCKED, State.WAITING):
        before = read_keyspace(redis_client)
        job_refs = backend.list_job_refs(ref, JobQuery(state=state, per_page=1000))
        assert {job_ref.id for job_ref in job_refs} == set(filled.ids[queue][state])
        # Deleting a parent's only children releases the parent: a separate test deletes those two.
        job_refs = [job_ref for job_ref in job_refs if not job_ref.id.startswith("photo")]
        with measure_cost() as meter:
            backups = backups_of(backend.backup_jobs(ref, state, job_refs))
            assert outcomes(backend.delete_jobs(ref, state, backups)) == ["done"] * len(job_refs)
        # One more for each list that may hold waiting jobs.
        assert meter.round_trips <= (4 if state is State.WAITING else 2)
        for job_ref in job_refs:
            assert not redis_client.exists(f"bull:{queue}:{job_ref.id}", f"bull:{queue}:{job_ref.id}:logs")
        assert not {job_ref.id for job_ref in backend.list_job_refs(ref, JobQuery(state=state, per_page=1000))} & {
            job_ref.id for job_ref in job_refs
        }
        assert outcomes(backend.delete_jobs(ref, state, backups)) == ["gone"] * len(job_refs)
        assert outcomes(backend.restore_jobs(ref, state, list(reversed(backups)))) == ["done"] * len(job_refs)
        assert read_keyspace(redis_client) == before
        assert outcomes(backend.restore_jobs(ref, state, backups)) == ["changed"] * len(job_refs)
    assert BullMQLibrary(alias).own_counts(server.url, queue) == filled.native_counts[queue]


@pytest.mark.parametrize("alias", ["bullmq", "bullmq5"])
def test_deleting_the_last_child_releases_its_parent(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    filled = BullMQLibrary(alias).fill(server.url)
    (parent,) = filled.ids["alpha"][State.BLOCKED]
    children = [JobRef(id="photo-1"), JobRef(id="photo-2")]
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, children))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups[:1])) == ["done"]
    assert redis_client.zscore("bull:alpha:waiting-children", parent) is not None
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups[1:])) == ["done"]
    assert redis_client.zscore("bull:alpha:waiting-children", parent) is None
    assert redis_client.lindex("bull:alpha:wait", -1) == parent.encode()


def test_a_running_job_and_the_next_run_of_a_schedule_cannot_be_deleted(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    BullMQLibrary().fill(server.url)
    drive("bullmq", server.url, "schedule")
    runs = [
        job_ref
        for job_ref in backend.list_job_refs(REF, JobQuery(state=State.SCHEDULED))
        if job_ref.id.startswith("repeat:")
    ]
    assert runs
    for refused in backend.backup_jobs(REF, State.SCHEDULED, runs):
        assert isinstance(refused, ActionResult)
        assert (refused.outcome, refused.detail) == (
            Outcome.REFUSED,
            "it is the next run of a schedule; remove the schedule instead",
        )
    redis_client.zadd("bull:alpha:failed", {"held": 1})
    (held,) = backend.backup_jobs(REF, State.DEAD, [JobRef(id="held")])
    assert isinstance(held, ActionResult)
    assert held.detail == "a worker is processing it"


def test_a_job_that_changed_since_its_backup_is_not_deleted(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = drive("bullmq", server.url, "many", count=2, dead=True)["ids"]
    backups = backups_of(backend.backup_jobs(REF, State.DEAD, [JobRef(id=job_id) for job_id in ids]))
    redis_client.hset(f"bull:alpha:{ids[0]}", "progress", 7)
    assert outcomes(backend.delete_jobs(REF, State.DEAD, backups)) == ["changed", "done"]


def test_a_job_too_large_for_the_trash_is_deleted_without_reading_it(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    (job_id,) = drive("bullmq", server.url, "many", count=1, dead=True)["ids"]
    redis_client.hset(f"bull:alpha:{job_id}", "data", "x" * 20_000_000)
    sent = redis_client.info("stats")["total_net_output_bytes"]
    (large,) = backups_of(backend.backup_jobs(REF, State.DEAD, [JobRef(id=job_id)]))
    assert large.blob is None
    assert large.size_bytes > MAX_KEPT_BYTES
    assert redis_client.info("stats")["total_net_output_bytes"] - sent < 100_000
    assert outcomes(backend.delete_jobs(REF, State.DEAD, [large])) == ["done"]
    assert not redis_client.exists(f"bull:alpha:{job_id}")


@pytest.mark.parametrize("alias", RELEASES)
def test_pausing_and_resuming_by_anyone_loses_no_job(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    drive(alias, server.url, "add")
    assert backend.act_on_queue(REF, Action.PAUSE).outcome is Outcome.DONE
    with running_worker(alias, server.url):
        drive(alias, server.url, "add")  # the app adds to a queue that we paused
        assert drive(alias, server.url, "counts")["wait"] + drive(alias, server.url, "counts")["paused"] == 2
        assert read_marks(redis_client) == {}
        drive(alias, server.url, "resume")  # and resumes it
        wait_until(lambda: read_marks(redis_client) == {"1": 1, "2": 1}, what="the worker running both")
        drive(alias, server.url, "pause")  # now in the opposite order
        drive(alias, server.url, "add")
        result = backend.act_on_queue(REF, Action.RESUME)
        assert (result.outcome, result.more) == (Outcome.DONE, False)
        wait_until(lambda: read_marks(redis_client) == {"1": 1, "2": 1, "3": 1}, what="the worker running all three")


def test_actions_do_not_create_an_absent_queue(backend: BullMQ, redis_client: redis.Redis) -> None:
    for action in (Action.PAUSE, Action.RESUME, Action.OBLITERATE):
        assert backend.act_on_queue(REF, action).outcome is Outcome.GONE
    assert redis_client.dbsize() == 0


@pytest.mark.parametrize("alias", RELEASES)
def test_obliterate_runs_in_steps_and_is_refused_while_jobs_run(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    BullMQLibrary(alias).fill(server.url)
    drive(alias, server.url, "many", count=500)
    assert "running" in (backend.act_on_queue(REF, Action.OBLITERATE).detail or "")
    redis_client.delete("bull:alpha:active", "bull:alpha:held", "bull:alpha:held:lock")
    steps = 0
    while (result := backend.act_on_queue(REF, Action.OBLITERATE)).more:
        steps += 1
    assert result.outcome is Outcome.DONE
    assert steps >= 2
    assert list(redis_client.scan_iter("bull:alpha:*")) == []


@pytest.mark.parametrize("alias", RELEASES)
def test_copies_and_edited_jobs_are_new_jobs_that_the_worker_runs(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    (job_id,) = drive(alias, server.url, "many", count=1, dead=True)["ids"]
    job_refs = [JobRef(id=job_id)]
    (copy,) = backend.act_on_jobs(REF, Action.DUPLICATE, State.DEAD, job_refs)
    (edited,) = backend.act_on_jobs(
        REF, Action.EDIT, State.DEAD, job_refs, ActionOptions(payload='{"n": 12345678901234567890}')
    )
    assert copy.new_id
    assert edited.new_id
    assert redis_client.hget(f"bull:alpha:{copy.new_id}", "data") == redis_client.hget(f"bull:alpha:{job_id}", "data")
    assert redis_client.hget(f"bull:alpha:{edited.new_id}", "data") == b'{"n": 12345678901234567890}'
    with running_worker(alias, server.url):
        wait_until(
            lambda: read_marks(redis_client) == {copy.new_id: 1, edited.new_id: 1}, what="the worker running both"
        )
    assert redis_client.zscore("bull:alpha:failed", job_id) is not None
    (bad,) = backend.act_on_jobs(REF, Action.EDIT, State.DEAD, job_refs, ActionOptions(payload="{"))
    assert bad.outcome is Outcome.INVALID
    assert "not valid JSON" in (bad.detail or "")


RAN = {
    **dict.fromkeys(("progress", "returnvalue", "failedReason", "processedBy", "pb", "deid", "rjk", "nrjid"), "1"),
    **dict.fromkeys(("attemptsMade", "ats", "atm", "stc", "processedOn", "finishedOn", "delay"), "5000"),
    "stacktrace": '["Error: x"]',
    "parentKey": "bull:flows:1",
    "parent": '{"id":"1"}',
    "priority": "0",
}
OF_ONE_JOB = {
    **dict.fromkeys(("jobId", "repeatJobKey", "tm"), "old"),
    **dict.fromkeys(("delay", "timestamp", "prevMillis"), 5000),
    **dict.fromkeys(("fpof", "cpof", "idof", "rdof"), True),
    **dict.fromkeys(("failParentOnFailure", "removeDependencyOnFailure", "ignoreDependencyOnFailure"), True),
    "repeat": {"every": 5000, "count": 3},
    "parent": {"id": "1", "queue": "bull:flows"},
    **{name: {"id": "old", "ttl": 9} for name in ("de", "deduplication", "debounce")},
    "continueParentOnFailure": True,
}


@pytest.mark.parametrize("alias", RELEASES)
def test_a_copy_has_only_the_fields_of_a_new_job(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    (added,) = drive(alias, server.url, "many", count=1)["ids"]
    fields = redis_client.hgetall(f"bull:alpha:{added}").keys()
    redis_client.flushdb()
    (job_id,) = drive(alias, server.url, "many", count=1, dead=True)["ids"]
    kept = {"attempts": 4, "backoff": {"type": "fixed", "delay": 7}, "kl": 5, "removeOnComplete": True, "lifo": True}
    redis_client.hset(f"bull:alpha:{job_id}", mapping={**RAN, "opts": json.dumps({**OF_ONE_JOB, **kept})})
    for action, options in ((Action.DUPLICATE, ActionOptions()), (Action.EDIT, ActionOptions(payload='{"n": 1}'))):
        (made,) = backend.act_on_jobs(REF, action, State.DEAD, [JobRef(id=job_id)], options)
        hash_ = redis_client.hgetall(f"bull:alpha:{made.new_id}")
        assert hash_.keys() == fields
        assert json.loads(hash_[b"opts"]) == kept
        assert hash_[b"delay"] == b"0"
    assert not list(redis_client.scan_iter("bull:alpha:de:*"))


@pytest.mark.parametrize("alias", RELEASES)
def test_lifo_jobs_go_to_the_front_of_the_queue(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    def add(**options: Any) -> str:
        return str(drive(alias, server.url, "add", opts=options)["id"])

    def run_order() -> list[str]:
        return [raw.decode() for raw in redis_client.lrange("bull:alpha:wait", 0, -1)][::-1]

    (dead,) = drive(alias, server.url, "many", count=1, dead=True, opts={"lifo": True})["ids"]
    plain, first = add(), add(lifo=True)
    assert run_order() == [first, plain]  # as the library does it
    made = [str(result.new_id) for result in backend.act_on_jobs(REF, Action.DUPLICATE, State.DEAD, [JobRef(id=dead)])]
    assert run_order() == [*made, first, plain]
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id=dead)])) == ["done"]
    assert run_order() == [dead, *made, first, plain]
    edited = backend.act_on_jobs(REF, Action.EDIT, State.WAITING, [JobRef(id=first)], ActionOptions(payload="{}"))[0]
    assert run_order()[0] == edited.new_id
    for job_id in run_order():
        backups = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=job_id)]))
        before = run_order()
        assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"]
        assert outcomes(backend.restore_jobs(REF, State.WAITING, backups)) == ["done"]
        assert run_order() == before
    # Nested options belong to the app, and JSON may have spaces.
    for options, place in (('{"note": {"lifo":true}}', -1), ('{"lifo": true}', 0)):
        redis_client.hset(f"bull:alpha:{plain}", "opts", options)
        (copied,) = backend.act_on_jobs(REF, Action.DUPLICATE, State.WAITING, [JobRef(id=plain)])
        assert run_order()[place] == copied.new_id


def test_a_schedule_can_be_triggered_and_removed(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    drive("bullmq", server.url, "schedule")
    found = search(backend)
    schedule = next(each for each in backend.list_schedules(found) if each.id == "nightly")
    score = redis_client.zscore("bull:alpha:repeat", "nightly")
    (result,) = [backend.act_on_schedule(schedule, Action.TRIGGER)]
    assert redis_client.hget(f"bull:alpha:{result.new_id}", "name") == b"nightly"
    assert redis_client.zscore("bull:alpha:repeat", "nightly") == score
    assert backend.act_on_schedule(schedule, Action.REMOVE_SCHEDULE).outcome is Outcome.DONE
    assert [each.id for each in backend.list_schedules(found)] == ["hourly:count"]
    assert not list(redis_client.scan_iter("*nightly*"))
    assert backend.act_on_schedule(schedule, Action.REMOVE_SCHEDULE).outcome is Outcome.GONE


def test_hostile_jobs_do_not_affect_the_outcome_of_others(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    (job_id,) = drive("bullmq", server.url, "many", count=1, dead=True)["ids"]
    odd = "odd\udcff:<script>"
    raw = odd.encode("utf-8", "surrogateescape")
    redis_client.zadd("bull:alpha:failed", {"ghost": 1, "text": 2, raw: 3})
    redis_client.set("bull:alpha:text", "no hash")
    redis_client.hset(b"bull:alpha:" + raw, mapping={"name": b"\xff", "data": b"{broken", "opts": "[]"})
    job_refs = [JobRef(id=each) for each in ("ghost", "text", odd, job_id)]
    assert outcomes(backend.act_on_jobs(REF, Action.DUPLICATE, State.DEAD, job_refs)) == [
        "gone",
        "gone",
        "refused",
        "done",
    ]
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, job_refs)) == ["gone", "gone", "done", "done"]
    backups = backups_of(backend.backup_jobs(REF, State.DEAD, job_refs[:2]))
    assert outcomes(backend.delete_jobs(REF, State.DEAD, backups)) == ["done", "done"]
    assert redis_client.zcard("bull:alpha:failed") == 0


def test_a_user_without_write_permission_gets_an_error(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    (job_id,) = drive("bullmq", server.url, "many", count=1, dead=True)["ids"]
    redis_client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "%R~*", "+@read", "+eval_ro", "+client")
    source = Source("main", f"redis://reader:secret@127.0.0.1:{server.port}/0")
    reader = BullMQ(source, SourceSettings(name="main", url=server.url))
    (result,) = reader.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id=job_id)])
    assert result.outcome is Outcome.REFUSED
    assert "not permitted" in (result.detail or "")
    source.close()
    redis_client.execute_command("ACL", "DELUSER", "reader")


def test_undo_restores_the_positions_of_jobs_deep_in_a_long_list(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = drive("bullmq", server.url, "many", count=60)["ids"]
    redis_client.rpush("bull:alpha:wait", *(f"nearer-{n}" for n in range(40_000)))
    redis_client.lpush("bull:alpha:wait", *(f"further-{n}" for n in range(30_000)))
    before = redis_client.lrange("bull:alpha:wait", 0, -1)
    job_refs = [JobRef(id=each) for each in (*ids, "nearer-39999", "absent")]
    *backups, ghost, absent = backend.backup_jobs(REF, State.WAITING, job_refs)
    assert isinstance(ghost, JobBackup)
    assert isinstance(absent, ActionResult)
    assert absent.outcome is Outcome.GONE
    # Between backup and delete, workers pick up some jobs and the app adds others.
    picked_up = redis_client.rpop("bull:alpha:wait", 400)
    redis_client.lpush("bull:alpha:wait", *(f"new-{n}" for n in range(1_000)))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups_of(backups))) == ["done"] * 60
    expected = [entry for entry in before if entry.decode() not in ids][:-400]
    assert redis_client.lrange("bull:alpha:wait", 1_000, -1) == expected
    assert not any(redis_client.exists(f"bull:alpha:{job_id}") for job_id in ids)
    assert outcomes(backend.restore_jobs(REF, State.WAITING, backups_of(backups))) == ["done"] * 60
    assert redis_client.lrange("bull:alpha:wait", 1_000, -1) == before[:-400]
    assert ghost.id.encode() in picked_up
    assert outcomes(backend.delete_jobs(REF, State.WAITING, [ghost])) == ["gone"]


def test_each_command_of_a_delete_deep_in_a_long_list_is_short(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = drive("bullmq", server.url, "many", count=60)["ids"]
    redis_client.rpush("bull:alpha:wait", *(f"nearer-{n}" for n in range(40_000)))
    redis_client.lpush("bull:alpha:wait", *(f"further-{n}" for n in range(30_000)))
    redis_client.config_set("slowlog-max-len", 1000)
    least: dict[int, list[int]] = {}  # by how many commands a round has: the shortest time of each of them, in µs

    def is_quick() -> bool:
        redis_client.config_set("slowlog-log-slower-than", 0)
        redis_client.slowlog_reset()
        backups = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=each) for each in ids]))
        assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"] * 60
        assert outcomes(backend.restore_jobs(REF, State.WAITING, backups)) == ["done"] * 60
        redis_client.config_set("slowlog-log-slower-than", -1)
        durations = [entry["duration"] for entry in redis_client.slowlog_get(1000)]
        known = least.setdefault(len(durations), durations)
        least[len(durations)] = [min(pair) for pair in zip(known, durations, strict=True)]
        return max(least[len(durations)]) < 5000

    try:
        # The log knows no processor time: a busy machine may stop the server in any command, but in none always.
        wait_until(is_quick, what="each command to have been quick once")
    finally:
        redis_client.config_set("slowlog-log-slower-than", 10_000)
        redis_client.config_set("slowlog-max-len", 128)


def test_a_delete_finds_jobs_that_moved_far_in_their_list(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = drive("bullmq", server.url, "many", count=1_000)["ids"]
    backups = backups_of(
        backend.backup_jobs(REF, State.WAITING, [JobRef(id=each) for each in (ids[100], ids[300], ids[900])])
    )
    redis_client.rpop("bull:alpha:wait", 250)
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["changed", "done", "done"]
    # The app pauses its queue: before BullMQ 6 this moves all jobs to another list.
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=ids[500])]))
    redis_client.rename("bull:alpha:wait", "bull:alpha:paused")
    assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"]
    assert redis_client.llen("bull:alpha:paused") == 1_000 - 250 - 3


def test_large_jobs_are_backed_up_in_small_batches(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = drive("bullmq", server.url, "many", count=12, dead=True)["ids"]
    for job_id in ids:
        redis_client.hset(f"bull:alpha:{job_id}", "data", os.urandom(300_000))
    with measure_cost() as meter:
        backups = backups_of(backend.backup_jobs(REF, State.DEAD, [JobRef(id=each) for each in ids]))
    assert [job.id for job in backups] == ids
    assert all(job.blob is not None for job in backups)
    assert meter.round_trips == 2
    before = read_keyspace(redis_client)
    assert outcomes(backend.delete_jobs(REF, State.DEAD, backups)) == ["done"] * 12
    assert outcomes(backend.restore_jobs(REF, State.DEAD, backups)) == ["done"] * 12
    assert read_keyspace(redis_client) == before


@pytest.mark.parametrize("command", ["lset", "lrem", "xadd", "del", "zrem"])
def test_a_delete_without_a_needed_permission_deletes_nothing(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, command: str
) -> None:
    ids = drive("bullmq", server.url, "many", count=5)["ids"]
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=each) for each in ids[1:4]]))
    before = read_keyspace(redis_client)
    redis_client.execute_command("ACL", "SETUSER", "half", "on", ">secret", "~*", "+@all", f"-{command}")
    source = Source("main", f"redis://half:secret@127.0.0.1:{server.port}/0")
    half = BullMQ(source, SourceSettings(name="main", url=server.url))
    assert outcomes(half.delete_jobs(REF, State.WAITING, backups)) == ["refused"] * 3
    assert read_keyspace(redis_client) == before
    source.close()
    redis_client.execute_command("ACL", "DELUSER", "half")


def test_jobs_can_be_deleted_when_redis_is_out_of_memory(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = drive("bullmq", server.url, "many", count=5)["ids"]
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=each) for each in ids]))
    redis_client.config_set("maxmemory", 1)
    try:
        assert outcomes(backend.delete_jobs(REF, State.WAITING, backups)) == ["done"] * 5
    finally:
        redis_client.config_set("maxmemory", 0)
    assert redis_client.llen("bull:alpha:wait") == 0


def test_a_marker_in_a_page_does_not_end_the_list(backend: BullMQ, redis_client: redis.Redis) -> None:
    """BullMQ 4 keeps its marker in the waiting list; the jobs with a priority come after it."""
    redis_client.rpush("bull:alpha:wait", "0:0")
    redis_client.zadd("bull:alpha:prioritized", {str(n): n for n in range(1_700)})
    request = BulkRequest(
        action=Action.DELETE,
        actor=Actor(name="anna", role="operator", address="127.0.0.1"),
        job_lists=(JobListRef(ref=REF, state=State.WAITING),),
    )
    listing = select_jobs(request, lambda _s, _n: backend, lambda _f, _m: (), 3_000)
    found = [one.job_ref.id for one in listing if one.job_ref]
    assert found == [str(n) for n in range(1_700)]


@pytest.mark.soak
@pytest.mark.parametrize("alias", RELEASES)
def test_retries_beside_a_live_worker_neither_lose_nor_duplicate_jobs(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    """Each job fails in its first run, is retried while the worker continues, and again after its second run."""
    count = 1_500
    ids = drive(alias, server.url, "many", count=count)["ids"]
    asked = dict.fromkeys(ids, 0)
    with running_worker(alias, server.url, failing=True, concurrency=16):

        def retry_failures() -> bool:
            for page in (1, 2):
                found = backend.list_job_refs(REF, JobQuery(state=State.DEAD, page=page, per_page=1000))
                job_refs = [job_ref for job_ref in found if asked[job_ref.id] < 2]
                # Twice at once, like two users: the second is too late.
                for _ in range(2):
                    for each in backend.act_on_jobs(REF, Action.RETRY, State.DEAD, job_refs):
                        asked[each.id] += each.outcome is Outcome.DONE
            return sum(read_marks(redis_client).values()) >= 3 * count

        wait_until(retry_failures, what="each job's third run")
        wait_until(lambda: redis_client.zcard("bull:alpha:failed") == count, what="the ends of all jobs")
    assert read_marks(redis_client) == {job_id: 1 + times for job_id, times in asked.items()} == dict.fromkeys(ids, 3)
    assert redis_client.llen("bull:alpha:wait") == redis_client.llen("bull:alpha:active") == 0


@pytest.mark.soak
@pytest.mark.parametrize("alias", RELEASES)
def test_deletes_beside_a_live_worker_neither_lose_nor_duplicate_jobs(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    """Delete jobs at both ends of the list; restore half of them."""
    count = 3_000
    ids = drive(alias, server.url, "many", count=count)["ids"]
    deleted: set[str] = set()
    counts: Counter[Outcome] = Counter()

    def delete(job_refs: list[JobRef]) -> None:
        backups = [each for each in backend.backup_jobs(REF, State.WAITING, job_refs) if isinstance(each, JobBackup)]
        done = backend.delete_jobs(REF, State.WAITING, backups)
        again = backend.delete_jobs(REF, State.WAITING, backups)
        counts.update(each.outcome for each in done)
        gone = [job for job, each in zip(backups, done, strict=True) if each.outcome is Outcome.DONE]
        assert Outcome.DONE not in {each.outcome for each in again if each.id in {job.id for job in gone}}
        back = backend.restore_jobs(REF, State.WAITING, gone[::2])
        assert {each.outcome for each in backend.restore_jobs(REF, State.WAITING, gone[::2])} <= {Outcome.CHANGED}
        deleted.update({job.id for job in gone} - {each.id for each in back if each.outcome is Outcome.DONE})

    with running_worker(alias, server.url, concurrency=4, allowed="allowed"):
        for start in range(count, 0, -100):
            redis_client.incrby("allowed", 50)  # else it may have run all of them before the first is deleted
            delete([JobRef(id=job_id) for job_id in ids[start - 100 : start]])
            delete(backend.list_job_refs(REF, JobQuery(state=State.WAITING, per_page=40))[::3])
        redis_client.set("allowed", count)
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") + len(deleted) == count, what="the rest")
    ran = read_marks(redis_client)
    assert set(ran) == set(ids) - deleted
    assert set(ran.values()) == {1}
    assert counts[Outcome.DONE] > 100


@contextmanager
def counting_worker(alias: str, url: str, **options: Any) -> Iterator[None]:
    """A real worker on `alpha`, of Bull too, that counts the runs of each job by its `data.n` in the hash `marks`."""
    with running_script("marks.mjs", alias, url, "alpha", json.dumps(options)) as answer:
        assert answer == {"ready": True}
        yield


def seed(url: str, jobs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    ids: list[str] = node("seed.mjs", "bull", url, "alpha", json.dumps(jobs))
    return ids


def test_jobs_of_bull_4_are_retried_promoted_deleted_and_paused(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = seed(server.url, [({"n": n, "failures": 1}, {}) for n in range(20)])
    (late, urgent) = seed(
        server.url,
        [({"n": 100}, {"delay": 3_600_000}), ({"n": 101}, {"delay": 3_600_000, "priority": 1})],
    )
    with counting_worker("bull", server.url):
        wait_until(lambda: redis_client.zcard("bull:alpha:failed") == 20, what="their failures")
        job_refs = backend.list_job_refs(REF, JobQuery(state=State.DEAD, per_page=1000))
        backups = backups_of(backend.backup_jobs(REF, State.DEAD, job_refs[:5]))
        assert outcomes(backend.delete_jobs(REF, State.DEAD, backups)) == ["done"] * 5
        assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, job_refs)) == [*["gone"] * 5, *["done"] * 15]
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == 15, what="their second runs")
        assert outcomes(backend.restore_jobs(REF, State.DEAD, backups)) == ["done"] * 5
        assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, job_refs[:5])) == ["done"] * 5
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == 20, what="the restored jobs")
        assert backend.act_on_queue(REF, Action.PAUSE).outcome is Outcome.DONE
        promoted = backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, [JobRef(id=late), JobRef(id=urgent)])
        assert outcomes(promoted) == ["done", "done"]
        assert redis_client.llen("bull:alpha:paused") == 2
        assert backend.act_on_queue(REF, Action.RESUME).outcome is Outcome.DONE
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == 22, what="the jobs that were promoted")
    assert set(redis_client.hvals("marks")) == {b"1", b"2"}
    assert not redis_client.exists("bull:alpha:marker", "bull:alpha:events")
    assert len(ids) == 20


DLQ = QueueRef(source="main", backend="bullmq", name="alpha-dlq", key="bull:alpha-dlq")


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
@pytest.mark.parametrize("alias", RELEASES)
def test_moved_jobs_keep_their_fields_and_run_in_the_other_queue(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str, paused: bool
) -> None:
    library = BullMQLibrary(alias)
    data = {"originalQueue": "alpha", "text": 'ä "quoted" 12345678901234567890', "fail": False}
    plain = [library.drive("add", server.url, "alpha-dlq", data=data)["id"] for _ in range(2)]
    named = library.drive("add", server.url, "alpha-dlq", data=data, opts={"jobId": "order-7", "attempts": 3})["id"]
    urgent = library.drive("add", server.url, "alpha-dlq", data=data, opts={"priority": 5})["id"]
    before = {job_id: redis_client.hgetall(f"bull:alpha-dlq:{job_id}") for job_id in (*plain, named, urgent)}
    used_id = drive(alias, server.url, "add")["id"]  # the other queue has its own id counter
    if paused:
        library.drive("pause", server.url, "alpha-dlq")
        drive(alias, server.url, "pause")
    job_refs = backend.list_job_refs(DLQ, JobQuery(state=State.WAITING, per_page=1000))
    assert {job_ref.id for job_ref in job_refs} == {*plain, named, urgent}
    with measure_cost() as meter:
        results = backend.act_on_jobs(
            DLQ, Action.MOVE, State.WAITING, [*job_refs, JobRef(id="absent")], ActionOptions(target="alpha")
        )
    assert meter.round_trips == 1
    assert outcomes(results) == [*["done"] * 4, "gone"]
    new = {each.id: each.new_id for each in results if each.new_id}
    assert new[named] == named
    assert used_id not in new.values()
    assert len(set(new.values())) == 4
    for job_id, fields in before.items():
        assert redis_client.hgetall(f"bull:alpha:{new[job_id]}") == fields
    assert redis_client.exists("bull:alpha-dlq:wait", "bull:alpha-dlq:prioritized", f"bull:alpha-dlq:{named}") <= (
        1 if alias == "bullmq4" and not paused else 0  # the wake-up marker of 4.x may be left
    )
    assert (
        outcomes(backend.act_on_jobs(DLQ, Action.MOVE, State.WAITING, job_refs, ActionOptions(target="alpha")))
        == ["gone"] * 4
    )
    with running_worker(alias, server.url):
        if paused:
            drive(alias, server.url, "resume")
        expected = dict.fromkeys([*new.values(), used_id], 1)
        wait_until(lambda: read_marks(redis_client) == expected, what="the worker running all of them once")
        # A job counts its run before it ends, and it ends only while the worker runs.
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == 5, what="the ends of all jobs")


@pytest.mark.parametrize("alias", RELEASES)
def test_an_idle_worker_picks_up_a_moved_job(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    job_id = BullMQLibrary(alias).drive("add", server.url, "alpha-dlq", data={"n": 1})["id"]
    drive(alias, server.url, "counts")
    with running_worker(alias, server.url):
        (result,) = backend.act_on_jobs(
            DLQ, Action.MOVE, State.WAITING, [JobRef(id=job_id)], ActionOptions(target="alpha")
        )
        assert result.new_id is not None
        wait_until(lambda: read_marks(redis_client) == {result.new_id: 1}, what="the worker")


def test_jobs_tied_to_their_queue_are_not_moved(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    library = BullMQLibrary()
    library.drive("fill", server.url, "alpha-dlq")
    custom = library.drive("add", server.url, "alpha-dlq", opts={"jobId": "both"})["id"]
    drive("bullmq", server.url, "add", opts={"jobId": "both"})
    held = library.drive("add", server.url, "alpha-dlq", opts={"deduplication": {"id": "one"}})["id"]
    drive("bullmq", server.url, "add", opts={"deduplication": {"id": "one"}})
    before = read_keyspace(redis_client)

    def refusal_of(job_id: str, target: str = "alpha") -> str:
        (result,) = backend.act_on_jobs(
            DLQ, Action.MOVE, State.WAITING, [JobRef(id=job_id)], ActionOptions(target=target or None)
        )
        return result.detail or result.outcome.value

    assert refusal_of("photo-1") == "its parent refers to it by its queue"
    assert refusal_of(custom) == "the other queue already has a job with this id"
    assert refusal_of(held) == "the other queue has a job with this deduplication id"
    assert refusal_of(custom, "nowhere") == "no queue has that name"
    assert refusal_of(custom, "alpha-dlq") == "it is already in that queue"
    assert refusal_of(custom, "") == "no destination queue given"
    assert refusal_of("held") == "changed"  # a worker has it
    assert read_keyspace(redis_client) == before


def test_a_moved_job_keeps_its_deduplication_key(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    options = {"deduplication": {"id": "one", "ttl": 60_000}}
    job_id = BullMQLibrary().drive("add", server.url, "alpha-dlq", opts=options)["id"]
    drive("bullmq", server.url, "counts")
    (result,) = backend.act_on_jobs(DLQ, Action.MOVE, State.WAITING, [JobRef(id=job_id)], ActionOptions(target="alpha"))
    assert redis_client.get("bull:alpha:de:one") == (result.new_id or "").encode()
    assert redis_client.pttl("bull:alpha:de:one") > 1000
    assert redis_client.exists("bull:alpha-dlq:de:one") == 0
    assert drive("bullmq", server.url, "add", opts=options)["id"] == result.new_id


def test_a_job_of_bull_moves_only_to_a_queue_of_bull(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = node("bull.mjs", server.url, "alpha-dlq")["ids"]
    node("bull.mjs", server.url, "alpha")
    BullMQLibrary().drive("counts", server.url, "other")
    asked = [JobRef(id=ids["wait"][0])]
    (refused,) = backend.act_on_jobs(DLQ, Action.MOVE, State.WAITING, asked, ActionOptions(target="other"))
    assert refused.detail == "one of the two queues belongs to Bull, the other to BullMQ"
    fields = redis_client.hgetall(f"bull:alpha-dlq:{asked[0].id}")
    (result,) = backend.act_on_jobs(DLQ, Action.MOVE, State.WAITING, asked, ActionOptions(target="alpha"))
    assert result.outcome is Outcome.DONE
    assert redis_client.hgetall(f"bull:alpha:{result.new_id}") == fields
    assert (result.new_id or "").encode() in redis_client.lrange("bull:alpha:wait", 0, -1)


@pytest.mark.soak
@pytest.mark.parametrize("alias", RELEASES)
def test_moves_beside_live_workers_neither_lose_nor_duplicate_jobs(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    count = 3000
    BullMQLibrary(alias).drive("many", server.url, "alpha-dlq", count=count)
    drive(alias, server.url, "counts")
    job_refs = backend.list_job_refs(DLQ, JobQuery(state=State.WAITING, per_page=1000, page=3))
    moved = 0
    with running_worker(alias, server.url), running_worker(alias, server.url, "alpha-dlq", allowed="allowed"):
        for at in range(0, len(job_refs), 50):
            # The worker may run 150 jobs per step, so it reaches the jobs to move only later.
            redis_client.incrby("allowed", 150)
            results = backend.act_on_jobs(
                DLQ, Action.MOVE, State.WAITING, job_refs[at : at + 50], ActionOptions(target="alpha")
            )
            assert {each.outcome for each in results} <= {Outcome.DONE, Outcome.CHANGED}
            moved += outcomes(results).count("done")

        def all_completed() -> bool:
            queues = ("alpha", "alpha-dlq")
            return sum(redis_client.zcard(f"bull:{queue}:completed") for queue in queues) == count

        redis_client.set("allowed", count)
        wait_until(all_completed, what="all of them ending")
    assert sum(read_marks(redis_client).values()) == count
    assert redis_client.zcard("bull:alpha:completed") == moved > 0
    assert redis_client.exists("bull:alpha:failed", "bull:alpha-dlq:failed") == 0


def test_a_job_in_the_middle_of_a_very_long_list_is_reported_as_not_found(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    (job_id,) = drive("bullmq", server.url, "many", count=1)["ids"]
    BullMQLibrary().drive("add", server.url, "other")
    (short,) = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=job_id)]))
    for push in (redis_client.rpush, redis_client.lpush):
        for start in range(0, 201_000, 1000):
            push("bull:alpha:wait", *(f"other-{n}" for n in range(start, start + 1000)))
    (far,) = backend.backup_jobs(REF, State.WAITING, [JobRef(id=job_id)])
    assert isinstance(far, ActionResult)
    assert far.outcome is Outcome.CHANGED
    assert "not among the first or last 100,000 jobs" in (far.detail or "")
    (result,) = backend.delete_jobs(REF, State.WAITING, [short])
    assert (result.outcome, result.detail) == (far.outcome, far.detail)
    (moved,) = backend.act_on_jobs(REF, Action.MOVE, State.WAITING, [JobRef(id=job_id)], ActionOptions(target="other"))
    assert moved.outcome is Outcome.CHANGED
    assert "not among the next 200,000 jobs to run" in (moved.detail or "")
    assert redis_client.llen("bull:alpha:wait") == 402_001


def test_a_job_that_a_worker_locked_since_its_backup_is_not_deleted_or_moved(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    """Only its lock shows that: the job itself and its position are unchanged."""
    ids = drive("bullmq", server.url, "many", count=2)["ids"]
    BullMQLibrary().drive("counts", server.url, "beta")
    backups = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=ids[0])]))
    redis_client.set(f"bull:alpha:{ids[0]}:lock", "token")
    before = read_keyspace(redis_client)
    (deleted,) = backend.delete_jobs(REF, State.WAITING, backups)
    assert (deleted.outcome, deleted.detail) == (Outcome.REFUSED, "a worker is processing it")
    (moved,) = backend.act_on_jobs(REF, Action.MOVE, State.WAITING, [JobRef(id=ids[0])], ActionOptions(target="beta"))
    assert (moved.outcome, moved.detail) == (Outcome.REFUSED, "a worker is processing it")
    assert read_keyspace(redis_client) == before


def test_a_job_that_became_the_next_run_of_a_schedule_is_not_deleted(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    """The backup refuses such a run as well; here the job becomes one after its backup."""
    drive("bullmq", server.url, "schedule")
    at = redis_client.zscore("bull:alpha:repeat", "nightly")
    run = JobRef(id=f"repeat:nightly:{int(at)}")
    redis_client.zadd("bull:alpha:repeat", {"nightly": at + 1})
    backups = backups_of(backend.backup_jobs(REF, State.SCHEDULED, [run]))
    redis_client.zadd("bull:alpha:repeat", {"nightly": at})
    (refused,) = backend.delete_jobs(REF, State.SCHEDULED, backups)
    assert (refused.outcome, refused.detail) == (
        Outcome.REFUSED,
        "it is the next run of a schedule; remove the schedule instead",
    )
    assert redis_client.zscore("bull:alpha:delayed", run.id) is not None
