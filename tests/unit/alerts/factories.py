"""Samples and rules for tests of the pure parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dashboard.alerts.rules.rule import Rule, parse_rule
from dashboard.model import Counts, QueueStats, RedisHealth, Snapshot, SourceStats


def rule(**fields: Any) -> Rule:
    """A checked rule on queue depth, critical above 10, unless said otherwise."""
    values: dict[str, Any] = {"id": "deep", "metric": "queue.depth", **fields}
    if "warning" not in values and "critical" not in values:
        values["critical"] = 10
    return parse_rule(values, "test")


def queue(name: str = "mail", depth: int | None = 0, *, source: str = "main", **fields: Any) -> QueueStats:
    """A queue with so many jobs waiting."""
    counts = fields.pop("counts", Counts(waiting=depth))
    return QueueStats(source=source, backend="lists", name=name, key=name, counts=counts, depth=depth, **fields)


def source(name: str = "main", *, reachable: bool = True, **health: Any) -> SourceStats:
    """A Redis that answers, with these figures of INFO."""
    return SourceStats(
        name=name, address="redis://x", reachable=reachable, discovered=reachable, health=RedisHealth(**health)
    )


def sample(
    queues: Iterable[QueueStats] = (), sources: Iterable[SourceStats] = (), *, interval_s: float = 2.0
) -> Snapshot:
    """A sample of these queues on one healthy Redis, unless others are given."""
    return Snapshot(
        sampled_at=0.0,
        interval_s=interval_s,
        sequence=1,
        sampler="t",
        epoch=1,
        sources=tuple(sources) or (source(),),
        queues=tuple(queues),
    )
