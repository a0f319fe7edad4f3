"""BullMQ's part of the demo in Python: five queues, producers and workers, in one process.

`python -m dashboard.demo.bullmq_work REDIS_URL`
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from bullmq import FlowProducer, Queue, Worker

from . import catalogue, faults
from .catalogue import DEAD_ENDPOINT
from .parent_watch import build_exit_action, end_with_parent
from .rate import WorkRate

TICK_S = 0.5
# Keeps the demo small: BullMQ removes finished jobs beyond these numbers.
KEEP = {"removeOnComplete": {"count": 400}, "removeOnFail": {"count": 300}, "keepLogs": 20, "stackTraceLimit": 5}
PAUSED_DEPTH = 24
UNFINISHED = ("wait", "prioritized", "delayed", "waiting-children", "paused")

Processor = Callable[[Any, str], Awaitable[Any]]


async def deliver_webhook(job: Any, _token: str) -> dict[str, Any]:
    """Deliver a webhook; return the endpoint's response."""
    url = job.data["url"]
    await job.log(f"POST {url}")
    took_s = random.uniform(0.15, 1.2)
    await asyncio.sleep(took_s)
    if url == DEAD_ENDPOINT:
        faults.upstream_answers(410, url)
    await _fail_sometimes(url)
    await job.log(f"200 OK after {took_s * 1000:.0f} ms")
    return {"status": 200, "took_ms": round(took_s * 1000)}


async def _fail_sometimes(url: str) -> None:
    luck = random.random()
    if luck < 0.05:
        faults.upstream_answers(random.choice((502, 503)), url)
    if luck < 0.08:
        faults.timed_out(url, 10)
    if luck < 0.1:
        faults.connection_refused(url.split("/")[2])


async def index_product(job: Any, _token: str) -> dict[str, Any]:
    """Index a product; return how the search index changed."""
    await asyncio.sleep(random.uniform(0.06, 0.25))
    if random.random() < 0.001:
        faults.field_missing(job.data, "title")
    return {"document": job.data.get("sku"), "version": random.randint(1, 40)}


async def create_invoice(job: Any, _token: str) -> dict[str, Any]:
    """Create an invoice; return its number and file."""
    await asyncio.sleep(random.uniform(0.4, 1.8))
    if job.name == "remind" and random.random() < 0.03:
        faults.field_missing({"number": job.data["order"]}, "billing_address")
    if random.random() < 0.005:
        faults.amount_unreadable()
    number = f"R{random.randint(10_000, 99_999)}"
    return {"number": number, "file": f"invoices/{number}.pdf"}


async def fulfil_order(job: Any, _token: str) -> dict[str, Any]:
    """Fulfil an order; return its parcel number. Runs when the order's invoice, index and webhook jobs are done."""
    for percent, step in ((10, "stock reserved"), (40, "parcel label printed"), (70, "parcel handed over")):
        await asyncio.sleep(random.uniform(0.4, 1.4))
        await job.updateProgress(percent)
        await job.log(f"{step} for order {job.data['number']}")
    if random.random() < 0.008:
        faults.field_missing(job.data, "shipping_address")
    await job.updateProgress(100)
    return {"parcel": f"PX{random.randint(10**8, 10**9)}"}


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
        """Add an export of a customer's data, as required by law; it waits while its queue is paused."""
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
        await self.queues["data-exports"].pause()
        plans: tuple[tuple[str, WorkRate, Callable[[], Awaitable[None]]], ...] = (
            ("webhooks", WorkRate(per_s=1.8, bound=250, burst=90, burst_every_s=60), self.add_webhook),
            ("search-index", WorkRate(per_s=5.0, bound=600, burst=320, burst_every_s=65), self.add_product),
            ("invoices", WorkRate(per_s=0.15, bound=60), self.add_reminder),
            ("data-exports", WorkRate(per_s=0.3, bound=PAUSED_DEPTH), self.add_export),
            ("orders", WorkRate(per_s=0.4, bound=60, burst=25, burst_every_s=70), self.add_order),
        )
        while True:
            for name, pace, add in plans:
                for _ in range(pace.jobs_due(await self.queue_depth(name))):
                    await add()
            await asyncio.sleep(TICK_S)


async def run_workload(redis_url: str) -> None:
    """Produce and process jobs until the process is terminated."""
    crew: tuple[tuple[str, Processor, int], ...] = (
        ("orders", fulfil_order, 2),
        ("invoices", create_invoice, 2),
        ("webhooks", deliver_webhook, 4),
        ("search-index", index_product, 2),
    )
    workers = [
        Worker(name, processor, {"connection": redis_url, "concurrency": concurrency, "name": f"{name}-1", **KEEP})
        for name, processor, concurrency in crew
    ]
    await BullMQProducer(redis_url).produce_jobs()
    assert workers  # a worker without a reference could be garbage-collected


def main(redis_url: str) -> None:
    """Run BullMQ's part of the demo."""
    end_with_parent(build_exit_action(redis_url))
    asyncio.run(run_workload(redis_url))


if __name__ == "__main__":
    main(sys.argv[1])
