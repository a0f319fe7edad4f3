"""The whole checker: its loop, delivery and shutdown, with real threads on a real Redis."""

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
def start_checker(
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


def test_a_breach_is_notified_within_the_documented_time(
    start_checker: Callable[..., Any],
    sink: HttpSink,
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Measured in evaluations, of which a busy machine makes fewer, but never more than one per interval."""
    evaluations = 0
    queued_by: list[int] = []
    sample = Sampler.sample

    def counted(sampler: Sampler, epoch: int) -> Snapshot:
        nonlocal evaluations
        evaluations += 1
        if redis_client.exists(keys.UNSENT) or sink.requests:
            queued_by.append(evaluations)
        return sample(sampler, epoch)

    monkeypatch.setattr(Sampler, "sample", counted)
    queue = Queue("mail", connection=redis_client)
    queue.enqueue("os.getpid")
    start_checker()
    with ExitStack() as stack:
        source = Source("main", server.url)
        stack.callback(source.close)
        # The time to discover a queue is not measured.
        known = SnapshotStore(source)
        wait_until(lambda: [found.name for found in _queues(known)] == ["mail"], what="the queue")
    queue.enqueue_many([Queue.prepare_data("os.getpid") for _ in range(5)])
    began = evaluations
    wait_until(lambda: sink.requests, what="the message")
    wait_until(lambda: queued_by, what="another evaluation")
    # for_s + two intervals + group_wait_s; the next evaluation observes it
    assert (queued_by[0] - began - 1) * INTERVAL_S <= 1 + 2 * INTERVAL_S + 0


def _queues(store: SnapshotStore) -> list[QueueStats]:
    snapshot, _ = store.read_published(with_history=False)
    return list(snapshot.queues) if snapshot else []


def test_a_hanging_receiver_delays_no_evaluation(
    start_checker: Callable[..., Any], sink: HttpSink, redis_client: redis.Redis
) -> None:
    sink.answers = [hang]
    queue = Queue("mail", connection=redis_client)
    for _ in range(5):
        queue.enqueue("os.getpid")
    _, alert_service = start_checker()
    wait_until(lambda: sink.requests, what="the attempt")
    heartbeats: set[bytes] = set()

    def count_heartbeats() -> int:
        heartbeats.add(redis_client.hget(keys.HEARTBEAT, "at"))
        return len(heartbeats)

    wait_until(lambda: count_heartbeats() >= 5, what="more evaluations")
    wait_until(lambda: alert_service.checker.read_health().ok, what="a healthy checker")
    assert alert_service.notifications.list_deliveries() == ()  # its result is still unknown
    assert redis_client.zcard(keys.UNSENT) == 1
    sink.over.set()


def test_a_queue_name_that_is_not_utf_8_stops_no_evaluation(
    start_checker: Callable[..., Any], sink: HttpSink, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        redis_client.hset(f"rq:job:{number}", mapping={"status": "queued", "origin": b"caf\xe9"})
        redis_client.rpush(b"rq:queue:caf\xe9", str(number))
    redis_client.sadd("rq:queues", b"rq:queue:caf\xe9")
    # The other libraries' queues of that name; each of them breaches the threshold, too.
    redis_client.sadd(b"_kombu.binding.caf\xe9", b"caf\xe9\x06\x16\x06\x16caf\xe9")
    redis_client.set("stat:processed", 1)
    redis_client.sadd("queues", b"caf\xe9")
    redis_client.hset(b"bull:caf\xe9:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:5.1.0"})
    for key in (b"caf\xe9", b"queue:caf\xe9", b"bull:caf\xe9:wait"):
        redis_client.rpush(key, *(b'{"class":"A","args":[%d]}' % number for number in range(5)))
    checker, alert_service = start_checker()
    libraries = {"bullmq", "celery", "rq", "sidekiq"}

    wait_until(
        lambda: {alert.state.labels.backend for alert in alert_service.alerts.list_alerts().firing} == libraries,
        what="all four alerts",
    )
    wait_until(lambda: sink.requests, what="the message")
    assert "caf" in sink.requests[0].body.decode()

    def stored_durations() -> dict[str, float]:
        found = unpack(redis_client.get(keys.DURATIONS), PersistedDurations)
        return found.no_progress_s if found else {}

    wait_until(
        lambda: [name for name in stored_durations() if "caf\udce9" in name],
        what="the durations that the next leader needs",
    )
    wait_until(lambda: alert_service.checker.read_health().ok, what="a healthy checker")
    checker.stop()
    start_checker("two")
    wait_until(lambda: alert_service.checker.read_health().ok, what="the next leader")
    assert "failed" not in caplog.text


@pytest.mark.parametrize("celery", [False, True], ids=["own keys", "and celery"])
def test_the_readme_redis_user_with_own_keys_can_alert(
    start_checker: Callable[..., Any], sink: HttpSink, server: EmbeddedRedis, redis_client: redis.Redis, celery: bool
) -> None:
    redis_client.execute_command(*PUBLISHER.replace(">PASSWORD", ">secret").split())
    if celery:
        redis_client.execute_command("ACL", "SETUSER", "queuedeck", *CELERY_GRANTS.split())
        redis_client.sadd("_kombu.binding.parcels", b"parcels\x06\x16\x06\x16parcels")
    queue = Queue("mail", connection=redis_client)
    for _ in range(5):
        queue.enqueue("os.getpid")
    checker, alert_service = start_checker(redis_url=server.url.replace("redis://", "redis://queuedeck:secret@"))
    wait_until(lambda: sink.requests, what="the alert")
    wait_until(lambda: alert_service.checker.read_health().ok, what="a healthy checker")
    queue.empty()
    wait_until(lambda: len(sink.requests) == 2, what="the end of the alert")
    assert [request.json()["kind"] for request in sink.requests] == ["firing", "resolved"]
    # The receiver has a message before the checker has recorded the delivery.
    wait_until(
        lambda: [each.outcome for each in alert_service.notifications.list_deliveries()] == ["sent", "sent"],
        what="both deliveries",
    )
    assert checker.loop.problem is None
    with closing(Source("main", server.url)) as source:
        found, _ = SnapshotStore(source).read_published(with_history=False)
    assert found is not None
    assert [(each.reachable, each.error) for each in found.sources] == [(True, None)]
    assert {each.ref.backend for each in found.queues} == ({"rq", "celery"} if celery else {"rq"})


@pytest.mark.parametrize("right", [name for name, _ in WRITES])
def test_a_redis_user_without_all_write_permissions_cannot_lead(
    any_server: EmbeddedRedis, any_redis: redis.Redis, right: str
) -> None:
    redis_client = any_redis
    # Redis 6 has no separate permissions for reading and writing a key.
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


def test_a_checker_without_permissions_exits_and_says_what_to_grant(
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


def test_one_of_two_checkers_evaluates_and_sends(
    start_checker: Callable[..., Any], sink: HttpSink, redis_client: redis.Redis
) -> None:
    queue = Queue("mail", connection=redis_client)
    for _ in range(5):
        queue.enqueue("os.getpid")
    first, alert_service = start_checker("one")
    start_checker("two")
    wait_until(lambda: sink.requests, what="the message")
    first.stop()
    wait_until(lambda: alert_service.checker.read_health().holder == "two", what="the other checker")
    redis_client.delete("rq:queue:mail")
    wait_until(lambda: len(sink.requests) == 2, what="the end")
    assert [request.json()["kind"] for request in sink.requests] == ["firing", "resolved"]


def test_the_ping_url_is_called_while_the_checker_is_healthy(start_checker: Callable[..., Any], sink: HttpSink) -> None:
    start_checker(ping_url=f"http://127.0.0.1:{sink.port}/ping", channels=[])
    wait_until(lambda: sink.requests, what="the ping")
    assert {request.path for request in sink.requests} == {"/ping"}


def test_a_failing_ping_url_does_not_stop_the_checker(
    start_checker: Callable[..., Any], sink: HttpSink, redis_client: redis.Redis
) -> None:
    sink.answers = [status(500)]
    _, alert_service = start_checker(ping_url=f"http://127.0.0.1:{sink.port}/ping", channels=[])
    wait_until(lambda: sink.requests, what="the ping")
    heartbeat = redis_client.hget(keys.HEARTBEAT, "at")
    wait_until(lambda: redis_client.hget(keys.HEARTBEAT, "at") != heartbeat, what="another evaluation")
    wait_until(lambda: alert_service.checker.read_health().ok, what="a healthy checker")


def test_alerts_can_be_disabled(start_checker: Callable[..., Any], redis_client: redis.Redis) -> None:
    checker, alert_service = start_checker(alerts="off")
    assert checker.alerts is None
    wait_until(lambda: redis_client.exists("{queuedeck}:snapshot"), what="a snapshot")
    assert alert_service.checker.read_health().age_s is None


def test_listing_alerts_costs_a_bounded_number_of_round_trips(start_checker: Callable[..., Any]) -> None:
    _, alert_service = start_checker()
    wait_until(lambda: alert_service.checker.read_health().ok, what="a healthy checker")
    with measure_cost() as meter:
        alert_service.alerts.list_alerts()
    assert meter.round_trips <= 3
