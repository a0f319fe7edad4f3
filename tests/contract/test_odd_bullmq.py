"""What was seen in queues of BullMQ and Bull and lost or hid jobs: libraries that are not known, traces that bar later
jobs, next runs of schedules, ids with colons, jobs that nobody holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.base import Budget
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, QueueRef, Schedule, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.bullmq_library import BullMQLibrary, node
from tests.contract.test_actions_bullmq import (
    REF,
    backups_of,
    drive,
    outcomes,
    read_keyspace,
    read_marks,
    running_worker,
)
from tests.waiting import wait_until

RELEASES = ("bullmq", "bullmq5", "bullmq4")
NEXT_RUN = "it is the next run of a schedule; remove the schedule instead"
READ_ONLY = "not supported: this queue belongs to {}; Queuedeck reads it but does not change it"


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BullMQ]:
    source = Source("main", server.url)
    yield BullMQ(source, SourceSettings(name="main", url=server.url))
    source.close()


def call_queue(alias: str, url: str, method: str, *arguments: Any, queue: str = "alpha") -> Any:
    """Call a method of the real queue. Return its result."""
    return BullMQLibrary(alias).drive("call", url, queue, method=method, args=list(arguments))


def call_bull(url: str, *calls: list[Any], queue: str = "alpha") -> list[Any]:
    """Call methods of a real queue of Bull 4. Return their results."""
    answers: list[Any] = node("bull_call.mjs", url, queue, json.dumps(calls))
    return answers


def result_of(results: list[ActionResult] | list[JobBackup | ActionResult]) -> ActionResult:
    (found,) = results
    assert isinstance(found, ActionResult), found
    return found


# A library that nobody here knows by its name


@pytest.mark.parametrize("version", ["bullmq-pro:7.39.3", "bullmq-pro:5.1.0", "bullmq:7.0.0", "other", "bullmq:0.9"])
def test_a_queue_of_an_unknown_library_is_read_only(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, version: str
) -> None:
    filled = BullMQLibrary("bullmq5").fill(server.url)
    call_queue("bullmq5", server.url, "upsertJobScheduler", "daily", {"every": 86_400_000}, {"name": "daily"})
    ids = filled.ids["alpha"]
    taken = {
        state: backend.backup_jobs(REF, state, [JobRef(id=ids[state][0])]) for state in (State.DEAD, State.WAITING)
    }
    (schedule, *_) = backend.list_schedules([REF])
    # The keys are those of BullMQ 5, on which Pro is built; the name is the one that it writes.
    redis_client.hset("bull:alpha:meta", "version", version)
    redis_client.hset("bull:lost:meta", "version", "bullmq:5.81.5")
    redis_client.hset("bull:alpha:left", mapping={"name": "left", "data": "{}"})
    redis_client.rpush("bull:alpha:active", ids[State.COMPLETED][0])
    before = read_keyspace(redis_client), redis_client.xlen("bull:alpha:events")
    why = READ_ONLY.format(version.replace(":", " ", 1))
    answers: list[ActionResult] = []
    for state, action in (
        *((State.DEAD, action) for action in (Action.RETRY, Action.DUPLICATE, Action.EDIT)),
        *((State.SCHEDULED, action) for action in (Action.PROMOTE, Action.DUPLICATE)),
        *((State.WAITING, action) for action in (Action.MOVE, Action.DUPLICATE)),
        *((State.COMPLETED, Action.RETRY), (State.ACTIVE, Action.RETRY)),
    ):
        job_ref = JobRef(id=ids[state][0] if state is not State.ACTIVE else ids[State.COMPLETED][0])
        options = ActionOptions(payload="{}" if action is Action.EDIT else None, target="lost", reset_attempts=True)
        answers += backend.act_on_jobs(REF, action, state, [job_ref], options)
    for state in (State.DEAD, State.WAITING, State.SCHEDULED, State.BLOCKED, State.COMPLETED):
        answers.append(result_of(backend.backup_jobs(REF, state, [JobRef(id=ids[state][0])])))
    answers.append(result_of(backend.backup_unlisted_jobs(REF, [JobRef(id="left")])))
    for state, held in taken.items():
        answers += backend.delete_jobs(REF, state, backups_of(held))
        answers += backend.restore_jobs(REF, state, backups_of(held))
    answers += [backend.act_on_queue(REF, action) for action in (Action.PAUSE, Action.RESUME, Action.OBLITERATE)]
    answers += [backend.act_on_schedule(schedule, action) for action in (Action.TRIGGER, Action.REMOVE_SCHEDULE)]
    assert {(each.outcome, each.detail) for each in answers} == {(Outcome.UNSUPPORTED, why)}
    assert (read_keyspace(redis_client), redis_client.xlen("bull:alpha:events")) == before
    (stats,) = backend.read_stats([REF])
    assert (
        stats.read_only
        == f"This queue belongs to {version.replace(':', ' ', 1)}; Queuedeck reads it but does not change it."
    )
    assert stats.counts.dead == len(ids[State.DEAD])
    assert stats.library_version is not None


@pytest.mark.parametrize("alias", RELEASES)
def test_a_queue_of_a_known_release_is_writable(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    BullMQLibrary(alias).fill(server.url)
    assert redis_client.hget("bull:alpha:meta", "version")
    (stats,) = backend.read_stats([REF])
    assert stats.read_only is None
    assert backend.act_on_queue(REF, Action.PAUSE).outcome is Outcome.DONE


def test_no_job_is_moved_into_a_queue_of_an_unknown_library(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    ids = drive("bullmq", server.url, "many", count=1)["ids"]
    redis_client.hset("bull:beta:meta", mapping={"version": "bullmq-pro:7.39.3", "opts.maxLenEvents": 10000})
    before = read_keyspace(redis_client)
    moved = result_of(
        backend.act_on_jobs(REF, Action.MOVE, State.WAITING, [JobRef(id=ids[0])], ActionOptions(target="beta"))
    )
    assert moved.outcome is Outcome.UNSUPPORTED
    assert moved.detail == READ_ONLY.format("bullmq-pro 7.39.3").replace("this queue", "the other queue")
    assert read_keyspace(redis_client) == before


@pytest.mark.parametrize("act", ["delete", "retry"])
def test_an_action_that_changes_a_parent_of_an_unknown_library_is_refused(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, act: str
) -> None:
    drive("bullmq5", server.url, "flows", count=1, children=1, child_queue="beta", opts={"jobId": "p0"})
    child = QueueRef(source="main", backend="bullmq", name="beta", key="bull:beta")
    if act == "retry":
        redis_client.lrem("bull:beta:wait", 0, "p0c0")
        redis_client.zadd("bull:beta:failed", {"p0c0": 1_700_000_000_000})
    redis_client.hset("bull:alpha:meta", "version", "bullmq-pro:7.39.3")
    before = read_keyspace(redis_client)
    if act == "delete":
        answer = result_of(backend.backup_jobs(child, State.WAITING, [JobRef(id="p0c0")]))
    else:
        answer = result_of(backend.act_on_jobs(child, Action.RETRY, State.DEAD, [JobRef(id="p0c0")]))
    assert answer.outcome is Outcome.UNSUPPORTED
    assert answer.detail == READ_ONLY.format("bullmq-pro 7.39.3").replace("this queue", "the queue of its parent")
    assert read_keyspace(redis_client) == before


# Deduplication


@pytest.mark.parametrize("alias", ["bullmq", "bullmq5"])
def test_obliterate_removes_deduplication_keys(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    for opts in ({}, {"delay": 3_600_000}, {"priority": 3}):
        deduplication = {"id": f"X{len(opts)}{opts.get('priority', '')}"}
        drive(alias, server.url, "add", opts={**opts, "deduplication": deduplication})
        # As the library keeps a job that came while the first one ran.
        redis_client.hset(f"bull:alpha:dn:{deduplication['id']}", mapping={"name": "next", "data": "{}"})
    assert len(list(redis_client.scan_iter("bull:alpha:d[en]:*"))) == 6
    assert backend.act_on_queue(REF, Action.OBLITERATE).outcome is Outcome.DONE
    assert list(redis_client.scan_iter("bull:alpha:*")) == []
    added = drive(alias, server.url, "add", opts={"deduplication": {"id": "X1"}})["id"]
    assert redis_client.lrange("bull:alpha:wait", 0, -1) == [added.encode()]


@pytest.mark.parametrize("alias", ["bullmq", "bullmq5"])
def test_undo_restores_the_deduplication_keys_of_a_deleted_job(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    job_id = drive(alias, server.url, "add", opts={"deduplication": {"id": "X"}})["id"]
    redis_client.hset("bull:alpha:dn:X", mapping={"name": "next", "data": "{}"})
    before = read_keyspace(redis_client)
    taken = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=job_id)]))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, taken)) == ["done"]
    assert list(redis_client.scan_iter("bull:alpha:d[en]:*")) == []
    assert outcomes(backend.restore_jobs(REF, State.WAITING, taken)) == ["done"]
    assert read_keyspace(redis_client) == before
    # As much as the library's own remove takes away.
    call_queue(alias, server.url, "remove", job_id)
    assert list(redis_client.scan_iter("bull:alpha:d[en]:*")) == []


def test_deleting_a_job_too_large_for_the_trash_removes_its_deduplication_key(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    opts = {"deduplication": {"id": "X"}}
    job_id = drive("bullmq", server.url, "add", data={"text": "x" * 1_200_000}, opts=opts)["id"]
    taken = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=job_id)]))
    assert taken[0].blob is None
    assert outcomes(backend.delete_jobs(REF, State.WAITING, taken)) == ["done"]
    assert list(redis_client.scan_iter("bull:alpha:de:*")) == []


def test_deleting_jobs_of_bull_removes_their_deduplication_keys(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    opts = {"debounce": {"id": "X", "ttl": 3_600_000}}
    (first,) = call_bull(server.url, ["add", {}, opts])
    assert redis_client.get("bull:alpha:de:X") == first.encode()
    taken = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=first)]))
    assert outcomes(backend.delete_jobs(REF, State.WAITING, taken)) == ["done"]
    assert redis_client.get("bull:alpha:de:X") is None
    call_bull(server.url, ["add", {}, opts])
    assert backend.act_on_queue(REF, Action.OBLITERATE).outcome is Outcome.DONE
    assert list(redis_client.scan_iter("bull:alpha:*")) == []


@pytest.mark.parametrize("alias", RELEASES)
def test_a_parent_does_not_wait_for_children_of_an_obliterated_queue(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    drive(alias, server.url, "flows", count=1, children=2, child_queue="beta")
    child = QueueRef(source="main", backend="bullmq", name="beta", key="bull:beta")
    assert redis_client.zcard("bull:alpha:waiting-children") == 1
    assert backend.act_on_queue(child, Action.OBLITERATE).outcome is Outcome.DONE
    assert redis_client.zcard("bull:alpha:waiting-children") == 0
    assert b"p0" in redis_client.lrange("bull:alpha:wait", 0, -1)
    with running_worker(alias, server.url):
        wait_until(lambda: read_marks(redis_client) == {"p0": 1}, what="the parent running")


# Next runs of schedules


def next_runs(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.zrange("bull:alpha:delayed", 0, -1)]


@pytest.mark.parametrize("alias", RELEASES)
def test_the_next_run_of_a_schedule_cannot_be_deleted(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    drive(alias, server.url, "schedule", **({"legacy": True} if alias == "bullmq5" else {}))
    runs = next_runs(redis_client)
    assert len(runs) == 2
    for refused in backend.backup_jobs(REF, State.SCHEDULED, [JobRef(id=run) for run in runs]):
        assert isinstance(refused, ActionResult)
        assert (refused.outcome, refused.detail) == (Outcome.REFUSED, NEXT_RUN)
    # What was taken before it became a next run stays, too.
    scores = redis_client.zrange("bull:alpha:delayed", 0, -1, withscores=True)
    forged = [
        JobBackup(id=run.decode(), version=f"delayed {score:.0f}", blob=None, size_bytes=1) for run, score in scores
    ]
    assert [each.detail for each in backend.delete_jobs(REF, State.SCHEDULED, forged)] == [NEXT_RUN] * 2
    assert next_runs(redis_client) == runs


@pytest.mark.parametrize("shape", ["4", "3"])
def test_the_next_run_of_a_repeatable_of_bull_cannot_be_deleted(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, shape: str
) -> None:
    call_bull(
        server.url,
        ["add", "n", {}, {"repeat": {"every": 3_600_000}}],
        ["add", "cron", {}, {"repeat": {"cron": "0 3 * * *", "tz": "Europe/Berlin"}, "jobId": "c1"}],
        ["add", "n", {}, {"delay": 3_600_000, "jobId": "plain"}],
    )
    runs = [run for run in next_runs(redis_client) if run != "plain"]
    assert len(runs) == 2
    if shape == "3":  # Bull 3 writes the same without the key of the repeatable
        for run in runs:
            options = json.loads(redis_client.hget(f"bull:alpha:{run}", "opts"))
            del options["repeat"]["key"]
            redis_client.hset(f"bull:alpha:{run}", "opts", json.dumps(options))
    job_refs = backend.list_job_refs(REF, JobQuery(state=State.SCHEDULED))
    answers = dict(
        zip([job_ref.id for job_ref in job_refs], backend.backup_jobs(REF, State.SCHEDULED, job_refs), strict=True)
    )
    assert isinstance(answers["plain"], JobBackup)
    for run in runs:
        refused = answers[run]
        assert isinstance(refused, ActionResult)
        assert (refused.outcome, refused.detail) == (Outcome.REFUSED, NEXT_RUN)
    moved = backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, [JobRef(id=runs[0])])
    assert outcomes(moved) == ["done"]
    assert isinstance(result_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=runs[0])])), ActionResult)
    # A run that is not the next one any more is a job like others.
    redis_client.zadd("bull:alpha:repeat", dict.fromkeys(redis_client.zrange("bull:alpha:repeat", 0, -1), 1))
    assert backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=runs[0])]))


def test_a_bull_schedule_continues_and_is_removed_completely(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    call_bull(server.url, ["add", "n", {}, {"repeat": {"every": 3_600_000}}])
    (run,) = next_runs(redis_client)
    (picked,) = backend.list_job_refs(REF, JobQuery(state=State.SCHEDULED))
    assert isinstance(result_of(backend.backup_jobs(REF, State.SCHEDULED, [picked])), ActionResult)
    assert outcomes(backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, [picked])) == ["done"]
    assert call_bull(server.url, ["run", 1]) == [[run]]
    assert len(next_runs(redis_client)) == 1
    (schedule,) = backend.list_schedules([REF])
    assert backend.act_on_schedule(schedule, Action.REMOVE_SCHEDULE).outcome is Outcome.DONE
    assert next_runs(redis_client) == []
    assert redis_client.exists("bull:alpha:repeat") == 0


def test_a_queue_of_bull_with_only_a_schedule_is_found(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    call_bull(server.url, ["add", "n", {}, {"repeat": {"every": 3_600_000}}])
    (run,) = next_runs(redis_client)
    redis_client.zrem("bull:alpha:delayed", run)
    redis_client.delete(f"bull:alpha:{run}")
    found = backend.discover_queues(None, Budget(commands=100, seconds=5)).found
    assert [ref.name for ref in found] == ["alpha"]
    (schedule,) = backend.list_schedules(found)
    assert schedule.name == "n"
    assert schedule.problem is not None
    assert schedule.problem.startswith("it will not run again: the job of its next run no longer exists.")


# Schedules that will not run again


def problems_of(schedules: list[Schedule]) -> dict[str, str | None]:
    return {schedule.name or "": schedule.problem for schedule in schedules}


@pytest.mark.parametrize("alias", RELEASES)
def test_a_schedule_without_a_next_run_has_a_problem(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    drive(alias, server.url, "schedule")
    assert problems_of(backend.list_schedules([REF])) == {"hourly": None, "nightly": None}
    runs = {redis_client.hget(f"bull:alpha:{run}", "name"): run for run in next_runs(redis_client)}
    hourly, nightly = runs[b"hourly"], runs[b"nightly"]
    # As BullMQ 5.40 leaves it where a schedule is removed and set up again within one interval: the job that bears the
    # next run's id has ended, and none is added.
    redis_client.zrem("bull:alpha:delayed", hourly)
    redis_client.zadd("bull:alpha:completed", {hourly: 1_700_000_000_000})
    told = problems_of(backend.list_schedules([REF]))
    assert told["nightly"] is None
    assert told["hourly"] == (
        "it will not run again: the job of its next run is already in completed. "
        "Remove the schedule and let the app create it again."
    )
    (stuck,) = [schedule for schedule in backend.list_schedules([REF]) if schedule.name == "hourly"]
    assert stuck.next_run_at is None
    redis_client.zrem("bull:alpha:completed", hourly)
    assert "is not in any list" in str(problems_of(backend.list_schedules([REF]))["hourly"])
    redis_client.delete(f"bull:alpha:{hourly}")
    assert "no longer exists" in str(problems_of(backend.list_schedules([REF]))["hourly"])
    for place in ("wait", "active", "paused", "prioritized"):
        redis_client.zrem("bull:alpha:delayed", nightly)
        add = redis_client.zadd if place == "prioritized" else redis_client.lpush
        add(f"bull:alpha:{place}", {nightly: 1} if place == "prioritized" else nightly)
        assert problems_of(backend.list_schedules([REF]))["nightly"] is None, place
        redis_client.delete(f"bull:alpha:{place}")


def test_a_schedule_that_reached_its_limit_has_no_problem(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    with running_worker("bullmq", server.url):
        call_queue("bullmq", server.url, "upsertJobScheduler", "twice", {"every": 30, "limit": 2}, {"name": "twice"})
        wait_until(lambda: sum(read_marks(redis_client).values()) == 2, what="both runs")
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == 2, what="their ends")
    (schedule,) = backend.list_schedules([REF])
    assert (schedule.problem, dict(schedule.facts).get("Ended")) == (None, "after 2 runs")
    assert schedule.next_run_at is None


# Ids with colons


@pytest.mark.parametrize("alias", RELEASES)
def test_a_parent_whose_id_has_colons_is_released(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    BullMQLibrary(alias).fill(server.url)
    # A run of a schedule that adds children: its id is the one that all releases allow colons in.
    (parent,) = redis_client.zrange("bull:alpha:waiting-children", 0, -1)
    own = b"repeat:daily:1700000000000"
    redis_client.rename(b"bull:alpha:" + parent, b"bull:alpha:" + own)
    redis_client.rename(b"bull:alpha:" + parent + b":dependencies", b"bull:alpha:" + own + b":dependencies")
    redis_client.zrem("bull:alpha:waiting-children", parent)
    redis_client.zadd("bull:alpha:waiting-children", {own: 1_700_000_000_000})
    for child in ("photo-1", "photo-2"):
        told = {"id": own.decode(), "queueKey": "bull:alpha"}
        redis_client.hset(f"bull:alpha:{child}", "parentKey", f"bull:alpha:{own.decode()}")
        redis_client.hset(f"bull:alpha:{child}", "parent", json.dumps(told))
    redis_client.hdel("bull:alpha:photo-2", "parent")  # as releases before 3.0 write it
    for child in ("photo-1", "photo-2"):
        assert redis_client.zscore("bull:alpha:waiting-children", own) is not None
        link = backend.read_job(REF, child).parent
        assert link is not None
        assert (link.id, link.queue) == (own.decode(), "alpha")
        taken = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=child)]))
        assert outcomes(backend.delete_jobs(REF, State.WAITING, taken)) == ["done"]
        if child == "photo-1":
            assert outcomes(backend.restore_jobs(REF, State.WAITING, taken)) == ["done"]
            assert redis_client.sismember(b"bull:alpha:" + own + b":dependencies", "bull:alpha:photo-1")
            taken = backups_of(backend.backup_jobs(REF, State.WAITING, [JobRef(id=child)]))
            assert outcomes(backend.delete_jobs(REF, State.WAITING, taken)) == ["done"]
    assert redis_client.zscore("bull:alpha:waiting-children", own) is None
    assert redis_client.lindex("bull:alpha:wait", -1) == own


def test_the_parent_of_a_job_is_linked_from_its_hash(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    # BullMQ 4 allows colons in any id.
    drive("bullmq4", server.url, "flows", count=1, children=1, child_queue="lines", opts={})
    child = QueueRef(source="main", backend="bullmq", name="lines", key="bull:lines")
    redis_client.hset(
        "bull:lines:p0c0",
        mapping={
            "parentKey": "bull:alpha:order:17",
            "parent": json.dumps({"id": "order:17", "queueKey": "bull:alpha"}),
        },
    )
    link = backend.read_job(child, "p0c0").parent
    assert link is not None
    assert link.ref is not None
    assert (link.id, link.queue, link.ref.key) == ("order:17", "alpha", "bull:alpha")


# Ids without a job, and jobs without a list


@pytest.mark.parametrize("state", [State.WAITING, State.SCHEDULED, State.DEAD, State.COMPLETED, State.BLOCKED])
def test_an_id_without_a_job_can_be_deleted_and_restored(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, state: State
) -> None:
    filled = BullMQLibrary().fill(server.url)
    job_id = filled.ids["alpha"][state][-1]
    redis_client.delete(f"bull:alpha:{job_id}")
    before = read_keyspace(redis_client)
    taken = backups_of(backend.backup_jobs(REF, state, [JobRef(id=job_id)]))
    assert taken[0].blob is not None
    assert outcomes(backend.delete_jobs(REF, state, taken)) == ["done"]
    assert job_id not in {job_ref.id for job_ref in backend.list_job_refs(REF, JobQuery(state=state, per_page=100))}
    assert outcomes(backend.delete_jobs(REF, state, taken)) == ["gone"]
    assert outcomes(backend.restore_jobs(REF, state, taken)) == ["done"]
    assert read_keyspace(redis_client) == before


def test_a_job_in_no_list_can_be_deleted_and_restored(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    drive("bullmq", server.url, "add")
    redis_client.hset("bull:alpha:left", mapping={"failedReason": "x", "stacktrace": "[]", "attemptsMade": 1})
    assert drive("bullmq", server.url, "add", opts={"jobId": "left"})["id"] == "left"
    assert b"left" not in redis_client.lrange("bull:alpha:wait", 0, -1)  # the library takes it for added
    job = backend.read_job(REF, "left")
    assert (job.state, job.abandoned) == (None, True)
    assert backend.offered_actions(job.state, abandoned=job.abandoned) == (Action.DELETE,)
    before = read_keyspace(redis_client)
    taken = backups_of(backend.backup_unlisted_jobs(REF, [JobRef(id="left")]))
    assert outcomes(backend.delete_unlisted_jobs(REF, taken)) == ["done"]
    assert redis_client.exists("bull:alpha:left") == 0
    assert outcomes(backend.restore_jobs(REF, State.ACTIVE, taken)) == ["done"]
    assert read_keyspace(redis_client) == before
    assert outcomes(
        backend.delete_unlisted_jobs(REF, backups_of(backend.backup_unlisted_jobs(REF, [JobRef(id="left")])))
    ) == ["done"]
    drive("bullmq", server.url, "add", opts={"jobId": "left"})
    assert b"left" in redis_client.lrange("bull:alpha:wait", 0, -1)
    assert result_of(backend.backup_unlisted_jobs(REF, [JobRef(id="left")])).outcome is Outcome.CHANGED
    assert result_of(backend.backup_unlisted_jobs(REF, [JobRef(id="absent")])).outcome is Outcome.GONE


@pytest.mark.parametrize("place", ["wait", "active", "delayed", "failed", "lock", "changed"])
def test_an_unlisted_job_that_was_listed_or_locked_since_its_backup_is_not_deleted(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, place: str
) -> None:
    drive("bullmq", server.url, "add")
    redis_client.hset("bull:alpha:left", mapping={"name": "left"})
    taken = backups_of(backend.backup_unlisted_jobs(REF, [JobRef(id="left")]))
    if place == "lock":
        redis_client.set("bull:alpha:left:lock", "token")
    elif place == "changed":
        redis_client.hset("bull:alpha:left", "name", "other")
    elif place in ("wait", "active"):
        redis_client.lpush(f"bull:alpha:{place}", "left")
    else:
        redis_client.zadd(f"bull:alpha:{place}", {"left": 1})
    expected = "refused" if place == "lock" else "changed"
    assert outcomes(backend.delete_unlisted_jobs(REF, taken)) == [expected]
    assert redis_client.exists("bull:alpha:left") == 1


@pytest.mark.parametrize("alias", RELEASES)
def test_an_active_job_without_a_worker_is_retried_or_deleted(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    filled = BullMQLibrary(alias).fill(server.url)
    job_ref = JobRef(id="held")
    assert filled.ids["alpha"][State.ACTIVE] == ["held"]
    # A worker holds it.
    assert backend.read_job(REF, "held").abandoned is False
    assert [each.detail for each in backend.act_on_jobs(REF, Action.RETRY, State.ACTIVE, [job_ref])] == [
        "a worker is processing it"
    ]
    assert result_of(backend.backup_jobs(REF, State.ACTIVE, [job_ref])).detail == "a worker is processing it"
    redis_client.delete("bull:alpha:held:lock")
    job = backend.read_job(REF, "held")
    assert job.abandoned
    assert backend.offered_actions(job.state, abandoned=job.abandoned) == (Action.RETRY, Action.DELETE)
    before = read_keyspace(redis_client)
    taken = backups_of(backend.backup_jobs(REF, State.ACTIVE, [job_ref]))
    redis_client.set("bull:alpha:held:lock", "token")  # a worker renewed it meanwhile
    assert outcomes(backend.delete_jobs(REF, State.ACTIVE, taken)) == ["refused"]
    redis_client.delete("bull:alpha:held:lock")
    assert outcomes(backend.delete_jobs(REF, State.ACTIVE, taken)) == ["done"]
    assert redis_client.llen("bull:alpha:active") == 0
    assert outcomes(backend.restore_jobs(REF, State.ACTIVE, taken)) == ["done"]
    assert read_keyspace(redis_client) == before
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.ACTIVE, [job_ref])) == ["done"]
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.ACTIVE, [job_ref])) == ["changed"]
    with running_worker(alias, server.url):
        wait_until(lambda: read_marks(redis_client).get("held") == 1, what="the worker running it")


def test_an_active_id_without_a_job_is_deleted_and_not_restored(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    drive("bullmq", server.url, "add")
    redis_client.lpush("bull:alpha:active", "gone")
    (row,) = backend.list_jobs(REF, JobQuery(state=State.ACTIVE)).jobs
    assert row.abandoned
    back = result_of(backend.act_on_jobs(REF, Action.RETRY, State.ACTIVE, [JobRef(id="gone")]))
    assert (back.outcome, back.detail) == (Outcome.REFUSED, "its data no longer exists, only its id is left: delete it")
    taken = backups_of(backend.backup_jobs(REF, State.ACTIVE, [JobRef(id="gone")]))
    assert outcomes(backend.delete_jobs(REF, State.ACTIVE, taken)) == ["done"]
    assert redis_client.llen("bull:alpha:active") == 0


def test_a_job_that_a_worker_of_bull_is_about_to_lock_is_not_changed(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    (job_id,) = call_bull(server.url, ["add", {}])
    redis_client.rpoplpush("bull:alpha:wait", "bull:alpha:active")  # as its worker does, before it locks the job
    job_ref = JobRef(id=job_id)
    assert result_of(backend.backup_jobs(REF, State.ACTIVE, [job_ref])).detail == "a worker is processing it"
    assert (
        result_of(backend.act_on_jobs(REF, Action.RETRY, State.ACTIVE, [job_ref])).detail == "a worker is processing it"
    )
    redis_client.hset(f"bull:alpha:{job_id}", "processedOn", 1_700_000_000_000)
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.ACTIVE, [job_ref])) == ["done"]
    assert call_bull(server.url, ["run", 1]) == [[job_id]]


# Limits, names, attempts


@pytest.mark.parametrize("alias", RELEASES)
def test_the_rate_limit_of_a_worker_is_reported(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    settings = {"limiter": {"max": 1, "duration": 3_600_000}}
    with running_worker(alias, server.url, settings=settings):
        for _ in range(4):
            drive(alias, server.url, "add")
        wait_until(lambda: len(read_marks(redis_client)) == 1, what="the first job")
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == 1, what="its end")
    redis_client.pexpire("bull:alpha:limiter", 48_000)
    (stats,) = backend.read_stats([REF])
    (note,) = [note for note in stats.notes if "rate limit" in note]
    assert note in {f"a worker's rate limiter counts starts: 1 so far, resets in {left} s" for left in (47, 48)}
    redis_client.delete("bull:alpha:limiter")
    (stats,) = backend.read_stats([REF])
    assert not [note for note in stats.notes if "limit" in note]


@pytest.mark.parametrize("alias", RELEASES)
def test_a_copy_of_a_job_without_a_name_gets_the_default_name(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    ids = drive(alias, server.url, "many", count=1)["ids"]
    redis_client.hdel(f"bull:alpha:{ids[0]}", "name")  # as clients in other languages add it
    for action, options in ((Action.DUPLICATE, ActionOptions()), (Action.EDIT, ActionOptions(payload='{"n": 2}'))):
        (result,) = backend.act_on_jobs(REF, action, State.WAITING, [JobRef(id=ids[0])], options)
        assert result.outcome is Outcome.DONE, result
        assert redis_client.hget(f"bull:alpha:{result.new_id}", "name") == b"__default__"
    (result,) = backend.act_on_jobs(REF, Action.DUPLICATE, State.WAITING, [JobRef(id="absent")])
    assert result.outcome is Outcome.GONE


@pytest.mark.parametrize("alias", RELEASES)
def test_resetting_attempts_resets_the_stall_count(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    ids = drive(alias, server.url, "many", count=2, dead=True)["ids"]
    stalls = {"stc": 1, "stalledCounter": 1, "defa": "job stalled more than allowable limit"}
    for job_id in ids:
        redis_client.hset(f"bull:alpha:{job_id}", mapping=stalls)
    redis_client.hset(f"bull:alpha:{ids[1]}", "defa", "child bull:beta:1 failed")
    job_refs = [JobRef(id=job_id) for job_id in ids]
    assert (
        outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, job_refs, ActionOptions(reset_attempts=True)))
        == ["done"] * 2
    )
    assert not set(redis_client.hgetall(f"bull:alpha:{ids[0]}")) & {b"stc", b"stalledCounter", b"defa", b"atm"}
    assert redis_client.hget(f"bull:alpha:{ids[1]}", "defa") == b"child bull:beta:1 failed"
    (third,) = drive(alias, server.url, "many", count=1, dead=True)["ids"]
    redis_client.hset(f"bull:alpha:{third}", "stc", 1)
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id=third)])) == ["done"]
    assert redis_client.hget(f"bull:alpha:{third}", "stc") == b"1"
