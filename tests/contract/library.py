"""What the contract suite asks of a library: make jobs with the real thing, count them with its own API.

One subclass per library lives beside this file (`bullmq_library.py`, `rq_library.py`); the suite runs over LIBRARIES in
`conftest.py`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import redis

from dashboard.backends.base import Backend
from dashboard.model import State


@dataclass
class Filled:
    """What a library was made to hold: per queue, ids by state, and the library's own counts by native word."""

    ids: dict[str, dict[State, list[str]]] = field(default_factory=dict)
    native_counts: dict[str, Mapping[str, int]] = field(default_factory=dict)


class Library(abc.ABC):
    """One real library, driven from outside."""

    backend: ClassVar[type[Backend]]
    # Whether some lists are kept for all queues together, in an entry called `*`; `fill` then tells their ids there.
    shared: ClassVar[bool] = False
    # Whether rates are heard by the sampling process rather than read.
    heard: ClassVar[bool] = False
    # Whether a job tells when it was enqueued, and a message that is tried again why it failed.
    keeps_ages: ClassVar[bool] = True
    # Whether each job has a hash of its own.
    hashes: ClassVar[bool] = True
    # Whether the backend offers actions on jobs; the suites of actions leave out one that only watches.
    acts: ClassVar[bool] = True
    # Whether completed jobs are kept; if not, `read_flow` reports them as `hidden`, and they are not counted.
    keeps_completed: ClassVar[bool] = True

    def states(self, queue: str) -> tuple[State, ...]:
        """The states of which a queue has jobs."""
        del queue
        return tuple(self.backend.states)

    def prepare(self, backend: Backend, client: redis.Redis) -> None:  # noqa: B027 most remember nothing
        """Make a fresh backend know what a sampling process would know by now."""

    def settle(self, backend: Backend, client: redis.Redis) -> None:  # noqa: B027 most have nothing to hear
        """Return when the backend has heard all that was published."""

    @abc.abstractmethod
    def fill(self, url: str) -> Filled:
        """Put jobs of every state the library has into queues `alpha` and `beta` at `url` with the real library."""

    @abc.abstractmethod
    def own_counts(self, url: str, queue: str) -> Mapping[str, int]:
        """What the library's own API counts in a queue now, by native word."""

    @abc.abstractmethod
    def run_jobs(self, url: str, queue: str, *, good: int, bad: int) -> None:
        """Add jobs, run them to their end with the real worker (`bad` of them fail for good), and return after it."""

    @abc.abstractmethod
    def job_key(self, queue: str, job_id: str) -> bytes:
        """The Redis key of a job's hash, for tests that spoil it."""
