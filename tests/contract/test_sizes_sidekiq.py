"""Sidekiq jobs of any size, depth and number affect one row each, never the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends.bounded_reads import CALL_BYTES, PAGE_BYTES
from dashboard.backends.sidekiq import keys
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.sizes import MIB, address_of_user
from tests.contract.test_sidekiq import READER, add_process, discover, enqueue, payload


@pytest.fixture(params=["scripts", "plain"])
def backend(request: pytest.FixtureRequest, server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Sidekiq]:
    """The backend of a user with and of one without scripts."""
    url = address_of_user(server, redis_client, READER, scripts=request.param == "scripts")
    source = Source("main", url)
    yield Sidekiq(source, SourceSettings(name="main", url=url))
    source.close()


def long_entries() -> dict[str, bytes]:
    filler = "x" * 80_000

    def job(jid: str, value: bytes) -> bytes:
        return payload(jid=jid, args=[filler]).encode()[:-1] + b',"odd":' + value + b"}"

    return {
        "infinite": job("a1", b'1e999,"low":-1e999'),
        "sparse": b"[[]," + json.dumps(filler).encode() + b"]",
        "empty in it": job("a2", b'{},"more":[[],{}]'),
        "big integer": job("a3", b"12345678901234567890123"),
        "deep": job("a4", b"[" * 100_000 + b"]" * 100_000),
        "deep object": job("a5", b'{"a":' * 5000 + b"1" + b"}" * 5000),
        "not a number": job("a6", b"NaN"),
        "many names": json.dumps({f"name{n}": n for n in range(20_000)}).encode(),
    }


@pytest.mark.parametrize("state", [State.WAITING, State.DEAD])
def test_an_odd_entry_does_not_affect_other_rows(backend: Sidekiq, redis_client: redis.Redis, state: State) -> None:
    odd = long_entries()
    enqueue(redis_client, payload(jid="first"), *odd.values(), payload(jid="last"))
    redis_client.zadd(
        "dead", {raw: n for n, raw in enumerate([payload(jid="first"), *odd.values(), payload(jid="last")])}
    )
    ref = discover(backend)["mails" if state is State.WAITING else "*"]
    page = backend.list_jobs(ref, JobQuery(state=state))
    assert len(page.jobs) == page.total == len(odd) + 2
    assert len({job.id for job in page.jobs}) == len(odd) + 2
    assert [job.name for job in page.jobs if job.id.endswith(("first", "last"))] == ["Shop::Mailer"] * 2
    for job in page.jobs:
        assert backend.read_job(ref, job.id).id == job.id
    job_refs = backend.list_job_refs(ref, JobQuery(state=state, per_page=100))
    assert {(job_ref.id, job_ref.version) for job_ref in job_refs} == {(job.id, job.version) for job in page.jobs}
    assert len(backend.search_page(ref, JobQuery(state=state, per_page=500)).rows) == len(odd) + 2
    if backend.can_scan(state):
        assert backend.scan_matches(ref, state, "shop::mailer", 0) is not None


def test_a_page_of_large_jobs_is_bounded_and_reports_unread_rows(backend: Sidekiq, redis_client: redis.Redis) -> None:
    big = [payload(jid=f"big{n}", args=["x" * 9 * MIB]) for n in range(4)]
    enqueue(redis_client, payload(jid="first"), *big, payload(jid="last"))
    ref = discover(backend)["mails"]
    before = redis_client.info("stats")["total_net_output_bytes"]
    page = backend.list_jobs(ref, JobQuery(state=State.WAITING))
    sent_bytes = redis_client.info("stats")["total_net_output_bytes"] - before
    assert page.jobs[0].id == "first"
    assert page.total == len(page.jobs) == 6
    if backend._scripts.are_refused:
        # One member more than the bound came; what stands behind it has a row that says so.
        assert sent_bytes < 12 * MIB
        assert page.truncated
        assert [job.id for job in page.jobs[2:]] == [f"unread-{n}" for n in range(2, 6)]
    else:
        assert sent_bytes < MIB
        assert page.jobs[-1].id == "last"
        assert all(f"{len(raw)} bytes" in (job.problem or "") for raw, job in zip(big, page.jobs[1:5], strict=True))
    assert sum(len(job.summary or "") for job in page.jobs) < PAGE_BYTES


def eval_script(redis_client: redis.Redis, script: str, *arguments: Any) -> Any:
    return redis_client.eval(keys.load_script(script), 0, *arguments)


@pytest.mark.parametrize("kind", ["list", "zset"])
@pytest.mark.parametrize("script", ["page", "job_refs", "scan_matches", "find"])
def test_a_script_call_reads_at_most_one_member_beyond_its_limit(
    redis_client: redis.Redis, kind: str, script: str
) -> None:
    entries = [payload(jid=f"j{n}", args=["x" * 3 * MIB]) for n in range(6)]
    enqueue(redis_client, *entries)
    redis_client.zadd("dead", {raw: n for n, raw in enumerate(entries)})
    key = "queue:mails" if kind == "list" else "dead"
    if script == "scan_matches":
        size, reached, _, read = eval_script(
            redis_client, "scan_matches", key, kind, "0", 0, 5000, CALL_BYTES, "nowhere"
        )
    elif script == "find":
        queue, sets = ("mails", "0") if kind == "list" else ("", "1")
        _, size, reached, read = eval_script(redis_client, "find", "", queue, "nowhere", "", 2000, 0, sets, CALL_BYTES)
    else:
        size, _, reached, read = eval_script(redis_client, script, key, kind, 0, 500, "0", CALL_BYTES)
    assert (size, reached) == (6, 1)
    assert CALL_BYTES <= read <= CALL_BYTES + len(entries[0])


@pytest.mark.parametrize("place", [0, 12_000])
def test_short_members_are_read_many_at_a_time(redis_client: redis.Redis, place: int) -> None:
    head, tail = payload(jid="HERE").split("HERE")
    redis_client.lpush("queue:mails", *(f"{head}j{n}{tail}" for n in range(24_000)))
    for start in (place,):
        size, found, reached, read = eval_script(
            redis_client, "page", "queue:mails", "list", start, 500, "0", CALL_BYTES
        )
        assert (size, reached, len(found) // 4) == (24_000, start + 500, 500)
        assert [json.loads(raw)["jid"] for raw in found[::4]] == [f"j{n}" for n in range(start, start + 500)]
        assert read == sum(map(len, found[::4]))


def test_a_very_long_job_does_not_hide_the_latency_of_other_queues(backend: Sidekiq, redis_client: redis.Redis) -> None:
    enqueue(redis_client, payload(queue="alpha", args=["x" * 5 * MIB]), queue="alpha")
    enqueue(redis_client, payload(queue="beta"), queue="beta")
    refs = discover(backend)
    stats = {found.name: found for found in backend.read_stats([refs["alpha"], refs["beta"]])}
    assert stats["beta"].latency_s is not None
    assert stats["alpha"].counts.waiting == 1


def test_a_long_running_job_is_not_read(backend: Sidekiq, redis_client: redis.Redis) -> None:
    enqueue(redis_client, payload())
    add_process(redis_client)
    work = {"queue": "mails", "run_at": 1, "payload": payload(args=["x" * 9 * MIB])}
    short = {**work, "payload": payload()}
    redis_client.hset("web-1:42:abcdefabcdef:work", mapping={"t1": json.dumps(work), "t2": json.dumps(short)})
    before = redis_client.info("stats")["total_net_output_bytes"]
    (worker,) = backend.list_workers(list(discover(backend).values()))
    assert len(worker.work) == 2
    assert redis_client.info("stats")["total_net_output_bytes"] - before < MIB


def test_jobs_behind_very_long_ones_can_be_deleted(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    source = Source("main", server.url)
    backend = Sidekiq(source, SourceSettings(name="main", url=server.url))
    long = [payload(jid=f"long{n}", args=["x" * 5 * MIB]) for n in range(3)]
    enqueue(redis_client, *long, payload(jid="mine"))
    redis_client.zadd("dead", dict.fromkeys([*long, payload(jid="mine")], 5))
    refs = discover(backend)
    for name, state in (("mails", State.WAITING), ("*", State.DEAD)):
        (job_ref,) = [
            job_ref
            for job_ref in backend.list_job_refs(refs[name], JobQuery(state=state))
            if job_ref.id.endswith("mine")
        ]
        (backup,) = backend.backup_jobs(refs[name], state, [job_ref])
        (result,) = backend.delete_jobs(refs[name], state, [backup])  # type: ignore[list-item]
        assert result.outcome.value == "done", result
    assert redis_client.llen("queue:mails") == redis_client.zcard("dead") == 3
    source.close()
