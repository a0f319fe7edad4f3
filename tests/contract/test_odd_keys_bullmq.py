"""Actions on queues of BullMQ with keys of wrong types, duplicate ids, or options that JSON.parse refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.test_actions_bullmq import REF, backups_of, drive, outcomes, read_marks, running_worker
from tests.waiting import wait_until

VERSIONS = ("bullmq:6.7.0", "bullmq:5.81.5", "bullmq:4.18.3", None)
LISTS = ("wait", "paused", "active")
SETS = ("failed", "completed", "delayed", "prioritized", "waiting-children")
WRONG = (*LISTS, *SETS, "stalled", "events", "marker", "priority", "pc", "id")


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BullMQ]:
    source = Source("main", server.url)
    yield BullMQ(source, SourceSettings(name="main", url=server.url))
    source.close()


def fill(client: redis.Redis, version: str | None) -> None:
    """A dead job, a scheduled one with a priority, one that nobody holds, and one that waits."""
    client.flushdb()
    if version:
        client.hset("bull:alpha:meta", mapping={"opts.maxLenEvents": 10000, "version": version})
    client.set("bull:alpha:id", 4)
    client.zadd("bull:alpha:failed", {"dead": 1_700_000_000_000})
    client.zadd("bull:alpha:delayed", {"later": 1_700_000_000_000 * 4096})
    client.lpush("bull:alpha:active", "lost")
    client.lpush("bull:alpha:wait", "next")
    for job_id in ("dead", "later", "lost", "next"):
        job = {"name": job_id, "data": "{}", "opts": "{}", "timestamp": 1, "priority": 2 * (job_id == "later")}
        client.hset(f"bull:alpha:{job_id}", mapping=job | ({"processedOn": 2} if job_id == "lost" else {}))


def lists_holding(client: redis.Redis, job_id: str) -> list[str]:
    """The lists and sets in which an id stands, each as often as it does."""
    found = [name for name in SETS if client.type(f"bull:alpha:{name}") == b"zset"]
    found = [name for name in found if client.zscore(f"bull:alpha:{name}", job_id) is not None]
    for name in LISTS:
        if client.type(f"bull:alpha:{name}") == b"list":
            found += [name] * client.lrange(f"bull:alpha:{name}", 0, -1).count(job_id.encode())
    return found


def spoil(client: redis.Redis, name: str) -> None:
    key = f"bull:alpha:{name}"
    client.delete(key)
    if name in ("pc", "id"):
        client.set(key, "many")
    else:
        client.hset(key, "a", 1)


def run_all_actions(backend: BullMQ) -> list[tuple[str, ActionResult]]:
    found = [
        ("dead", *backend.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id="dead")])),
        ("later", *backend.act_on_jobs(REF, Action.PROMOTE, State.SCHEDULED, [JobRef(id="later")])),
        ("lost", *backend.act_on_jobs(REF, Action.RETRY, State.ACTIVE, [JobRef(id="lost")])),
        ("next", *backend.act_on_jobs(REF, Action.DUPLICATE, State.WAITING, [JobRef(id="next")])),
        ("alpha", backend.act_on_queue(REF, Action.PAUSE)),
    ]
    for job_id, state in (("dead", State.DEAD), ("next", State.WAITING), ("lost", State.ACTIVE)):
        (taken,) = backend.backup_jobs(REF, state, [JobRef(id=job_id)])
        found.append(
            (job_id, taken if isinstance(taken, ActionResult) else backend.delete_jobs(REF, state, [taken])[0])
        )
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_key_of_the_wrong_type_loses_no_job(backend: BullMQ, redis_client: redis.Redis, version: str | None) -> None:
    for name in WRONG:
        fill(redis_client, version)
        spoil(redis_client, name)
        before = {job_id: lists_holding(redis_client, job_id) for job_id in ("dead", "later", "lost", "next")}
        dump = {key: redis_client.dump(key) for key in redis_client.scan_iter("*")}
        for job_id, result in run_all_actions(backend):
            if job_id != "alpha" and not before[job_id]:
                continue  # the list it stood in is the one that is spoilt
            assert result.outcome is Outcome.REFUSED, (name, job_id, result)
            assert f'the key "{name}" of this queue is' in (result.detail or ""), result
            assert "nothing was changed" in (result.detail or ""), result
        assert {job_id: lists_holding(redis_client, job_id) for job_id in before} == before, name
        assert {key: redis_client.dump(key) for key in redis_client.scan_iter("*")} == dump, name


def test_a_queue_with_keys_of_wrong_types_can_be_obliterated(backend: BullMQ, redis_client: redis.Redis) -> None:
    for name in (*WRONG, "repeat", "limiter"):
        fill(redis_client, VERSIONS[0])
        redis_client.delete("bull:alpha:active", "bull:alpha:lost")
        spoil(redis_client, name)
        result = backend.act_on_queue(REF, Action.OBLITERATE)
        assert (result.outcome, result.more) == (Outcome.DONE, False), (name, result)
        listed_in = {"wait": "next", "failed": "dead", "delayed": "later"}.get(
            name
        )  # where nothing names the job any more
        assert set(redis_client.scan_iter("*")) == ({f"bull:alpha:{listed_in}".encode()} if listed_in else set()), name


def test_a_parent_key_of_the_wrong_type_loses_no_child(backend: BullMQ, redis_client: redis.Redis) -> None:
    for part, spoilt in (("top", "string"), ("top:dependencies", "string"), ("waiting-children", "string")):
        fill(redis_client, VERSIONS[0])
        redis_client.hset("bull:other:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
        if part != "waiting-children":
            redis_client.zadd("bull:other:waiting-children", {"top": 1})
        parent = json.dumps({"id": "top", "queueKey": "bull:other"})
        redis_client.hset("bull:alpha:dead", mapping={"parentKey": "bull:other:top", "parent": parent})
        redis_client.set(f"bull:other:{part}", spoilt)
        for result in (
            *backend.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id="dead")]),
            *backend.backup_jobs(REF, State.DEAD, [JobRef(id="dead")]),
        ):
            assert isinstance(result, ActionResult), part
            assert result.outcome is Outcome.REFUSED, (part, result)
            assert "of its parent" in (result.detail or ""), result
        assert lists_holding(redis_client, "dead") == ["failed"], part


@pytest.mark.parametrize("limit", ["", "many", "-5", "1e9", "1" * 400])
def test_an_odd_length_of_the_events_stream_does_not_stop_a_retry(
    backend: BullMQ, redis_client: redis.Redis, limit: str
) -> None:
    fill(redis_client, VERSIONS[0])
    redis_client.hset("bull:alpha:meta", "opts.maxLenEvents", limit)
    assert outcomes(backend.act_on_jobs(REF, Action.RETRY, State.DEAD, [JobRef(id="dead")])) == ["done"]
    assert redis_client.xlen("bull:alpha:events") == 1


@pytest.mark.parametrize("alias", ["bullmq", "bullmq5", "bullmq4"])
def test_a_deleted_job_that_was_listed_twice_does_not_run(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    ids = drive(alias, server.url, "many", count=4)["ids"]
    twice, both, *rest = ids
    redis_client.rpush("bull:alpha:wait", twice)
    redis_client.zadd("bull:alpha:failed", {both: 1_700_000_000_000})
    for job_id, state in ((twice, State.WAITING), (both, State.DEAD)):
        taken: list[JobBackup] = backups_of(backend.backup_jobs(REF, state, [JobRef(id=job_id)]))
        assert outcomes(backend.delete_jobs(REF, state, taken)) == ["done"]
        assert lists_holding(redis_client, job_id) == []
    with running_worker(alias, server.url):
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == len(rest), what="the others")
    assert read_marks(redis_client) == dict.fromkeys(rest, 1)


@pytest.mark.parametrize("alias", ["bullmq", "bullmq5", "bullmq4"])
def test_the_options_of_a_copy_are_json_that_bullmq_reads(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str
) -> None:
    (job_id,) = drive(alias, server.url, "many", count=1)["ids"]
    options = '{"attempts":1,"note":"Party \\ud83c","large":1e999,"exact":12345678901234567890,"lifo":true,"jobId":"x"}'
    redis_client.hset(f"bull:alpha:{job_id}", "opts", options)
    for action, entered in ((Action.DUPLICATE, ActionOptions()), (Action.EDIT, ActionOptions(payload='{"n": 2}'))):
        (result,) = backend.act_on_jobs(REF, action, State.WAITING, [JobRef(id=job_id)], entered)
        assert result.outcome is Outcome.DONE, result
        copied = redis_client.hget(f"bull:alpha:{result.new_id}", "opts")
        assert copied == options.replace(',"jobId":"x"', "").encode()
    redis_client.hset(f"bull:alpha:{job_id}", "opts", '{"delay":NaN}')
    (result,) = backend.act_on_jobs(REF, Action.DUPLICATE, State.WAITING, [JobRef(id=job_id)])
    assert (result.outcome, result.detail) == (Outcome.REFUSED, "its options cannot be read")
    redis_client.hset(f"bull:alpha:{job_id}", "opts", options)
    with running_worker(alias, server.url):
        wait_until(lambda: redis_client.zcard("bull:alpha:completed") == 3, what="all three")


def test_figures_behind_a_key_of_the_wrong_type_are_unknown(
    backend: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    drive("bullmq", server.url, "fill")
    drive("bullmq", server.url, "schedule")
    (before,) = backend.read_stats([REF])
    dump = {key: redis_client.dump(key) for key in redis_client.scan_iter()}

    def with_wrong(name: str) -> None:
        for key, value in dump.items():
            redis_client.restore(key, 0, value, replace=True)
        redis_client.delete(f"bull:alpha:{name}")
        redis_client.set(f"bull:alpha:{name}", "x")

    with_wrong("meta")
    (stats,) = backend.read_stats([REF])
    assert (stats.counts, stats.paused, stats.library_version) == (before.counts, None, None)
    assert not [note for note in stats.notes if "Bull" in note]
    with_wrong("delayed")
    (stats,) = backend.read_stats([REF])
    assert (before.overdue_s, stats.overdue_s, stats.counts.scheduled) == (0.0, None, None)
    for name in ("delayed", "wait", "completed"):
        with_wrong(name)
        assert not [each for each in backend.list_schedules([REF]) if each.problem], name
    with_wrong("repeat")
    (hidden,) = backend.list_schedules([REF])
    assert (hidden.id, hidden.problem) == ("repeat", "its key cannot be read: it has the wrong type")
    parent = redis_client.zrange("bull:alpha:waiting-children", 0, 0)[0].decode()
    for part, said in (("logs", "its logs has"), ("dependencies", "its children has")):
        with_wrong(f"{parent}:{part}")
        job = backend.read_job(REF, parent)
        assert f"{said} the wrong type" in (job.problem or "")
        assert (job.logs_total if part == "logs" else job.children_total) is None
