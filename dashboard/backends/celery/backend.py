"""Celery 5.3 to 5.7 with Redis as broker, reading. Layout: kombu `transport/redis.py`, celery `backends/redis.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dashboard.backends.base import Backend, Budget, Discovery
from dashboard.backends.celery import figures, keys, pages
from dashboard.backends.celery.index import Keeper
from dashboard.backends.celery.workers import read as read_workers
from dashboard.backends.payload import text
from dashboard.backends.scan import scan_step
from dashboard.backends.script import Scripts
from dashboard.backends.searchtext import joined, of_json
from dashboard.errors import QueuedeckError
from dashboard.model import (
    Capability,
    FlowDelta,
    Job,
    JobPage,
    JobQuery,
    QueueRef,
    QueueStats,
    Searched,
    Window,
    Worker,
)
from dashboard.settings import SourceSettings
from dashboard.sources import Source


class Celery(Backend):
    """Celery's queues, and one entry for what its workers took and what ended."""

    name = "celery"
    title = "Celery"
    keyed_by_id = False
    states = {state: (native,) for state, native in keys.NATIVE.items()}  # noqa: RUF012
    capabilities = frozenset({Capability.WORKERS, Capability.RESULTS, Capability.PRIORITIES, Capability.SEARCH})

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        super().__init__(source, settings)
        self.broker = Source(source.name, settings.broker_url) if settings.broker_url else source
        self.results = Source(source.name, settings.result_url) if settings.result_url else source
        self._scripts = Scripts(self.broker)
        self._keeper: Keeper | None = None
        self._prefixes: set[str] = set()
        self._there = bool(self.named_queues())  # a server without Celery is not listened to

    def discover(self, cursor: Any, budget: Budget) -> Discovery:
        found, following = scan_step(self.broker, cursor or 0, budget, match=f"*{keys.BINDING}*", key_type="set")
        exchanges = [key for key in dict.fromkeys(found) if not key.endswith((b".pidbox", b"celeryev"))]
        replies = self.broker.batch([("SSCAN", key, 0, "COUNT", 1000) for key in exchanges])
        places = [keys.Place("", name) for name in self.named_queues()] if cursor is None else []
        for key, reply in zip(exchanges, replies, strict=True):
            prefix, _, exchange = text(key).partition(keys.BINDING)
            for member in reply[1] if isinstance(reply, list) else ():
                queue, separator = keys.bound(exchange, text(member)) or ("", "")
                if queue and not queue.endswith(".pidbox"):
                    places += [keys.Place(prefix, None), keys.Place(prefix, queue, separator)]
        self._prefixes.update(place.prefix for place in places)
        if following == 0:
            self._there = self._there or bool(self._prefixes)
        refs = tuple(
            self._ref(place) for place in dict.fromkeys(places) if place.queue is None or self.shows(place.queue)
        )
        return Discovery(refs, complete=following == 0, cursor=following)

    def distinct(self, refs: Sequence[QueueRef]) -> list[QueueRef]:
        """As the contract says: a queue whose name is taken under no prefix bears its prefix too."""
        names = [ref.name for ref in refs]
        return [
            msgspec.structs.replace(ref, name=f"{prefix}{ref.name}")
            if names.count(ref.name) > 1 and (prefix := keys.place(ref).prefix)
            else ref
            for ref in refs
        ]

    def stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        return figures.stats(self.broker, self._scripts, self.own, refs, self._keeper)

    def flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        return figures.flow(refs, self._keeper, cursor)

    def jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        return self._pages().read(ref, query)[0]

    def job(self, ref: QueueRef, job_id: str) -> Job:
        return self._pages().job(ref, job_id)

    def workers(self, refs: Sequence[QueueRef]) -> list[Worker]:
        prefixes = sorted({keys.place(ref).prefix for ref in refs})
        return read_workers(self.broker, self.own, prefixes)

    def window(self, ref: QueueRef, query: JobQuery) -> Window:
        page, payloads = self._pages().read(ref, query)
        rows = tuple(
            Searched(job=job, text=joined(of_json(payload), job.error.message if job.error else None))
            for job, payload in zip(page.jobs, payloads, strict=True)
        )
        return Window(rows=rows, total=page.total, order=page.order)

    def tend(self) -> None:
        if self.own is None or not self._there:
            return
        if self._keeper is None:
            self._keeper = Keeper(self.broker, self.results, self.own, self.source.name)
        self._keeper.prefixes = sorted(self._prefixes) or [""]
        try:
            self._keeper.tend()
        except QueuedeckError:
            self._keeper.ended.whole = False
            raise

    def close(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def _pages(self) -> pages.Pages:
        return pages.Pages(self.broker, self.results, self.own, self._scripts)

    def _ref(self, place: keys.Place) -> QueueRef:
        return QueueRef(
            source=self.source.name,
            backend=self.name,
            name=keys.SHARED if place.queue is None else place.queue,
            key=place.key,
            shared=place.queue is None,
        )
