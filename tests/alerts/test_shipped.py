"""Shipped rules on data of real libraries and a real Redis: each fires once, and resolves once the cause is fixed.

The samples are real; only the time between them is simulated. `covers` checks that the rules of a test fired and
resolved, and the last test fails for a shipped rule that no test covers.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import replace
from rq import Queue, Worker
from rq.suspension import resume, suspend

from dashboard.alerts import keys
from dashboard.alerts.delivery.channels.base import build_channel
from dashboard.alerts.evaluation.checker_context import CheckerContext
from dashboard.alerts.evaluation.evaluator import Evaluator
from dashboard.alerts.evaluation.state_machine import AlertState
from dashboard.alerts.rules import figures
from dashboard.alerts.rules.default_rules import default_rules
from dashboard.backends.celery import workers
from dashboard.backends.celery.results import run_balance
from dashboard.backends.monitored_sources import open_sources
from dashboard.dead_letters import group_watch
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import HistoryRecorder
from dashboard.history.recording import HistoryRecording
from dashboard.model import Capability, ClassFlow
from dashboard.sampling.live_lists import read_live_rows
from dashboard.sampling.sampler import Sampler
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.schedules.schedule_watch import list_schedules, watched_schedules
from dashboard.services import build_checker
from dashboard.settings import SloSettings, load
from dashboard.slos.slo_watch import SloWatch
from dashboard.sources import sentinels
from dashboard.store.redis_store import LEAD, Store
from tests.alerts.channels.fake_providers import HttpSink, status
from tests.alerts.harness import DEEP, Process, Recorder, deep
from tests.alerts.incident_scenario import QUICK
from tests.alerts.test_outbox import make_due
from tests.alerts.webhook_services import build_webhook_services
from tests.conftest import start_server
from tests.contract.bullmq_library import WORKLOAD, BullMQLibrary
from tests.contract.celery_live import Shop
from tests.contract.rq_library import run_waiting_jobs
from tests.contract.sidekiq_library import SidekiqLibrary
from tests.contract.sidekiq_worker import running_sidekiq as sidekiq_worker
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.deployment.sentinel_set import SERVICE, lone_sentinel
from tests.history.weeks import write_weeks
from tests.processes import child
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of
from tests.waiting import wait_until

INTERVAL_S = 4.0
TIMES = 5  # evaluations of one sample: a sample each 20 s
MIB = 1024 * 1024
COVERED: dict[str, list[str]] = {}
Test = Callable[..., None]
NotifiedKinds = dict[tuple[str, str, str], list[str]]  # kinds by rule, severity and subject


def covers(*rules: str) -> Callable[[Test], Test]:
    """Marks a test: at its end each of the rules must have fired once and resolved once."""

    def decorate(test: Test) -> Test:
        for rule in rules:
            COVERED.setdefault(rule, []).append(test.__name__)

        @functools.wraps(test)
        def checked(*args: Any, **fixtures: Any) -> None:
            test(*args, **fixtures)
            notified: NotifiedKinds = fixtures.get("scene", fixtures.get("delivery")).notified
            for rule in rules:
                kinds = {instance: kinds for instance, kinds in notified.items() if instance[0] == rule}
                assert kinds, f"{rule} was not notified"
                assert all(each == ["firing", "resolved"] for each in kinds.values()), kinds

        return checked

    return decorate


class Scene:
    """A sampler on a real Redis and the shipped rules, with a simulated clock."""

    def __init__(self, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.redis = redis.Redis.from_url(server.url)
        self.queue = Queue("mail", connection=self.redis)
        self.notified: NotifiedKinds = {}
        self._now = 1_700_000_000.0
        monkeypatch.setattr("dashboard.sampling.sampler.monotonic_s", lambda: self._now)
        monkeypatch.setattr("dashboard.sampling.queue_search.monotonic_s", lambda: self._now)
        self._sources = open_sources(load(environ={}, keywords={"redis_url": server.url}))
        self._sampler = Sampler(self._sources, INTERVAL_S, "test", clock=lambda: self._now)
        self._evaluator = Evaluator(INTERVAL_S)
        self._states: dict[str, AlertState] = {}
        self._recording: HistoryRecording | None = None
        self.ahead_s = 0.0  # how far the clock of schedules is ahead of the real one
        self._slos: SloWatch | None = None
        self.rules = tuple(rule for rule in default_rules(INTERVAL_S) if rule.enabled)

    def watch(self, url: str) -> None:
        """Watch the same server by another URL from now on."""
        self._sources.close()
        self._sources = open_sources(load(environ={}, keywords={"redis_url": url}))
        self._sampler = Sampler(self._sources, INTERVAL_S, "test", clock=lambda: self._now)

    def enable(self, name: str) -> None:
        """Enable a rule that is disabled by default."""
        self.rules += tuple(replace(rule, enabled=True) for rule in default_rules(INTERVAL_S) if rule.id == name)

    def take_sample(self, times: int = 1) -> None:
        """Take a sample and evaluate it for this many intervals."""
        snapshot = self._sampler.sample(epoch=1)
        if self._recording is not None:
            assert self._recording.record(snapshot, self._sampler.flows)
        rows = read_live_rows(self._sources, Capability.SCHEDULES, list_schedules, snapshot.queues)
        schedules = watched_schedules(rows, lambda source: self._sources.now_s(source) + self.ahead_s)
        for _ in range(times):
            self._now += INTERVAL_S
            slos = self._slos.statuses if self._slos is not None else ()
            checker_context = CheckerContext(now=self._now, channels=("ops",), schedules=schedules, slos=slos)
            if self._recording is not None:
                checker_context = dataclasses.replace(
                    checker_context, run_times=self._recording.run_times, activities=self._recording.activities
                )
            for transition in self._evaluator.evaluate_rules(
                snapshot, self._sampler.history, self.rules, self._states, checker_context
            ):
                after = transition.after
                if after.is_worth_storing:
                    self._states[after.fingerprint] = after
                else:
                    self._states.pop(after.fingerprint, None)
                place = "/".join(after.labels.as_dict().values())
                for due in transition.due_notifications:
                    self.notified.setdefault((after.rule_id, after.severity.value, place), []).append(due.kind)

    def let_time_pass(self, seconds: float) -> None:
        """Let this much time pass without changes; a sample every 20 s."""
        for _ in range(int(seconds / INTERVAL_S / TIMES) + 1):
            self.take_sample(TIMES)

    def was_notified(self, rule: str, kind: str) -> bool:
        """Whether a notification of this kind was due for the rule."""
        return any(name == rule and kind in kinds for (name, _, _), kinds in self.notified.items())

    def fires(self, rule: str, within_s: float, *, meanwhile: Callable[[], object] | None = None) -> None:
        """Let time pass until the rule fires; `meanwhile` is called before each sample, of which there is then one per
        interval."""
        self._await_kind(rule, "firing", within_s, meanwhile)

    def resolves(self, rule: str, within_s: float = 180) -> None:
        """Let time pass until the rule resolves."""
        self._await_kind(rule, "resolved", within_s, None)

    def _await_kind(self, rule: str, kind: str, within_s: float, meanwhile: Callable[[], object] | None) -> None:
        end = self._now + within_s
        while not self.was_notified(rule, kind):
            assert self._now < end, f"{rule} is not {kind} within {within_s:.0f} s; notified: {self.notified}"
            if meanwhile is not None:
                meanwhile()
            self.take_sample(1 if meanwhile else TIMES)

    def record_history(self, usual_s: float) -> None:
        """Record the history from now on. In the five hours before, jobs of `mail`, which were of one class, and those
        of `video`, whose classes were not recorded, took `usual_s`."""
        store, lead = Store(self._sources.own), "test:1"
        self.redis.set(LEAD, lead)
        writer, recorder = HistoryWriter(store, 64 * MIB), HistoryRecorder()
        for ago_s in range(5 * 3600, 0, -300):
            done = ClassFlow(job_class="os.getpid", completed=10, dead=0, runtimes_s=(usual_s,) * 10)
            video = flow_of("video", 10, 0, *done.runtimes_s, span_s=300.0)
            flows = flows_of(video, replace(video, key="mail", classes=(done,)))
            sample = snapshot_of(self._now - ago_s, queue_row("mail"), queue_row("video"))
            assert writer.append_slots(lead, recorder.add_sample(replace(sample, interval_s=300.0), flows))
        assert writer.append_slots(lead, recorder.close())
        self._recording = HistoryRecording(store, 64 * MIB)
        self._recording.take_over(lead)

    def count_jobs(self, slo: SloSettings) -> None:
        """Count the jobs of an objective from now on."""
        store, lead = Store(self._sources.own), "test:1"
        self.redis.set(LEAD, lead)
        self._slos = SloWatch([slo], store)
        self._recording = HistoryRecording(store, 64 * MIB, self._slos)
        self._recording.take_over(lead)

    def skip_time(self, seconds: float) -> None:
        """Let this much time pass without samples, a gap in the history."""
        self._now += seconds

    def record_weeks(self, quiet_s: float) -> None:
        """Record the history from now on. In the weeks before, `mail` had a worker, and 30 jobs of one class in each
        quarter of an hour; none in the last `quiet_s`."""
        store, lead = Store(self._sources.own), "test:1"
        now_s = self._now = self._now + 3600 - self._now % 3600
        per_quarter = lambda ago_s: 30 if ago_s > quiet_s else 0  # noqa: E731
        write_weeks(store, lead, int(now_s), per_quarter, job_class="os.getpid", workers=1)
        self._recording = HistoryRecording(store, 64 * MIB)
        self._recording.take_over(lead)

    def work_slowly(self, queue: Queue, jobs: int, took_s: float) -> None:
        """Let a worker finish so many jobs of a queue, as if each had taken `took_s`."""
        for _ in range(jobs):
            queue.enqueue("os.getpid")
        run_waiting_jobs(queue)
        for job_id in queue.finished_job_registry.get_job_ids():
            key = f"rq:job:{job_id}"
            ended = datetime.fromisoformat((self.redis.hget(key, "ended_at") or b"").decode())
            began = ended - timedelta(seconds=took_s)
            self.redis.hset(key, "started_at", began.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

    def settle(self) -> None:
        """Let the queue `mail` be discovered, empty, and past its grace period."""
        self.queue.enqueue("os.getpid").delete()
        self.let_time_pass(80)

    def work(self) -> None:
        run_waiting_jobs(self.queue)

    def workers(self, backend: str) -> set[int | None]:
        """The numbers of workers of a library, in a new sample that is not evaluated."""
        queues = self._sampler.sample(epoch=1).queues
        return {queue.workers for queue in queues if queue.backend == backend and queue.shared}

    def close(self) -> None:
        self._sources.close()
        self.redis.close()


@pytest.fixture
def make_scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    with ExitStack() as stack:

        def make(*options: str) -> Scene:
            server = start_server("redis-7", *options)
            stack.callback(server.close)
            scene = Scene(server, monkeypatch)
            stack.callback(scene.close)
            return scene

        yield make


@pytest.fixture
def scene(make_scene: Callable[..., Scene], request: pytest.FixtureRequest) -> Scene:
    """A Redis with an idle RQ queue; `@options` sets options of the server."""
    marker: list[str] = getattr(request.function, "options", [])
    scene = make_scene(*marker)
    scene.settle()
    return scene


def options(*given: str) -> Callable[[Test], Test]:
    """Options of the server of the test's scene."""

    def decorate(test: Test) -> Test:
        test.options = given  # type: ignore[attr-defined]
        return test

    return decorate


@contextmanager
def bullmq(url: str, queue: str, **given: object) -> Iterator[None]:
    """Real workers of BullMQ, killed at the end."""
    node = shutil.which("node")
    assert node is not None
    command = [node, WORKLOAD / "drive.mjs", "bullmq", "work", url, queue, json.dumps(given)]
    with child(command, name="bullmq", pipes=True, gently=False) as process:
        assert process.read_line().startswith("{")  # they run
        yield


def test_a_healthy_queue_has_no_alerts(scene: Scene) -> None:
    scene.let_time_pass(2000)
    assert scene.notified == {}


# Queues


@covers("queue-no-consumers")
def test_bullmq_jobs_without_workers_are_reported(scene: Scene) -> None:
    library = BullMQLibrary()
    with bullmq(scene.server.url, "video", stalledInterval=300):
        scene.let_time_pass(100)
    scene.redis.delete("bull:video:stalled-check")  # which counts as a heartbeat for a while
    library.drive("add", scene.server.url, "video")
    scene.fires("queue-no-consumers", 180)
    assert not scene.was_notified("workers-gone", "firing")  # one incident, one alert
    with bullmq(scene.server.url, "video", until="now"):
        scene.resolves("queue-no-consumers")


@covers("queue-no-consumers")
def test_celery_jobs_without_workers_are_reported(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the kernel killed the worker for using too much memory: its mailbox remains."""
    monkeypatch.setattr(run_balance, "HEARD_ALL_AFTER_S", 0.0)
    shop = Shop(scene.server.url)
    try:
        with shop.worker(gently=False):
            shop.await_status(shop.send("first"), "SUCCESS")
            wait_until(lambda: scene.workers("celery") == {1}, what="the worker's heartbeat")
            scene.let_time_pass(100)
        assert scene.redis.scard("_kombu.binding.celery.pidbox") == 1
        for number in range(3):
            shop.send(str(number))
        with monkeypatch.context() as soon:
            for name in ("SUSPECT_AFTER_S", "DEAD_AFTER_S"):
                soon.setattr(workers, name, 1.0)
            wait_until(lambda: scene.workers("celery") == {0}, what="no heartbeats")
            scene.fires("queue-no-consumers", 180)
        with shop.worker(gently=False):
            wait_until(lambda: scene.workers("celery") == {1}, what="another worker's heartbeat")
            scene.resolves("queue-no-consumers")
    finally:
        shop.close()


@covers("queue-latency")
def test_jobs_that_wait_too_long_are_reported(scene: Scene) -> None:
    job = scene.queue.enqueue("os.getpid")
    job.enqueued_at = datetime.now(UTC) - timedelta(seconds=400)
    job.save()
    scene.fires("queue-latency", 140)
    scene.work()
    scene.resolves("queue-latency")


@covers("queue-no-progress")
def test_a_queue_without_progress_is_reported(scene: Scene) -> None:
    scene.queue.enqueue("os.getpid")
    scene.fires("queue-no-progress", 1000)
    scene.work()
    scene.resolves("queue-no-progress")


@covers("queue-errors")
def test_failing_bullmq_jobs_are_reported(scene: Scene) -> None:
    library = BullMQLibrary()
    library.run_jobs(scene.server.url, "video", good=1, bad=0)
    scene.let_time_pass(80)
    library.run_jobs(scene.server.url, "video", good=10, bad=20)
    scene.fires("queue-errors", 330)
    library.run_jobs(scene.server.url, "video", good=420, bad=0)
    scene.resolves("queue-errors")


@covers("queue-dead", "queue-dead-growth")
def test_accumulating_dead_letters_are_reported(scene: Scene) -> None:
    library = BullMQLibrary()
    library.run_jobs(scene.server.url, "video", good=1, bad=0)
    scene.let_time_pass(80)
    library.run_jobs(scene.server.url, "video", good=0, bad=110)
    scene.fires("queue-dead", 90)
    scene.fires("queue-dead-growth", 90)
    library.drive("clean", scene.server.url, "video")
    scene.resolves("queue-dead")
    # The growth stays within the last hour, which samples of 20 s stretch to 80 minutes.
    scene.resolves("queue-dead-growth", 4800)


@covers("queue-quiet", "queue-fewer-workers")
def test_a_queue_that_is_unusually_quiet_is_reported(scene: Scene) -> None:
    scene.enable("queue-fewer-workers")
    scene.record_weeks(quiet_s=0)
    scene.fires("queue-quiet", 1700)
    assert not scene.was_notified("class-quiet", "firing")
    worker = Worker([scene.queue], connection=scene.redis)
    worker.register_birth()
    scene.queue.enqueue("os.getpid")
    scene.work()
    scene.resolves("queue-quiet")
    scene.resolves("queue-fewer-workers")


@covers("class-quiet", "queue-no-new-jobs")
def test_a_class_without_jobs_and_a_queue_without_new_ones_are_reported(scene: Scene) -> None:
    scene.rules = ()
    for name in ("class-quiet", "queue-no-new-jobs"):
        scene.enable(name)
    scene.record_weeks(quiet_s=3 * 3600)
    scene.fires("class-quiet", 900)
    assert scene.was_notified("queue-no-new-jobs", "firing")
    for _ in range(3):
        scene.queue.enqueue("os.getpid")
        scene.work()
        scene.take_sample(TIMES)
    scene.resolves("class-quiet")
    scene.resolves("queue-no-new-jobs")


@covers("queue-active-age")
def test_a_job_that_runs_for_too_long_is_reported(scene: Scene) -> None:
    library = BullMQLibrary()
    with bullmq(scene.server.url, "video", jobs=1, until="enough"):
        scene.let_time_pass(80)
        (job,) = scene.redis.lrange("bull:video:active", 0, -1)
        began = int((datetime.now(UTC) - timedelta(seconds=3700)).timestamp() * 1000)
        scene.redis.hset(f"bull:video:{job.decode()}", "processedOn", began)
        scene.fires("queue-active-age", 80)
        scene.redis.set("enough", 1)
        wait_until(lambda: library.own_counts(scene.server.url, "video")["completed"] == 1, what="the end of the job")
        scene.resolves("queue-active-age")


@covers("queue-stalled")
def test_an_active_job_without_a_worker_is_reported(scene: Scene) -> None:
    with bullmq(scene.server.url, "video", jobs=1):
        scene.let_time_pass(80)
        (job,) = scene.redis.lrange("bull:video:active", 0, -1)
    lock = f"bull:video:{job.decode()}:lock"
    scene.redis.delete(lock, "bull:video:stalled-check")  # as if both had expired
    scene.fires("queue-stalled", 140)
    with bullmq(scene.server.url, "video", stalledInterval=300):
        wait_until(lambda: scene.redis.exists(lock), what="another worker taking it")
        scene.resolves("queue-stalled")


@covers("queue-overdue")
def test_an_overdue_scheduled_job_is_reported(scene: Scene) -> None:
    job = scene.queue.enqueue_at(datetime.now(UTC) - timedelta(seconds=400), "os.getpid")
    scene.fires("queue-overdue", 80)
    scene.queue.scheduled_job_registry.remove(job)
    scene.resolves("queue-overdue")


@covers("schedule-late")
def test_a_schedule_without_a_worker_is_reported_until_it_runs_again(scene: Scene) -> None:
    library = BullMQLibrary()
    worker = library.drive("consume", scene.server.url, "reports", schedulers=1, interval=3_600_000)["worker"]
    wait_until(lambda: scene.redis.hlen("marks"), what="the first run")
    library.drive("stop", scene.server.url, "reports", worker=worker)
    scene.let_time_pass(80)
    scene.ahead_s = 3600 + 400  # the next run is now 400 s late
    scene.fires("schedule-late", 120)
    (job,) = scene.redis.zrange("bull:reports:delayed", 0, 0)
    scene.redis.zadd("bull:reports:delayed", {job: 1})  # due by the clock of the worker, too
    worker = library.drive("consume", scene.server.url, "reports")["worker"]
    wait_until(lambda: scene.redis.hlen("marks") == 2, what="the late run")
    scene.resolves("schedule-late")
    library.drive("stop", scene.server.url, "reports", worker=worker)
    assert {place for rule, _, place in scene.notified if rule == "schedule-late"} == {"main/bullmq/reports/tick/tick0"}


@covers("queue-paused")
def test_a_queue_paused_for_an_hour_is_reported(scene: Scene) -> None:
    suspend(scene.redis)
    scene.queue.enqueue("os.getpid")
    scene.fires("queue-paused", 3700)
    resume(scene.redis)
    scene.resolves("queue-paused")


@covers("workers-gone")
def test_a_library_with_scheduled_jobs_and_no_workers_is_reported(scene: Scene) -> None:
    library = SidekiqLibrary()
    library.run_jobs(scene.server.url, "work", good=1, bad=0)
    library.drive("schedule", scene.server.url, "work")
    scene.fires("workers-gone", 220)
    with sidekiq_worker(scene.server.url):
        wait_until(lambda: scene.redis.scard("processes"), what="the process")
        scene.resolves("workers-gone")


@covers("queue-depth")
def test_many_waiting_celery_jobs_are_reported(scene: Scene) -> None:
    scene.enable("queue-depth")
    shop = Shop(scene.server.url)
    try:
        shop.send("first")
        scene.let_time_pass(80)
        for number in range(1001):
            shop.send(str(number))
        scene.fires("queue-depth", 80)
        with shop.app.connection_for_write() as connection:
            assert connection.default_channel.queue_purge("alpha") == 1002
        scene.resolves("queue-depth", 700)
    finally:
        shop.close()


@covers("queue-slower", "class-slower")
def test_jobs_that_take_longer_than_usual_are_reported(scene: Scene) -> None:
    video = Queue("video", connection=scene.redis)
    video.enqueue("os.getpid").delete()
    scene.record_history(2.0)
    scene.let_time_pass(80)
    for _ in range(2):
        for queue in (scene.queue, video):
            scene.work_slowly(queue, 60, 6.0)
        scene.let_time_pass(600)
    scene.fires("class-slower", 400)
    scene.resolves("class-slower", 2000)
    scene.resolves("queue-slower")
    queues = {place for rule, _, place in scene.notified if rule == "queue-slower"}
    assert queues == {"main/rq/video"}, "about mail, its class says it already"


@covers("queue-throughput")
def test_a_queue_with_low_throughput_is_reported(scene: Scene) -> None:
    scene.enable("queue-throughput")
    scene.fires("queue-throughput", 700)
    for _ in range(10):
        scene.queue.enqueue("os.getpid")
    scene.work()
    scene.resolves("queue-throughput")


@covers("slo-burn-fast", "slo-burn", "slo-burn-slow")
def test_an_error_budget_that_is_used_too_fast_is_reported(scene: Scene) -> None:
    scene.count_jobs(SloSettings(id="mail", queues=("ma*",), target=0.99, succeeded=True))
    scene.let_time_pass(40)
    for _ in range(20):
        scene.queue.enqueue("os.getpid")
    for _ in range(2):
        scene.queue.enqueue("os.strerror", "two bad jobs are no reason to notify")
    scene.work()
    scene.let_time_pass(80)
    assert not any(rule.startswith("slo") for rule, _, _ in scene.notified)
    for _ in range(5):
        scene.queue.enqueue("os.strerror", "no number")
    scene.work()
    scene.fires("slo-burn-fast", 120)
    # One incident, one message at a time: the next rule reports what the last one no longer does.
    assert {(rule, level) for rule, level, _ in scene.notified if rule.startswith("slo")} == {
        ("slo-burn-fast", "critical")
    }
    scene.resolves("slo-burn-fast", 500)
    scene.fires("slo-burn", 120)
    scene.skip_time(1800)
    scene.resolves("slo-burn")
    scene.fires("slo-burn-slow", 120)
    scene.skip_time(6 * 3600)
    scene.resolves("slo-burn-slow", 1200)
    places = {place for rule, _, place in scene.notified if rule.startswith("slo")}
    assert places == {"mail/mail"}


# Redis


@covers("redis-unreachable")
def test_a_killed_redis_is_reported(scene: Scene) -> None:
    scene.server.stop(kill=True)
    scene.fires("redis-unreachable", 50)
    scene.server.start()
    scene.resolves("redis-unreachable")


@covers("redis-writes-refused")
def test_refused_writes_are_reported(scene: Scene) -> None:
    scene.redis.config_set("maxmemory", 1)
    scene.fires("redis-writes-refused", 50)
    scene.redis.config_set("maxmemory", 0)
    scene.resolves("redis-writes-refused")


@pytest.mark.parametrize(("share", "severity"), [(0.8, "warning"), (0.95, "critical")])
@covers("redis-memory")
def test_memory_near_its_limit_is_reported(scene: Scene, share: float, severity: str) -> None:
    used = scene.redis.info("memory")["used_memory"]
    scene.redis.config_set("maxmemory", int(used / share))
    scene.fires("redis-memory", 80)
    assert {level for name, level, _ in scene.notified if name == "redis-memory"} == {severity}
    scene.redis.config_set("maxmemory", used * 10)
    scene.resolves("redis-memory")


@covers("redis-memory-full")
def test_memory_that_fills_up_is_reported_before_it_is_full(scene: Scene) -> None:
    ballast = iter(range(10_000))

    def grow() -> None:
        scene.redis.set(f"ballast:{next(ballast)}", b"x" * 20_000)

    for _ in range(300):
        grow()
    scene.redis.config_set("maxmemory", int(scene.redis.info("memory")["used_memory"] / 0.6))
    scene.fires("redis-memory-full", 200, meanwhile=grow)
    assert not scene.was_notified("redis-writes-refused", "firing")  # it fires before memory is full
    scene.redis.delete(*(f"ballast:{number}" for number in range(next(ballast))))
    scene.resolves("redis-memory-full")


@covers("redis-evictions")
def test_evicted_keys_are_reported(scene: Scene) -> None:
    scene.redis.config_set("maxmemory-policy", "allkeys-lru")
    scene.redis.config_set("maxmemory", scene.redis.info("memory")["used_memory"] + 2 * MIB)
    names = iter(range(100_000))
    scene.fires(
        *("redis-evictions", 200),
        meanwhile=lambda: [scene.redis.set(f"page:{next(names)}", b"x" * 50_000) for _ in range(50)],
    )
    scene.redis.config_set("maxmemory", 0)
    scene.resolves("redis-evictions")


@covers("redis-eviction-policy")
def test_an_eviction_policy_that_may_evict_bullmq_jobs_is_reported(scene: Scene) -> None:
    BullMQLibrary().drive("add", scene.server.url, "video")
    scene.redis.config_set("maxmemory", 10**12)
    scene.redis.config_set("maxmemory-policy", "allkeys-lru")
    scene.fires("redis-eviction-policy", 80)
    scene.redis.config_set("maxmemory-policy", "noeviction")
    scene.resolves("redis-eviction-policy")


@covers("redis-rejected")
def test_rejected_connections_are_reported(scene: Scene) -> None:
    scene.redis.config_set("maxclients", scene.redis.info("clients")["connected_clients"])

    def knock() -> None:
        with (
            redis.Redis.from_url(scene.server.url) as client,
            pytest.raises(redis.ConnectionError, match="max number of clients"),
        ):
            client.ping()

    scene.fires("redis-rejected", 120, meanwhile=knock)
    scene.redis.config_set("maxclients", 10_000)
    scene.resolves("redis-rejected")


@covers("redis-clients")
def test_connections_near_their_limit_are_reported(scene: Scene) -> None:
    scene.redis.config_set("maxclients", scene.redis.info("clients")["connected_clients"])
    scene.fires("redis-clients", 80)
    scene.redis.config_set("maxclients", 10_000)
    scene.resolves("redis-clients")


@options("--enable-debug-command", "yes")
@covers("redis-fragmentation")
def test_fragmented_memory_is_reported(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FRAGMENTED_BYTES", 32 * MIB)  # reached sooner
    count = 8000
    scene.redis.execute_command("DEBUG", "POPULATE", count, "hole", 7000)
    most = "for number = 0, ARGV[1] do if number % 4 > 0 then redis.call('DEL', 'hole:' .. number) end end"
    scene.redis.eval(most, 0, count)
    wait_until(lambda: scene.redis.info("memory")["allocator_frag_bytes"] > 32 * MIB, what="the holes")
    scene.fires("redis-fragmentation", 1900)
    scene.redis.flushall()
    wait_until(lambda: scene.redis.info("memory")["allocator_frag_bytes"] < 32 * MIB, what="the memory back")
    scene.resolves("redis-fragmentation")


@options("--repl-diskless-sync-delay", "0", "--client-output-buffer-limit", "replica 0 0 0")
@covers("redis-replica-lag")
def test_a_lagging_replica_is_reported(scene: Scene) -> None:
    def lag() -> float:
        found = scene.redis.info("replication")
        online = found.get("slave0", {}).get("state") == "online"
        return float(found["master_repl_offset"] - found["slave0"]["offset"]) if online else float("inf")

    with start_server("redis-7", "--replicaof", f"127.0.0.1 {scene.server.port}") as replica:
        wait_until(lambda: lag() < MIB, what="the replica")
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            for _ in range(80):
                scene.redis.set("ballast", b"x" * MIB)
            scene.fires("redis-replica-lag", 80)
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        wait_until(lambda: lag() < MIB, what="the replica catching up")
        scene.resolves("redis-replica-lag")


@covers("redis-replica-link")
def test_a_replica_that_never_connected_is_reported(scene: Scene) -> None:
    scene.redis.replicaof("127.0.0.1", 1)
    assert scene.redis.info("replication")["master_link_down_since_seconds"] == -1  # which is not a duration
    scene.fires("redis-replica-link", 160)
    scene.redis.replicaof("NO", "ONE")
    scene.resolves("redis-replica-link")


@covers("redis-sentinels")
def test_sentinels_that_are_silent_are_reported(
    scene: Scene, tmp_path: Path, kept_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Redis itself responds; its Sentinels are asked for each sample, as time is simulated."""
    monkeypatch.setattr(sentinels, "FOLLOW_EVERY_S", 0.0)
    monkeypatch.setattr(sentinels, "ASK_AGAIN_S", 0.0)
    with lone_sentinel(tmp_path, scene.server.port, kept_port) as sentinel:
        scene.watch(f"redis+sentinel://{sentinel}/{SERVICE}/0")
        scene.let_time_pass(200)
        assert scene.notified == {}
    scene.fires("redis-sentinels", 200)
    with lone_sentinel(tmp_path, scene.server.port, kept_port):
        scene.resolves("redis-sentinels")


@options("--enable-protected-configs", "yes")
@covers("redis-persistence")
def test_a_redis_that_cannot_save_is_reported(scene: Scene, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    scene.redis.config_set("dir", str(data))
    data.rmdir()
    scene.redis.bgsave()
    wait_until(lambda: scene.redis.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed save")
    scene.fires("redis-persistence", 80)
    scene.redis.config_set("dir", str(tmp_path))
    scene.redis.bgsave()
    wait_until(lambda: scene.redis.info("persistence")["rdb_last_bgsave_status"] == "ok", what="a save")
    scene.resolves("redis-persistence")


@covers("no-data")
def test_queues_that_cannot_be_read_are_reported(scene: Scene) -> None:
    scene.redis.execute_command("ACL", "SETUSER", "default", "-@list", "-@scripting")
    scene.fires("no-data", 330)
    scene.redis.execute_command("ACL", "SETUSER", "default", "+@all")
    scene.resolves("no-data")


# The checker itself


class DeliveryScene:
    """The notifications of another channel about the channel `ops`, which has a real server, and about the checker."""

    def __init__(self, sink: HttpSink) -> None:
        self.sink = sink
        self.ops = build_channel({"id": "ops", "kind": "webhook", "url": sink.url}, allow_private=True)
        self.chief = Recorder("chief")

    @property
    def notified(self) -> NotifiedKinds:
        found: NotifiedKinds = {}
        for message in self.chief.arrived:
            found.setdefault((message.rule_id, message.severity, message.lines[0].label), []).append(message.kind)
        for request in self.sink.requests:
            message = request.json()
            if message["rule_id"] in ("checker-slow", "error-new", "error-regressed"):
                found.setdefault((message["rule_id"], message["severity"], message["lines"][0]["label"]), []).append(
                    message["kind"]
                )
        return found

    def rules(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """A rule on depth that notifies `ops`, and a shipped rule that notifies at once."""
        at_once = {"enabled": True, "group_wait_s": 0, "recover_for_s": 0}
        return [{**DEEP, "channels": ["ops"]}, {"id": name, **at_once, **fields}]


@pytest.fixture
def delivery() -> Iterator[DeliveryScene]:
    sink = HttpSink()
    yield DeliveryScene(sink)
    sink.close()


@covers("notify-dead")
def test_a_permanently_refused_notification_is_reported(
    delivery: DeliveryScene, make_process: Callable[..., Process], any_redis: redis.Redis
) -> None:
    delivery.sink.answers = [status(404)]
    process = make_process("one", delivery.ops, delivery.chief, rules=delivery.rules("notify-dead"))
    for _ in range(2):
        process.evaluate(deep(50))
        process.deliver()
    assert delivery.chief.kinds == ["firing"]
    delivery.sink.answers = [status(200)]
    (name,) = any_redis.zrange(keys.DEAD, 0, -1)
    assert process.outbox.requeue_failed(
        name.decode(), any_redis.hget(keys.message_key(name.decode()), "fingerprint").decode()
    )
    for _ in range(2):
        process.deliver()
        process.evaluate(deep(50))
    process.deliver()


@covers("notify-undelivered")
def test_undelivered_notifications_are_reported(
    delivery: DeliveryScene, make_process: Callable[..., Process], any_redis: redis.Redis
) -> None:
    delivery.sink.answers = [status(500)]
    process = make_process("one", delivery.ops, delivery.chief, rules=delivery.rules("notify-undelivered", for_s=0))
    process.evaluate(deep(50))
    process.deliver()
    (name, made_ms) = any_redis.zrange(keys.UNSENT, 0, -1, withscores=True)[0]
    any_redis.zadd(keys.UNSENT, {name: made_ms - 610_000})
    for _ in range(2):
        process.evaluate(deep(50))
    process.deliver()
    assert delivery.chief.kinds == ["firing"]
    delivery.sink.answers = [status(200)]
    make_due(any_redis)
    process.deliver()
    for _ in range(2):
        process.evaluate(deep(50))
    process.deliver()


@covers("checker-slow")
@pytest.mark.usefixtures("own_timeouts")
def test_late_evaluations_are_reported(
    delivery: DeliveryScene, server: EmbeddedRedis, redis_client: redis.Redis, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        slow = stack.enter_context(start_server("redis-7"))
        own = {rule.id: {"id": rule.id, "enabled": False} for rule in default_rules()}
        own["checker-slow"] = {**QUICK, "id": "checker-slow", "for_s": 0, "min_samples": 1}
        values: dict[str, Any] = {
            "sources": [{"name": "main", "url": server.url}, {"name": "slow", "url": slow.url}],
            "sample_interval_s": 0.5,
            "allow_private_webhooks": True,
            "spool_dir": str(tmp_path / "spool"),
            "channels": [{"id": "ops", "kind": "webhook", "url": delivery.sink.url}],
            "rules": list(own.values()),
        }
        settings = load(environ={}, keywords=values)
        sources = open_sources(settings)
        stack.callback(sources.close)
        checker = build_checker(settings, sources, SnapshotStore(sources.own), "one")
        checker.start()
        stack.callback(checker.stop)
        wait_until(lambda: redis_client.exists(keys.HEARTBEAT), what="the first evaluation")
        assert slow.pid is not None
        os.kill(slow.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: len(delivery.sink.requests) == 1, what="the alert")
        finally:
            os.kill(slow.pid, signal.SIGCONT)
        wait_until(lambda: len(delivery.sink.requests) == 2, what="the end")


@covers("error-new", "error-regressed")
def test_a_new_error_is_reported_once_and_again_when_it_returns(
    delivery: DeliveryScene, server: EmbeddedRedis, redis_client: redis.Redis, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(group_watch, "LOOK_EVERY_S", 0.5)
    told = {"group_wait_s": 0, "notify_resolved": True}
    rules = {"error-new": told, "error-regressed": told}
    services = build_webhook_services(server.url, delivery.sink.url, tmp_path, rules, owned="mail")

    def messages(count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(delivery.sink.requests) >= count, what=f"{count} messages")
        return [request.json() for request in delivery.sink.requests]

    def later() -> None:
        """Wait for three more samples."""
        before = services.snapshots.current().snapshot
        assert before is not None
        wait_until(
            lambda: (after := services.snapshots.current().snapshot) and after.sequence >= before.sequence + 3,
            what="three samples",
        )

    try:
        fail_rq(server, "mail", (failing_jobs.fail_with, "known"))
        services.start(runs_bulk=False)
        wait_until(lambda: redis_client.exists(keys.HEARTBEAT), what="the first evaluation")
        messages(1)  # it failed just now, and nothing is known of it
        known, *_ = services.dead_letter_service.current_groups().grouped.groups
        fail_rq(server, "mail", (failing_jobs.charge, 7), (failing_jobs.charge, 8))
        *_, told = messages(2)
        found = services.dead_letter_service.current_groups().grouped.groups
        (group,) = (group for group in found if group.error.fingerprint != known.error.fingerprint)
        fingerprint = group.error.fingerprint
        assert (told["rule_id"], told["kind"], told["severity"]) == ("error-new", "firing", "warning")
        assert "ConnectionError: cannot send order" in told["title"]
        (line,) = told["lines"]
        assert (line["owner"], line["url"]) == ("Team Mail", f"https://queues.example/dead/{fingerprint}")
        assert line["detail_text"].startswith("in mail: ConnectionError: cannot send order ")
        fail_rq(server, "mail", (failing_jobs.charge, 9))
        later()
        assert len(messages(2)) == 2  # more of the same is no news
        update = services.dead_letter_service.update_annotation
        assert update(fingerprint, {"owner": "anna", "resolved_by": "anna", "resolved_at": services.store.now_s()})
        assert [message["kind"] for message in messages(3)] == ["firing", "firing", "resolved"]
        fail_rq(server, "mail", (failing_jobs.charge, 10))
        *_, told = messages(4)
        assert (told["rule_id"], told["kind"], told["lines"][0]["owner"]) == ("error-regressed", "firing", "anna")
        later()
        for each in (fingerprint, known.error.fingerprint):
            assert update(each, {"ack_by": "anna", "ack_at": services.store.now_s()})
        assert [message["kind"] for message in messages(6)[4:]] == ["resolved"] * 2
    finally:
        services.stop()


def test_every_shipped_rule_has_a_test() -> None:
    assert {rule.id for rule in default_rules()} == set(COVERED)
