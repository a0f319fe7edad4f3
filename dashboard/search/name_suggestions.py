"""Names of jobs that this process recently showed or searched, as suggestions for the search box."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from ..model import Job, Worker

# About 10 MB at most.
QUEUES = 1000
PER_QUEUE = 50
LONGEST = 120


class NameSuggestions:
    """The newest PER_QUEUE names of each of the QUEUES most recently seen queues. Thread-safe; sends no commands."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: OrderedDict[tuple[str, str, str], OrderedDict[str, None]] = OrderedDict()

    def add_jobs(self, jobs: Iterable[Job]) -> None:
        """Remember the names of `jobs`."""
        self.add_names((job.source, job.backend, job.queue, job.name) for job in jobs)

    def add_workers(self, workers: Iterable[Worker]) -> None:
        """Remember the names of the jobs that `workers` run."""
        self.add_names(
            (worker.source, worker.backend, work.queue or "", work.job_name)
            for worker in workers
            for work in worker.work
        )

    def add_names(self, named: Iterable[tuple[str, str, str, str | None]]) -> None:
        """Remember names, each given as (source, library, queue, name)."""
        with self._lock:
            for source, backend, queue, name in dict.fromkeys(named):
                if not name or len(name) > LONGEST:
                    continue
                names = self._queues.setdefault((source, backend, queue), OrderedDict())
                self._queues.move_to_end((source, backend, queue))
                names[name] = None
                names.move_to_end(name)
                if len(names) > PER_QUEUE:
                    names.popitem(last=False)
                if len(self._queues) > QUEUES:
                    self._queues.popitem(last=False)

    def newest_names(self, most: int) -> list[str]:
        """At most `most` unique names of the most recently seen queues, sorted."""
        with self._lock:
            found: dict[str, None] = {}
            for names in reversed(self._queues.values()):
                for name in reversed(names):
                    if len(found) >= most:
                        return sorted(found)
                    found[name] = None
            return sorted(found)

    def find_names(self, part: str, most: int) -> list[str]:
        """At most `most` unique names that contain `part`, ignoring case; those of the most recently seen queues first.

        Time: linear in the names; at most QUEUES times PER_QUEUE are kept.
        """
        wanted = part.casefold()
        with self._lock:
            found: dict[str, None] = {}
            for names in reversed(self._queues.values()):
                for name in reversed(names):
                    if name not in found and wanted in name.casefold():
                        found[name] = None
                        if len(found) >= most:
                            return list(found)
            return list(found)
