"""A library as small as can be, for tests of the collector: queues are Redis lists, named in the set `lists`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from redis.exceptions import ResponseError

from dashboard.backends.base import Backend, Budget, Discovery
from dashboard.backends.monitored_sources import MonitoredSources
from dashboard.errors import NotFound
from dashboard.model import Counts, FlowDelta, Job, JobPage, JobQuery, Quality, QueueFlow, QueueRef, QueueStats, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source, text


class Lists(Backend):
    """`LLEN <name>` waiting; the counter `done:<name>` tells what was completed."""

    name = "lists"
    title = "Lists"
    states = {State.WAITING: ("list",)}  # noqa: RUF012
    capabilities = frozenset()

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        members = self.source.execute("SMEMBERS", "lists")
        refs = tuple(QueueRef(source=self.source.name, backend="lists", name=text(m), key=text(m)) for m in members)
        return Discovery(refs, complete=True, cursor=None)

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        rows = []
        for ref, length in zip(refs, self.source.run_batch([("LLEN", ref.key) for ref in refs]), strict=True):
            bad = isinstance(length, ResponseError)
            count = None if bad else length
            rows.append(
                QueueStats(
                    source=ref.source,
                    backend="lists",
                    name=ref.name,
                    key=ref.key,
                    counts=Counts(waiting=count),
                    depth=count,
                    error=str(length) if bad else None,
                )
            )
        return rows

    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        totals = [int(n or 0) for n in self.source.run_batch([("GET", f"done:{ref.key}") for ref in refs])]
        before: dict[str, int] = cursor or {}
        now = {ref.key: total for ref, total in zip(refs, totals, strict=True)}
        flows = tuple(
            QueueFlow(key=key, completed=total - before.get(key, total), dead=0, span_s=1.0, quality=Quality.EXACT)
            for key, total in now.items()
        )
        return FlowDelta(queues=flows), now

    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        return JobPage(jobs=(), page=query.page, per_page=query.per_page, total=None, order="")

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        raise NotFound("none")


class Broken(Lists):
    """A library whose reading fails in a way nobody foresaw."""

    name = "broken"
    title = "Broken"

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        raise RuntimeError("a bug")


class Miscounting(Lists):
    """A library whose `read_stats` leaves out the last queue, or adds one."""

    name = "miscounting"
    title = "Miscounting"
    extra: ClassVar[int] = -1

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        rows = super().read_stats(refs)
        return [*rows, *rows][: len(rows) + self.extra]


def watch_of(*sources: Source, kinds: Sequence[type[Backend]] = (Lists,)) -> MonitoredSources:
    """A Watch over `sources` with these backends."""
    return MonitoredSources(
        {source.name: source for source in sources},
        {
            source.name: tuple(kind(source, SourceSettings(name=source.name, url=source.address)) for kind in kinds)
            for source in sources
        },
        sources[0],
    )
