"""Rates of RQ whose finished jobs are not stored: right by other counters, or unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from rq import Queue, Retry
from rq.job import Job

from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import QueueFlow
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.rq_actions import running_rq_worker
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.contract.sample_series import SampleSeries, classes_of, rates_of
from tests.waiting import wait_until
from tests.workloads import rq_jobs

GOOD, BAD = 9, 3
TRUTH = (12, 3, 0.25)
NOTHING = (None, None, None)
LONG_AGO = "2020-01-01T00:00:00.000000Z"


@pytest.fixture(scope="module")
def workers(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A worker of two queues and one of a third alone."""
    with open_client(server.url) as client:
        client.flushall()
        with running_rq_worker(server.url, "simple", "alpha", "beta"), running_rq_worker(server.url, "simple", "alone"):
            wait_until(lambda: len(client.smembers("rq:workers")) == 2, what="both workers in Redis")
            for key in client.smembers("rq:workers"):
                client.hset(key, "birth", LONG_AGO)  # they have run for longer than a first sample looks back
            for name in ("alpha", "beta", "alone"):  # a queue exists from its first job on
                Queue(name, connection=client).enqueue(rq_jobs.add, 1)
            wait_until(lambda: count_attempts(client) == 3, what="a job in each queue")
            yield client


def count_attempts(client: redis.Redis) -> int:
    """How many runs all workers have counted."""
    fields = ("successful_job_count", "failed_job_count")
    return sum(int(count or 0) for key in client.smembers("rq:workers") for count in client.hmget(key, fields))


def run_jobs(client: redis.Redis, name: str, **options: Any) -> None:
    """Jobs to their end, with the worker that serves `name`."""
    queue = Queue(name, connection=client)
    tries = options.pop("tries", 1)
    target = count_attempts(client) + GOOD + BAD * tries
    if tries > 1:
        options["retry"] = Retry(max=tries - 1)
    for number in range(GOOD):
        queue.enqueue(rq_jobs.add, number, **options)
    for _ in range(BAD):
        queue.enqueue(rq_jobs.fail, **options)
    wait_until(lambda: count_attempts(client) == target, what="all runs")


def forget_ended(client: redis.Redis) -> None:
    """Empty the registries of ended jobs: a first look goes back by five minutes."""
    client.delete(*(f"rq:{state}:{name}" for state in ("finished", "failed") for name in ("alpha", "beta", "alone")))


@pytest.mark.parametrize("user", ["", "plain:secret@"], ids=["scripts", "no scripts"])
def test_rates_are_the_truth_or_unknown(workers: redis.Redis, server: EmbeddedRedis, user: str) -> None:
    workers.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-@scripting")
    url = server.url.replace("redis://", f"redis://{user}")
    source = Source("main", url)
    backend = RQ(source, SourceSettings(name="main", url=url))
    for options, shared, alone in (
        ({}, TRUTH, TRUTH),
        ({"result_ttl": 60, "failure_ttl": 60}, TRUTH, TRUTH),
        ({"result_ttl": 20}, TRUTH, TRUTH),
        ({"result_ttl": 5}, TRUTH, TRUTH),
        ({"failure_ttl": 0}, TRUTH, TRUTH),
        ({"result_ttl": 0}, (None, BAD, None), TRUTH),
        ({"result_ttl": 0, "failure_ttl": 0}, (None, BAD, None), TRUTH),
        ({"tries": 3}, TRUTH, TRUTH),
    ):
        forget_ended(workers)
        series = SampleSeries(backend)
        series.take_sample()
        series.take_sample()
        run_jobs(workers, "alpha", **dict(options))
        run_jobs(workers, "alone", **dict(options))
        rows = series.take_sample()
        assert rates_of(rows["alpha"]) == shared, options
        assert rates_of(rows["alone"]) == alone, options
        check_classes(workers, series.flows["alpha"], options)
        check_classes(workers, series.flows["alone"], options)
        assert series.together == (None if shared == TRUTH else GOOD + BAD)
        # The other queue of that worker may be where the jobs were that left no trace.
        assert rates_of(rows["beta"])[0] == (0 if shared == TRUTH else None)
        for name in ("alpha", "beta"):
            if rows[name].throughput_per_min is None:
                assert "result_ttl is 0" in (rows[name].flow_reason or "")
                assert rows[name].flow_reason in rows[name].notes
    source.close()


def check_classes(client: redis.Redis, flow: QueueFlow, options: dict[str, Any]) -> None:
    """The classes of what finished, its run times, and how long it had waited; unknown if it left no records."""
    if min(options.get("result_ttl", 500), options.get("failure_ttl", 500)) < 60:
        assert flow.classes is None
        assert "result_ttl" in (flow.classes_reason or "") or "failure_ttl" in (flow.classes_reason or "")
        return
    add, fail = (f"{rq_jobs.__name__}.{name}" for name in ("add", "fail"))
    assert classes_of(flow) == {add: (GOOD, 0), fail: (0, BAD)}
    assert [len(one.runtimes_s) for one in flow.classes or ()] == [GOOD, BAD]
    queue = Queue(flow.key.removeprefix("rq:queue:"), connection=client)
    ids = [*queue.finished_job_registry.get_job_ids(), *queue.failed_job_registry.get_job_ids()]
    jobs = [job for job in Job.fetch_many(ids, connection=client) if job and job.started_at and job.enqueued_at]
    waits_s = sorted((job.started_at - job.enqueued_at).total_seconds() for job in jobs)
    assert len(waits_s) == GOOD + BAD
    assert sorted(flow.waits_s) == pytest.approx(waits_s)


def test_a_worker_that_came_and_went_hides_what_it_did(workers: redis.Redis, server: EmbeddedRedis) -> None:
    source = Source("main", server.url)
    queue = Queue("night", connection=workers)
    for ttl, shown in ((500, (5, 0, 0.0)), (0, (None, 0, None))):
        series = SampleSeries(RQ(source, SourceSettings(name="main", url=server.url)))
        for number in range(5):
            queue.enqueue(rq_jobs.add, number, result_ttl=ttl)
        series.take_sample()
        run_waiting_jobs(queue)
        series.take_sample()
        row = series.take_sample()["night"]
        assert rates_of(row) == shown
        workers.delete("rq:finished:night")
    assert (row.counts.completed, row.counts.dead) == (None, 0)
    source.close()


def test_failures_that_were_dropped_are_not_taken_for_retries(workers: redis.Redis, server: EmbeddedRedis) -> None:
    source = Source("main", server.url)
    forget_ended(workers)
    series = SampleSeries(RQ(source, SourceSettings(name="main", url=server.url)))
    series.take_sample()
    series.take_sample()
    run_jobs(workers, "alone", failure_ttl=0)
    # As any dashboard does that asks for a count.
    wait_until(lambda: Queue("alone", connection=workers).failed_job_registry.count == 0, what="the registry's cleanup")
    row = series.take_sample()["alone"]
    assert rates_of(row) == (None, None, None)
    assert row.counts.dead is None
    assert "failure_ttl" in (row.flow_reason or "")
    source.close()


@pytest.mark.parametrize("user", ["", "plain:secret@"], ids=["scripts", "no scripts"])
def test_the_first_sample_of_a_busy_queue_is_right_or_unknown(
    workers: redis.Redis, server: EmbeddedRedis, user: str
) -> None:
    workers.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-@scripting")
    source = Source("main", url := server.url.replace("redis://", f"redis://{user}"))
    for options, first, later in (
        ({}, TRUTH, (24, 6, 0.25)),
        ({"result_ttl": 0}, NOTHING, TRUTH),
        ({"result_ttl": 20}, NOTHING, TRUTH),
        ({"result_ttl": 86_400}, NOTHING, TRUTH),
        ({"failure_ttl": 60}, NOTHING, TRUTH),
    ):
        forget_ended(workers)
        run_jobs(workers, "alone", **dict(options))
        series = SampleSeries(RQ(source, SourceSettings(name="main", url=url)))
        row = series.take_sample()["alone"]
        assert rates_of(row) == first, (options, row.flow_reason)
        assert first == TRUTH or "second sample" in (row.flow_reason or "")
        run_jobs(workers, "alone", **dict(options))
        assert rates_of(series.take_sample()["alone"]) == later, options
    source.close()


@pytest.mark.parametrize("workers_are", ["forgotten", "young"])
def test_the_first_sample_after_a_flush_is_unknown(
    workers: redis.Redis, server: EmbeddedRedis, workers_are: str
) -> None:
    """The records that are left are those of a part of the five minutes; which part, nothing tells."""
    source = Source("main", server.url)
    with running_rq_worker(server.url, "simple", "emptied") as name:
        run_jobs(workers, "emptied")
        # As by FLUSHALL, for this queue and its worker.
        workers.delete("rq:finished:emptied", "rq:failed:emptied", *workers.scan_iter("rq:job:*"))
        if workers_are == "forgotten":
            workers.srem("rq:workers", f"rq:worker:{name}")
            workers.delete(f"rq:worker:{name}")
        queue = Queue("emptied", connection=workers)
        jobs = [queue.enqueue(rq_jobs.add, number) for number in range(GOOD)]
        wait_until(lambda: queue.finished_job_registry.count == len(jobs), what="all jobs")
        series = SampleSeries(RQ(source, SourceSettings(name="main", url=server.url)))
        row = series.take_sample()["emptied"]
        assert rates_of(row) == NOTHING
        assert "second sample" in (row.flow_reason or "")
        queue.enqueue(rq_jobs.add, 1)
        wait_until(lambda: queue.finished_job_registry.count == len(jobs) + 1, what="one more")
        assert rates_of(series.take_sample()["emptied"])[0] == 1
    source.close()


def test_what_the_first_look_saw_does_not_cover_up_jobs_without_a_record(
    workers: redis.Redis, server: EmbeddedRedis
) -> None:
    source = Source("main", server.url)
    forget_ended(workers)
    for name in ("alpha", "alone"):
        run_jobs(workers, name)
    series = SampleSeries(RQ(source, SourceSettings(name="main", url=server.url)))
    assert rates_of(series.take_sample()["alpha"]) == TRUTH
    for name in ("alpha", "alone"):
        run_jobs(workers, name, result_ttl=0)
    rows = series.take_sample()
    assert rates_of(rows["alpha"])[0] is None
    assert rates_of(rows["alone"]) == TRUTH  # the look back may have missed such jobs, so it counts no more
    source.close()


@pytest.mark.parametrize("user", ["", "plain:secret@"], ids=["scripts", "no scripts"])
def test_workers_count_on_when_redis_was_emptied(workers: redis.Redis, server: EmbeddedRedis, user: str) -> None:
    workers.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-@scripting")
    source = Source("main", url := server.url.replace("redis://", f"redis://{user}"))
    with (
        running_rq_worker(server.url, "simple", "spare") as name,
        running_rq_worker(server.url, "simple", "one", "two") as other,
    ):
        keys = [f"rq:worker:{each}" for each in (name, other)]

        def empty() -> None:
            """As FLUSHALL does for these workers."""
            workers.delete(*keys, *(f"rq:finished:{each}" for each in ("spare", "one", "two")))
            workers.srem("rq:workers", *keys)

        def run_both() -> None:
            for each in ("spare", "one"):
                for number in range(GOOD + BAD):
                    call = rq_jobs.add if number < GOOD else rq_jobs.fail
                    Queue(each, connection=workers).enqueue(call, number, result_ttl=0)
            wait_until(
                lambda: (
                    [workers.hmget(key, "successful_job_count", "failed_job_count") for key in keys]
                    == [[b"9", b"3"]] * 2
                ),
                what="all jobs",
            )

        run_both()
        series = SampleSeries(RQ(source, SourceSettings(name="main", url=url)))
        series.take_sample()
        empty()
        run_both()
        rows = series.take_sample()
        assert rates_of(rows["spare"]) == rates_of(rows["one"]) == TRUTH
        # Who series only now knows nothing of these workers.
        series = SampleSeries(RQ(source, SourceSettings(name="main", url=url)))
        series.take_sample()
        empty()
        run_both()
        rows = series.take_sample()
        assert rates_of(rows["spare"])[::2] == rates_of(rows["one"])[::2] == (None, None)
    source.close()


@pytest.mark.parametrize("user", ["", "plain:secret@"], ids=["scripts", "no scripts"])
def test_jobs_of_a_queue_that_is_not_shown_are_not_those_of_another(
    workers: redis.Redis, server: EmbeddedRedis, user: str
) -> None:
    workers.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-@scripting")
    source = Source("main", url := server.url.replace("redis://", f"redis://{user}"))
    forget_ended(workers)
    run_jobs(workers, "alpha")
    series = SampleSeries(RQ(source, SourceSettings(name="main", url=url, queues=("alpha",))))
    for _ in range(3):
        series.take_sample()
    run_jobs(workers, "beta")
    rows = series.take_sample()
    assert rows.keys() == {"alpha"}
    assert rates_of(rows["alpha"]) == TRUTH
    run_jobs(workers, "beta", result_ttl=0)
    assert rates_of(series.take_sample()["alpha"])[0] is None  # it may have been this one
    source.close()
