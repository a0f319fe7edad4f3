"""Real Celery workers for the tests of actions, and what the jobs of `celery_drive.py` noted about their runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kombu.pools
import redis
from celery import Celery

from tests.processes import Child, child
from tests.waiting import wait_until

WORKLOADS = Path(__file__).parent.parent / "workloads"


class Shop:
    """An app that sends the jobs of `celery_drive.py`, and its workers.

    `options` = of broker and results; `conf` = other settings of both.

    Workers connect to `through`, a proxy, where that is given.
    """

    def __init__(
        self,
        url: str,
        results: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        through: str | None = None,
        conf: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.conf = dict(conf or {})
        self.through = through
        self.results = results or url
        self.options = dict(options or {})
        self.app = Celery("shop", broker=url, set_as_current=False)
        self.app.conf.broker_transport_options = self.options
        self.app.conf.update(self.conf)
        self.marks = redis.Redis.from_url(self.results)

    def send(self, key: str, *args: Any, queue: str | None = "alpha", **options: Any) -> str:
        """The id of a new job that notes its runs under `key`."""
        return str(self.app.send_task("shop.mark", (key, *args), queue=queue, **options).id)

    def read_marks(self, name: str) -> Mapping[str, int]:
        """How often each job ran (`ran`) or failed (`failed`), by key."""
        noted: Any = self.marks.hgetall(name)
        return {key.decode(): int(count) for key, count in noted.items()}

    def record(self, task_id: str) -> bytes:
        """The result record of a job; b"" when there is none."""
        raw = self.marks.get(f"{self.options.get('global_keyprefix', '')}celery-task-meta-{task_id}")
        return raw if isinstance(raw, bytes) else b""

    def status(self, task_id: str) -> str:
        """What the record of a job says."""
        return self.record(task_id)[12:30].decode().partition('"')[0]

    def await_status(self, task_id: str, status: str) -> None:
        """Returns when the record of a job says `status`."""
        wait_until(lambda: self.status(task_id) == status, what=f"{status} of {task_id}")

    @contextmanager
    def worker(
        self,
        queues: str = "alpha,beta",
        *flags: str,
        pool: str = "threads",
        size: int = 2,
        name: str = "one@shop",
        gently: bool = True,
        conf: Mapping[str, Any] | None = None,
    ) -> Iterator[Child]:
        """A worker that answers; shut down warmly at the end, or killed with `gently` False; `conf` = of its app."""
        command = [sys.executable, "-m", "celery", "-A", "celery_drive", "worker", "-P", pool, "-c", str(size)]
        command += ["-Q", queues, "-n", name, "-l", "CRITICAL", "--without-gossip", "--without-mingle", *flags]
        environ = {
            "CELERY_DRIVE_URL": self.through or self.url,
            "CELERY_DRIVE_RESULTS": self.through or self.results,
            "CELERY_DRIVE_OPTIONS": json.dumps(self.options),
            "CELERY_DRIVE_CONF": json.dumps(self.conf | dict(conf or {})),
        }
        with child(command, name=name, cwd=WORKLOADS, environ=environ, gently=gently) as process:
            wait_until(lambda: self.app.control.ping([name], timeout=0.5), what=f"the worker {name}")
            yield process

    def close(self) -> None:
        """Close the connections."""
        self.app.close()
        # Else the next app takes the queues of this one for declared.
        kombu.pools.reset()  # type: ignore[no-untyped-call]
        self.marks.close()
