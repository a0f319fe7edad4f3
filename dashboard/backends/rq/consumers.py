"""The live workers of one prefix, read in a script because their hashes can only be found through their set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...sources.source import Argument, Reply, text
from ..lua_reads import Scripts
from ..payloads.decoding import count_or_none
from . import keys
from .serialization import parse_integer, parse_time

# More workers than this are only counted, not read one by one.
MAX_WORKERS = 500
MAX_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker whose hash has not expired."""

    key: str
    queues: str  # their names, joined by commas; "" if Redis no longer has them
    version: str | None
    completed: int  # jobs since it started
    failed: int  # attempts since it started, including those that are retried
    birth: str | None

    def serves_queue(self, queue: str) -> bool:
        """Whether it serves `queue`, whose name can contain commas."""
        return f",{queue}," in f",{self.queues},"

    def born_before(self, seconds: float) -> bool:
        """Whether it is known to have started before `seconds`, in seconds since 1970."""
        birth = parse_time(self.birth)
        return birth is not None and birth.timestamp() < seconds

    def born_after(self, seconds: float) -> bool:
        """Whether it started after `seconds`, in seconds since 1970."""
        birth = parse_time(self.birth)
        return birth is not None and birth.timestamp() > seconds


class ConsumerFigures(NamedTuple):
    """The number of workers of one queue, and their versions."""

    workers: int
    versions: str | None


NO_WORKERS = ConsumerFigures(0, None)


class ConsumerIndex:
    """Live workers, indexed by the queues that they serve."""

    def __init__(self, workers: Sequence[LiveWorker]) -> None:
        self._workers = workers
        self._by_queue: dict[str, list[LiveWorker]] = {}
        for worker in workers:
            for name in worker.queues.split(","):
                self._by_queue.setdefault(name, []).append(worker)

    def figures_of(self, queue: str) -> ConsumerFigures:
        """Return the figures of the workers that serve `queue`."""
        workers = self.workers_of(queue)
        if len(workers) < 2:
            return ConsumerFigures(1, workers[0].version or None) if workers else NO_WORKERS
        versions = {worker.version for worker in workers if worker.version}
        return ConsumerFigures(len(workers), ", ".join(sorted(versions)) or None)

    def workers_of(self, queue: str) -> Sequence[LiveWorker]:
        """Return the workers that serve `queue`."""
        if "," in queue:  # its name looks like several
            return [worker for worker in self._workers if worker.serves_queue(queue)]
        return self._by_queue.get(queue, ())


FIELDS = ("queues", "version", "successful_job_count", "failed_job_count", "birth")


def workers_call(prefix: str, known: Sequence[str] = ()) -> Sequence[Argument]:
    """Return the arguments with which the script `queues` reads the live workers, and those `known` ones that stopped.

    A stopped worker is no longer in the set; RQ keeps its counters for a minute.
    """
    return ("workers", keys.workers_key(prefix), MAX_WORKERS, MAX_BYTES, *known)


def workers_of(reply: Reply) -> tuple[LiveWorker, ...] | None:
    """Return the live workers; None if they could not be read one by one."""
    if not isinstance(reply, list):
        return None
    return tuple(worker_of(text(key), *fields) for key, *fields in reply)


def worker_of(key: str, queues: bytes | None, *fields: bytes | None) -> LiveWorker:
    """Return a worker from the values of FIELDS in its hash."""
    version, completed, failed, birth = (text(value) if value else None for value in fields)
    return LiveWorker(
        key=key,
        queues=text(queues or b""),
        version=version,
        completed=count_or_none(parse_integer(completed)) or 0,
        failed=count_or_none(parse_integer(failed)) or 0,
        birth=birth,
    )


def read_versions(scripts: Scripts, prefixes: Sequence[str]) -> tuple[str, ...]:
    """Return the RQ versions that live workers report, sorted; () if none does. Cost: 1 round trip."""
    answered = scripts.run(keys.load_script("queues"), [workers_call(prefix) for prefix in prefixes])
    found = [worker for reply in (answered[0] if answered else ()) for worker in workers_of(reply) or ()]
    return tuple(sorted({worker.version for worker in found if worker.version}))
