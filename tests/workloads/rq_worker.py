"""A process of RQ's own worker: `python -m tests.workloads.rq_worker URL fork|simple QUEUE…`; says `ready` first."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import redis
from rq import Queue, SimpleWorker, Worker
from rq.worker import base

NAP_S = 0.01


class _Clock:
    """The clock of RQ's worker, with short naps: a suspended worker looks again soon."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, NAP_S))


def main(url: str, kind: str, *names: str) -> None:
    """Work until told to stop. `simple` runs jobs in this process, `fork` in children, so that they can be stopped."""
    logging.disable(logging.CRITICAL)
    base.time = _Clock()
    connection = redis.Redis.from_url(url)
    queues = [Queue(name, connection=connection) for name in names]
    worker = (SimpleWorker if kind == "simple" else Worker)(queues, connection=connection)
    print(f"ready {worker.name}", flush=True)
    worker.work(logging_level="CRITICAL")


if __name__ == "__main__":
    main(*sys.argv[1:])
