"""The queues and job classes of the demo, as its past knows them: those that its workers have."""

from __future__ import annotations

from typing import NamedTuple

from ...history.columns import QUEUE
from ..incident import PAYMENTS_QUEUE

SLOWED = "search-index"
FAILED = "webhooks"
HEAVIER = "thumbnails"
_FUNCTIONS = "dashboard.demo.shop"

# The columns that a library reports of its queues.
_ALL = frozenset(QUEUE.names) - {"retrying", "retried"}
_OF_CELERY = frozenset({"depth", "latency_ms", "quality", "uncounted_ms", "finished", "failed"})
_OF_SIDEKIQ = frozenset({"depth", "active", "latency_ms", "workers", "quality", "uncounted_ms"})
# Sidekiq counts the jobs of all its queues together. Those of each class it counts from version 7 on; the demo's is
# older, so sample data of classes would end when the demo starts.
_OF_ALL_OF_SIDEKIQ = frozenset({"scheduled", "dead", "workers", "quality", "uncounted_ms", "finished", "failed"})


class PastClass(NamedTuple):
    """A class of the jobs of a queue. `share`: its part of them. `pace`: its run time to the median of the queue."""

    name: str
    share: float = 1.0
    pace: float = 1.0


class PastQueue(NamedTuple):
    """A queue of the demo as it is when it runs. `process`: what adds its jobs. `wave`: the most jobs that wait in it.

    Run times have the median `runtime_s`; `spread` is that of their logarithm. The shares of `classes` add up to 1; the
    last one has the rest. Each of the `workers` runs `concurrency` jobs at a time. `reported`: the columns that its
    library reports; `timed`: whether it reports the run times of classes.
    """

    process: str
    backend: str
    name: str
    per_min: float
    wave: int
    runtime_s: float
    classes: tuple[PastClass, ...] = ()
    spread: float = 0.35
    workers: int = 1
    concurrency: int = 1
    scheduled: int = 0
    reported: frozenset[str] = _ALL
    timed: bool = True


def _function(name: str, share: float = 1.0, pace: float = 1.0) -> PastClass:
    return PastClass(f"{_FUNCTIONS}.{name}", share, pace)


_NEWSLETTER = (_function("expire_downloads", 0.05, 2.2), _function("send_issue", 0.95))
_REPORTS = (_function("mail_report", 0.5, 0.07), _function("build_report", 0.5, 1.1))
_INVOICES = (PastClass("remind", 0.25), PastClass("create", 0.75))
_SEARCH_INDEX = (PastClass("reindex", 0.075), PastClass("index", 0.925))
_MAILS = (
    PastClass("daily-digest", 0.006),
    PastClass("rate-your-order", 0.1),
    PastClass("password-reset", 0.25),
    PastClass("order-confirmation", 0.25),
    PastClass("newsletter-welcome", 0.394),
)

QUEUES = (
    PastQueue("RQ producer", "rq", PAYMENTS_QUEUE, 149, 12, 0.13, (_function("capture_payment"),), 0.3, workers=2),
    PastQueue("RQ producer", "rq", HEAVIER, 80, 14, 0.44, (_function("render_thumbnail"),), 0.27, workers=2),
    PastQueue("RQ producer", "rq", "newsletter", 110, 48, 0.18, _NEWSLETTER, workers=2, scheduled=12),
    PastQueue("RQ producer", "rq", "reports", 10, 5, 3.6, _REPORTS),
    PastQueue(
        "Celery producer",
        "celery",
        "payouts",
        80,
        22,
        0.3,
        (PastClass("payouts.transfer"),),
        reported=_OF_CELERY,
        timed=False,
    ),
    PastQueue(
        "Celery producer",
        "celery",
        "exports",
        6,
        4,
        2.5,
        (PastClass("exports.build"),),
        reported=_OF_CELERY,
        timed=False,
    ),
    PastQueue(
        "Celery producer",
        "celery",
        "ratings",
        240,
        60,
        0.05,
        (PastClass("ratings.update"),),
        reported=_OF_CELERY,
        timed=False,
    ),
    PastQueue("BullMQ in Python", "bullmq", "orders", 21, 8, 2.7, (PastClass("fulfil"),), 0.25, concurrency=2),
    PastQueue("BullMQ in Python", "bullmq", "invoices", 27, 6, 1.0, _INVOICES, scheduled=20, concurrency=2),
    PastQueue("BullMQ in Python", "bullmq", FAILED, 135, 26, 0.7, (PastClass("deliver"),), 0.45, concurrency=4),
    PastQueue("BullMQ in Python", "bullmq", SLOWED, 280, 60, 0.15, _SEARCH_INDEX, concurrency=2),
    PastQueue("BullMQ in Python", "bullmq", "data-exports", 11, 3, 1.95, (PastClass("export"),)),
    PastQueue("BullMQ in Node", "bullmq", "mails", 170, 16, 0.3, _MAILS, scheduled=10, concurrency=3),
    PastQueue("BullMQ in Node", "bullmq", "video-transcode", 8, 3, 7.4, (PastClass("transcode"),), 0.12, concurrency=2),
    PastQueue("Sidekiq", "sidekiq", "critical", 90, 8, 0.22, reported=_OF_SIDEKIQ, concurrency=3),
    PastQueue("Sidekiq", "sidekiq", "low", 60, 6, 0.8, reported=_OF_SIDEKIQ, concurrency=3),
    PastQueue("Sidekiq", "sidekiq", "*", 150, 0, 0.4, scheduled=4, reported=_OF_ALL_OF_SIDEKIQ),
)
