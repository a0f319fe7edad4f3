"""The checker as a whole: its clockwork, its delivery and its end, with real threads on a real Redis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue

from dashboard.alerts import keys
from dashboard.alerts.evaluation.durations import PersistedDurations
from dashboard.alerts.service import AlertService, build_alert_service
from dashboard.backends.monitored_sources import open_sources
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import QueueStats, Snapshot
from dashboard.sampling.leadership import Leadership
from dashboard.sampling.sampler import Sampler
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.services import CheckerThreads, build_checker
from dashboard.settings import Settings, load
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from dashboard.store.packing import unpack
from dashboard.store.redis_store import WRITES
from tests.alerts.channels.fake_providers import HttpSink, hang, status
from tests.processes import ROOT
from tests.readme_users import CELERY_GRANTS, PUBLISHER, READER
from tests.waiting import CEILING_S, wait_until

INTERVAL_S = 0.5


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    sink = HttpSink()
    yield sink
    sink.close()


@pytest.fixture
def begin(
    server: EmbeddedRedis, redis_client: redis.Redis, sink: HttpSink, tmp_path: Path
) -> Iterator[Callable[..., tuple[CheckerThreads, AlertService]]]:
    with ExitStack() as stack:

        def make(holder: str = "one", **keywords: Any) -> tuple[CheckerThreads, AlertService]:
            settings = settings_of(server, sink, tmp_path, **keywords)
            sources = open_sources(settings)
            stack.callback(sources.close)
            store = SnapshotStore(sources.own)
            checker = build_checker(settings, sources, store, holder)
            checker.start()
            stack.callback(checker.stop)
            return checker, build_alert_service(settings, store)

        yield make


def settings_of(server: EmbeddedRedis, sink: HttpSink, folder: Path, **keywords: Any) -> Settings:
    off = ("queue-no-consumers", "workers-gone", "checker-slow")
    deep = {"id": "deep", "metric": "queue.depth", "critical": 3, "for_s": 1, "group_wait_s": 0}
    values: dict[str, Any] = {
        "redis_url": server.url,
        "sample_interval_s": INTERVAL_S,
        "allow_private_webhooks": True,
        "spool_dir": str(folder / "spool"),
        "channels": [{"id": "ops", "kind": "webhook", "url": sink.url}],
        "rules": [
            {**deep, "recover_for_s": 0, "new_instance_grace_s": 0},
            *({"id": name, "enabled": False} for name in off),
        ],
        **keywords,
    }
    return load(environ={}, keywords=values)


def test_from_the_crossing_to_the_message_no_longer_than_promised(
    begin: Callable[..., Any],
    sink: HttpSink,
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Measured in ticks, which a busy machine makes rarer and never more frequent than one per interval."""
    ticks = 0
    queued_by: list[int] = []
    sample = Sampler.sample

    def counted(sampler: Sampler, epoch: int) -> Snapshot:
        nonlocal ticks
        ticks += 1
        if redis_client.exists(keys.UNSENT) or sink.requests:
            queued_by.append(ticks)
        return sample(sampler, epoch)

    monkeypatch.setattr(Sampler, "sample", counted)
    queue = Queue("mail", connection=redis_client)
    queue.enqueue("os.getpid")
    begin()
    with ExitStack() as stack:
        source = Source("main", server.url)
        stack.callback(source.close)
        # Finding a queue takes its time, and is not what is measured.
        known = SnapshotStore(source)
        wait_until(lambda: [found.name for found in _queues(known)] == ["mail"], what="the queue")
    queue.enqueue_many([Queue.prepare_data("os.getpid") for _ in range(5)])
    began = ticks
    wait_until(lambda: sink.requests, what="the message")
    wait_until(lambda: queued_by, what="another tick")
    # for_s + two intervals + group_wait_s; the tick after that one sees it
    assert (queued_by[0] - began - 1) * INTERVAL_S <= 1 + 2 * INTERVAL_S + 0


def _queues(store: SnapshotStore) -> list[QueueStats]:
    snapshot, _ = store.read_published(with_history=False)
    return list(snapshot.queues) if snapshot else []


def test_a_sink_that_hangs_delays_no_tick(begin: Callable[..., Any], sink: HttpSink, redis_client: redis.Redis) -> None:
    sink.answers = [hang]
    queue = Queue("mail", connection=redis_client)
    for _ in range(5):
        queue.enqueue("os.getpid")
    _, desk = begin()
    wait_until(lambda: sink.requests, what="the attempt")
    beats: set[bytes] = set()

    def beaten() -> int:
        beats.add(redis_client.hget(keys.HEARTBEAT, "at"))
        return len(beats)

    wait_until(lambda: beaten() >= 5, what="more ticks")
    wait_until(lambda: desk.checker.read_health().ok, what="a checker that is well")
    assert desk.notifications.list_deliveries() == ()  # its result is still unknown
    assert redis_client.zcard(keys.UNSENT) == 1
    sink.over.set()


def test_a_name_that_is_no_utf_8_stops_no_tick(
    begin: Callable[..., Any], sink: HttpSink, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        redis_client.hset(f"rq:job:{number}", mapping={"status": "queued", "origin": b"caf\xe9"})
        redis_client.rpush(b"rq:queue:caf\xe9", str(number))
    redis_client.sadd("rq:queues", b"rq:queue:caf\xe9")
    # The other libraries' queues of that name; each of them waits long enough to be told of, too.
    redis_client.sadd(b"_kombu.binding.caf\xe9", b"caf\xe9\x06\x16\x06\x16caf\xe9")
    redis_client.set("stat:processed", 1)
    redis_client.sadd("queues", b"caf\xe9")
    redis_client.hset(b"bull:caf\xe9:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:5.1.0"})
    for key in (b"caf\xe9", b"queue:caf\xe9", b"bull:caf\xe9:wait"):
        redis_client.rpush(key, *(b'{"class":"A","args":[%d]}' % number for number in range(5)))
    work, desk = begin()
    libraries = {"bullmq", "celery", "rq", "sidekiq"}

    wait_until(
        lambda: {alert.state.labels.backend for alert in desk.alerts.list_alerts().firing} == libraries,
        what="all four alerts",
    )
    wait_until(lambda: sink.requests, what="the message")
    assert "caf" in sink.requests[0].body.decode()

    def kept() -> dict[str, float]:
        found = unpack(redis_client.get(keys.DURATIONS), PersistedDurations)
        return found.no_progress_s if found else {}

    wait_until(lambda: [name for name in kept() if "caf\udce9" in name], what="what a next leader needs")
    wait_until(lambda: desk.checker.read_health().ok, what="a checker that is well")
    work.stop()
    begin("two")
    wait_until(lambda: desk.checker.read_health().ok, what="the next leader")
    assert "failed" not in caplog.text


@pytest.mark.parametrize("celery", [False, True], ids=["own keys", "and celery"])
def test_the_user_of_the_readme_with_keys_of_its_own_alerts(
    begin: Callable[..., Any], sink: HttpSink, server: EmbeddedRedis, redis_client: redis.Redis, celery: bool
) -> None:
    redis_client.execute_command(*PUBLISHER.replace(">PASSWORD", ">secret").split())
    if celery:
        redis_client.execute_command("ACL", "SETUSER", "queuedeck", *CELERY_GRANTS.split())
        redis_client.sadd("_kombu.binding.parcels", b"parcels\x06\x16\x06\x16parcels")
    queue = Queue("mail", connection=redis_client)
    for _ in range(5):
        queue.enqueue("os.getpid")
    work, desk = begin(redis_url=server.url.replace("redis://", "redis://queuedeck:secret@"))
    wait_until(lambda: sink.requests, what="the alert")
    wait_until(lambda: desk.checker.read_health().ok, what="a checker that is well")
    queue.empty()
    wait_until(lambda: len(sink.requests) == 2, what="the end of the alert")
    assert [request.json()["kind"] for request in sink.requests] == ["firing", "resolved"]
    # The receiver has a message before the checker knows that it has it.
    wait_until(
        lambda: [each.outcome for each in desk.notifications.list_deliveries()] == ["sent", "sent"],
        what="both deliveries",
    )
    assert work.loop.problem is None
    with closing(Source("main", server.url)) as source:
        found, _ = SnapshotStore(source).read_published(with_history=False)
    assert found is not None
    assert [(each.reachable, each.error) for each in found.sources] == [(True, None)]
    assert {each.ref.backend for each in found.queues} == ({"rq", "celery"} if celery else {"rq"})


@pytest.mark.parametrize("right", [name for name, _ in WRITES])
def test_a_user_who_may_not_do_all_that_alerting_writes_leads_nothing(
    any_server: EmbeddedRedis, any_redis: redis.Redis, right: str
) -> None:
    redis_client = any_redis
    # Redis 6 cannot tell reading a key from writing it.
    grants = (
        PUBLISHER.replace(">PASSWORD", ">secret").replace("%R~* ~{queuedeck}:*", "~*").replace(" +eval_ro", "").split()
    )
    redis_client.execute_command(*(word for word in grants if word != f"+{right.lower()}"))
    with closing(Source("main", any_server.url.replace("redis://", "redis://queuedeck:secret@"))) as source:
        leadership = Leadership(SnapshotStore(source), "one")
        assert leadership.renew_lease() is None
        assert leadership.problem is not None
        assert leadership.problem.endswith(f" is not allowed to run {right} on {{queuedeck}}:*")
        assert leadership.fault is not None
        assert f"+{right.lower()}" in (leadership.fault.hint or "")
        assert not list(redis_client.scan_iter("{queuedeck}*"))
        redis_client.execute_command("ACL", "SETUSER", "queuedeck", f"+{right.lower()}")
        assert Leadership(SnapshotStore(source), "one").renew_lease()


def test_a_checker_that_can_never_alert_ends_and_says_what_to_grant(
    server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    redis_client.execute_command(*READER.replace(">PASSWORD", ">secret").split())
    url = server.url.replace("redis://", "redis://queuedeck:secret@")
    command = [sys.executable, "-m", "dashboard.cli", "checker", "--redis", url]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CEILING_S, check=False)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("queuedeck: ")]
    assert "not allowed" in line
    assert "Grant" in line


def test_of_two_processes_one_evaluates_and_one_message_is_sent(
    begin: Callable[..., Any], sink: HttpSink, redis_client: redis.Redis
) -> None:
    queue = Queue("mail", connection=redis_client)
    for _ in range(5):
        queue.enqueue("os.getpid")
    first, desk = begin("one")
    begin("two")
    wait_until(lambda: sink.requests, what="the message")
    first.stop()
    wait_until(lambda: desk.checker.read_health().holder == "two", what="the other one")
    redis_client.delete("rq:queue:mail")
    wait_until(lambda: len(sink.requests) == 2, what="the end")
    assert [request.json()["kind"] for request in sink.requests] == ["firing", "resolved"]


def test_the_ping_is_called_while_all_is_well(begin: Callable[..., Any], sink: HttpSink) -> None:
    begin(ping_url=f"http://127.0.0.1:{sink.port}/ping", channels=[])
    wait_until(lambda: sink.requests, what="the ping")
    assert {request.path for request in sink.requests} == {"/ping"}


def test_a_wrong_answer_of_the_ping_url_does_no_harm(
    begin: Callable[..., Any], sink: HttpSink, redis_client: redis.Redis
) -> None:
    sink.answers = [status(500)]
    _, desk = begin(ping_url=f"http://127.0.0.1:{sink.port}/ping", channels=[])
    wait_until(lambda: sink.requests, what="the ping")
    beat = redis_client.hget(keys.HEARTBEAT, "at")
    wait_until(lambda: redis_client.hget(keys.HEARTBEAT, "at") != beat, what="another tick")
    wait_until(lambda: desk.checker.read_health().ok, what="a checker that is well")


def test_alerts_can_be_switched_off(begin: Callable[..., Any], redis_client: redis.Redis) -> None:
    work, desk = begin(alerts="off")
    assert work.alerts is None
    wait_until(lambda: redis_client.exists("{queuedeck}:snapshot"), what="a snapshot")
    assert desk.checker.read_health().age_s is None


def test_a_look_of_a_page_is_bounded(begin: Callable[..., Any]) -> None:
    _, desk = begin()
    wait_until(lambda: desk.checker.read_health().ok, what="a checker that is well")
    with measure_cost() as meter:
        desk.alerts.list_alerts()
    assert meter.round_trips <= 3
