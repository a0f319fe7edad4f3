"""Actions on jobs of Sidekiq: with its real process where jobs must run, byte for byte where they only move."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import msgspec
import pytest
import redis

from dashboard.backends.actions import MAX_KEPT_BYTES, Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.base import NO_OPTIONS
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.backends.sidekiq.cron_namespaces import LOOK_CALLS
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.script_time import assert_short_scripts
from tests.contract.sidekiq_worker import failed_payload, jid_of, payload, running_sidekiq
from tests.waiting import wait_until

SETS = {State.SCHEDULED: "schedule", State.RETRYING: "retry", State.DEAD: "dead"}
DONE, GONE, CHANGED, REFUSED = Outcome.DONE, Outcome.GONE, Outcome.CHANGED, Outcome.REFUSED


def shared(prefix: str = "") -> QueueRef:
    """The shared queue: the sets of all queues."""
    return QueueRef(source="main", backend="sidekiq", name="*", key=f"{prefix}*", shared=True)


def queue(name: str = "work", prefix: str = "") -> QueueRef:
    """One queue."""
    return QueueRef(source="main", backend="sidekiq", name=name, key=f"{prefix}queue:{name}")


def place(state: State) -> QueueRef:
    """The queue that lists jobs of a state."""
    return queue() if state is State.WAITING else shared()


@pytest.fixture
def backend(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Sidekiq]:
    """The backend on an empty server of each version."""
    source = Source("main", any_server.url)
    yield Sidekiq(source, SourceSettings(name="main", url=any_server.url))
    source.close()


def job_refs_of(backend: Sidekiq, state: State, per_page: int = 1000, ref: QueueRef | None = None) -> list[JobRef]:
    """References to the jobs of a state, as a page shows them."""
    return backend.list_job_refs(ref or place(state), JobQuery(state=state, per_page=per_page))


def read_page(backend: Sidekiq, state: State, page: int) -> list[JobRef]:
    """One page of a thousand jobs."""
    return backend.list_job_refs(place(state), JobQuery(state=state, page=page, per_page=1000))


def act(
    backend: Sidekiq, action: Action, state: State, job_refs: list[JobRef], options: ActionOptions = NO_OPTIONS
) -> list[ActionResult]:
    """The results of an action, one per job."""
    results = backend.act_on_jobs(place(state), action, state, job_refs, options)
    assert [one.id for one in results] == [job_ref.id for job_ref in job_refs]
    return results


def outcomes(results: list[ActionResult]) -> list[Outcome]:
    """The outcome of each result."""
    return [one.outcome for one in results]


def backups_of(backend: Sidekiq, state: State, job_refs: list[JobRef] | None = None) -> list[JobBackup]:
    """The backups of jobs that may be deleted."""
    kept = backend.backup_jobs(place(state), state, job_refs_of(backend, state) if job_refs is None else job_refs)
    assert all(isinstance(one, JobBackup) for one in kept), kept
    return [one for one in kept if isinstance(one, JobBackup)]


def dump_keys(client: redis.Redis) -> dict[bytes, bytes | None]:
    """The dumps of all keys."""
    return {key: client.dump(key) for key in sorted(client.scan_iter(count=1000))}


def fill(client: redis.Redis, state: State, *members: str | bytes, at: float | None = None) -> None:
    """Add entries to the list or set of a state, in order."""
    start = time.time() + (3600 if state in (State.SCHEDULED, State.RETRYING) else -3600) if at is None else at
    client.sadd("queues", "work")
    if state is State.WAITING:
        client.lpush("queue:work", *members)
    else:
        step = 0 if at is not None else 1 / 8
        client.zadd(SETS[state], {member: start + n * step for n, member in enumerate(members)})


# Jobs that a real process runs.


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (State.DEAD, Action.RETRY),
        (State.RETRYING, Action.RETRY),
        (State.RETRYING, Action.PROMOTE),
        (State.SCHEDULED, Action.PROMOTE),
    ],
)
def test_retried_and_promoted_jobs_run_once(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis, state: State, action: Action
) -> None:
    names = [f"job {n}" for n in range(30)]
    make = payload if state is State.SCHEDULED else failed_payload
    fill(any_redis, state, *(make(name) for name in names))
    job_refs = job_refs_of(backend, state)
    assert outcomes(act(backend, action, state, job_refs)) == [DONE] * 30
    assert outcomes(act(backend, action, state, job_refs)) == [GONE] * 30
    counts = {json.loads(raw).get("retry_count") for raw in any_redis.lrange("queue:work", 0, -1)}
    assert counts == ({None} if state is State.SCHEDULED else {23} if action is Action.RETRY else {24})
    with running_sidekiq(any_server.url):
        wait_until(lambda: any_redis.hlen("runs") == 30 and any_redis.llen("queue:work") == 0, what="all runs")
        wait_until(lambda: any_redis.hget("runs", names[0]) == b"1", what="a run")
    assert set(any_redis.hvals("runs")) == {b"1"}


def test_moved_copied_and_edited_jobs_run(backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    fill(any_redis, State.DEAD, failed_payload("dead"))
    fill(any_redis, State.WAITING, payload("twice"), payload("moved"))
    waiting = {job_ref.id: job_ref for job_ref in job_refs_of(backend, State.WAITING)}
    moved = act(backend, Action.MOVE, State.WAITING, [waiting[jid_of("moved")]], ActionOptions(target="other"))
    (copy,) = act(backend, Action.DUPLICATE, State.WAITING, [waiting[jid_of("twice")]])
    (edit,) = act(
        backend,
        Action.EDIT,
        State.DEAD,
        job_refs_of(backend, State.DEAD),
        ActionOptions(payload='["edited", null, 1.50]'),
    )
    assert outcomes([*moved, copy, edit]) == [DONE] * 3
    assert copy.new_id not in (None, jid_of("twice"))
    pushed = {job["jid"]: job for raw in any_redis.lrange("queue:work", 0, -1) for job in [json.loads(raw)]}
    assert "retry_count" not in pushed[edit.new_id]
    assert "error_class" not in pushed[edit.new_id]
    assert any_redis.zcard("dead") == 1
    with running_sidekiq(any_server.url):
        wait_until(lambda: any_redis.hlen("runs") == 3 and any_redis.hget("runs", "twice") == b"2", what="all runs")
    assert any_redis.hgetall("runs") == {b"twice": b"2", b"moved": b"1", b"edited": b"1"}


def test_a_job_that_failed_again_is_not_the_one_seen_before(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    for name in ("always", "fresh"):
        fill(any_redis, State.DEAD, failed_payload(name, args=[name, "fail"], retry_count=25))
    by_jid = {job_ref.id.rpartition("-")[2]: job_ref for job_ref in job_refs_of(backend, State.DEAD)}
    always, fresh = by_jid[jid_of("always")], by_jid[jid_of("fresh")]
    assert outcomes(act(backend, Action.RETRY, State.DEAD, [always])) == [DONE]
    assert outcomes(act(backend, Action.RETRY, State.DEAD, [fresh], ActionOptions(reset_attempts=True))) == [DONE]
    with running_sidekiq(any_server.url):
        wait_until(lambda: any_redis.zcard("dead") == 1 and any_redis.zcard("retry") == 1, what="both failures")
    # The manual retry does not count; where attempts were reset, the next failure is the first.
    assert json.loads(any_redis.zrange("dead", 0, -1)[0])["retry_count"] == 25
    assert json.loads(any_redis.zrange("retry", 0, -1)[0])["retry_count"] == 0
    assert outcomes(act(backend, Action.RETRY, State.DEAD, [always, fresh])) == [GONE, GONE]


def test_processes_can_be_quieted_and_stopped(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    with running_sidekiq(any_server.url) as process:
        wait_until(lambda: any_redis.scard("processes") == 1, what="the first beat")
        wait_until(lambda: backend.list_workers([shared()])[0].heartbeat_at, what="the first beat")
        (found,) = backend.list_workers([shared()])
        assert backend.act_on_worker(found, Action.QUIET).outcome is DONE
        wait_until(lambda: any_redis.hget(found.id, "quiet") == b"true", what="the process to be quiet")
        assert backend.act_on_worker(found, Action.STOP_WORKER).outcome is DONE
        wait_until(lambda: not process.is_alive, what="the end of the process")
        assert process.process.returncode == 0
    # A heartbeat may follow the removal of the process from the list: its record then lasts a minute longer.
    any_redis.delete(found.id)
    assert backend.act_on_worker(found, Action.QUIET).outcome is GONE


@pytest.mark.soak
@pytest.mark.parametrize("state", [State.WAITING, State.DEAD])
def test_actions_beside_a_live_process_neither_lose_nor_duplicate_jobs(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis, state: State
) -> None:
    """Jobs are deleted, restored, moved or retried while the process runs them."""
    total = 3000
    names = [f"job {n}" for n in range(total)]
    run_in = {jid_of(name): name for name in names}
    # The poller picks up due jobs of the retry set at the same time. In a queue the process is blocked at jobs 200
    # to 204, all of its threads, until the race begins: it has run some jobs by then, and never all of them.
    if state is State.WAITING:
        held = range(200, 205)
        fill(
            any_redis,
            state,
            *(payload(name, args=[name, "hold"] if n in held else [name]) for n, name in enumerate(names)),
        )
    else:
        fill(any_redis, State.DEAD, *(failed_payload(name) for name in names[: total // 2]))
        fill(any_redis, State.RETRYING, *(failed_payload(name) for name in names[total // 2 :]), at=time.time() - 5)
    deleted: set[str] = set()
    answers: Counter[Outcome] = Counter()
    lists = (State.WAITING,) if state is State.WAITING else (State.RETRYING, State.DEAD)
    # As a user saw them before the process started: some will be gone.
    all_seen = {
        where: [job_ref for page in range(1, 4) for job_ref in read_page(backend, where, page)] for where in lists
    }
    with running_sidekiq(any_server.url):
        wait_until(lambda: any_redis.hlen("runs") >= (205 if state is State.WAITING else 1), what="the race to begin")
        for where in lists:
            job_refs, first = all_seen[where], True
            while job_refs:
                # From the far end of a queue first: the process works from the other end and may be faster.
                starts = list(range(0, len(job_refs), 50))
                for turn, n in enumerate(
                    [*starts[::-2], *starts[len(starts) % 2 :: 2]] if where is State.WAITING else starts
                ):
                    if turn == 6:
                        any_redis.set("go", 1)
                    part = job_refs[n : n + 50]
                    if first and n % 150 == 0:
                        backups = [
                            one for one in backend.backup_jobs(place(where), where, part) if isinstance(one, JobBackup)
                        ]
                        gone = backend.delete_jobs(place(where), where, backups)
                        mine = [k for k, one in zip(backups, gone, strict=True) if one.outcome is DONE]
                        back = backend.restore_jobs(place(where), where, backups[::2])
                        again = backend.restore_jobs(place(where), where, backups[::2])
                        assert DONE not in outcomes(again)
                        restored = {one.id for one in back if one.outcome is DONE}
                        assert restored <= {one.id for one in mine}
                        deleted |= {one.id.rpartition("-")[2] for one in mine if one.id not in restored}
                        answers.update(outcomes(gone))
                    elif where is State.WAITING:
                        answers.update(outcomes(act(backend, Action.MOVE, where, part, ActionOptions(target="other"))))
                    else:
                        answers.update(outcomes(act(backend, Action.RETRY, where, part)))
                job_refs, first = [] if where is State.WAITING else job_refs_of(backend, where), False
        expected = {name for one, name in run_in.items() if one not in deleted}
        wait_until(lambda: any_redis.hlen("runs") >= len(expected), what="all runs")
        wait_until(
            lambda: any_redis.llen("queue:work") + any_redis.llen("queue:other") == 0, what="the end of the queues"
        )
    runs = {name.decode(): int(times) for name, times in any_redis.hgetall("runs").items()}
    assert runs == dict.fromkeys(expected, 1)
    assert answers[DONE] > 100
    if state is State.WAITING:  # the poller runs at random times, the threads pick up jobs all the time
        assert answers[GONE] > 0
    assert not any_redis.exists("dead", "retry")


# Jobs that only move.


@pytest.mark.parametrize("state", [State.RETRYING, State.SCHEDULED])
def test_killed_jobs_are_unchanged_and_the_dead_set_stays_bounded(
    backend: Sidekiq, any_redis: redis.Redis, state: State
) -> None:
    raw = '{"args":[12345678901234567890, 1e400,"\\u00e9é"],"jid":"a","x":[],"class":"Mark"}'
    fill(any_redis, state, raw, payload("two"))
    any_redis.zadd("dead", {f"old {n}": n + 1 for n in range(9999)})
    began = time.time()
    results = act(backend, Action.KILL, state, job_refs_of(backend, state))
    assert outcomes(results) == [DONE, DONE]
    assert "dropped" in str(results[0].detail)
    assert any_redis.zcard("dead") == 9999
    assert began <= any_redis.zscore("dead", raw) <= time.time()
    assert not any_redis.exists(SETS[state])
    # An app with a larger limit loses no jobs.
    any_redis.zadd("dead", {f"older {n}": n + 1 for n in range(5000)})
    fill(any_redis, state, payload("three"))
    assert outcomes(act(backend, Action.KILL, state, job_refs_of(backend, state))) == [DONE]
    assert any_redis.zcard("dead") == 15000


def test_a_retry_changes_only_the_retry_fields(backend: Sidekiq, any_redis: redis.Redis) -> None:
    head = '{"args":[12345678901234567890,1.10,1e400,"\\u00e9é",{"b":[],"a":{}}],"unknown":{"z": 1},"retry_count":'
    fill(any_redis, State.DEAD, head + '0,"class":"Mark","jid":"abc","queue":"ü","created_at":1795565996499}')
    began = time.time()
    assert outcomes(act(backend, Action.RETRY, State.DEAD, job_refs_of(backend, State.DEAD))) == [DONE]
    (pushed,) = any_redis.lrange("queue:ü", 0, -1)
    start = head + '-1,"class":"Mark","jid":"abc","queue":"ü","created_at":1795565996499,"enqueued_at":'
    assert pushed.decode().startswith(start)
    version = pushed.decode()[len(start) : -1]
    assert int(began * 1000) <= int(version) <= time.time() * 1000
    assert any_redis.smembers("queues") == {b"work", "ü".encode()}


@pytest.mark.parametrize(("created_at", "kind"), [(1795565996499, int), (1795565996.25, float)], ids=["8", "6 and 7"])
def test_timestamps_have_the_format_of_the_sidekiq_version(
    backend: Sidekiq, any_redis: redis.Redis, created_at: float, kind: type
) -> None:
    fill(any_redis, State.SCHEDULED, payload(created_at=created_at, enqueued_at=None))
    scale = 1000 if kind is int else 1
    began = time.time()
    assert outcomes(act(backend, Action.DUPLICATE, State.SCHEDULED, job_refs_of(backend, State.SCHEDULED))) == [DONE]
    assert outcomes(act(backend, Action.PROMOTE, State.SCHEDULED, job_refs_of(backend, State.SCHEDULED))) == [DONE]
    promoted, copy = (json.loads(raw) for raw in any_redis.lrange("queue:work", 0, -1))
    for version in (promoted["enqueued_at"], copy["enqueued_at"], copy["created_at"]):
        assert type(version) is kind
        assert kind(began * scale) <= version <= time.time() * scale
    assert promoted["created_at"] == created_at


def test_an_edited_active_job_keeps_its_envelope_under_a_new_id(backend: Sidekiq, any_redis: redis.Redis) -> None:
    began = time.time()
    envelope = {"job_class": "Welcome", "job_id": "old", "arguments": ["anna"], "executions": 3, "locale": "en"}
    envelope |= {"provider_job_id": "c" * 24, "enqueued_at": "2020-01-01T00:00:00.123456789Z"}
    envelope |= {"exception_executions": {"[KeyError]": 2}}
    wrapper = {"class": "Sidekiq::ActiveJob::Wrapper", "wrapped": "Welcome", "args": [envelope], "bid": "b1"}
    fill(any_redis, State.DEAD, failed_payload(**wrapper))
    results = act(
        backend, Action.EDIT, State.DEAD, job_refs_of(backend, State.DEAD), ActionOptions(payload='["berta", {"a": 1}]')
    )
    assert outcomes(results) == [DONE]
    job = json.loads(any_redis.lindex("queue:work", 0))
    (made,) = job["args"]
    assert (made["arguments"], made["executions"], made["locale"]) == (["berta", {"a": 1}], 0, "en")
    assert len(made["job_id"]) == 36
    assert "bid" not in job
    # Like a job that Active Job enqueues: after its own retry the envelope describes the run before.
    assert made["provider_job_id"] is None
    assert made["exception_executions"] == {}
    assert datetime.fromisoformat(made["enqueued_at"]).timestamp() >= began - 1


INTERRUPTED = {
    "continuation": {"completed": ["validate", "process_records"], "current": ["finalize", 900]},
    "resumptions": 3,
    "cursor_position": 17,
    "times_interrupted": 2,
    "total_time": 5.5,
}


@pytest.mark.parametrize("action", [Action.DUPLICATE, Action.EDIT])
def test_a_copy_of_an_active_job_starts_at_the_first_step(
    backend: Sidekiq, any_redis: redis.Redis, action: Action
) -> None:
    envelope = {"job_class": "Import", "job_id": "old", "arguments": [17], "executions": 3, **INTERRUPTED}
    fill(any_redis, State.DEAD, failed_payload(**{"class": "Wrapper", "wrapped": "Import", "args": [envelope]}))
    job_refs = job_refs_of(backend, State.DEAD)
    facts = dict(backend.read_job(shared(), job_refs[0].id).facts)
    assert facts["Completed steps"] == "validate, process_records"
    assert facts["Current step"] == "finalize, cursor 900"
    assert (facts["Resumptions"], facts["Cursor"], facts["Interruptions"]) == ("3", "17", "2")
    assert outcomes(act(backend, action, State.DEAD, job_refs, ActionOptions(payload="[18]"))) == [DONE]
    (made,) = json.loads(any_redis.lindex("queue:work", 0))["args"]
    assert (made["executions"], set(INTERRUPTED) & set(made)) == (0, set())
    assert made["arguments"] == ([18] if action is Action.EDIT else [17])
    assert outcomes(act(backend, Action.RETRY, State.DEAD, job_refs)) == [DONE]
    (again,) = json.loads(any_redis.lindex("queue:work", 0))["args"]
    assert again == envelope


def test_an_edited_job_has_no_lock_batch_or_expiry_of_the_old_job(backend: Sidekiq, any_redis: redis.Redis) -> None:
    options = {"lock": "until_executed", "lock_ttl": 60, "unique_for": 600, "unique_until": "success"}
    own = {
        "bid": "b1",
        "expiry": 1.0,
        "unique_token": "t",
        "lock_digest": "uniquejobs:1",
        "lock_args": [1],
        "unique_digest": "uniquejobs:2",
        "unique_args": [1],
        "at": 1795565996.25,
        "interrupted_count": 2,
        "overrated": 7,
    }
    fill(any_redis, State.DEAD, failed_payload(**options, **own))
    job_refs = job_refs_of(backend, State.DEAD)
    assert outcomes(act(backend, Action.EDIT, State.DEAD, job_refs, ActionOptions(payload="[2]"))) == [DONE]
    made = json.loads(any_redis.lindex("queue:work", 0))
    assert {name: made[name] for name in options} == options
    assert not set(own) & set(made)
    assert outcomes(act(backend, Action.RETRY, State.DEAD, job_refs)) == [DONE]
    assert json.loads(any_redis.lindex("queue:work", 0)).items() >= own.items()


@pytest.mark.parametrize("text", ["", "{}", "[1", '["••••••"]', "[NaN]"])
def test_invalid_arguments_are_refused(backend: Sidekiq, any_redis: redis.Redis, text: str) -> None:
    fill(any_redis, State.DEAD, failed_payload())
    before = dump_keys(any_redis)
    results = act(backend, Action.EDIT, State.DEAD, job_refs_of(backend, State.DEAD), ActionOptions(payload=text))
    assert outcomes(results) == [Outcome.INVALID]
    assert dump_keys(any_redis) == before


@pytest.mark.parametrize("target", [None, "", "*", "work", "\udcff"])
def test_a_job_moves_only_to_another_queue(backend: Sidekiq, any_redis: redis.Redis, target: str | None) -> None:
    fill(any_redis, State.WAITING, payload())
    before = dump_keys(any_redis)
    results = act(
        backend, Action.MOVE, State.WAITING, job_refs_of(backend, State.WAITING), ActionOptions(target=target)
    )
    assert outcomes(results) == [REFUSED]
    assert dump_keys(any_redis) == before


def test_no_script_blocks_the_server_for_long(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.DEAD, *(failed_payload(f"job {n}") for n in range(3000)))
    job_refs_of(backend, State.DEAD, 1)  # the first call asks Redis 6 for its commands
    for step in (Action.RETRY, Action.DELETE):
        state = State.DEAD if step is Action.RETRY else State.WAITING
        for _ in range(3):
            with assert_short_scripts(any_redis, 0.3), measure_cost() as meter:
                job_refs = job_refs_of(backend, state)
                if step is Action.RETRY:
                    answers = act(backend, step, state, job_refs)
                else:
                    answers = backend.delete_jobs(place(state), state, backups_of(backend, state, job_refs))
            assert outcomes(answers) == [DONE] * 1000
            assert meter.round_trips <= 4


# Delete and restore.


@pytest.mark.parametrize("state", [State.WAITING, *SETS])
@pytest.mark.parametrize("which", [slice(None), slice(3, 9), slice(0, 12, 3)], ids=["all", "a run", "some"])
def test_a_deleted_and_restored_job_is_unchanged(
    backend: Sidekiq, any_redis: redis.Redis, state: State, which: slice
) -> None:
    fill(any_redis, state, *(failed_payload(f"job {n}", args=[n, "é" * n, 1.0]) for n in range(12)))
    before = dump_keys(any_redis)
    backups = backups_of(backend, state)[which]
    assert dump_keys(any_redis) == before
    assert outcomes(backend.restore_jobs(place(state), state, backups)) == [CHANGED] * len(backups)
    assert outcomes(backend.delete_jobs(place(state), state, backups)) == [DONE] * len(backups)
    assert outcomes(backend.delete_jobs(place(state), state, backups)) == [GONE] * len(backups)
    assert len(job_refs_of(backend, state)) == 12 - len(backups)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(backups), type=list[JobBackup])
    assert outcomes(backend.restore_jobs(place(state), state, stored[::-1])) == [DONE] * len(backups)
    assert outcomes(backend.restore_jobs(place(state), state, backups)) == [CHANGED] * len(backups)
    assert dump_keys(any_redis) == before


def test_undo_restores_the_order_of_a_long_queue(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.WAITING, *(payload(f"job {n}") for n in range(2900)))
    before = any_redis.lrange("queue:work", 0, -1)
    pages = []
    for start in (0, 3, 7):
        job_refs = backend.list_job_refs(queue(), JobQuery(state=State.WAITING, page=start + 1, per_page=300))
        pages.append(backups_of(backend, State.WAITING, job_refs[start % 2 :: 2]))
        assert set(outcomes(backend.delete_jobs(queue(), State.WAITING, pages[-1]))) == {DONE}
    for kept in reversed(pages):
        assert set(outcomes(backend.restore_jobs(queue(), State.WAITING, kept))) == {DONE}
    assert any_redis.lrange("queue:work", 0, -1) == before
    assert not any_redis.exists("{queuedeck}:deleted")


@pytest.mark.parametrize("state", [State.WAITING, *SETS])
def test_a_job_too_large_for_the_trash_is_deleted_without_reading_it(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis, state: State
) -> None:
    fill(any_redis, state, payload(args=["x" * 3 * MAX_KEPT_BYTES]), payload("two", args=["y" * 80_000]))
    (long,) = (job_ref for job_ref in job_refs_of(backend, state) if jid_of("one") in job_ref.id)
    sent = any_redis.info("stats")["total_net_output_bytes"]
    (backup,) = backups_of(backend, state, [long])
    assert (backup.blob, backup.size_bytes > 3 * MAX_KEPT_BYTES) == (None, True)
    assert outcomes(backend.delete_jobs(place(state), state, [backup])) == [DONE]
    assert any_redis.info("stats")["total_net_output_bytes"] - sent < 100_000
    assert outcomes(backend.restore_jobs(place(state), state, [backup])) == [REFUSED]
    backup = backups_of(backend, state)[0]
    assert backup.blob is not None
    assert outcomes(backend.delete_jobs(place(state), state, [backup])) == [DONE]
    assert job_refs_of(backend, state) == []


def test_a_delete_finds_its_jobs_in_a_queue_that_changed(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.WAITING, *(payload(f"job {n}") for n in range(3000)))
    line = any_redis.lrange("queue:work", 0, -1)[::-1]
    job_refs = [job_ref for page in (1, 2, 3) for job_ref in read_page(backend, State.WAITING, page)]
    backups = backups_of(backend, State.WAITING, job_refs[:2000:7])
    # Workers pop at one end and clients push at the other; a process that stops pushes some back.
    any_redis.rpop("queue:work", 300)
    any_redis.lpush("queue:work", *(payload(f"new {n}") for n in range(500)))
    any_redis.rpush("queue:work", payload("put back"))
    gone = (300 + 6) // 7
    answers = outcomes(backend.delete_jobs(queue(), State.WAITING, backups[::-1]))[::-1]
    assert answers == [GONE] * gone + [DONE] * (len(backups) - gone)
    left = any_redis.lrange("queue:work", 500, -2)[::-1]
    assert left == [raw for n, raw in enumerate(line) if n >= 300 and not (n < 2000 and n % 7 == 0)]


def test_undo_restores_jobs_backed_up_at_the_same_position(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.WAITING, *(payload(f"job {n}") for n in range(10)))
    job_refs = job_refs_of(backend, State.WAITING)
    first = backups_of(backend, State.WAITING, job_refs[5:6])
    any_redis.rpop("queue:work")
    backups = [
        *first,
        *backups_of(backend, State.WAITING, job_refs[6:7]),
        *backups_of(backend, State.WAITING, job_refs[8:9]),
    ]
    assert outcomes(backend.delete_jobs(place(State.WAITING), State.WAITING, backups)) == [DONE] * 3
    assert any_redis.llen("queue:work") == 6
    assert outcomes(backend.restore_jobs(place(State.WAITING), State.WAITING, backups)) == [DONE] * 3
    assert {job_ref.id for job_ref in job_refs_of(backend, State.WAITING)} == {job_ref.id for job_ref in job_refs[1:]}


def test_jobs_near_both_ends_of_a_very_long_queue_can_be_deleted(backend: Sidekiq, any_redis: redis.Redis) -> None:
    for start in range(0, 45_000, 9000):
        fill(
            any_redis,
            State.WAITING,
            *(f'{{"class":"Mark","args":[],"jid":"j{n}"}}' for n in range(start, start + 9000)),
        )
    before = any_redis.lrange("queue:work", 0, -1)
    job_refs = [JobRef(id=f"j{n}") for n in (0, 7, 19_999, 22_500, 25_001, 44_998, 44_999)]
    found = backend.backup_jobs(queue(), State.WAITING, job_refs)
    (deep,) = (one for one in found if isinstance(one, ActionResult))
    assert (deep.id, deep.outcome) == ("j22500", REFUSED)
    backups = [one for one in found if isinstance(one, JobBackup)]
    assert outcomes(backend.delete_jobs(queue(), State.WAITING, backups)) == [DONE] * 6
    assert any_redis.llen("queue:work") == 44_994
    back = backend.restore_jobs(queue(), State.WAITING, backups)
    assert outcomes(back) == [DONE] * 6
    # Jobs from deep in the middle are restored nearer to the front, with a note; no other job moves.
    assert [one.id for one in back if one.detail] == ["j19999", "j25001"]
    after = any_redis.lrange("queue:work", 0, -1)
    assert sorted(after) == sorted(before)
    moved = {b'{"class":"Mark","args":[],"jid":"j19999"}', b'{"class":"Mark","args":[],"jid":"j25001"}'}
    assert [raw for raw in after if raw not in moved] == [raw for raw in before if raw not in moved]


def test_malformed_backups_are_refused(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.DEAD, failed_payload())
    (backup,) = backups_of(backend, State.DEAD)
    before = dump_keys(any_redis)
    entry = msgspec.msgpack.decode(backup.blob or b"")
    for other in (b"", b"\xff", msgspec.msgpack.encode([*entry, 1]), msgspec.msgpack.encode(["queue:x", *entry[1:]])):
        spoilt = msgspec.structs.replace(backup, blob=other)
        assert outcomes(backend.delete_jobs(shared(), State.DEAD, [spoilt])) == [REFUSED]
        assert outcomes(backend.restore_jobs(shared(), State.DEAD, [spoilt])) == [REFUSED]
    assert outcomes(backend.restore_jobs(shared(), State.RETRYING, [backup])) == [REFUSED]
    assert dump_keys(any_redis) == before


# Jobs that changed, hostile entries, permissions.


def test_the_version_distinguishes_a_job_from_its_later_state(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.WAITING, payload())
    (job_ref,) = job_refs_of(backend, State.WAITING)
    any_redis.delete("queue:work")
    fill(any_redis, State.WAITING, payload(enqueued_at=time.time()))
    for action in (Action.MOVE, Action.DUPLICATE):
        assert outcomes(act(backend, action, State.WAITING, [job_ref], ActionOptions(target="other"))) == [CHANGED]
    assert isinstance(changed := backend.backup_jobs(queue(), State.WAITING, [job_ref])[0], ActionResult)
    assert changed.outcome is CHANGED
    assert outcomes(act(backend, Action.DUPLICATE, State.WAITING, [JobRef(id=job_ref.id)])) == [DONE]
    fill(any_redis, State.RETRYING, failed_payload())
    (job_ref,) = job_refs_of(backend, State.RETRYING)
    (failed_member,) = any_redis.zrange("retry", 0, 0)
    any_redis.zincrby("retry", 1, failed_member)
    assert outcomes(act(backend, Action.KILL, State.RETRYING, [job_ref])) == [GONE]
    assert any_redis.zrange("retry", 0, -1) == [failed_member]


def test_jobs_with_the_same_score_are_distinguished_by_their_bytes(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.SCHEDULED, *(payload(f"job {n}") for n in range(3000)), at=time.time() + 99)
    job_refs = backend.list_job_refs(shared(), JobQuery(state=State.SCHEDULED, page=2, per_page=1000))
    assert len(job_refs) == 1000
    with measure_cost() as meter:
        assert set(outcomes(act(backend, Action.PROMOTE, State.SCHEDULED, job_refs))) == {DONE}
    assert meter.round_trips <= 3
    pushed = {json.loads(raw)["jid"] for raw in any_redis.lrange("queue:work", 0, -1)}
    assert pushed == {job_ref.id.rpartition("-")[2] for job_ref in job_refs}
    assert any_redis.zcard("schedule") == 2000


JUNK = (
    b"not json",
    b"\xff\xfe\x00",
    b"[1,2]",
    b'{"class":5,"jid":["x"],"args":[]}',
    b'{"class":"Mark","jid":"j","args":{}}',
    b'{"class":"Mark","jid":"\xc3\xa9","args":["\xff"]}',
    b'{"jid":"a\\"b","class":"Mark","args":null}',
    b"",
    b'{"a":' * 30_000,
    b"x" * 100_000,
)


@pytest.mark.parametrize("state", [State.WAITING, State.DEAD])
def test_a_delete_reports_the_batch_and_lock_that_remain(
    backend: Sidekiq, any_redis: redis.Redis, state: State
) -> None:
    tied = {"bid": "b-17", "lock_digest": "uniquejobs:0a1b"}
    fill(any_redis, state, payload("free"), payload("tied", **tied), payload("named", args=['"bid"']))
    results = backend.delete_jobs(place(state), state, backups_of(backend, state))
    details = {one.id.rpartition("-")[2]: one.detail for one in results}
    assert details[jid_of("free")] is None
    assert details[jid_of("named")] is None
    assert "b-17 never completes unless the job is restored" in (details[jid_of("tied")] or "")
    assert "uniquejobs:0a1b" in (details[jid_of("tied")] or "")
    assert "batch" in backend.action_help[Action.DELETE]


# Not JSON, but with text like a jid; the last one is JSON for some decoders.
MALFORMED = (
    '{"class":"A","args":[1],"queue":"work","enqueued_at":1446506041.608039.0000455,"jid":"010b032f72dbaac5a3a52832"}',
    '{"class":"A","args":[{"jid":"inner"}],"jid":"010b032f72dbaac5a3a52832"',
    '{"class":"A","args":[NaN],"jid":"010b032f72dbaac5a3a52832"}',
)


@pytest.mark.parametrize("state", [State.WAITING, State.SCHEDULED, State.RETRYING, State.DEAD])
def test_a_malformed_entry_with_a_jid_can_be_deleted_and_restored(
    backend: Sidekiq, any_redis: redis.Redis, state: State
) -> None:
    # All at one score: an entry alone at its score would be identified by it.
    fill(any_redis, state, payload("before"), *MALFORMED, payload("after"), at=time.time())
    rows = [job for job in backend.list_jobs(place(state), JobQuery(state=state)).jobs if job.problem]
    assert len(rows) == len(MALFORMED)
    assert all("raw" in row.id for row in rows)
    assert [backend.read_job(place(state), row.id).version for row in rows] == [row.version for row in rows]
    before = dump_keys(any_redis)
    ids = {job_ref.version: job_ref for job_ref in job_refs_of(backend, state)}
    for job_refs in (
        [JobRef(id=row.id, version=row.version) for row in rows],
        [ids[row.version or ""] for row in rows],
    ):
        backups = backups_of(backend, state, job_refs)
        assert outcomes(backend.delete_jobs(place(state), state, backups)) == [DONE] * len(MALFORMED)
        assert len(job_refs_of(backend, state)) == 2
        assert outcomes(backend.restore_jobs(place(state), state, backups)) == [DONE] * len(MALFORMED)
    assert {key: value for key, value in dump_keys(any_redis).items() if b"queuedeck" not in key} == before
    one = [JobRef(id=rows[0].id, version=rows[0].version)]
    assert outcomes(backend.delete_jobs(place(state), state, backups_of(backend, state, one))) == [DONE]
    assert len(job_refs_of(backend, state)) == len(MALFORMED) + 1


@pytest.mark.parametrize("state", [State.WAITING, State.DEAD])
def test_hostile_entries_can_only_be_deleted(backend: Sidekiq, any_redis: redis.Redis, state: State) -> None:
    fill(any_redis, state, *JUNK, failed_payload())
    before = dump_keys(any_redis)
    rows = backend.list_jobs(place(state), JobQuery(state=state)).jobs
    job_refs = job_refs_of(backend, state)
    assert [(job_ref.id, job_ref.version) for job_ref in job_refs] == [(row.id, row.version) for row in rows]
    good = next(job_ref for job_ref in job_refs if jid_of("one") in job_ref.id)
    bad = [job_ref for job_ref in job_refs if job_ref is not good]
    wrong = [JobRef(id=name) for name in ("", "-", "1-", "1e999-x", "x" * 5000, "\udcff", "inf-a", "nan-a")]
    action = Action.MOVE if state is State.WAITING else Action.RETRY
    options = ActionOptions(target="other")
    assert outcomes(act(backend, action, state, [*bad, *wrong], options)) == [REFUSED] * len(bad) + [GONE] * len(wrong)
    assert dump_keys(any_redis) == before
    backups = backups_of(backend, state)
    assert set(outcomes(backend.delete_jobs(place(state), state, backups))) == {DONE}
    assert set(outcomes(backend.restore_jobs(place(state), state, backups))) == {DONE}
    assert dump_keys(any_redis) == before
    assert outcomes(act(backend, action, state, [*bad, good], options)) == [REFUSED] * len(bad) + [DONE]


def test_keys_of_the_wrong_type_lose_no_job(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.DEAD, failed_payload(), failed_payload("two", queue="fine"))
    fill(any_redis, State.WAITING, payload(queue="fine"))
    any_redis.set("queue:string", "x")
    any_redis.rename("queue:work", "queue:fine")
    any_redis.set("queue:work", "x")
    job_refs = {job_ref.id.rpartition("-")[2]: job_ref for job_ref in job_refs_of(backend, State.DEAD)}
    results = act(backend, Action.RETRY, State.DEAD, [job_refs[jid_of("one")], job_refs[jid_of("two")]])
    assert outcomes(results) == [REFUSED, DONE]
    assert "wrong type" in str(results[0].detail)
    waiting = job_refs_of(backend, State.WAITING, ref=queue("fine"))
    moved = backend.act_on_jobs(queue("fine"), Action.MOVE, State.WAITING, waiting, ActionOptions(target="string"))
    assert set(outcomes(moved)) == {REFUSED}
    assert any_redis.llen("queue:fine") == 2
    assert any_redis.zcard("dead") == 1
    any_redis.set("{queuedeck}:deleted", "x")  # an own key of the wrong type is replaced
    assert outcomes(backend.delete_jobs(shared(), State.DEAD, backups_of(backend, State.DEAD))) == [DONE]
    assert (any_redis.zcard("dead"), any_redis.type("{queuedeck}:deleted")) == (0, b"zset")


@pytest.mark.parametrize(
    "rules", ["-eval -eval_ro", "-lpush", "-zrem -lrem", "-sadd -lpush -zadd", "-@all +ping"], ids=repr
)
def test_actions_without_write_permission_move_no_job(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis, rules: str
) -> None:
    if any_redis.info("server")["redis_version"].startswith("6"):
        rules = rules.replace(" -eval_ro", "")
    fill(any_redis, State.DEAD, failed_payload())
    fill(any_redis, State.WAITING, payload())
    dead, waiting = job_refs_of(backend, State.DEAD), job_refs_of(backend, State.WAITING)
    before = dump_keys(any_redis)
    any_redis.execute_command("ACL", "SETUSER", "clerk", "on", ">secret", "~*", "&*", "+@all", *rules.split())
    source = Source("main", f"redis://clerk:secret@127.0.0.1:{any_server.port}/0")
    clerk = Sidekiq(source, SourceSettings(name="main", url=any_server.url))
    for state, action, job_refs in (
        (State.DEAD, Action.RETRY, dead),
        (State.WAITING, Action.MOVE, waiting),
    ):
        (result,) = act(clerk, action, state, job_refs, ActionOptions(target="other"))
        assert (result.outcome, "not permitted" in str(result.detail)) == (REFUSED, True), result
    after = dump_keys(any_redis)
    assert {key: after[key] for key in before if key != b"queues"} == {
        key: value for key, value in before.items() if key != b"queues"
    }
    source.close()
    any_redis.execute_command("ACL", "DELUSER", "clerk")


def test_a_retry_in_a_namespace_writes_only_there(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.DEAD, failed_payload())
    any_redis.rename("dead", "app:prod:dead")
    any_redis.delete("queues")
    job_refs = job_refs_of(backend, State.DEAD, ref=shared("app:prod:"))
    assert outcomes(backend.act_on_jobs(shared("app:prod:"), Action.RETRY, State.DEAD, job_refs)) == [DONE]
    assert set(any_redis.keys()) == {b"app:prod:queue:work", b"app:prod:queues"}


def test_a_state_that_the_queue_does_not_hold_is_refused(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.DEAD, failed_payload())
    (job_ref,) = job_refs_of(backend, State.DEAD)
    assert outcomes(backend.act_on_jobs(queue(), Action.RETRY, State.DEAD, [job_ref])) == [REFUSED]
    assert outcomes(backend.act_on_jobs(shared(), Action.RETRY, State.WAITING, [job_ref])) == [Outcome.UNSUPPORTED]
    for ref, state in ((queue(), State.DEAD), (shared(), State.WAITING), (queue(), State.ACTIVE)):
        (result,) = backend.backup_jobs(ref, state, [job_ref])
        assert isinstance(result, ActionResult)
        assert result.outcome is REFUSED
    every = {action for actions in backend.job_actions.values() for action in actions}
    every |= {*backend.queue_actions, *backend.schedule_actions, *backend.worker_actions}
    assert every == set(backend.action_help)
    assert not every & set(backend.unsupported_reasons)


# Queues, schedules, running jobs.


def test_obliterate_deletes_a_queue_with_its_waiting_jobs(backend: Sidekiq, any_redis: redis.Redis) -> None:
    fill(any_redis, State.WAITING, *(payload(f"job {n}") for n in range(100)))
    any_redis.sadd("queues", "other")
    result = backend.act_on_queue(queue(), Action.OBLITERATE)
    assert (result.outcome, result.more, result.detail) == (DONE, False, "deleted with 100 waiting jobs")
    assert dump_keys(any_redis).keys() == {b"queues"}
    assert any_redis.smembers("queues") == {b"other"}
    assert backend.act_on_queue(queue(), Action.OBLITERATE).outcome is GONE
    assert backend.act_on_queue(shared(), Action.OBLITERATE).outcome is REFUSED
    assert backend.act_on_queue(queue(), Action.PAUSE).outcome is Outcome.UNSUPPORTED
    any_redis.set("queue:work", "x")
    assert backend.act_on_queue(queue(), Action.OBLITERATE).outcome is REFUSED
    assert any_redis.get("queue:work") == b"x"


def test_schedules_of_sidekiq_cron_are_disabled_enabled_and_triggered(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    message = {"retry": 3, "queue": "work", "class": "Mark", "args": ["nightly"]}
    record = {"name": "nightly report", "klass": "Mark", "cron": "0 3 * * *", "status": "enabled"}
    names = {
        "nightly report": {"message": json.dumps(message)},
        "wrapped": {"message": json.dumps(message), "active_job": "1"},
        "unknown": {"message": json.dumps({"queue": "work", "class": "Mark", "args": []})},
        "odd": {"message": "{"},
    }
    for name, fields in names.items():
        any_redis.sadd("cron_jobs", f"cron_job:{name}")
        any_redis.hset(f"cron_job:{name}", mapping={**record, **fields})
    found = {entry.id: entry for entry in backend.list_schedules([shared()])}
    nightly = found["nightly report"]
    assert backend.act_on_schedule(nightly, Action.PAUSE_SCHEDULE).outcome is DONE
    assert {entry.id: entry.paused for entry in backend.list_schedules([shared()])}["nightly report"] is True
    assert backend.act_on_schedule(nightly, Action.RESUME_SCHEDULE).outcome is DONE
    assert any_redis.hget("cron_job:nightly report", "status") == b"enabled"
    before = dump_keys(any_redis)
    for name in ("wrapped", "unknown", "odd"):
        assert backend.act_on_schedule(found[name], Action.TRIGGER).outcome is REFUSED
    assert backend.act_on_schedule(nightly, Action.REMOVE_SCHEDULE).outcome is Outcome.UNSUPPORTED
    assert dump_keys(any_redis) == before
    fired = backend.act_on_schedule(nightly, Action.TRIGGER)
    assert (fired.outcome, len(fired.new_id or "")) == (DONE, 24)
    with running_sidekiq(any_server.url):
        wait_until(lambda: any_redis.hget("runs", "nightly") == b"1", what="the run")
    any_redis.delete("cron_job:nightly report")
    for action in backend.schedule_actions:
        assert backend.act_on_schedule(nightly, action).outcome is GONE


@pytest.mark.parametrize("prefix", ["", "app:"])
def test_schedules_of_each_sidekiq_cron_namespace_are_listed_and_changed(
    backend: Sidekiq, any_redis: redis.Redis, prefix: str
) -> None:
    # Keys and fields of sidekiq-cron 2.
    message = json.dumps({"retry": 3, "queue": "work", "class": "Mark", "args": ["nightly"]})
    for space in ("default", "billing", "odd:name"):
        key = f"cron_job:{space}:nightly"
        any_redis.sadd(f"{prefix}cron_jobs:{space}", key)
        fields = {"name": "nightly", "namespace": space, "klass": "Mark", "cron": "0 3 * * * UTC", "message": message}
        any_redis.hset(f"{prefix}{key}", mapping={**fields, "status": "enabled"})
    any_redis.sadd("other:cron_jobs:billing", "cron_job:billing:alien")
    any_redis.set(f"{prefix}cron_jobs:text", "x")
    any_redis.sadd(f"{prefix}cron_jobs:bytes", b"\xff\xfe")
    with measure_cost() as meter:
        found = {entry.id: entry for entry in backend.list_schedules([shared(prefix)])}
    assert meter.round_trips <= 5
    names = {f"{prefix}{space}:nightly" for space in ("default", "billing", "odd:name")}
    assert set(found) == {*names, f"{prefix}\udcff\udcfe"}
    billing = found[f"{prefix}billing:nightly"]
    assert (billing.name, billing.pattern, billing.paused) == ("Mark", "0 3 * * * UTC", False)
    assert dict(billing.facts)["sidekiq-cron namespace"] == "billing"
    assert billing.next_run_at is not None
    assert backend.act_on_schedule(billing, Action.PAUSE_SCHEDULE).outcome is DONE
    assert any_redis.hget(f"{prefix}cron_job:billing:nightly", "status") == b"disabled"
    assert any_redis.hget(f"{prefix}cron_job:default:nightly", "status") == b"enabled"
    assert backend.act_on_schedule(billing, Action.TRIGGER).outcome is DONE
    assert any_redis.llen(f"{prefix}queue:work") == 1
    # Once found, they are not searched for on each call.
    with measure_cost() as meter:
        backend.list_schedules([shared(prefix)])
    assert meter.round_trips <= 3


def test_an_unfinished_search_for_cron_namespaces_is_reported(backend: Sidekiq, any_redis: redis.Redis) -> None:
    for name in ("default", "billing"):
        any_redis.sadd(f"cron_jobs:{name}", f"cron_job:{name}:nightly")
        any_redis.hset(f"cron_job:{name}:nightly", mapping={"klass": "Mark", "cron": "0 3 * * *"})
    any_redis.eval("for n = 1, ARGV[1] do redis.call('SET', 'other:' .. n, '') end", 0, (LOOK_CALLS + 10) * 1000)
    first = {entry.id for entry in backend.list_schedules([shared()])}
    assert "default:nightly" in first
    assert "cron_jobs:*" in first
    for _ in range(1000):
        found = {entry.id for entry in backend.list_schedules([shared()])}
        if "cron_jobs:*" not in found:
            break
    assert found == {"default:nightly", "billing:nightly"}


@pytest.mark.parametrize("prefix", ["", "app:"])
def test_schedules_of_sidekiq_scheduler_are_disabled_by_their_state(
    backend: Sidekiq, any_redis: redis.Redis, prefix: str
) -> None:
    any_redis.hset(f"{prefix}schedules", "ping", json.dumps({"class": "Ping", "every": "5m"}))
    any_redis.hset(f"{prefix}sidekiq-scheduler:states", "ping", '{"enabled":true,"x":[]}')
    (ping,) = backend.list_schedules([shared(prefix)])
    assert backend.act_on_schedule(ping, Action.PAUSE_SCHEDULE).outcome is DONE
    assert any_redis.hget(f"{prefix}sidekiq-scheduler:states", "ping") == b'{"enabled":false,"x":[]}'
    assert backend.list_schedules([shared(prefix)])[0].paused is True
    assert backend.act_on_schedule(ping, Action.RESUME_SCHEDULE).outcome is DONE
    assert backend.act_on_schedule(ping, Action.TRIGGER).outcome is REFUSED
    any_redis.delete(f"{prefix}schedules")
    assert backend.act_on_schedule(ping, Action.PAUSE_SCHEDULE).outcome is GONE


def test_embedded_and_dead_processes_are_not_signaled(backend: Sidekiq, any_redis: redis.Redis) -> None:
    any_redis.sadd("app:processes", "web:1:aaaaaaaaaaaa", "web:2:bbbbbbbbbbbb", "web:3:cccccccccccc")
    for identity, info in (("web:1:aaaaaaaaaaaa", {"embedded": True}), ("web:2:bbbbbbbbbbbb", {"embedded": False})):
        any_redis.hset(f"app:{identity}", mapping={"info": json.dumps(info), "beat": time.time(), "busy": 0})
    found = backend.list_workers([shared("app:")])
    answers = {one.id: backend.act_on_worker(one, Action.STOP_WORKER).outcome for one in found}
    assert answers == {
        "app:web:1:aaaaaaaaaaaa": REFUSED,
        "app:web:2:bbbbbbbbbbbb": DONE,
        "app:web:3:cccccccccccc": REFUSED,
    }
    assert any_redis.lrange("app:web:2:bbbbbbbbbbbb-signals", 0, -1) == [b"TERM"]
    assert 0 < any_redis.ttl("app:web:2:bbbbbbbbbbbb-signals") <= 60
    assert len(list(any_redis.scan_iter("*-signals"))) == 1


def test_only_running_iterable_jobs_can_be_stopped(backend: Sidekiq, any_redis: redis.Redis) -> None:
    any_redis.sadd("processes", "web:1:aaaaaaaaaaaa")
    any_redis.hset("web:1:aaaaaaaaaaaa", mapping={"info": "{}", "beat": time.time(), "busy": 2})
    for name in ("walks", "plain"):
        work = {"queue": "work", "payload": payload(name), "run_at": int(time.time())}
        any_redis.hset("web:1:aaaaaaaaaaaa:work", name, json.dumps(work))
    any_redis.hset(f"it-{jid_of('walks')}", mapping={"ex": 1, "c": "5", "rt": 1.5})
    rows = backend.list_jobs(queue(), JobQuery(state=State.ACTIVE)).jobs
    job_refs = [JobRef(id=row.id, version=row.version) for row in rows]
    job_refs += [JobRef(id=job_refs[0].id, version="other"), JobRef(id="none")]
    began = int(time.time())
    answers = act(backend, Action.STOP, State.ACTIVE, []) + backend.act_on_jobs(
        queue(), Action.STOP, State.ACTIVE, job_refs
    )
    by_id = {jid_of("walks"): DONE, jid_of("plain"): REFUSED}
    assert outcomes(answers) == [by_id[rows[0].id], by_id[rows[1].id], CHANGED, GONE]
    assert began <= int(any_redis.hget(f"it-{jid_of('walks')}", "cancelled")) <= time.time()
    assert not any_redis.exists(f"it-{jid_of('plain')}")


@pytest.mark.parametrize("active_job", [False, True])
def test_a_job_with_half_an_emoji_can_be_retried_copied_and_deleted(
    backend: Sidekiq, any_redis: redis.Redis, active_job: bool
) -> None:
    """Node may write such JSON, and Ruby reads it."""
    argument = '{"text":"Party \\ud83c","exact":1.50}'
    arguments, wrapped = argument, ""
    if active_job:
        arguments = f'{{"job_id":"old","executions":2,"continuation":{{"completed":["a"]}},"arguments":[{argument}]}}'
        wrapped = '"wrapped":"Mail",'
    jids = ("a" * 24, "b" * 24, "c" * 24)
    for name in jids:
        job = f'{{"class":"Send",{wrapped}"jid":"{name}","queue":"mails","args":[{arguments}],"retry_count":1}}'
        any_redis.zadd("dead", {job: 5})
    any_redis.set("stat:processed", 1)
    any_redis.sadd("queues", "mails")
    retried, copied, deleted = (JobRef(id=f"5-{name}") for name in jids)
    assert outcomes(backend.act_on_jobs(shared(), Action.RETRY, State.DEAD, [retried], ActionOptions())) == [DONE]
    (result,) = backend.act_on_jobs(shared(), Action.DUPLICATE, State.DEAD, [copied], ActionOptions())
    assert result.outcome is Outcome.DONE, result
    (backup,) = backend.backup_jobs(shared(), State.DEAD, [deleted])
    assert isinstance(backup, JobBackup), backup
    assert outcomes(backend.delete_jobs(shared(), State.DEAD, [backup])) == [DONE]
    assert outcomes(backend.restore_jobs(shared(), State.DEAD, [backup])) == [DONE]
    left = [json.loads(each)["jid"] for each in any_redis.zrange("dead", 0, -1)]
    assert sorted(left) == sorted(jids[1:])
    copy, again = any_redis.lrange("queue:mails", 0, -1)
    assert argument.encode() in copy
    assert argument.encode() in again
    assert (b'"job_id":"old"' in again, b'"continuation"' in again) == (active_job, active_job)
    assert b'"job_id":"old"' not in copy
    assert b'"continuation"' not in copy


def test_copies_of_an_iterable_job_do_not_get_its_progress(backend: Sidekiq, any_redis: redis.Redis) -> None:
    any_redis.zadd("retry", {payload(jid="iterable"): 7})
    any_redis.hset("it-iterable", mapping={"ex": 2, "rt": "3.5", "c": "900"})
    (job_ref,) = job_refs_of(backend, State.RETRYING)
    for action, options in ((Action.DUPLICATE, NO_OPTIONS), (Action.EDIT, ActionOptions(payload="[1]"))):
        (copied,) = act(backend, action, State.RETRYING, [job_ref], options)
        assert copied.outcome is DONE
        assert copied.new_id != "iterable"
    backups = backups_of(backend, State.RETRYING)
    assert outcomes(backend.delete_jobs(shared(), State.RETRYING, backups)) == [DONE]
    assert set(any_redis.scan_iter("it-*")) == {b"it-iterable"}  # Sidekiq's own delete leaves it, too
    assert any_redis.hgetall("it-iterable") == {b"ex": b"2", b"rt": b"3.5", b"c": b"900"}
    assert outcomes(backend.restore_jobs(shared(), State.RETRYING, backups)) == [DONE]
    assert dict(backend.read_job(shared(), "7-iterable").facts)["Cursor"] == "900"
