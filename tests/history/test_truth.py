"""The history against loads of known rate, failures and run times, with the real workers of all libraries.

Exact figures are within 5%, estimated ones within 20%, and figures that the library does not report are unknown.
Each case prints a row of the table: `pytest -m soak -s tests/history/test_truth.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import pytest
import redis
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.history.columns import QUEUE
from dashboard.history.histogram import BUCKET_RATIO
from dashboard.history.series_keys import SeriesKey
from dashboard.store.redis_store import Store
from tests.contract.bullmq_library import _script
from tests.contract.celery_live import Shop
from tests.contract.rq_actions import running_rq_worker
from tests.contract.sidekiq_worker import payload, running_sidekiq
from tests.history.loads import Ended, Load, Shown, Watched, ended_jobs, read_shown, watched
from tests.processes import Child, child
from tests.waiting import wait_until
from tests.workloads import rq_jobs

STEADY, BURSTS, FAST = Load(), Load(per_s=30, burst=120), Load(per_s=2000, burst=20, fail=0.02)
MOST_OFF = {"exact": 0.05, "estimated": 0.2}
# A library's clock also runs while the job is fetched and its result is written.
OVERHEAD_S = 0.01

Run = Callable[[Watched], Sequence[Ended]]


class Known(NamedTuple):
    """What a library reports of a load: a figure that becomes unknown is a fault, too. `run_times` None: either.

    `looked_at`: the least share of the jobs whose run times are read.
    """

    quality: str = "estimated"
    failed: bool = True
    run_times: bool | None = True
    looked_at: float = 1.0


EXACT, ESTIMATED, UNKNOWN = Known("exact"), Known(), Known("unknown", failed=False, run_times=False)


@pytest.fixture
def jobs_server() -> Iterator[EmbeddedRedis]:
    """A server for the queues alone, so that it can be restarted."""
    with EmbeddedRedis() as instance:
        yield instance


class Stage:
    """A server with queues, and one for what is recorded about them."""

    def __init__(self, jobs: EmbeddedRedis, store: Store, store_url: str) -> None:
        self.url = jobs.url
        self.server = jobs
        self.client = redis.Redis.from_url(jobs.url)
        self._store, self._store_url = store, store_url

    def check(self, label: str, key: SeriesKey, run: Run, known: Known, *, gaps_allowed: bool = False) -> Shown:
        """Run a load while a dashboard records: what is known is shown, and true."""
        with watched(self.url, self._store_url) as dashboard:
            dashboard.wait_for_slot()
            ended = run(dashboard)
            dashboard.wait_for_samples(3)
        shown = read_shown(self._store, key, ended, gaps_allowed=gaps_allowed, looked_at=known.looked_at)
        print(
            f"\n| {label} | {shown.quality} | {shown.finished} / {shown.true_finished} | {shown.failed} / "
            f"{shown.true_failed} | {shown.p95_s} / {shown.true_p95_s} | {shown.gaps} |"
        )
        assert shown.quality == known.quality, shown
        for found, true, is_known in (
            (shown.finished, shown.true_finished, known.quality in MOST_OFF),
            (shown.failed, shown.true_failed, known.failed),
        ):
            assert (found is not None) == is_known, shown
            assert found is None or found == pytest.approx(true, rel=MOST_OFF[known.quality], abs=2), shown
        assert known.run_times in (None, shown.p95_s is not None), shown
        if shown.p95_s is not None:
            assert shown.true_p95_s is not None
            least_s, most_s = shown.true_p95_s
            assert least_s / BUCKET_RATIO <= shown.p95_s <= (most_s + OVERHEAD_S) * BUCKET_RATIO, shown
        assert gaps_allowed or not shown.gaps, shown
        return shown


@pytest.fixture
def stage(jobs_server: EmbeddedRedis, server: EmbeddedRedis, store: Store) -> Iterator[Stage]:
    """Both servers, empty."""
    found = Stage(jobs_server, store, server.url)
    yield found
    found.client.close()


def queue_key(backend: str, name: str) -> SeriesKey:
    """The series of a queue."""
    return SeriesKey(QUEUE, "main", backend, name)


# RQ


def run_rq(stage: Stage, load: Load, **options: int) -> Run:
    """Jobs of RQ on a worker that runs already, from one before the load on."""

    def run(_: Watched) -> Sequence[Ended]:
        queue = Queue("alone", connection=stage.client)
        stage.client.delete("ended")
        sent = load.send(lambda ms, fail: queue.enqueue(rq_jobs.take, ms, fail, **options))
        return ended_jobs(stage.client, sent)

    return run


def test_rq(stage: Stage) -> None:
    """The one case of the gate: a short load. Its run times are by the clock of RQ, whatever else the machine does."""

    def run(watched_: Watched) -> Sequence[Ended]:
        ended = run_rq(stage, Load(seconds=3, ms=(20,)))(watched_)
        return [one._replace(took_s=took_s) for one, took_s in zip(ended, rq_times(stage, len(ended)), strict=True)]

    # RQ orders finished jobs by whole seconds: of those that end in the second of a sample, some are not looked at.
    # All jobs take equally long but for what the machine adds, which differs most between the longest ones.
    known = Known(looked_at=0.85)
    with running_rq_worker(stage.url, "simple", "alone"):
        run_first_job(stage)
        stage.check("RQ, a few jobs", queue_key("rq", "alone"), run, known)


def rq_times(stage: Stage, count: int) -> list[float]:
    """The run times of the last `count` jobs, of which there is one more, in seconds, as RQ recorded them."""
    queue = Queue("alone", connection=stage.client)

    def times() -> list[list[datetime]]:
        ids = (*queue.finished_job_registry.get_job_ids(), *queue.failed_job_registry.get_job_ids())
        stored = [stage.client.hmget(f"rq:job:{job_id}", "started_at", "ended_at") for job_id in ids]
        return [[datetime.fromisoformat(at.decode()) for at in job] for job in stored if None not in job]

    wait_until(lambda: len(times()) == count + 1, what="the ends of all jobs")
    return [(ended - began).total_seconds() for began, ended in sorted(times())[1:]]


def run_first_job(stage: Stage) -> None:
    Queue("alone", connection=stage.client).enqueue(rq_jobs.take, 1, False)
    ended_jobs(stage.client, 1)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("label", "load", "options", "known"),
    [
        ("RQ, steady", STEADY, {}, ESTIMATED),
        ("RQ, bursts", BURSTS, {}, ESTIMATED),
        ("RQ, result_ttl=0", STEADY, {"result_ttl": 0}, ESTIMATED),
        ("RQ, result_ttl=0 and failure_ttl=0", STEADY, {"result_ttl": 0, "failure_ttl": 0}, Known(run_times=False)),
    ],
)
def test_rq_loads(stage: Stage, label: str, load: Load, options: dict[str, int], known: Known) -> None:
    check_rq(stage, label, load, known, **options)


def check_rq(stage: Stage, label: str, load: Load, known: Known, **options: int) -> None:
    with running_rq_worker(stage.url, "simple", "alone"):
        run_first_job(stage)
        stage.check(label, queue_key("rq", "alone"), run_rq(stage, load, **options), known)


# BullMQ


class BullMQLoad:
    """A load on BullMQ in a process of its own, which starts on a signal."""

    def __init__(self, process: Child) -> None:
        self.process = process
        assert json.loads(process.read_line()) == "ready"

    def start(self) -> None:
        self.process.write_line("go")

    def ended(self) -> Sequence[Ended]:
        """All ends. Prints the rate, which is lower than that of the load where the machine is too slow for it."""
        told = json.loads(self.process.read_line())
        print(f"\n{told['perSecond']:,.0f} jobs/s")
        return [Ended(*one) for one in told["ended"]]


def load_bullmq(stage: Stage, load: Load, keep: object) -> list[str]:
    """The command of a load."""
    options = {"seconds": load.seconds, "perSecond": load.per_s, "burst": load.burst, "fail": load.fail}
    options_json = json.dumps({**options, "ms": load.ms, "keep": keep})
    return _script("load.mjs", "bullmq", stage.url, "mail", options_json)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("label", "load", "keep", "known"),
    [
        ("BullMQ, steady", STEADY, False, EXACT),
        ("BullMQ, bursts", BURSTS, False, EXACT),
        ("BullMQ, removeOnComplete", STEADY, True, EXACT),
        ("BullMQ, 2,000 jobs/s", FAST, 1000, Known(failed=False)),
        # A machine on which fewer of them end per second sees the beginning of most.
        ("BullMQ, 2,000 jobs/s, removeOnComplete", FAST, True, Known(failed=False, run_times=None)),
    ],
)
def test_bullmq_loads(stage: Stage, label: str, load: Load, keep: object, known: Known) -> None:
    with child(load_bullmq(stage, load, keep), name="load", pipes=True, gently=False) as process:
        work = BullMQLoad(process)

        def run(_: Watched) -> Sequence[Ended]:
            work.start()
            return work.ended()

        stage.check(label, queue_key("bullmq", "mail"), run, known)


@pytest.mark.soak
def test_bullmq_while_redis_is_restarted(stage: Stage) -> None:
    """A gap, and the truth around it. The server comes back empty, as one without persistence does."""
    load = Load(seconds=25, per_s=40)
    with child(load_bullmq(stage, load, False), name="load", pipes=True, gently=False) as process:
        work = BullMQLoad(process)

        def run(dashboard: Watched) -> Sequence[Ended]:
            work.start()
            dashboard.wait_for_samples(12)
            stage.server.stop()
            stage.server.start()
            return work.ended()

        shown = stage.check("BullMQ, Redis restarted", queue_key("bullmq", "mail"), run, EXACT, gaps_allowed=True)
        assert shown.true_finished > 0, "no slot was whole"


# Celery


@pytest.mark.soak
@pytest.mark.parametrize(
    ("label", "load", "conf", "flags", "known"),
    [
        ("Celery, steady", STEADY, {}, (), Known("exact", run_times=False)),
        ("Celery, bursts", BURSTS, {}, (), Known("exact", run_times=False)),
        ("Celery, ignore_result", STEADY, {"task_ignore_result": True}, (), UNKNOWN),
        ("Celery, ignore_result, events", STEADY, {"task_ignore_result": True}, ("-E",), UNKNOWN),
    ],
)
def test_celery_loads(
    stage: Stage, label: str, load: Load, conf: dict[str, object], flags: Sequence[str], known: Known
) -> None:
    shop = Shop(stage.url, conf=conf)
    try:
        with shop.worker("alpha", *flags, size=8):

            def run(_: Watched) -> Sequence[Ended]:
                stage.client.delete("ended")
                sent = load.send(lambda ms, fail: shop.app.send_task("shop.take", (ms, fail), queue="alpha"))
                return ended_jobs(stage.client, sent)

            shop.app.send_task("shop.take", (1, False), queue="alpha")
            ended_jobs(stage.client, 1)
            stage.check(label, queue_key("celery", "alpha"), run, known)
    finally:
        shop.close()


# Sidekiq


@pytest.mark.soak
@pytest.mark.parametrize(("label", "load"), [("Sidekiq, steady", STEADY), ("Sidekiq, bursts", BURSTS)])
def test_sidekiq_loads(stage: Stage, label: str, load: Load) -> None:
    def add(ms: int, fail: bool) -> None:
        job = payload(f"{time.time()}", args=[ms, fail], retry=False, **{"class": "Take"})
        stage.client.sadd("queues", "work")
        stage.client.lpush("queue:work", job)

    def run(_: Watched) -> Sequence[Ended]:
        stage.client.delete("ended")
        return ended_jobs(stage.client, load.send(add))

    with running_sidekiq(stage.url, concurrency=8):
        add(1, False)
        ended_jobs(stage.client, 1)
        wait_until(lambda: stage.client.get("stat:processed"), what="the first beat")
        stage.check(label, queue_key("sidekiq", "*"), run, Known(run_times=False))
        stage.client.delete("ended")
