"""The real Celery, driven through `tests/workloads/celery_drive.py`."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping
from typing import Any

import redis

from dashboard.backends.base import Backend
from dashboard.backends.celery.backend import Celery
from dashboard.backends.celery.keys import NATIVE, RESERVED, filled_key
from dashboard.model import State
from tests.contract.library import Filled, Library
from tests.processes import child
from tests.search import search
from tests.waiting import CEILING_S, wait_until

MARKS = itertools.count()
TOGETHER = tuple(NATIVE)


class CeleryLibrary(Library):
    """Keeps what workers took and what ended for all queues together."""

    backend = Celery
    shared = True
    hashes = False
    keeps_ages = False
    heard = True

    def __init__(self) -> None:
        self._filled: dict[str, int] = {}

    def __repr__(self) -> str:
        return "celery"

    def fill(self, url: str) -> Filled:
        answer = self.drive("fill", url)
        ids = {queue: {State(state): found for state, found in lists.items()} for queue, lists in answer["ids"].items()}
        self._filled = {NATIVE[state]: len(found) for state, found in ids["*"].items()} | {RESERVED: 0}
        return Filled(ids=ids)

    def own_counts(self, url: str, queue: str) -> Mapping[str, int]:
        if queue == "*":  # Celery has no counts of these: what was put there, and seen there by the driver
            return self._filled
        counts: dict[str, int] = self.drive("counts", url, queue)
        return counts

    def run_jobs(self, url: str, queue: str, *, good: int, bad: int) -> None:
        self.drive("run", url, queue, str(good), str(bad))

    def job_key(self, queue: str, job_id: str) -> bytes:
        raise AssertionError("a job of Celery has no key of its own")

    def states(self, queue: str) -> tuple[State, ...]:
        return TOGETHER if queue == "*" else (State.WAITING,)

    def prepare(self, backend: Backend, client: redis.Redis) -> None:
        assert isinstance(backend, Celery)
        backend.own_source = backend.source
        search(backend)

        def filled() -> bool:
            backend.maintain()
            return bool(client.exists(filled_key(backend._own_name)))

        wait_until(filled, what="the index")
        self.settle(backend, client)

    def settle(self, backend: Backend, client: redis.Redis) -> None:
        assert isinstance(backend, Celery)
        backend.maintain()
        keeper = backend._keeper
        assert keeper is not None
        waiting = keeper.listener._ended
        # Told by its name: of what was published before, any number may come first.
        mark = f"celery-task-meta-settled-{next(MARKS)}".encode()
        # A feed may say that it is connected before the server has heard of it: as long as nobody hears it, nothing is
        # published.
        wait_until(lambda: keeper.listener.is_connected and client.publish(mark, "{}"), what="the feed")
        wait_until(
            lambda: any(channel == mark for channel, _ in waiting.copy()),
            what="the end of what was published",
        )
        backend.maintain()

    def drive(self, command: str, url: str, *arguments: str) -> Any:
        """What the driver answers to one command."""
        driver = [sys.executable, "-m", "tests.workloads.celery_drive", command, url, *arguments]
        with child(driver, name="celery-drive", pipes=True) as process:
            answer = json.loads(process.read_line())
            assert process.process.wait(CEILING_S) == 0, process.read_log()
        return answer
