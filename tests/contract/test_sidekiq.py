"""Features that only Sidekiq has: shared sets, namespaces, malformed entries, processes; layouts of 6, 7 and 8."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis

from dashboard.backends.base import Budget
from dashboard.backends.scan import KEYS_PER_CALL
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.backends.sidekiq.discovery import MOST_UNCOUNTED
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable, NotFound
from dashboard.model import JobQuery, Quality, QueueRef, QueueStats, State, WorkerState
from dashboard.schedules.lateness import late_s
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.sidekiq_library import SidekiqLibrary
from tests.contract.test_bullmq import READER


@pytest.fixture
def backend(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Sidekiq]:
    """The backend on an empty server of each version."""
    source = Source("main", any_server.url)
    yield Sidekiq(source, SourceSettings(name="main", url=any_server.url))
    source.close()


def payload(**fields: Any) -> str:
    """A payload as Ruby writes it; fields with None are left out."""
    job = {
        "class": "Shop::Mailer",
        "args": ["anna@example.com", {"password": "hunter2"}],
        "retry": True,
        "queue": "mails",
        "jid": "0123456789abcdef01234567",
        "created_at": time.time() - 60,
        "enqueued_at": time.time() - 30,
        **fields,
    }
    return json.dumps({name: value for name, value in job.items() if value is not None}, separators=(",", ":"))


def discover(backend: Sidekiq) -> dict[str, QueueRef]:
    """All queues by the names they get."""
    found: dict[str, QueueRef] = {}
    cursor = None
    while True:
        step = backend.discover_queues(cursor, Budget(commands=50, seconds=5))
        found.update({ref.key: ref for ref in step.found})
        if step.complete:
            return {ref.name: ref for ref in backend.disambiguate(list(found.values()))}
        cursor = step.cursor


def stats(backend: Sidekiq, name: str) -> QueueStats:
    """The stats of one queue."""
    return backend.read_stats([discover(backend)[name]])[0]


def enqueue(client: redis.Redis, *payloads: str | bytes, prefix: str = "", queue: str = "mails") -> None:
    """Push payloads as a client does."""
    client.sadd(f"{prefix}queues", queue)
    client.incr(f"{prefix}stat:processed")
    for each in payloads:
        client.lpush(f"{prefix}queue:{queue}", each)


def add_process(
    client: redis.Redis, identity: str = "web-1:42:abcdefabcdef", *, prefix: str = "", **fields: Any
) -> None:
    """A live process as its heartbeat leaves it."""
    info = {
        "hostname": "web-1",
        "pid": 42,
        "started_at": time.time() - 600,
        "queues": ["mails", "low"],
        "version": "7.3.9",
        "concurrency": 5,
        "tag": "shop",
        "labels": ["blue"],
        "identity": identity,
    }
    client.sadd(f"{prefix}processes", identity)
    mapping = {"info": json.dumps(info), "busy": 0, "beat": time.time(), "quiet": "false", "rss": 2048, "rtt_us": 900}
    client.hset(f"{prefix}{identity}", mapping={**mapping, **fields})


def test_a_user_without_scripts_reads_the_same(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    filled = SidekiqLibrary().fill(any_server.url)
    any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
    url = f"redis://reader:secret@127.0.0.1:{any_server.port}/0"
    source = Source("main", url)
    reader = Sidekiq(source, SourceSettings(name="main", url=url))
    refs = discover(backend)
    assert discover(reader) == refs
    began = time.monotonic()
    for one, other in zip(backend.read_stats(list(refs.values())), reader.read_stats(list(refs.values())), strict=True):
        assert (one.counts, one.native, one.workers, one.notes) == (
            other.counts,
            other.native,
            other.workers,
            other.notes,
        )
        assert one.latency_s == pytest.approx(other.latency_s, abs=1 + time.monotonic() - began)
    for name, lists in filled.ids.items():
        for state, ids in lists.items():
            assert backend.list_jobs(refs[name], JobQuery(state=state)) == reader.list_jobs(
                refs[name], JobQuery(state=state)
            )
            for job_id in ids:
                assert backend.read_job(refs[name], job_id) == reader.read_job(refs[name], job_id)
    source.close()
    any_redis.execute_command("ACL", "DELUSER", "reader")


@pytest.mark.parametrize("scale", [1, 1000], ids=["seconds of 6 and 7", "milliseconds of 8"])
def test_times_are_read_in_seconds_and_milliseconds(backend: Sidekiq, any_redis: redis.Redis, scale: int) -> None:
    at = {name: int((time.time() - age) * scale) for name, age in (("created_at", 60), ("enqueued_at", 30))}
    enqueue(any_redis, payload(**at))
    assert stats(backend, "mails").latency_s == pytest.approx(30, abs=60)
    (job,) = backend.list_jobs(discover(backend)["mails"], JobQuery(state=State.WAITING)).jobs
    assert job.enqueued_at is not None
    assert job.enqueued_at.timestamp() == pytest.approx(at["enqueued_at"] / scale, abs=0.01)


WRITTEN = ("{:.3f}", "iso", "ruby", "+02:00")


@pytest.mark.parametrize("form", WRITTEN)
def test_a_time_that_is_written_as_text_is_read(backend: Sidekiq, any_redis: redis.Redis, form: str) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=300)
    east = at.astimezone(timezone(timedelta(hours=2)))
    forms = {"iso": at.isoformat(), "ruby": f"{at:%Y-%m-%d %H:%M:%S} UTC", "+02:00": f"{east:%Y-%m-%d %H:%M:%S} +0200"}
    written = forms.get(form) or form.format(at.timestamp())
    enqueue(any_redis, payload(enqueued_at=written, created_at=time.time() - 9000))
    assert stats(backend, "mails").latency_s == pytest.approx(300, abs=60)
    ref = discover(backend)["mails"]
    (row,) = backend.list_jobs(ref, JobQuery(state=State.WAITING)).jobs
    assert row.enqueued_at == at
    job = backend.read_job(ref, row.id)
    assert {event.event: event.at for event in job.timeline}["enqueued"] == at


@pytest.mark.parametrize("written", ["yesterday", "1e999", "nan", "-5", "9999999999999999999999", "x" * 500, True, [1]])
def test_a_time_that_cannot_be_read_is_unknown(backend: Sidekiq, any_redis: redis.Redis, written: Any) -> None:
    enqueue(any_redis, payload(enqueued_at=written, created_at=time.time() - 9000))
    assert stats(backend, "mails").latency_s is None
    (row,) = backend.list_jobs(discover(backend)["mails"], JobQuery(state=State.WAITING)).jobs
    assert (row.enqueued_at, row.name) == (None, "Shop::Mailer")


def test_the_oldest_job_counts_at_any_position(backend: Sidekiq, any_redis: redis.Redis) -> None:
    now = time.time()
    steady = [payload(jid=f"steady{n}", enqueued_at=now - 5000 + n) for n in range(3000)]
    enqueue(any_redis, *steady)
    so_far = 0
    for jumped in (1, 2, 3, 7, 40, 700):
        first = [payload(jid=f"first{n}", enqueued_at=now - 60 + n / 100) for n in range(so_far, jumped)]
        assert any_redis.rpush("queue:mails", *first) == len(steady) + jumped
        so_far = jumped
        assert stats(backend, "mails").latency_s == pytest.approx(5000, abs=60), jumped
    # Looked at is little of it, however long the jobs are.
    any_redis.delete("queue:mails")
    enqueue(any_redis, *(payload(args=["x" * 60_000], jid=f"long{n}", enqueued_at=now - n) for n in range(600)))
    used = any_redis.info("commandstats")["cmdstat_lindex"]["calls"]
    assert stats(backend, "mails").latency_s is not None
    assert any_redis.info("commandstats")["cmdstat_lindex"]["calls"] - used <= 40


def test_an_encrypted_argument_is_not_shown(backend: Sidekiq, any_redis: redis.Redis) -> None:
    cipher = "BAhTOhFTaWRla2lxOjpFbmM"
    enqueue(any_redis, payload(args=[7, cipher], encrypt=True), payload(args=[8, "plain"], encrypt=False, jid="plain"))
    ref = discover(backend)["mails"]
    rows = {job.id: job for job in backend.list_jobs(ref, JobQuery(state=State.WAITING)).jobs}
    hidden = rows["0123456789abcdef01234567"]
    assert hidden.summary == '7, "[encrypted data]"'
    assert rows["plain"].summary == '8, "plain"'
    job = backend.read_job(ref, hidden.id)
    assert job.payload is not None
    assert job.payload.value == [7, "[encrypted data]"]
    assert cipher not in job.payload.text
    assert not [row for row in backend.search_page(ref, JobQuery(state=State.WAITING)).rows if cipher in row.text]
    found = backend.scan_matches(ref, State.WAITING, cipher, 0)
    assert found is not None
    assert not [row for row in found.rows if cipher in row.text]


def test_a_batch_and_a_lock_are_shown(backend: Sidekiq, any_redis: redis.Redis) -> None:
    lock = {"lock": "until_executed", "lock_digest": "uniquejobs:0a1b"}
    enqueue(any_redis, payload(bid="b-17", **lock), payload(jid="none"), payload(jid="ent", unique_for=600))
    any_redis.hset("uniquejobs:0a1b:LOCKED", "0123456789abcdef01234567", 1)
    ref = discover(backend)["mails"]

    def facts(job_id: str = "0123456789abcdef01234567") -> dict[str, str]:
        return dict(backend.read_job(ref, job_id).facts)

    assert facts()["Batch"] == "b-17 (never completes if this job is deleted)"
    assert facts()["Unique lock"] == "uniquejobs:0a1b (until_executed): locked by this job, does not expire"
    any_redis.expire("uniquejobs:0a1b:LOCKED", 1000)
    assert "locked by this job, expires in " in facts()["Unique lock"]
    any_redis.delete("uniquejobs:0a1b:LOCKED")
    assert facts()["Unique lock"].endswith("not locked now")
    any_redis.set("uniquejobs:0a1b:LOCKED", "x")
    assert facts()["Unique lock"].endswith("cannot be read")
    assert not {"Batch", "Unique lock"} & set(facts("none"))
    assert facts("ent")["Unique for (s)"] == "600"


def test_the_progress_of_an_iterable_job_is_shown(backend: Sidekiq, any_redis: redis.Redis) -> None:
    """Keys as `lib/sidekiq/job/iterable.rb` of Sidekiq 7.3 and 8 writes them."""
    jid = "0123456789abcdef01234567"
    any_redis.set("stat:processed", 1)
    any_redis.zadd("retry", {payload(retry_count=1): 7})
    ref = discover(backend)["*"]

    def facts() -> dict[str, str]:
        return dict(backend.read_job(ref, f"7-{jid}").facts)

    named = {"Runs started", "Total run time", "Cursor", "Asked to stop", "Iteration"}
    assert not named & set(facts())
    any_redis.hset(f"it-{jid}", mapping={"ex": 3, "rt": "12.5", "c": '{"id":900,"password":"hush"}'})
    shown_facts = facts()
    assert (shown_facts["Runs started"], shown_facts["Total run time"], "Asked to stop" in shown_facts) == (
        "3",
        "12 s",
        False,
    )
    assert shown_facts["Cursor"].startswith('{"id": 900, "password": ')
    assert "hush" not in shown_facts["Cursor"]
    any_redis.hset(f"it-{jid}", mapping={"cancelled": 1_700_000_000, "c": "null"})
    assert (facts()["Cursor"], facts()["Asked to stop"]) == ("none yet", "2023-11-14T22:13:20.000Z")
    any_redis.hset(f"it-{jid}", mapping={"c": '"' + "x" * 100_000 + '"', "ex": "many", "rt": "", "cancelled": "no"})
    shown_facts = facts()
    assert shown_facts["Cursor"] == "97.7 KiB: not read"
    assert (shown_facts["Runs started"], shown_facts["Total run time"], "Asked to stop" in shown_facts) == (
        "unknown",
        "unknown",
        False,
    )
    for odd in ("not json", '"\\ud83c"', b"\xff\xfe", "[" * 50_000):
        any_redis.hset(f"it-{jid}", "c", odd)
        assert len(facts()["Cursor"]) <= 201
    any_redis.delete(f"it-{jid}")
    any_redis.set(f"it-{jid}", "x")
    assert named & set(facts()) == {"Iteration"}


def test_active_job_is_named_by_the_wrapped_class(backend: Sidekiq, any_redis: redis.Redis) -> None:
    wrapper = {"class": "Sidekiq::ActiveJob::Wrapper", "wrapped": "WelcomeJob"}
    enqueue(any_redis, payload(**wrapper, args=[{"job_id": "x", "arguments": ["anna", 7]}]))
    ref = discover(backend)["mails"]
    (row,) = backend.list_jobs(ref, JobQuery(state=State.WAITING)).jobs
    assert (row.name, row.summary) == ("WelcomeJob", '"anna", 7')
    job = backend.read_job(ref, row.id)
    assert job.payload is not None
    assert job.payload.value == ["anna", 7]
    assert ("Class in Redis", "Sidekiq::ActiveJob::Wrapper") in job.facts


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
@pytest.mark.parametrize(
    "jid",
    ["12345678-1234-4123-8123-123456789012", "2024-01-01T00:00:00", "7-x", 'say "hi"', "back\\slash", "a/b", "a\0b"],
)
def test_a_custom_jid_opens_its_job(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis, jid: str, scripts: bool
) -> None:
    other = payload(jid="other", args=[jid])
    mine = payload(jid=jid).replace("/", "\\/")  # as PHP writes it
    any_redis.set("stat:processed", 1)
    any_redis.sadd("queues", "mails")
    any_redis.lpush("queue:mails", other, mine, other)
    any_redis.zadd("retry", {other: 7, mine: 8.5})
    refs = discover(backend)
    source = Source("main", any_server.url)
    if not scripts:
        any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
        source = Source("main", any_server.url.replace("redis://", "redis://reader:secret@"))
    reader = Sidekiq(source, SourceSettings(name="main", url=any_server.url))
    job = reader.read_job(refs["mails"], jid)
    assert (job.id, job.state) == (jid, State.WAITING)
    for ref in (refs["mails"], refs["*"]):
        job = reader.read_job(ref, f"8.5-{jid}")
        assert (job.id, job.state) == (f"8.5-{jid}", State.RETRYING)
    with pytest.raises(NotFound):
        reader.read_job(refs["mails"], f"7-{jid}")
    source.close()


def test_a_backtrace_is_unpacked_within_bounds(backend: Sidekiq, any_redis: redis.Redis) -> None:
    lines = ["app/mailer.rb:3:in `perform'", "lib/x.rb:1"]
    packed = base64.b64encode(zlib.compress(json.dumps(lines).encode())).decode()
    bomb = base64.b64encode(zlib.compress(b"[" + b'"a",' * 3_000_000 + b"1]")).decode()
    marshal = base64.b64encode(zlib.compress(b'\x04\b[\x06I"\x06a')).decode()
    failure = {"error_class": "Boom", "error_message": "no <b>", "retry_count": 2}
    for n, backtrace in enumerate([packed, lines, bomb, marshal, "no base64!", 5]):
        any_redis.zadd("dead", {payload(jid=f"jid{n}", error_backtrace=backtrace, **failure): time.time() + n})
    add_process(any_redis)
    ref = discover(backend)["*"]
    stacks = []
    for row in reversed(backend.list_jobs(ref, JobQuery(state=State.DEAD)).jobs):
        job = backend.read_job(ref, row.id)
        assert job.error is not None
        assert (job.error.class_name, job.attempts, job.max_attempts) == ("Boom", 3, 26)
        stacks.append(job.error.stack)
    assert stacks == ["\n".join(lines), "\n".join(lines), None, None, None, None]


def test_malformed_entries_of_the_dead_set_are_shown_as_text(backend: Sidekiq, any_redis: redis.Redis) -> None:
    add_process(any_redis)
    junk = [
        b"not json <script>",
        b"\xff\xfe\x00",
        b"[1,2]",
        b'{"class":5,"jid":["x"]}',
        b"",
        b'{"a":' * 3000,
        b"x" * 500_000,
    ]
    for n, member in enumerate(junk):
        any_redis.zadd("dead", {member: time.time() + n / 8})
    any_redis.zadd("dead", {payload(): time.time() - 5})
    ref = discover(backend)["*"]
    page = backend.list_jobs(ref, JobQuery(state=State.DEAD))
    assert page.total == len(junk) + 1
    assert [job.problem is None for job in page.jobs] == [False] * len(junk) + [True]
    for row in page.jobs:
        job = backend.read_job(ref, row.id)
        assert job.id == row.id
        assert job.payload is not None
        job.payload.text.encode()
        assert "hunter2" not in job.payload.text
    assert stats(backend, "*").counts.dead == len(junk) + 1


def test_each_malformed_entry_of_a_queue_has_a_page(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    any_redis.set("stat:processed", 1)
    odd = (b"not json", b"\xff", b"[1]", b"{}", b'{"jid":5}', b'{"a":' * 9000, b"x" * 5_000_000)
    enqueue(any_redis, payload(jid="before"), *odd, payload(jid="after"))
    any_redis.zadd("schedule", {"{}": float("inf"), "[]": 5, "\xff": -2.5})
    any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
    url = f"redis://reader:secret@127.0.0.1:{any_server.port}/0"
    without_scripts = Sidekiq(Source("main", url), SourceSettings(name="main", url=url))
    refs = discover(backend)
    for reading in (backend, without_scripts):
        for name, state, size in (("mails", State.WAITING, len(odd) + 2), ("*", State.SCHEDULED, 3)):
            rows = reading.list_jobs(refs[name], JobQuery(state=state)).jobs
            assert len(rows) == size
            assert [reading.read_job(refs[name], row.id).id for row in rows] == [row.id for row in rows]
    without_scripts.source.close()
    any_redis.execute_command("ACL", "DELUSER", "reader")


def test_a_huge_payload_is_not_fetched(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload(args=["x" * 2_000_000]), payload(args=["y" * 6_000_000], jid="larger"))
    before = any_redis.info("stats")["total_net_output_bytes"]
    ref = discover(backend)["mails"]
    page = backend.list_jobs(ref, JobQuery(state=State.WAITING))
    assert [job.name for job in page.jobs] == ["Shop::Mailer", None]
    assert page.jobs[1].problem
    assert backend.read_stats([ref])[0].latency_s is not None
    assert any_redis.info("stats")["total_net_output_bytes"] - before < 8_000_000  # the search looked at one head


def test_namespaces_are_found_and_never_collide(backend: Sidekiq, any_redis: redis.Redis) -> None:
    for prefix in ("", "app:prod:"):
        enqueue(any_redis, payload(), prefix=prefix)
        add_process(any_redis, prefix=prefix)
    enqueue(any_redis, payload(), prefix="app:prod:", queue="only-there")
    refs = discover(backend)
    assert set(refs) == {"*", "mails", "low", "app:prod:*", "app:prod:mails", "app:prod:low", "only-there"}
    found = {queue.name: queue for queue in backend.read_stats(list(refs.values()))}
    assert found["only-there"].prefix == "app:prod:"
    assert found["mails"].counts.waiting == found["app:prod:mails"].counts.waiting == 1
    assert {worker.id for worker in backend.list_workers(list(refs.values()))} == {
        "web-1:42:abcdefabcdef",
        "app:prod:web-1:42:abcdefabcdef",
    }


def test_a_list_that_the_set_of_queues_does_not_name_is_found(backend: Sidekiq, any_redis: redis.Redis) -> None:
    add_process(any_redis)
    enqueue(any_redis, payload())
    any_redis.lpush("queue:leftover", payload())
    any_redis.lpush("queue:sq|web-1|mails", payload())
    any_redis.set("queue:string", 1)
    assert set(discover(backend)) == {"*", "mails", "low", "leftover"}


@pytest.mark.parametrize("prefix", ["", "app:prod:"])
@pytest.mark.parametrize(
    ("key", "state"), [("schedule", State.SCHEDULED), ("retry", State.RETRYING), ("dead", State.DEAD)]
)
def test_sidekiq_without_a_queue_is_found_by_the_jobs_of_its_sets(
    backend: Sidekiq, any_redis: redis.Redis, prefix: str, key: str, state: State
) -> None:
    any_redis.zadd(f"{prefix}{key}", {payload(jid="one"): 5, "raw text": 3})
    refs = discover(backend)
    assert set(refs) == {"*"}
    (queue,) = backend.read_stats(list(refs.values()))
    assert queue.prefix == (prefix or None)
    assert queue.counts.of(state) == 2
    row = next(job for job in backend.list_jobs(refs["*"], JobQuery(state=state)).jobs if job.name == "Shop::Mailer")
    assert backend.read_job(refs["*"], row.id).name == "Shop::Mailer"


@pytest.mark.parametrize("prefix", ["", "app:prod:"])
def test_sidekiq_is_found_by_a_dead_process_or_its_counter(
    backend: Sidekiq, any_redis: redis.Redis, prefix: str
) -> None:
    any_redis.sadd(f"{prefix}processes", "web-1:42:abcdefabcdef")
    assert set(discover(backend)) == {"*"}
    any_redis.delete(f"{prefix}processes")
    assert discover(backend) == {}
    any_redis.set(f"{prefix}stat:processed", 7)
    assert set(discover(backend)) == {"*"}


@pytest.mark.parametrize("prefix", ["", "shop:"])
def test_other_keys_with_the_names_of_its_sets_are_not_taken_for_sidekiq(
    backend: Sidekiq, any_redis: redis.Redis, prefix: str
) -> None:
    odd = ("job-1", '{"jid":"one"}', '{"jid":1,"class":"A","args":[]}', '{"class":"A","args":[]}', "[]", "\xff")
    any_redis.zadd(f"{prefix}schedule", dict.fromkeys(odd, 1))
    any_redis.hset(f"{prefix}retry", payload(), 1)
    any_redis.set(f"{prefix}dead", payload())
    any_redis.sadd(f"{prefix}processes", "web", "web-1:42", "web-1:42:xyz")
    any_redis.rpush(f"{prefix}stat:processed", 5)
    assert discover(backend) == {}


def test_many_keys_that_end_like_those_of_sidekiq_cost_little(backend: Sidekiq, any_redis: redis.Redis) -> None:
    for n in range(3000):
        any_redis.zadd(f"user:{n}:schedule", {"event": n})
    any_redis.zadd("zoo:schedule", {payload(): 1})
    any_redis.set("zoo:stat:processed", 1)
    with measure_cost() as meter:
        assert set(discover(backend)) == {"*"}
    assert meter.commands < 13 * MOST_UNCOUNTED + 3 * 3 * 3000 / KEYS_PER_CALL + 40
    assert meter.round_trips < 30


@pytest.mark.parametrize("kind", ["nothing", "resque", "strings"])
def test_keys_of_other_libraries_are_not_taken_for_sidekiq(backend: Sidekiq, any_redis: redis.Redis, kind: str) -> None:
    if kind == "resque":
        any_redis.sadd("queues", "mails")
        any_redis.lpush("queue:mails", json.dumps({"class": "Mailer", "args": []}))
    if kind == "strings":
        any_redis.mset({"queues": "a", "processes": "b", "stat:processed": "many"})
    assert discover(backend) == {}


def test_processes_are_listed_with_their_jobs(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload())
    add_process(any_redis, busy=1, concurrency=10)
    work = {"queue": "mails", "payload": payload(jid="running"), "run_at": int(time.time()) - 90}
    any_redis.hset("web-1:42:abcdefabcdef:work", "tid1", json.dumps(work))
    add_process(any_redis, "quiet-1:1:aaaaaaaaaaaa", quiet="true")
    add_process(any_redis, "late-1:2:bbbbbbbbbbbb", beat=time.time() - 55)
    add_process(any_redis, "odd-1:3:cccccccccccc", info="{broken", beat="soon", rss="much")
    any_redis.sadd("processes", "gone-1:4:dddddddddddd")
    found = {worker.id: worker for worker in backend.list_workers(list(discover(backend).values()))}
    busy = found["web-1:42:abcdefabcdef"]
    assert (busy.state, busy.hostname, busy.pid, busy.concurrency, busy.busy) == (WorkerState.BUSY, "web-1", 42, 10, 1)
    assert (busy.queues, busy.rss_bytes, busy.version) == (("mails", "low"), 2048 * 1024, "7.3.9")
    assert [(job.job_id, job.job_name, job.queue) for job in busy.work] == [("running", "Shop::Mailer", "mails")]
    assert found["quiet-1:1:aaaaaaaaaaaa"].state is WorkerState.QUIET
    assert found["late-1:2:bbbbbbbbbbbb"].state is WorkerState.SUSPECT
    assert found["odd-1:3:cccccccccccc"].problem
    assert found["gone-1:4:dddddddddddd"].state is WorkerState.DEAD
    ref = discover(backend)["mails"]
    (row,) = backend.list_jobs(ref, JobQuery(state=State.ACTIVE)).jobs
    assert (row.id, row.worker) == ("running", "web-1:42:abcdefabcdef")
    assert backend.read_job(ref, "running").state is State.ACTIVE
    assert stats(backend, "mails").workers == 3
    assert stats(backend, "mails").counts.active == 1


def test_rates_start_with_the_second_sample_and_survive_a_reset(backend: Sidekiq, any_redis: redis.Redis) -> None:
    add_process(any_redis)
    any_redis.mset({"stat:processed": 100, "stat:failed": 10})
    ref = discover(backend)["*"]
    delta, cursor = backend.read_flow([ref], None)
    assert delta.queues[0].quality is Quality.UNKNOWN
    any_redis.mset({"stat:processed": 130, "stat:failed": 12})
    delta, cursor = backend.read_flow([ref], cursor)
    flow = delta.queues[0]
    assert (flow.completed, flow.dead, flow.quality) == (28, 2, Quality.ESTIMATED)
    any_redis.mset({"stat:processed": 0, "stat:failed": 0})
    delta, cursor = backend.read_flow([ref], cursor)
    assert delta.queues[0].quality is Quality.UNKNOWN
    any_redis.set("stat:processed", "many")
    assert backend.read_flow([ref], cursor)[0].queues[0].completed == 0


def test_a_job_is_found_although_others_name_its_id_in_their_arguments(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    wanted, later = "a" * 24, "c" * 24
    naming = [payload(jid=f"b{n}", args=[wanted, {"jid": wanted}]) for n in range(3)]
    enqueue(any_redis, *naming, payload(jid=wanted, args=["me"]), payload(jid="last"))
    retries = {payload(jid="r0", args=[later]): 9.0, payload(jid=later): 5.0, payload(jid="r1", args=[later]): 1.0}
    any_redis.zadd("retry", retries)
    any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
    url = f"redis://reader:secret@127.0.0.1:{any_server.port}/0"
    source = Source("main", url)
    refs = discover(backend)
    for each in (backend, Sidekiq(source, SourceSettings(name="main", url=url))):
        found = each.read_job(refs["mails"], wanted)
        assert (found.id, found.state) == (wanted, State.WAITING)
        assert found.payload is not None
        assert found.payload.value == ["me"]
        assert (found.jobs_ahead, dict(found.facts)["Position"]) == (3, "3 ahead")
        assert each.read_job(refs["*"], later).state is State.RETRYING
    any_redis.execute_command("ACL", "DELUSER", "reader")
    source.close()


@pytest.mark.parametrize("number", ["1e400", "-inf", "nan", "9" * 400])
def test_a_number_that_is_too_large_is_unknown(backend: Sidekiq, any_redis: redis.Redis, number: str) -> None:
    enqueue(any_redis, payload())
    any_redis.sadd("processes", "odd:1:abc")
    huge = 10**400
    info = {"hostname": "odd", "concurrency": huge, "started_at": huge, "pid": huge}
    fields = {"info": json.dumps(info), "busy": number, "beat": number, "rss": number, "rtt_us": number}
    any_redis.hset("odd:1:abc", mapping=fields)
    any_redis.hset("odd:1:abc:work", "t1", json.dumps({"queue": "mails", "payload": payload(), "run_at": huge}))
    any_redis.zadd("dead", {payload(jid="huge", created_at=huge, enqueued_at=huge, failed_at=huge): 1.0})
    any_redis.hset("schedules", "often", json.dumps({"class": "Ping", "every": huge}))
    refs = discover(backend)
    (worker,) = backend.list_workers(list(refs.values()))
    assert (worker.pid, worker.concurrency, worker.busy, worker.rss_bytes) == (None, None, None, None)
    assert (worker.started_at, worker.heartbeat_at, worker.work[0].started_at) == (None, None, None)
    (row,) = backend.list_jobs(refs["*"], JobQuery(state=State.DEAD)).jobs
    assert (row.enqueued_at, row.name) == (None, "Shop::Mailer")
    (often,) = backend.list_schedules(list(refs.values()))
    assert (often.name, often.pattern) == ("Ping", None)


def test_schedules_of_both_add_ons_are_read(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload())
    any_redis.sadd("cron_jobs", "cron_job:nightly report", "cron_job:broken")
    record = {"name": "nightly report", "klass": "Report", "cron": "0 3 * * *", "queue": "mails", "status": "disabled"}
    any_redis.hset("cron_job:nightly report", mapping={**record, "last_enqueue_time": "2026-11-23 03:00:00 +0000"})
    any_redis.set("cron_job:broken", "x")
    any_redis.hset("schedules", mapping={"ping": json.dumps({"class": "Ping", "every": "5m"}), "odd": "{"})
    any_redis.hset("sidekiq-scheduler:next_times", "ping", "2026-11-24 10:00:00 UTC")
    any_redis.hset("sidekiq-scheduler:states", "ping", '{"enabled":true}')
    found = {entry.id: entry for entry in backend.list_schedules(list(discover(backend).values()))}
    assert set(found) == {"nightly report", "broken", "ping", "odd"}
    nightly = found["nightly report"]
    assert nightly.next_run_at is None
    assert (nightly.name, nightly.pattern, nightly.queue, nightly.paused) == ("Report", "0 3 * * *", "mails", True)
    assert nightly.last_run_at is not None
    assert found["ping"].next_run_at is not None
    assert (found["ping"].pattern, found["ping"].paused) == ("5m", False)
    assert found["broken"].problem
    assert found["odd"].problem


def test_the_next_run_of_a_cron_job_is_shown_if_certain(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload())
    for name, cron in {"zoned": "0 3 * * * Asia/Tokyo", "local": "0 3 * * *", "words": "every day at noon"}.items():
        any_redis.sadd("cron_jobs", f"cron_job:{name}")
        any_redis.hset(f"cron_job:{name}", mapping={"name": name, "cron": cron, "status": "enabled"})
    found = {entry.id: entry for entry in backend.list_schedules(list(discover(backend).values()))}
    zoned = found["zoned"].next_run_at
    assert zoned is not None
    assert (zoned.hour, zoned.minute, found["zoned"].timezone) == (18, 0, "Asia/Tokyo")
    assert 0 < zoned.timestamp() - time.time() <= 86_400
    assert (found["local"].next_run_at, found["words"].next_run_at) == (None, None)


def test_cron_jobs_that_missed_a_run_and_entries_of_a_dead_scheduler_are_late(
    backend: Sidekiq, any_redis: redis.Redis
) -> None:
    enqueue(any_redis, payload())
    now = time.time()
    ran = {"missed": now - 3 * 3600, "on-time": now, "paused": now - 3 * 3600}
    for name, last in ran.items():
        any_redis.sadd("cron_jobs", f"cron_job:{name}")
        status = "disabled" if name == "paused" else "enabled"
        at = f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M:%S} +0000"
        record = {"name": name, "klass": "A", "cron": "*/30 * * * * UTC", "status": status, "last_enqueue_time": at}
        any_redis.hset(f"cron_job:{name}", mapping=record)
    any_redis.hset("schedules", "ping", json.dumps({"class": "Ping", "every": "5m"}))
    any_redis.hset("sidekiq-scheduler:next_times", "ping", f"{datetime.fromtimestamp(now - 600, UTC)}")
    late = {each.id: late_s(each, now) for each in backend.list_schedules(list(discover(backend).values()))}
    assert (late["on-time"], late["paused"]) == (0.0, 0.0)
    assert late["missed"] is not None
    assert 2.5 * 3600 - 1 <= late["missed"] <= 3 * 3600
    assert late["ping"] == pytest.approx(600, abs=1)


def test_jobs_are_found_by_plain_id_and_by_score(backend: Sidekiq, any_redis: redis.Redis) -> None:
    add_process(any_redis)
    same = [payload(jid=f"same{n}") for n in range(5)]
    any_redis.zadd("retry", dict.fromkeys(same, 1_900_000_000.25))
    enqueue(any_redis, *(payload(jid=f"jid{n}") for n in range(3000)))
    refs = discover(backend)
    for row in backend.list_jobs(refs["*"], JobQuery(state=State.RETRYING)).jobs:
        assert backend.read_job(refs["*"], row.id).id == row.id
    assert backend.read_job(refs["*"], "same3").state is State.RETRYING
    assert ("Position", "1,500 ahead") in backend.read_job(refs["mails"], "jid1500").facts
    with pytest.raises(NotFound):
        backend.read_job(refs["mails"], "jid")
    window = backend.search_page(refs["mails"], JobQuery(state=State.WAITING, per_page=500))
    assert len(window.rows) == 500
    assert "anna@example.com" in window.rows[0].text
    assert "hunter2" not in window.rows[0].text


def test_a_job_far_back_in_its_queue_or_set_is_found_by_its_id(
    backend: Sidekiq, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    any_redis.set("stat:processed", 1)
    head, tail = payload(jid="HERE").split("HERE")
    for start in range(0, 24_000, 1000):
        numbers = range(start, start + 1000)
        enqueue(any_redis, *(f"{head}{n:024x}{tail}" for n in numbers))
        any_redis.zadd("schedule", {f"{head}5{n:023x}{tail}": time.time() + n for n in numbers})
    any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
    url = f"redis://reader:secret@127.0.0.1:{any_server.port}/0"
    without_scripts = Sidekiq(Source("main", url), SourceSettings(name="main", url=url))
    refs = discover(backend)
    for reading in (backend, without_scripts):
        assert ("Position", "23,456 ahead") in reading.read_job(refs["mails"], f"{23456:024x}").facts
        assert reading.read_job(refs["*"], f"5{17:023x}").state is State.SCHEDULED
        with pytest.raises(NotFound):
            reading.read_job(refs["mails"], "f" * 24)
    without_scripts.source.close()
    any_redis.execute_command("ACL", "DELUSER", "reader")


def find_matches(backend: Sidekiq, name: str, state: State, word: str) -> list[str]:
    """The ids that a search finds up to the end of a list."""
    ref, offset, found = discover(backend)[name], 0, []
    while True:
        part = backend.scan_matches(ref, state, word, offset)
        assert part is not None
        found += [row.job.id for row in part.rows]
        if not part.more:
            return found
        assert part.reached > offset
        offset = part.reached


def test_a_search_returns_jobs_of_lists_and_sets_in_order(backend: Sidekiq, any_redis: redis.Redis) -> None:
    odd = payload(jid="odd").replace("anna", "\\u0061nna")
    enqueue(
        any_redis, *(payload(jid=f"JID{n}", args=[f"user{n % 500}@x"]) for n in range(2000)), odd, "no json user7@x"
    )
    ref = discover(backend)["mails"]
    query = JobQuery(state=State.WAITING, per_page=5000)
    every = [(row.job.id, row.text) for row in backend.search_page(ref, query).rows]
    for word in ("user7@x", "jid19", "Shop::Mailer", "anna@"):
        expected = [name for name, text in every if word.lower() in f"{name} {text}".lower()]
        found = find_matches(backend, "mails", State.WAITING, word)
        assert [name for name in found if name in expected] == expected, word
        assert set(found) - set(expected) <= {"odd"}, word
    any_redis.zadd("dead", {payload(jid=f"d{n}"): 1_700_000_000.5 + n for n in range(300)})
    newest = [
        row.id for row in backend.list_jobs(discover(backend)["*"], JobQuery(state=State.DEAD, per_page=500)).jobs
    ]
    assert find_matches(backend, "*", State.DEAD, "d29") == [name for name in newest if "d29" in name]
    assert find_matches(backend, "*", State.DEAD, "170000029") == [name for name in newest if "170000029" in name]
    assert find_matches(backend, "*", State.DEAD, "07.5-d7") == ["1700000007.5-d7"]
    assert backend.scan_matches(discover(backend)["*"], State.ACTIVE, "d29", 0) is None


def test_a_search_returns_shortened_text_of_long_entries(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, *(payload(jid=f"big{n}", args=["x" * 300_000, "needle"]) for n in range(30)))
    assert find_matches(backend, "mails", State.WAITING, "needle") == [f"big{n}" for n in range(30)]
    part = backend.scan_matches(discover(backend)["mails"], State.WAITING, "needle", 0)
    assert part is not None
    assert all(len(row.text) < 20_000 for row in part.rows)
    any_redis.delete("queue:mails")
    any_redis.set("queue:mails", "x")
    with pytest.raises(BackendUnavailable, match="wrong type"):
        backend.scan_matches(discover(backend)["mails"], State.WAITING, "needle", 0)
