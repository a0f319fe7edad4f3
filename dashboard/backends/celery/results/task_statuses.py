"""Which tasks are running and which were revoked: their records and events report it, their messages do not."""

from __future__ import annotations

from ..events import EventListener

# How many tasks are remembered as started or revoked, by their records; the newest.
MAX_STARTED, MAX_REVOKED = 1000, 1000


class TaskStatuses:
    """The running and the revoked tasks of one source; `workers` receives the events of its workers."""

    def __init__(self, workers: EventListener) -> None:
        self._workers = workers
        self._started: dict[str, None] = {}  # ids of running tasks, by their records
        self.revoked: dict[str, None] = {}  # ids of revoked tasks, by their records

    @property
    def running_ids(self) -> frozenset[str]:
        """Ids of running tasks, as reported by workers with -E or by records of apps with task_track_started."""
        return frozenset(self._started) | frozenset(self._workers.started)

    def note_status(self, task: str, status: str) -> None:
        """Remember the status that the record of a task has now."""
        for word, tasks, most in (("STARTED", self._started, MAX_STARTED), ("REVOKED", self.revoked, MAX_REVOKED)):
            tasks.pop(task, None)
            if status == word:
                tasks[task] = None
                if len(tasks) > most:
                    del tasks[next(iter(tasks))]
        if status != "STARTED":
            self._workers.started.pop(task, None)
