"""Celery's part of the demo: three queues, a producer and a worker of three threads.

`python -m dashboard.demo.celery_work REDIS_URL produce` or `… work`.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

from celery import Celery
from redis import Redis

from .parent_watch import build_exit_action, end_with_parent
from .processes import READY_LINE
from .rate import WorkRate

QUEUES = ("payouts", "exports", "ratings")
TICK_S = 0.5
# Result records expire after ten minutes, which keeps the demo small.
RESULT_EXPIRES_S = 600

app = Celery("demo")
app.conf.update(
    result_extended=True,  # records then include task and queue
    result_expires=RESULT_EXPIRES_S,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    task_default_queue=QUEUES[0],
)


@app.task(name="payouts.transfer")  # type: ignore[untyped-decorator]
def transfer_payout(supplier: int, cents: int) -> dict[str, Any]:
    time.sleep(random.uniform(0.05, 0.5))
    return {"supplier": supplier, "transferred": cents}


@app.task(name="exports.build", bind=True, max_retries=3)  # type: ignore[untyped-decorator]
def build_export(self: Any, month: str) -> dict[str, Any]:
    time.sleep(random.uniform(1.0, 4.0))
    if not self.request.retries and random.random() < 0.15:
        raise self.retry(countdown=random.randint(30, 90), exc=TimeoutError(f"timed out waiting for {month}"))
    return {"month": month, "rows": random.randint(1000, 90_000)}


@app.task(name="ratings.update")  # type: ignore[untyped-decorator]
def rate_product(product: int, stars: int) -> dict[str, Any]:
    time.sleep(random.uniform(0.01, 0.08))
    return {"product": product, "rating": round((stars + random.uniform(1, 5)) / 2, 1)}


def produce_jobs() -> None:
    """Add jobs until the demo stops."""
    redis = app.backend.client
    while not app.control.ping(timeout=TICK_S):
        pass  # the dashboard would report waiting jobs without a worker
    paces = {
        "payouts": WorkRate(per_s=1.5, bound=60, burst=15, burst_every_s=50),
        "exports": WorkRate(per_s=0.1, bound=8),
        "ratings": WorkRate(per_s=4.0, bound=150, burst=60, burst_every_s=70),
        "later": WorkRate(per_s=0.05, bound=10),
    }
    _add_due_jobs(redis, paces)
    print(READY_LINE, flush=True)
    while True:
        _add_due_jobs(redis, paces)
        time.sleep(TICK_S)


def _add_due_jobs(redis: Redis, paces: dict[str, WorkRate]) -> None:
    for _ in range(paces["payouts"].jobs_due(redis.llen("payouts"))):
        transfer_payout.apply_async((random.randint(100, 999), random.randint(500, 90_000)), queue="payouts")
    for _ in range(paces["exports"].jobs_due(redis.llen("exports"))):
        build_export.apply_async((f"2026-{random.randint(1, 12):02}",), queue="exports")
    for _ in range(paces["ratings"].jobs_due(redis.llen("ratings"))):
        stars = random.choice((5, 5, 4, 4, 3, 1))
        rate_product.apply_async((random.randint(1, 900), stars), queue="ratings", priority=random.choice((0, 0, 9)))
    for _ in range(paces["later"].jobs_due(redis.hlen("unacked"))):
        supplier, delay_s = random.randint(100, 999), random.randint(60, 600)
        transfer_payout.apply_async((supplier, 1900), queue="payouts", countdown=delay_s)


def run_worker() -> None:
    """Process jobs until the demo stops."""
    options = ["-P", "threads", "-c", "3", "-n", "shop@demo", "-l", "ERROR", "--without-gossip", "--without-mingle"]
    app.worker_main(["worker", "-Q", ",".join(QUEUES), *options])


def main() -> None:
    """Run the producer or the worker."""
    url, part = sys.argv[1:3]
    app.conf.update(broker_url=url, result_backend=url)
    end_with_parent(build_exit_action(url))
    produce_jobs() if part == "produce" else run_worker()


if __name__ == "__main__":
    main()
