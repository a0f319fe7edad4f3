"""Samples of queues whose true figures are known."""

from __future__ import annotations

from dashboard.history.columns import Cell
from dashboard.history.readings import Flows
from dashboard.history.recorder import ClosedSlot
from dashboard.history.series_keys import SeriesKey
from dashboard.history.tiers import Tier
from dashboard.model import Counts, FlowDelta, Quality, QueueFlow, QueueStats, RedisHealth, Snapshot, SourceStats

INTERVAL_S = 2.0


def queue_row(name: str, depth: int | None = 0, *, dead: int = 0, latency_s: float | None = 0.0) -> QueueStats:
    return QueueStats(
        source="main",
        backend="rq",
        name=name,
        key=name,
        depth=depth,
        latency_s=latency_s,
        counts=Counts(waiting=depth, active=0, dead=dead),
        workers=1,
    )


def flow_of(name: str, finished: int = 0, failed: int = 0, *runtimes_s: float, span_s: float = INTERVAL_S) -> QueueFlow:
    return QueueFlow(
        key=name,
        completed=finished - failed,
        dead=failed,
        span_s=span_s,
        quality=Quality.EXACT,
        runtimes_s=runtimes_s,
    )


def snapshot_of(at: float, *queues: QueueStats, reachable: bool = True, health: RedisHealth | None = None) -> Snapshot:
    source = SourceStats(name="main", address="redis://h", reachable=reachable, health=health or RedisHealth())
    return Snapshot(
        sampled_at=at,
        interval_s=INTERVAL_S,
        sequence=1,
        sampler="t",
        epoch=1,
        sources=(source,),
        queues=queues,
    )


def flows_of(*flows: QueueFlow) -> Flows:
    return {("main", "rq"): FlowDelta(queues=flows)}


def cells_of(closed: list[ClosedSlot], key: SeriesKey, tier: Tier, column: str) -> dict[int, Cell]:
    """Start of a slot -> the cell of a column, of all records of one tier of a series."""
    place = key.kind.index_of(column)
    return {one.record.start_s: one.record.cells[place] for one in closed if (one.key, one.tier) == (key, tier)}
