"""RQ's part of the demo: four queues, a producer with RQ's scheduler, and workers.

`python -m dashboard.demo.rq_work REDIS_URL produce` or `… work NAME QUEUE [QUEUE …]`.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import timedelta

from redis import Redis
from rq import Queue, Retry
from rq.job import Dependency
from rq.registry import CanceledJobRegistry, DeferredJobRegistry, ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.worker import SimpleWorker, Worker

from . import catalogue, shop
from .incident import PAYMENTS_QUEUE
from .parent_watch import build_exit_action, end_with_parent
from .processes import READY_LINE
from .rate import WorkRate

QUEUES = (PAYMENTS_QUEUE, "thumbnails", "newsletter", "reports")
TICK_S = 0.5
# Keeps the demo small: results expire after five minutes, failures after half an hour.
RESULT_TTL_S = 300
FAILURE_TTL_S = 1800
SCHEDULED_BOUND = 25
# More than fail in an outage: new payments keep coming while the failed ones are retried.
PAYMENTS_BOUND = 400
CANCELED_KEPT = 20
HEARTBEAT_EVERY_S = 15.0


class RQProducer:
    """Adds jobs to the four queues."""

    def __init__(self, connection: Redis) -> None:
        self.payments, self.thumbnails, self.newsletter, self.reports = (
            Queue(name, connection=connection, default_timeout=30) for name in QUEUES
        )
        self.scheduled = ScheduledJobRegistry(queue=self.newsletter)
        self.canceled = CanceledJobRegistry(queue=self.newsletter)
        self.deferred = DeferredJobRegistry(queue=self.reports)
        self.issue = random.randint(100, 400)
        self._payments = WorkRate(per_s=2.5, bound=PAYMENTS_BOUND, swing=0.2)
        self._uploads = WorkRate(per_s=1.2, bound=60, burst=12, burst_every_s=60)
        self._letters = WorkRate(per_s=1.2, bound=80, burst=40, burst_every_s=80)
        self._reports = WorkRate(per_s=0.1, bound=8, burst=2, burst_every_s=100)
        self._later = WorkRate(per_s=0.15, bound=SCHEDULED_BOUND)
        self._keep = {"result_ttl": RESULT_TTL_S, "failure_ttl": FAILURE_TTL_S}

    def add_due_jobs(self) -> None:
        """Add the jobs that are due now."""
        for _ in range(self._payments.jobs_due(self.payments.count)):
            self._add_payment()
        for _ in range(self._uploads.jobs_due(self.thumbnails.count)):
            width = random.choice((160, 320, 320, 640))
            self.thumbnails.enqueue(shop.render_thumbnail, image=catalogue.random_image(), width=width, **self._keep)
        for _ in range(self._letters.jobs_due(self.newsletter.count)):
            self._add_letter()
        for _ in range(self._reports.jobs_due(self.reports.count + self.deferred.get_job_count(cleanup=False))):
            self._add_report()
        for _ in range(self._later.jobs_due(self.scheduled.get_job_count(cleanup=False))):
            later = timedelta(seconds=random.uniform(30, 300))
            self.newsletter.enqueue_in(later, shop.expire_downloads, older_than_days=14, **self._keep)

    def _add_payment(self) -> None:
        self.payments.enqueue(
            shop.capture_payment,
            order=catalogue.random_order_number(),
            customer=catalogue.random_customer()["id"],
            cents=random.randint(900, 48_000),
            currency=random.choice(("EUR", "EUR", "CHF", "USD")),
            retry=Retry(max=1, interval=2),
            **self._keep,
        )

    def _add_letter(self) -> None:
        if random.random() < 0.005:
            self.issue += 1
        job = self.newsletter.enqueue(
            shop.send_issue,
            issue=self.issue,
            recipient=catalogue.random_recipient(),
            retry=Retry(max=shop.LETTER_RETRIES, interval=[5, 20]),
            at_front=random.random() < 0.02,
            **self._keep,
        )
        if random.random() < 0.01:
            job.cancel()
            self._trim_canceled()

    def _trim_canceled(self) -> None:
        """Delete the oldest canceled jobs, which RQ would keep permanently; they are listed first."""
        for job_id in self.canceled.get_job_ids(cleanup=False)[:-CANCELED_KEPT]:
            self.canceled.remove(job_id, delete_job=True)

    def _add_report(self) -> None:
        kind, month = random.choice(catalogue.REPORTS), catalogue.last_month()
        built = self.reports.enqueue(shop.build_report, kind, month, **self._keep)
        self.reports.enqueue(
            shop.mail_report,
            kind,
            month,
            recipient=catalogue.random_customer()["email"],
            depends_on=Dependency(jobs=[built], allow_failure=True),
            **self._keep,
        )


def produce_jobs(redis_url: str) -> None:
    """Add jobs and enqueue scheduled jobs when they are due, until the process is terminated."""
    connection = Redis.from_url(redis_url)
    _wait_for_workers(connection)
    producer = RQProducer(connection)
    # RQ's scheduler without its own process: one child less to start and to stop.
    scheduler = RQScheduler(QUEUES, connection, interval=1, logging_level="WARNING")
    scheduler.register_birth()
    scheduler.acquire_locks()
    beaten = time.monotonic()
    producer.add_due_jobs()
    print(READY_LINE, flush=True)
    while True:
        producer.add_due_jobs()
        scheduler.enqueue_scheduled_jobs()
        if time.monotonic() - beaten > HEARTBEAT_EVERY_S:
            scheduler.heartbeat()
            beaten = time.monotonic()
        time.sleep(TICK_S)


def _wait_for_workers(connection: Redis) -> None:
    """Return once each queue has a worker: the dashboard would report waiting jobs without one."""
    served: set[str] = set()
    while not served.issuperset(QUEUES):
        time.sleep(TICK_S)
        served = {name for worker in Worker.all(connection) for name in worker.queue_names()}


def run_worker(redis_url: str, name: str, queues: list[str]) -> None:
    """Process jobs of `queues`, in their order, until the process is terminated.

    Jobs run in this process, not in a fork per job as in RQ's default worker: the demo shares its CPUs with the page.
    """
    worker = SimpleWorker(
        queues, name=name, connection=Redis.from_url(redis_url), worker_ttl=60, maintenance_interval=60
    )
    worker.work(logging_level="CRITICAL")  # failing jobs are expected in the demo


def main(redis_url: str, role: str, *names: str) -> None:
    """Run the producer or one worker."""
    end_with_parent(build_exit_action(redis_url))
    if role == "produce":
        produce_jobs(redis_url)
    else:
        run_worker(redis_url, names[0], list(names[1:]))


if __name__ == "__main__":
    main(*sys.argv[1:])
