"""Celery messages of any size, depth and number affect one row each, never the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.actions import JobBackup, JobRef, Outcome
from dashboard.backends.bounded_reads import CALL_BYTES
from dashboard.backends.celery import keys
from dashboard.backends.celery.backend import Celery
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.sizes import MIB, address_of_user, sent_bytes
from tests.contract.test_bullmq import READER
from tests.contract.test_celery import declare_queues, discover, message


@pytest.fixture(params=["scripts", "plain"])
def backend(request: pytest.FixtureRequest, server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Celery]:
    """The backend of a user with and of one without scripts."""
    url = address_of_user(server, redis_client, READER, scripts=request.param == "scripts")
    source, own = Source("main", url), Source("main", server.url)
    found = Celery(source, SourceSettings(name="main", url=url))
    found.own_source = own
    yield found
    found.close()
    source.close()
    own.close()


def long_message(name: str, size: int) -> bytes:
    return message(name, body=base64.b64encode(b"x" * size).decode())


def deep_body(opening: str, closing: str, depth: int) -> bytes:
    body = f"[[{opening * depth}1{closing * depth}], {{}}, {{}}]"
    return message("deep", body=base64.b64encode(body.encode()).decode())


def test_huge_messages_do_not_affect_other_rows(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "alpha")
    redis_client.lpush("alpha", message("first"))
    long = [long_message(f"long{n}", 9 * MIB) for n in range(4)]
    for raw in long:
        redis_client.lpush("alpha", raw)
    redis_client.lpush("alpha", message("last"))
    ref = discover(backend)["alpha"]
    before = sent_bytes(redis_client)
    page = backend.list_jobs(ref, JobQuery(state=State.WAITING))
    sent = sent_bytes(redis_client) - before
    assert page.total == len(page.jobs) == 6
    assert page.jobs[0].id == "first"
    if backend._scripts.are_refused:
        assert sent < 13 * MIB
        assert page.truncated
        assert (
            page.jobs[1].problem == f"too large to decode: its message has {len(long[0]):,} bytes, the limit is 262,144"
        )
        assert [job.id for job in page.jobs[2:]] == [f"unread-{n}" for n in range(2, 6)]
        return
    assert sent < 100_000
    assert [job.problem for job in page.jobs[1:5]] == [
        f"too large to decode: its message has {len(raw):,} bytes, the limit is 262,144" for raw in long
    ]
    assert page.jobs[5].id == "last"
    assert len({job.id for job in page.jobs}) == 6
    for job in page.jobs:
        assert backend.read_job(ref, job.id).id == job.id
    assert sent_bytes(redis_client) - before < MIB
    assert len(backend.search_page(ref, JobQuery(state=State.WAITING, per_page=500)).rows) == 6


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"headers":' * 20_000 + b"{}" + b"}" * 20_000,
        deep_body("[", "]", 90_000),
        deep_body('{"a":', "}", 20_000),
        message("deep", eta="[" * 100_000),
        message("deep", body="x")[:-1] + b',"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_deep_messages_do_not_affect_other_rows(backend: Celery, redis_client: redis.Redis, raw: bytes) -> None:
    declare_queues(redis_client, "alpha")
    redis_client.lpush("alpha", message("first"), raw, message("last"))
    redis_client.hset("unacked", mapping={"t1": json.dumps([json.loads(message("held")), "", "alpha"])})
    redis_client.hset("unacked", "t2", b"[" + raw + b',"","alpha"]')
    redis_client.zadd("unacked_index", {"t1": 2, "t2": 1})
    refs = discover(backend)
    page = backend.list_jobs(refs["alpha"], JobQuery(state=State.WAITING))
    assert [job.id for job in page.jobs[::2]] == ["first", "last"]
    for job in page.jobs:
        assert backend.read_job(refs["alpha"], job.id).id == job.id
    assert len(backend.search_page(refs["alpha"], JobQuery(state=State.WAITING, per_page=500)).rows) == 3
    assert len(backend.list_jobs(refs["*"], JobQuery(state=State.WAITING)).jobs) >= 1
    assert backend.read_stats(list(refs.values()))[0].error is None


@pytest.mark.parametrize("status", ["FAILURE", "SUCCESS"])
def test_records_of_any_size_and_depth_do_not_affect_other_rows(
    backend: Celery, redis_client: redis.Redis, status: str
) -> None:
    declare_queues(redis_client, "alpha")
    refs = discover(backend)
    state = State.DEAD if status == "FAILURE" else State.COMPLETED
    begins = f'{{"status": "{status}", "date_done": "2026-11-24T03:00:00+00:00", "result": '.encode()
    records = {
        "long": begins + b'"' + b"x" * 9 * MIB + b'"}',
        "deep": begins + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "deep too": begins + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
        "plain": begins + b"null}",
    }
    for n, (name, raw) in enumerate(records.items()):
        redis_client.set(f"celery-task-meta-{name}", raw)
        redis_client.zadd(keys_of(state), {name: n})
    before = sent_bytes(redis_client)
    page = backend.list_jobs(refs["*"], JobQuery(state=state))
    assert {job.id for job in page.jobs} == set(records)
    problems = {job.id: job.problem for job in page.jobs}
    assert (
        problems["long"] == f"too large to decode: its record has {len(records['long']):,} bytes, the limit is 262,144"
    )
    assert problems["plain"] is None
    for name in records:
        assert backend.read_job(refs["*"], name).id == name
    assert len(backend.search_page(refs["*"], JobQuery(state=state, per_page=500)).rows) == 4
    assert sent_bytes(redis_client) - before < 4 * MIB


def keys_of(state: State) -> str:
    from dashboard.backends.celery.keys import index_key

    found = index_key("main", state, "")
    return found if isinstance(found, str) else found.decode()


def test_held_messages_are_read_within_bounds(backend: Celery, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "alpha")
    for n in range(40):
        size = 9 * MIB if n == 7 else 150_000
        entry = [json.loads(long_message(f"t{n}", size)), "", "alpha"]
        redis_client.hset("unacked", f"tag{n}", json.dumps(entry))
        redis_client.zadd("unacked_index", {f"tag{n}": n})
    refs = discover(backend)
    before = sent_bytes(redis_client)
    page = backend.list_jobs(refs["*"], JobQuery(state=State.WAITING, per_page=100))
    assert any("too large to decode" in (job.problem or "") for job in page.jobs)
    assert sent_bytes(redis_client) - before < 10 * MIB
    stats = {found.name: found for found in backend.read_stats(list(refs.values()))}
    # So many bytes are not looked into for a figure; unknown is not zero.
    assert (stats["*"].counts.active, stats["*"].counts.waiting) == (None, None)


def eval_script(client: redis.Redis, script: str, *arguments: Any) -> Any:
    return client.eval(keys.load_script(script), 0, *arguments)


@pytest.mark.parametrize("script", ["page", "find", "seek"])
def test_a_script_call_reads_at_most_one_batch_beyond_its_limit(redis_client: redis.Redis, script: str) -> None:
    long = long_message("t", 3 * MIB)
    for _ in range(20):
        redis_client.lpush("alpha", long)
    once = 8 if script == "seek" else 1
    if script == "page":
        size, _, reached, read = eval_script(redis_client, "page", "alpha", 0, 500, CALL_BYTES)
    elif script == "find":
        size, reached, read, *_ = eval_script(redis_client, "find", "alpha", 0, 5000, CALL_BYTES, "folded", "nowhere")
    else:
        size, _, reached, read = eval_script(redis_client, "seek", "alpha", 0, 500, CALL_BYTES, MIB, 1, "nowhere")
    assert (size, reached) == (20, once)
    assert read == once * len(long)


def test_very_long_messages_can_be_deleted_without_reading_them(
    server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    source = Source("main", server.url)
    backend = Celery(source, SourceSettings(name="main", url=server.url))
    backend.own_source = source
    declare_queues(redis_client, "alpha")
    long = [long_message(f"long{n}", 3 * MIB) for n in range(3)]
    for raw in (message("first"), *long, message("last")):
        redis_client.lpush("alpha", raw)
    ref = discover(backend)["alpha"]
    job_refs = backend.list_job_refs(ref, JobQuery(state=State.WAITING))
    assert len(job_refs) == 5
    before = sent_bytes(redis_client)
    taken = backend.backup_jobs(ref, State.WAITING, [job_refs[2], job_refs[4], JobRef(id=job_refs[1].id)])
    backups = [one for one in taken if isinstance(one, JobBackup)]
    assert [one.size_bytes for one in backups] == [len(long[1]), len(message("last")), len(long[0])]
    assert [one.blob is None for one in backups] == [True, False, True]
    assert [one.outcome for one in backend.delete_jobs(ref, State.WAITING, backups)] == [Outcome.DONE] * 3
    assert sent_bytes(redis_client) - before < MIB
    assert redis_client.lrange("alpha", 0, -1) == [long[2], message("first")]
    backend.close()
    source.close()
