"""The figures of one Redis as of a moment, as far as the history has them. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Sequence

from ....history.columns import SOURCE
from ....history.past.past_figures import health_as_of
from ....history.slots import Slot
from ....model import RedisHealth
from ....units import format_number, format_percent, shorten_number
from ...formatting import size
from ..problems import thresholds
from ..problems.problem import ProblemLevel
from ..problems.thresholds import Scale
from .server_figures import FigureGroup, ServerFigure, figure_or_dash

UNKNOWN_THEN = "the server did not report it then"
NO_LIMIT = "there was no limit, or the server did not report it"


def past_main_figures(slots: Sequence[Slot], rate_points: int, scale: Scale) -> tuple[ServerFigure, ...]:
    """The five figures at the top of the page: those of the last slot, and evictions over the last `rate_points`."""
    health = health_as_of(slots)
    evicted = _per_minute(slots[-rate_points:], "evicted")
    level = scale.level(thresholds.MEMORY, health.memory_ratio)
    evicts = scale.level(thresholds.EVICTION, 1.0) if evicted else ProblemLevel.OK
    waiting = f"{format_number(health.blocked_clients)} waiting for a job" if health.blocked_clients else ""
    hits = format_percent(health.keyspace_hit_ratio)
    return (
        figure_or_dash("Memory used", size(health.used_memory_bytes), _limit_note(health), level, UNKNOWN_THEN),
        figure_or_dash("Commands per second", shorten_number(health.ops_per_s), why=UNKNOWN_THEN),
        figure_or_dash("Clients", shorten_number(health.clients), waiting, why=UNKNOWN_THEN),
        figure_or_dash("Hit ratio", hits, "reads that found a key", why=UNKNOWN_THEN),
        figure_or_dash("Evicted keys per minute", shorten_number(evicted), "", evicts, UNKNOWN_THEN),
    )


def past_figure_groups(slots: Sequence[Slot], rate_points: int) -> tuple[FigureGroup, ...]:
    """All other figures that the history has, by topic."""
    health = health_as_of(slots)
    ratio, rejected = health.fragmentation_ratio, _per_minute(slots[-rate_points:], "rejected")
    return (
        FigureGroup(
            "Memory",
            (
                figure_or_dash("Limit", size(health.maxmemory_bytes), "maxmemory", why=NO_LIMIT),
                figure_or_dash("Fragmentation", None if ratio is None else format_percent(ratio), why=UNKNOWN_THEN),
                figure_or_dash("Keys", format_number(health.keys), "in this database", why=UNKNOWN_THEN),
            ),
        ),
        FigureGroup(
            "Connections",
            (
                figure_or_dash("Waiting for a job", format_number(health.blocked_clients), "clients", why=UNKNOWN_THEN),
                figure_or_dash(
                    "Rejected per minute",
                    shorten_number(rejected),
                    "",
                    ProblemLevel.WARNING if rejected else ProblemLevel.OK,
                    UNKNOWN_THEN,
                ),
                figure_or_dash(
                    "Replication lag",
                    size(health.replica_lag_bytes),
                    "of the slowest replica",
                    why="there was no replica, or the server did not report it",
                ),
            ),
        ),
    )


def _per_minute(slots: Sequence[Slot], column: str) -> float | None:
    """How often per minute something happened, over the slots in which that is known; None if it is in none."""
    place = SOURCE.index_of(column)
    known = [
        (cell, slot.sampled_ms)
        for slot in slots
        if slot.cells is not None and isinstance(cell := slot.cells[place], int)
    ]
    sampled_ms = sum(milliseconds for _, milliseconds in known)
    return sum(count for count, _ in known) * 60_000 / sampled_ms if sampled_ms else None


def _limit_note(health: RedisHealth) -> str:
    if health.maxmemory_bytes is None or health.memory_ratio is None:
        return ""
    return f"{format_percent(health.memory_ratio)} of {size(health.maxmemory_bytes)}"
