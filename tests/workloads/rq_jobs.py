"""Functions that the RQ workers of the tests run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rq import Retry, get_current_job


def add(first: int, second: int = 0, **_: Any) -> dict[str, int]:
    """The sum, in a dictionary."""
    return {"sum": first + second}


def fail(message: str = "no luck") -> None:
    """Never returns."""
    raise ValueError(message)


def again(times: int, interval_s: int = 0) -> Retry:
    """Asks for another run, as RQ lets a job do by its return value."""
    return Retry(max=times, interval=interval_s)


def mark(tries: int = 1) -> int:
    """Counts its runs in the hash `marks`, by id; fails in those before the `tries`-th."""
    job = get_current_job()
    assert job is not None
    run = int(job.connection.hincrby("marks", job.id, 1))
    if run < tries:
        raise ValueError(f"run {run}")
    return run


def in_order() -> None:
    """Counts its runs in the hash `marks`, and adds its id to the list `order`.

    While there is a key `allowed`, it waits until fewer jobs than that have run.
    """
    job = get_current_job()
    assert job is not None
    while (allowed := job.connection.get("allowed")) is not None and job.connection.hlen("marks") >= int(allowed):
        time.sleep(0.005)
    job.connection.hincrby("marks", job.id, 1)
    job.connection.rpush("order", job.id)


def linger(began: str, seconds: float = 60) -> None:
    """Makes a file, and takes its time."""
    Path(began).touch()
    time.sleep(seconds)


def linger_until(began: str, until: str) -> None:
    """Makes the file `began`, and ends when there is a file `until`."""
    Path(began).touch()
    while not Path(until).exists():
        time.sleep(0.02)


def take(ms: float, fail: bool) -> None:
    """Takes so long, and adds when it ended, whether it failed, and its seconds, to the list `ended`."""
    job = get_current_job()
    assert job is not None
    began = time.perf_counter()
    time.sleep(ms / 1000)
    took_s = time.perf_counter() - began
    job.connection.rpush("ended", json.dumps([time.time(), int(fail), took_s]))
    if fail:
        raise ValueError("no such template")


class Counter:
    """A job that is a method of an object, which is pickled with it."""

    def __init__(self, start: int) -> None:
        self.start = start

    def step(self, by: int) -> int:
        """The next number."""
        return self.start + by
