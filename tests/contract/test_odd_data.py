"""Odd data in keys of Sidekiq and RQ affects only its own row, never a page, a search or a sample."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import redis
from redis.exceptions import ResponseError
from rq import Queue

from dashboard.backends.actions import JobRef
from dashboard.backends.base import Backend, Budget
from dashboard.backends.rq.backend import RQ
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import QueuedeckError
from dashboard.model import Capability, JobQuery, QueueRef, QueueStats, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from dashboard.store.packing import pack, unpack
from tests.contract.rq_library import fill_queue, open_client
from tests.contract.sidekiq_worker import failed_payload, jid_of, payload

DEEP = "[" * 900 + "]" * 900
DEEPER = "[" * 5000 + "]" * 5000
# Values of JSON that one decoder or another chokes on.
VALUES = (
    *("1e999", "-1e999", "NaN", "Infinity", "9" * 400, "-1", "0", "1e18", "253402300800", "null", "true", "[]", "{}"),
    *('"\\ud83c"', '"\\u0000"', '"1e999"', '"nan"', '"\\udc00\\ud800"', '""', DEEP, DEEPER, '{"\\ud83c":1}'),
)
RAW = (b"", b"\xff\xfe", b"\x00", b"1e999", b"nan", b"-1", b"9" * 400, b"\xed\xa0\xbc", b"x" * 3000, b"253402300800")
FIELDS = (
    *("jid", "class", "args", "queue", "enqueued_at", "created_at", "failed_at", "retried_at", "retry", "retry_count"),
    *("error_class", "error_message", "error_backtrace", "wrapped", "display_class", "tags", "bid", "encrypt", "at"),
    *("lock_digest", "unique_for", "dead", "retry_queue"),
)
KINDS: dict[str, Callable[[redis.Redis, bytes], object]] = {
    "string": lambda client, key: client.set(key, b"\xff"),
    "list": lambda client, key: client.rpush(key, b"", b"\xff", b"{"),
    "hash": lambda client, key: client.hset(key, mapping={b"": b"", b"\xff": b"\xff"}),
    "set": lambda client, key: client.sadd(key, b"", b"\xff", b"a:1:abc"),
    "zset": lambda client, key: client.zadd(key, {b"": float("inf"), b"\xff": float("-inf"), b"{}": -1, b"[]": 1e300}),
    "stream": lambda client, key: client.xadd(key, {b"": b"\xff"}),
}


def payload_with(field: str, value: str) -> bytes:
    """A payload one field of which holds `value` as it is."""
    fields = json.loads(failed_payload(field, wrapped="Import", args=[{"arguments": [1], "continuation": {}}]))
    fields[field] = "@"
    return json.dumps(fields).replace('"@"', value).encode()


def read_all(backend: Backend, known: list[QueueRef]) -> None:
    """Call every read; errors of our own types are fine."""
    cursor, refs = None, {ref.key: ref for ref in known}
    for _ in range(50):
        try:
            step = backend.discover_queues(cursor, Budget(commands=50, seconds=5))
        except ResponseError:
            break  # told as a problem of the source
        refs.update({ref.key: ref for ref in step.found})
        if step.complete or step.problem:
            break
        cursor = step.cursor
    queues = backend.disambiguate(list(refs.values()))
    rows = backend.read_stats(queues)
    assert all(unpack(pack(row), QueueStats) == row for row in rows)
    assert len(rows) == len(queues)
    _, flow = backend.read_flow(queues, None)
    backend.read_flow(queues, flow)
    for found in (backend.list_workers(queues), backend.list_schedules(queues), backend.library_versions(queues)):
        assert isinstance(found, list | tuple)
    backend.read_marks(queues, backend.source.now_s() - 86_400, backend.source.now_s())
    for ref in queues:
        for state in backend.states:
            read_list(backend, ref, state)
        if Capability.CLASSES in backend.capabilities:
            backend.read_class_stats(ref)


def read_list(backend: Backend, ref: QueueRef, state: State) -> None:
    query = JobQuery(state=state, per_page=200)
    try:
        page = backend.list_jobs(ref, query)
        backend.list_job_refs(ref, query)
        backend.search_page(ref, query)
        if backend.can_scan(state):
            backend.scan_matches(ref, state, "mark", 0)
    except QueuedeckError:
        return
    for row in page.jobs:
        try:
            job = backend.read_job(ref, row.id)
        except QueuedeckError:
            continue
        assert job.payload is None or job.payload.text.encode() is not None
    job_refs = [JobRef(id=row.id, version=row.version) for row in page.jobs][:20]
    if job_refs:
        backend.backup_jobs(ref, state, job_refs)


@pytest.fixture
def sidekiq(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Sidekiq]:
    source = Source("main", any_server.url)
    yield Sidekiq(source, SourceSettings(name="main", url=any_server.url))
    source.close()


@pytest.fixture
def rq(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[RQ]:
    source = Source("main", any_server.url)
    yield RQ(source, SourceSettings(name="main", url=any_server.url))
    source.close()


SHARED = QueueRef(source="main", backend="sidekiq", name="*", key="*", shared=True)
WORK = QueueRef(source="main", backend="sidekiq", name="work", key="queue:work")


def fill_sidekiq(client: redis.Redis) -> None:
    client.set("stat:processed", 1)
    client.sadd("queues", "work")
    client.lpush("queue:work", payload("good"))
    for name in ("schedule", "retry", "dead"):
        client.zadd(name, {failed_payload(f"good {name}"): time.time()})
    client.sadd("processes", "web:1:aaaaaaaaaaaa")
    client.hset("web:1:aaaaaaaaaaaa", mapping={"info": "{}", "beat": time.time(), "busy": 1})
    client.hset("web:1:aaaaaaaaaaaa:work", "t1", json.dumps({"queue": "work", "payload": payload(), "run_at": 1}))
    client.hset("schedules", "ping", json.dumps({"class": "Ping", "every": "5m"}))
    client.sadd("cron_jobs:billing", "cron_job:billing:nightly")
    client.hset("cron_job:billing:nightly", mapping={"klass": "Mark", "cron": "0 3 * * *"})


@pytest.mark.parametrize("field", FIELDS)
def test_any_value_in_a_payload_field_affects_only_its_row(
    sidekiq: Sidekiq, any_redis: redis.Redis, field: str
) -> None:
    fill_sidekiq(any_redis)
    odd = [payload_with(field, value) for value in VALUES]
    any_redis.lpush("queue:work", *odd, payload("last"))
    for name in ("schedule", "retry", "dead"):
        any_redis.zadd(name, {each: n - 5 for n, each in enumerate(odd)})
    any_redis.hset("web:1:aaaaaaaaaaaa:work", mapping={f"o{n}": each for n, each in enumerate(odd)})
    read_all(sidekiq, [])
    rows = sidekiq.list_jobs(WORK, JobQuery(state=State.WAITING, per_page=200)).jobs
    assert len(rows) == len(odd) + 2
    assert {jid_of("good"), jid_of("last")} <= {row.id for row in rows if row.problem is None}
    assert sidekiq.list_jobs(SHARED, JobQuery(state=State.DEAD, per_page=200)).total == len(odd) + 1


def test_sidekiq_is_read_with_a_key_of_any_type(sidekiq: Sidekiq, any_redis: redis.Redis) -> None:
    fill_sidekiq(any_redis)
    for key in sorted(any_redis.scan_iter()):
        for write in KINDS.values():
            any_redis.flushdb()
            fill_sidekiq(any_redis)
            any_redis.delete(key)
            write(any_redis, key)
            read_all(sidekiq, [SHARED, WORK])


def test_sidekiq_is_read_with_any_value_in_any_field(sidekiq: Sidekiq, any_redis: redis.Redis) -> None:
    fill_sidekiq(any_redis)
    hashes = list(any_redis.scan_iter(_type="hash"))
    values = [*RAW, *(value.encode() for value in VALUES)]
    for key in hashes:
        for name in any_redis.hkeys(key):
            for value in values:
                any_redis.hset(key, name, value)
                sidekiq.list_workers([SHARED, WORK])
                sidekiq.list_schedules([SHARED, WORK])
            fill_sidekiq(any_redis)
    for value in values:
        any_redis.set("stat:processed", value)
        any_redis.lpush("queue:work", value)
        any_redis.sadd("queues", value)
        any_redis.zadd("dead", {value: -1})
        any_redis.sadd("processes", value)
    read_all(sidekiq, [SHARED, WORK])


REF = QueueRef(source="main", backend="rq", name="alpha", key="rq:queue:alpha")


def far_apart(keys: Sequence[bytes], together: int) -> list[Sequence[bytes]]:
    """The keys in groups of `together` at most; those of a group are far apart in this order, and so are read apart."""
    groups = -(-len(keys) // together)
    return [keys[begin::groups] for begin in range(groups)]


# How many keys have another type at the same time; in the soak each key has it by itself.
@pytest.mark.parametrize("together", [4, pytest.param(1, marks=pytest.mark.soak)])
def test_rq_is_read_with_a_key_of_any_type(
    rq: RQ, any_server: EmbeddedRedis, any_redis: redis.Redis, together: int
) -> None:
    with open_client(any_server.url) as client:
        fill_queue(Queue("alpha", connection=client))
    keys = sorted(any_redis.scan_iter(), key=lambda key: (key.startswith((b"rq:job:", b"rq:results:")), key))
    dumps = {key: any_redis.dump(key) for key in keys}
    damaged = [*keys[:20], *keys[-3:], b"rq:queue:alpha:intermediate", b"rq:cron_schedulers", b"rq:executions:x"]
    for chosen in far_apart(damaged, together):
        for turn in range(len(KINDS)):
            any_redis.delete(*chosen)
            for number, key in enumerate(chosen):
                list(KINDS.values())[(turn + number) % len(KINDS)](any_redis, key)
            read_all(rq, [REF])
        any_redis.delete(*chosen)
        for key in chosen:
            if key in dumps:
                any_redis.restore(key, 0, dumps[key])


def test_jobs_of_rq_are_listed_with_any_value_in_any_field(
    rq: RQ, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    with open_client(any_server.url) as client:
        ids = fill_queue(Queue("alpha", connection=client))
    for state, members in ids.items():
        key = f"rq:job:{members[0]}"
        was = any_redis.hgetall(key)
        for odd in (*RAW, *(text.encode() for text in VALUES)):
            any_redis.hset(key, mapping=dict.fromkeys(was, odd))
            read_once(rq, state, members[0])
            any_redis.hset(key, "status", was[b"status"])
            read_once(rq, state, members[0])
        for name in was:
            for odd in RAW[:5]:
                any_redis.hset(key, mapping=was | {name: odd})
                read_once(rq, state, members[0])


def read_once(backend: RQ, state: State, job_id: str) -> None:
    rows = backend.list_jobs(REF, JobQuery(state=state)).jobs
    assert job_id in {row.id for row in rows}
    backend.search_page(REF, JobQuery(state=state))
    with contextlib.suppress(QueuedeckError):
        backend.read_job(REF, job_id)
