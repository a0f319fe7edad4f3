"""BullMQ's part of the demo in Python: five queues, producers and workers, in one process.

`python -m dashboard.demo.bullmq_work REDIS_URL`
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from bullmq import FlowProducer, Queue, Worker

from . import catalogue, faults
from .parent_watch import build_exit_action, end_with_parent
from .processes import READY_LINE
from .rate import WorkRate

TICK_S = 0.5
# Keeps the demo small: BullMQ removes finished jobs beyond these numbers.
KEEP = {"removeOnComplete": {"count": 400}, "removeOnFail": {"count": 300}, "keepLogs": 20, "stackTraceLimit": 5}
UNFINISHED = ("wait", "prioritized", "delayed", "waiting-children", "paused")

Processor = Callable[[Any, str], Awaitable[Any]]


async def deliver_webhook(job: Any, _token: str) -> dict[str, Any]:
    """Deliver a webhook; return the endpoint's response."""
    url = job.data["url"]
    await job.log(f"POST {url}")
    took_s = random.uniform(0.15, 1.2)
    await asyncio.sleep(took_s)
    if not job.attemptsMade:  # the next attempt succeeds
        _fail_sometimes(url)
    await job.log(f"200 OK after {took_s * 1000:.0f} ms")
    return {"status": 200, "took_ms": round(took_s * 1000)}


def _fail_sometimes(url: str) -> None:
    luck, host = random.random(), url.split("/")[2]
    if luck < 0.03:
        raise faults.UpstreamError(503, host)
    if luck < 0.05:
        faults.timed_out(url, 10)
    if luck < 0.06:
        faults.connection_refused(host)


async def index_product(job: Any, _token: str) -> dict[str, Any]:
    """Index a product; return how the search index changed."""
    await asyncio.sleep(random.uniform(0.06, 0.25))
    return {"document": job.data.get("sku"), "version": random.randint(1, 40)}


async def create_invoice(_job: Any, _token: str) -> dict[str, Any]:
    """Create an invoice; return its number and file."""
    await asyncio.sleep(random.uniform(0.4, 1.8))
    number = f"R{random.randint(10_000, 99_999)}"
    return {"number": number, "file": f"invoices/{number}.pdf"}


async def fulfil_order(job: Any, _token: str) -> dict[str, Any]:
    """Fulfil an order; return its parcel number. Runs when the order's invoice, index and webhook jobs are done."""
    for percent, step in ((10, "stock reserved"), (40, "parcel label printed"), (70, "parcel handed over")):
        await asyncio.sleep(random.uniform(0.4, 1.4))
        await job.updateProgress(percent)
        await job.log(f"{step} for order {job.data['number']}")
    await job.updateProgress(100)
    return {"parcel": f"PX{random.randint(10**8, 10**9)}"}


async def export_data(job: Any, _token: str) -> dict[str, Any]:
    """Export a customer's data; return the file."""
    await asyncio.sleep(random.uniform(1.0, 3.0))
    return {"file": f"exports/{job.data['customer']['id']}.zip", "bytes": random.randint(10**4, 10**7)}


class BullMQProducer:
    """Adds jobs to the queues."""

    def __init__(self, redis_url: str) -> None:
        names = ("orders", "invoices", "webhooks", "search-index", "data-exports")
        self.queues = {name: Queue(name, {"connection": redis_url, "defaultJobOptions": KEEP}) for name in names}
        self.flows = FlowProducer(redis_url)

    async def queue_depth(self, name: str) -> int:
        """Return how many jobs of the queue have not started yet."""
        counts = await self.queues[name].getJobCounts(*UNFINISHED)
        return int(sum(counts.values()))

    async def add_webhook(self) -> None:
        """Add an event for a partner, attempted up to three times."""
        data = {"url": catalogue.random_endpoint(), "event": "order.paid", "order": catalogue.random_order_number()}
        options = {"attempts": 3, "backoff": {"type": "exponential", "delay": 3000}}
        await self.queues["webhooks"].add("deliver", data, options)

    async def add_product(self) -> None:
        """Add a product to index; some have a priority."""
        sku, title = f"SKU-{random.randint(100, 999)}", random.choice(catalogue.PRODUCTS)
        options = {"priority": random.choice((1, 5, 10))} if random.random() < 0.4 else {}
        await self.queues["search-index"].add("index", {"sku": sku, "title": title}, options)

    async def add_reminder(self) -> None:
        """Add a reminder of an unpaid invoice, delayed by up to some minutes."""
        data = {"order": catalogue.random_order_number(), "level": random.randint(1, 3)}
        await self.queues["invoices"].add("remind", data, {"delay": random.randint(20_000, 400_000)})

    async def add_export(self) -> None:
        """Add an export of a customer's data, as required by law."""
        await self.queues["data-exports"].add("export", {"customer": catalogue.random_customer(), "format": "zip"})

    async def add_order(self) -> None:
        """Add an order: a parent that waits for its three children in other queues."""
        order = catalogue.random_order()
        number = order["number"]
        # Without one of these options, a parent waits indefinitely for a child that failed.
        lenient, strict = {**KEEP, "ignoreDependencyOnFailure": True}, {**KEEP, "failParentOnFailure": True}
        children = [
            {"name": "create", "queueName": "invoices", "data": {"order": number}, "opts": strict},
            {
                "name": "reindex",
                "queueName": "search-index",
                "data": {"sku": order["lines"][0]["sku"]},
                "opts": lenient,
            },
            {
                "name": "deliver",
                "queueName": "webhooks",
                "data": {"url": catalogue.ENDPOINTS[0], "event": "order.placed", "order": number},
                "opts": {**lenient, "attempts": 3, "backoff": {"type": "exponential", "delay": 3000}},
            },
        ]
        await self.flows.add(
            {"name": "fulfil", "queueName": "orders", "data": order, "opts": KEEP, "children": children}
        )

    async def produce_jobs(self) -> None:
        """Add jobs until the process is terminated."""
        plans: tuple[tuple[str, WorkRate, Callable[[], Awaitable[None]]], ...] = (
            ("webhooks", WorkRate(per_s=1.8, bound=80, burst=30, burst_every_s=60), self.add_webhook),
            ("search-index", WorkRate(per_s=4.0, bound=150, burst=60, burst_every_s=65), self.add_product),
            ("invoices", WorkRate(per_s=0.15, bound=60), self.add_reminder),
            ("data-exports", WorkRate(per_s=0.2, bound=8), self.add_export),
            ("orders", WorkRate(per_s=0.3, bound=20, burst=5, burst_every_s=70), self.add_order),
        )
        for rounds in itertools.count():
            for name, pace, add in plans:
                for _ in range(pace.jobs_due(await self.queue_depth(name))):
                    await add()
            if rounds == 0:
                print(READY_LINE, flush=True)
            await asyncio.sleep(TICK_S)


async def run_workload(redis_url: str) -> None:
    """Produce and process jobs until the process is terminated."""
    crew: tuple[tuple[str, Processor, int], ...] = (
        ("orders", fulfil_order, 2),
        ("invoices", create_invoice, 2),
        ("webhooks", deliver_webhook, 4),
        ("search-index", index_product, 2),
        ("data-exports", export_data, 1),
    )
    workers = [
        Worker(name, processor, {"connection": redis_url, "concurrency": concurrency, "name": f"{name}-1", **KEEP})
        for name, processor, concurrency in crew
    ]
    while not all(worker.running for worker in workers):
        await asyncio.sleep(0.05)  # the dashboard would report waiting jobs without a worker
    await BullMQProducer(redis_url).produce_jobs()
    assert workers  # a worker without a reference could be garbage-collected


def main(redis_url: str) -> None:
    """Run BullMQ's part of the demo."""
    end_with_parent(build_exit_action(redis_url))
    asyncio.run(run_workload(redis_url))


if __name__ == "__main__":
    main(sys.argv[1])
