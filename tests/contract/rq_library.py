"""The real RQ, run in this process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import redis
from rq import Queue, SimpleWorker
from rq.timeouts import TimerDeathPenalty

from dashboard.backends.rq.backend import RQ
from dashboard.model import State
from tests.contract.library import Filled, Library
from tests.workloads import rq_jobs


class RQLibrary(Library):
    """The release of RQ that is installed."""

    backend = RQ

    def __repr__(self) -> str:
        return "rq"

    def fill(self, url: str) -> Filled:
        filled = Filled()
        with open_client(url) as client:
            for name in ("alpha", "beta"):
                queue = Queue(name, connection=client)
                filled.ids[name] = fill_queue(queue)
                filled.native_counts[name] = read_counts(queue)
        return filled

    def own_counts(self, url: str, queue: str) -> Mapping[str, int]:
        with open_client(url) as client:
            return read_counts(Queue(queue, connection=client))

    def run_jobs(self, url: str, queue: str, *, good: int, bad: int) -> None:
        with open_client(url) as client:
            target = Queue(queue, connection=client)
            for number in range(good):
                target.enqueue(rq_jobs.add, number)
            for _ in range(bad):
                target.enqueue(rq_jobs.fail)
            run_waiting_jobs(target)

    def job_key(self, queue: str, job_id: str) -> bytes:
        return f"rq:job:{job_id}".encode("utf-8", "surrogateescape")


class Worker(SimpleWorker):
    """Runs jobs in this process without replacing the signal handlers of pytest.

    It does not subscribe to commands such as stop: joining the subscription's thread would slow down every test.
    """

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        pass

    def subscribe(self) -> None:
        """Listen for no commands."""

    def unsubscribe(self) -> None:
        """Nothing was listened for."""


@contextlib.contextmanager
def open_client(url: str) -> Iterator[redis.Redis]:
    """A client of its own: RQ's workers change the timeouts of the client they get."""
    with redis.Redis.from_url(url) as client:
        yield client


def run_waiting_jobs(*queues: Queue) -> None:
    """Run all that waits, and return after it."""
    logging.getLogger("rq.worker").setLevel(logging.CRITICAL)  # failures are meant here
    Worker(list(queues), connection=queues[0].connection).work(burst=True, logging_level="CRITICAL")


def start_next_job(queue: Queue) -> Worker:
    """A worker that has taken the next job and begun to run it, for as long as the test likes."""
    worker = Worker([queue], connection=queue.connection)
    worker.register_birth()
    taken = Queue.dequeue_any([queue], None, queue.connection)
    assert taken is not None
    job = taken[0]
    worker.prepare_execution(job)
    worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
    return worker


def fill_queue(queue: Queue) -> dict[State, list[str]]:
    """Jobs in every state; the ids of each."""
    completed = [queue.enqueue(rq_jobs.add, number, second=2) for number in range(4)]
    dead = [queue.enqueue(rq_jobs.fail, f"attempt {number}") for number in range(3)]
    run_waiting_jobs(queue)
    # RQ takes the job for lost a minute after its time: the tests that are shown one picture of it take theirs.
    active = [queue.enqueue(rq_jobs.add, 7, job_timeout=7200)]
    start_next_job(queue)
    waiting = [queue.enqueue(rq_jobs.add, number, meta={"tag": "x"}) for number in range(5)]
    blocked = [queue.enqueue(rq_jobs.add, number, depends_on=waiting[0]) for number in range(2)]
    scheduled = [queue.enqueue_in(timedelta(hours=number + 1), rq_jobs.add, number) for number in range(3)]
    canceled = [queue.enqueue(rq_jobs.add, 1)]
    canceled[0].cancel()
    states: dict[State, list[Any]] = {
        State.WAITING: waiting,
        State.ACTIVE: active,
        State.SCHEDULED: scheduled,
        State.BLOCKED: blocked,
        State.DEAD: dead,
        State.COMPLETED: completed,
        State.CANCELED: canceled,
    }
    return {state: [job.id for job in jobs] for state, jobs in states.items()}


def read_counts(queue: Queue) -> dict[str, int]:
    """What RQ itself counts."""
    return {
        "queued": queue.count,
        "started": queue.started_job_registry.count,
        "scheduled": queue.scheduled_job_registry.count,
        "deferred": queue.deferred_job_registry.count,
        "failed": queue.failed_job_registry.count,
        "finished": queue.finished_job_registry.count,
        "canceled": queue.canceled_job_registry.count,
    }
