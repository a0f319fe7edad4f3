"""Workers and schedules are read once for all viewers, from the libraries whose queues are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from dashboard.backends.base import Backend
from dashboard.model import Capability, QueueRef, QueueStats, Worker, WorkerState
from dashboard.sampling.live_lists import LiveList
from dashboard.sources.source import Source
from tests.unit.sampling.list_backend import Lists, watch_of

QUEUES = [
    QueueStats(source="main", backend=backend, name=name, key=name)
    for backend, name in (("staffed", "mail"), ("staffed", "cash"), ("lists", "mail"))
]


class Staffed(Lists):
    """A library that reports one worker, which serves all queues."""

    name = "staffed"
    title = "Staffed"
    capabilities = frozenset({Capability.WORKERS})
    readings: ClassVar[int] = 0

    def list_workers(self, refs: Sequence[QueueRef]) -> list[Worker]:
        Staffed.readings += 1
        queues = tuple(ref.name for ref in refs)
        return [Worker(id="a", source="main", backend="staffed", state=WorkerState.IDLE, queues=queues)]


def list_workers(backend: Backend, refs: Sequence[QueueRef]) -> Sequence[Worker]:
    return backend.list_workers(refs)


def test_all_viewers_share_one_reading_until_it_is_discarded() -> None:
    Staffed.readings = 0
    seen: list[Worker] = []
    watch = watch_of(Source("main", "redis://127.0.0.1:1/0", "{deck}"), kinds=(Staffed, Lists))
    workers = LiveList(watch, Capability.WORKERS, list_workers, lambda: QUEUES, 60.0, seen=seen.extend)
    rows = workers.current_rows().rows
    assert workers.current_rows().rows is rows
    assert [row.queues for row in rows] == [("mail", "cash")]
    assert (Staffed.readings, tuple(seen)) == (1, rows)
    workers.invalidate()
    assert workers.current_rows().rows == rows
    assert Staffed.readings == 2


def test_a_library_that_is_no_longer_watched_is_a_problem_of_its_own() -> None:
    watch = watch_of(Source("main", "redis://127.0.0.1:1/0", "{deck}"), kinds=(Staffed,))
    workers = LiveList(watch, Capability.WORKERS, list_workers, lambda: QUEUES, 60.0)
    live_rows = workers.current_rows()
    assert len(live_rows.rows) == 1
    assert live_rows.problems == (("main", "lists", "The library 'lists' is not monitored on 'main'."),)
