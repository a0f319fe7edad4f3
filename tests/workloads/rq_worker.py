"""A process of RQ's worker: `python -m tests.workloads.rq_worker URL fork|simple|held QUEUE…`; says `ready` first."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import redis
from rq import Queue, SimpleWorker, Worker
from rq.worker import base

NAP_S = 0.01
# A worker that is held while it asks for a job hangs up after about this long.
HELD_S = 3600


class _Clock:
    """The clock of RQ's worker, with short naps: a suspended worker looks again soon."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, NAP_S))


def main(url: str, kind: str, *names: str) -> None:
    """Work until told to stop. `fork` runs jobs in children, so that they can be stopped, the others in this process;
    `held` is for a worker that a test keeps waiting for minutes."""
    logging.disable(logging.CRITICAL)
    base.time = _Clock()
    connection = redis.Redis.from_url(url)
    queues = [Queue(name, connection=connection) for name in names]
    worker_class = Worker if kind == "fork" else SimpleWorker
    worker = worker_class(queues, connection=connection, worker_ttl=HELD_S if kind == "held" else None)
    print(f"ready {worker.name}", flush=True)
    worker.work(logging_level="CRITICAL")


if __name__ == "__main__":
    main(*sys.argv[1:])
