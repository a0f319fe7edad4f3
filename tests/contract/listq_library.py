"""The example of docs/writing-a-backend.md, run in this process."""

from __future__ import annotations

from collections.abc import Mapping

import listq
import redis
from queuedeck_listq.backend import ListQ

from dashboard.model import State
from tests.contract.library import Filled, Library


def send(number: int) -> int:
    return number


def fail(number: int) -> None:
    raise ValueError(f"cannot send to {number}")


FUNCTIONS = {"mail": fail, "add": send}


class ListQLibrary(Library):
    """listq and its backend, both in docs/example_backend."""

    backend = ListQ

    def __repr__(self) -> str:
        return "listq"

    def fill(self, url: str) -> Filled:
        filled = Filled()
        with redis.Redis.from_url(url) as client:
            for queue in ("alpha", "beta"):
                done = [listq.enqueue(client, queue, "add", number) for number in range(4)]
                dead = [listq.enqueue(client, queue, "mail", number) for number in range(3)]
                while listq.run_next(client, queue, FUNCTIONS):
                    pass
                active = [listq.enqueue(client, queue, "add", 7)]
                listq.take(client, queue)
                waiting = [listq.enqueue(client, queue, "add", number) for number in range(5)]
                filled.ids[queue] = {
                    State.WAITING: waiting,
                    State.ACTIVE: active,
                    State.DEAD: dead,
                    State.COMPLETED: done,
                }
        return filled

    def own_counts(self, url: str, queue: str) -> Mapping[str, int]:
        with redis.Redis.from_url(url) as client:
            return listq.counts(client, queue)

    def run_jobs(self, url: str, queue: str, *, good: int, bad: int) -> None:
        with redis.Redis.from_url(url) as client:
            for number in range(good):
                listq.enqueue(client, queue, "add", number)
            for number in range(bad):
                listq.enqueue(client, queue, "mail", number)
            while listq.run_next(client, queue, FUNCTIONS):
                pass

    def job_key(self, queue: str, job_id: str) -> bytes:
        return f"listq:{queue}:job:{job_id}".encode()
