"""The four libraries as an operator meets them at night: jobs that died of one error, and a real worker for them."""

from __future__ import annotations

import abc
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis
from rq import Queue

from tests.contract.bullmq_library import WORKLOAD, BullMQLibrary
from tests.contract.celery_live import Shop
from tests.contract.rq_actions import running_rq_worker
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.contract.sidekiq_worker import failed_payload, payload, running_sidekiq
from tests.processes import child
from tests.waiting import wait_until
from tests.workloads import rq_jobs


class Night(abc.ABC):
    """One library. `word` is in the error of its jobs, `shelf` = the queue in whose list Queuedeck shows them."""

    name: str
    title: str
    word: str
    queue: str
    shelf: str

    def __repr__(self) -> str:
        return self.name

    @contextmanager
    @abc.abstractmethod
    def dying(self, url: str, count: int) -> Iterator[None]:
        """`count` jobs are dead and no worker runs inside the block; then all processes of the library are stopped."""

    @abc.abstractmethod
    def working(self, url: str) -> Iterator[object]:
        """A context in which a real worker takes jobs, all of which now succeed."""

    @abc.abstractmethod
    def ran(self, client: redis.Redis) -> Sequence[int]:
        """How often each job that a worker finished since was run, one number a job."""


class BullMQNight(Night):
    """Node runs what it failed."""

    name, title, word, queue, shelf = "bullmq", "BullMQ", "nobody", "mails", "mails"

    @contextmanager
    def dying(self, url: str, count: int) -> Iterator[None]:
        BullMQLibrary().drive("many", url, self.queue, count=count, dead=True)
        yield

    @contextmanager
    def working(self, url: str) -> Iterator[object]:
        node = shutil.which("node")
        assert node is not None
        command = [node, WORKLOAD / "drive.mjs", "bullmq", "consume", url, self.queue, json.dumps({})]
        with child(command, name="bullmq-worker", pipes=True, gently=False) as process:
            assert process.read_line() == '{"ready":true}'
            yield

    def ran(self, client: redis.Redis) -> Sequence[int]:
        done = {raw.decode() for raw in client.zrange(f"bull:{self.queue}:completed", 0, -1)}
        runs = client.hmget("marks", *done) if done else []
        return [int(count or 0) for count in runs]


class RQNight(Night):
    """Jobs that fail in their first run and succeed in the second."""

    name, title, word, queue, shelf = "rq", "RQ", "run", "cash", "cash"
    _ids: Sequence[str] = ()

    @contextmanager
    def dying(self, url: str, count: int) -> Iterator[None]:
        with open_client(url) as client:
            queue = Queue(self.queue, connection=client)
            self._ids = [queue.enqueue(rq_jobs.mark, 2).id for _ in range(count)]
            run_waiting_jobs(queue)
        yield

    @contextmanager
    def working(self, url: str) -> Iterator[object]:
        with running_rq_worker(url, "simple", self.queue):
            yield

    def ran(self, client: redis.Redis) -> Sequence[int]:
        done = [key for key in self._ids if client.zscore(f"rq:finished:{self.queue}", key) is not None]
        return [int(client.hget("marks", key) or 0) - 1 for key in done]


class SidekiqNight(Night):
    """Payloads as Ruby leaves them in its dead set; Ruby runs them."""

    name, title, word, queue, shelf = "sidekiq", "Sidekiq", "gate", "work", "*"

    @contextmanager
    def dying(self, url: str, count: int) -> Iterator[None]:
        with redis.Redis.from_url(url) as client:
            client.sadd("queues", self.queue)
            client.lpush(f"queue:{self.queue}", payload("first"))
            jobs = [failed_payload(f"s{n}", error_message=f"no gate {n}") for n in range(count)]
            client.zadd("dead", {job: 1_700_000_000 + n for n, job in enumerate(jobs)})
        yield

    @contextmanager
    def working(self, url: str) -> Iterator[object]:
        with running_sidekiq(url), redis.Redis.from_url(url) as client:
            wait_until(lambda: client.hdel("runs", "first"), what="the first run of Sidekiq")
            yield

    def ran(self, client: redis.Redis) -> Sequence[int]:
        return [int(count) for count in client.hvals("runs")]


class CeleryNight(Night):
    """Celery's worker fails jobs as long as there is a key."""

    name, title, word, queue, shelf = "celery", "Celery", "cannot", "alpha", "*"

    @contextmanager
    def dying(self, url: str, count: int) -> Iterator[None]:
        shop = Shop(url)
        try:
            shop.marks.set("broken", 1)
            ids = [shop.send(f"c{n}") for n in range(count)]
            with shop.worker(self.queue):
                self._shop = shop
                for task_id in ids:
                    shop.await_status(task_id, "FAILURE")
                shop.marks.delete("broken")
                yield
        finally:
            shop.close()

    @contextmanager
    def working(self, url: str) -> Iterator[object]:
        yield  # it is there since it failed them

    def ran(self, client: redis.Redis) -> Sequence[int]:
        return list(self._shop.read_marks("ran").values())


LIBRARIES: tuple[Night, ...] = (BullMQNight(), RQNight(), SidekiqNight(), CeleryNight())
