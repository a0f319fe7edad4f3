"""The figures of one Redis as its page shows them: each with its text, or with the reason why it is unknown. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ....model import RedisHealth, SourceStats
from ....units import UNKNOWN, format_count, format_number, format_percent, shorten_number
from ...formatting import duration, one_line, size
from ..problems import thresholds
from ..problems.problem import ProblemLevel
from ..problems.thresholds import Scale

# Above it, the memory of Redis is fragmented, if so much is lost that it matters.
FRAGMENTED_RATIO, FRAGMENTED_BYTES = 1.5, 100 * 2**20


class ServerFigure(NamedTuple):
    """One figure. `text` is a dash if it is unknown, and `why` says why; `note` is in smaller type."""

    label: str
    text: str
    note: str = ""
    level: ProblemLevel = ProblemLevel.OK
    why: str = ""


class FigureGroup(NamedTuple):
    """Figures of one kind, under a heading."""

    title: str
    figures: tuple[ServerFigure, ...]


def unknown_reason(source: SourceStats, is_last_known: bool) -> str:
    """Why figures of this Redis are unknown."""
    if not source.reachable and not is_last_known:
        return "this Redis cannot be read"
    if source.health.version is None and source.health.used_memory_bytes is None:
        return "the Redis user is not permitted to run INFO"
    return "this server does not report it"


def main_figures(source: SourceStats, scale: Scale, why: str) -> tuple[ServerFigure, ...]:
    """The five figures at the top of the page."""
    health = source.health
    clients = health.clients / health.max_clients if health.clients and health.max_clients else None
    evicts = scale.level(thresholds.EVICTION, 1.0) if health.evicted_keys else ProblemLevel.OK
    return (
        figure_or_dash(
            "Memory used", _size(health.used_memory_bytes), _limit_note(source), _memory_level(health, scale), why
        ),
        figure_or_dash("Commands per second", _short(health.ops_per_s), "", ProblemLevel.OK, why),
        figure_or_dash(
            "Clients",
            _short(health.clients),
            _joined(
                f"of {format_number(health.max_clients)}" if health.max_clients else "",
                f"{format_number(health.blocked_clients)} waiting for a job" if health.blocked_clients else "",
            ),
            scale.level(thresholds.CLIENTS, clients),
            why,
        ),
        figure_or_dash(
            "Hit ratio", _percent(health.keyspace_hit_ratio), "reads that found a key", ProblemLevel.OK, why
        ),
        figure_or_dash("Evicted keys", _short(health.evicted_keys), "since the server started", evicts, why),
    )


def figure_groups(source: SourceStats, scale: Scale, why: str) -> tuple[FigureGroup, ...]:
    """All other figures, by topic."""
    health = source.health
    return (
        FigureGroup("Memory", _memory_figures(health, scale, why)),
        FigureGroup("Persistence", _persistence_figures(health, scale, why)),
        FigureGroup("Replication", _replication_figures(source, why)),
        FigureGroup("Server", _server_figures(source, why)),
    )


def _memory_figures(health: RedisHealth, scale: Scale, why: str) -> tuple[ServerFigure, ...]:
    policy = health.eviction_policy
    evicting = health.memory_limited and policy not in (None, "noeviction")
    policy_level = scale.level(thresholds.EVICTION, 1.0) if evicting else ProblemLevel.OK
    ratio, used, resident = health.fragmentation_ratio, health.used_memory_bytes, health.used_memory_rss_bytes
    lost = resident - used if resident is not None and used is not None else None
    fragmented = ratio is not None and ratio > FRAGMENTED_RATIO and (lost or 0) > FRAGMENTED_BYTES
    limit = "none" if health.memory_limited is False else _size(health.maxmemory_bytes)
    return (
        figure_or_dash("Used", _size(used), "", _memory_level(health, scale), why),
        figure_or_dash("Peak", _size(health.used_memory_peak_bytes), "since the server started", why=why),
        figure_or_dash("Limit", limit, "maxmemory", why=why),
        figure_or_dash(
            "When full", None if policy is None else one_line(policy, 40), _policy_note(policy), policy_level, why
        ),
        figure_or_dash(
            "Fragmentation",
            None if ratio is None else format_percent(ratio),
            f"{_size(resident)} from the operating system" if resident is not None else "",
            ProblemLevel.WARNING if fragmented else ProblemLevel.OK,
            why,
        ),
        figure_or_dash("Memory of the machine", _size(health.system_memory_bytes), why=why),
        figure_or_dash(
            "Keys", None if health.keys is None else format_number(health.keys), "in this database", why=why
        ),
    )


def _persistence_figures(health: RedisHealth, scale: Scale, why: str) -> tuple[ServerFigure, ...]:
    changes = health.changes_since_save
    failed = scale.level(thresholds.PERSISTENCE, 1.0)
    aof_off = health.aof_enabled is False
    aof = None if health.aof_enabled is None else "off" if aof_off else "failing" if health.aof_ok is False else "on"
    age, unsaved = health.last_save_age_s, health.saved_since_start is False
    last = "none since the server started" if unsaved else None if age is None else f"{duration(age)} ago"
    none_tried = unsaved and health.last_save_ok is None
    works = ("not tried yet", "", ProblemLevel.OK) if none_tried else _works(health.last_save_ok, failed)
    return (
        figure_or_dash(
            "Last snapshot",
            last,
            _changes_note(changes, "the server started" if unsaved else "then"),
            why=why,
        ),
        figure_or_dash("Snapshots", *works, why=why),
        figure_or_dash(
            "Append-only file",
            aof,
            "each change is written to disk" if aof == "on" else "",
            failed if health.aof_ok is False else ProblemLevel.OK,
            why,
        ),
    )


def _replication_figures(source: SourceStats, why: str) -> tuple[ServerFigure, ...]:
    health = source.health
    role = None if health.role is None else {"master": "primary", "slave": "replica"}.get(health.role, health.role)
    figures = [figure_or_dash("Role", None if role is None else one_line(role, 40), why=why)]
    if source.primary is not None:
        figures.append(figure_or_dash("Address", one_line(source.primary, 80), "reported by Sentinel", why=why))
    if health.replica_of is not None:
        down = health.replica_link_up is False
        since = health.replica_link_down_s
        text = "up" if health.replica_link_up else "down" if down else None
        note = f"for {duration(since)}" if down and since else ""
        level = ProblemLevel.CRITICAL if down else ProblemLevel.OK
        figures.append(figure_or_dash("Primary", one_line(health.replica_of, 80), why=why))
        figures.append(figure_or_dash("Link to the primary", text, note, level, why))
    figures.append(
        figure_or_dash("Replicas", None if health.replicas is None else format_number(health.replicas), why=why)
    )
    if health.replicas:
        figures.append(figure_or_dash("Lag", _size(health.replica_lag_bytes), "of the slowest replica", why=why))
    return tuple(figures)


def _server_figures(source: SourceStats, why: str) -> tuple[ServerFigure, ...]:
    health = source.health
    name = None if health.version is None else f"{health.flavour.title()} {one_line(health.version, 40)}"
    rejected = health.rejected_connections
    return (
        figure_or_dash("Version", name, why=why),
        figure_or_dash("Up for", None if health.uptime_s is None else duration(health.uptime_s), why=why),
        figure_or_dash(
            "Rejected connections",
            None if rejected is None else format_number(rejected),
            "since the server started",
            ProblemLevel.WARNING if rejected else ProblemLevel.OK,
            why,
        ),
        figure_or_dash(
            "Cost of Queuedeck",
            f"{format_count(source.commands, 'command')} in {duration(source.cost_s)}" if source.commands else None,
            "per sample",
            why="no sample yet",
        ),
    )


def figure_or_dash(
    label: str, text: str | None, note: str = "", level: ProblemLevel = ProblemLevel.OK, why: str = ""
) -> ServerFigure:
    """A figure with its text; a dash, and why it is unknown, where there is no text."""
    if text is None or text == UNKNOWN:
        return ServerFigure(label, UNKNOWN, "", ProblemLevel.OK, why)
    return ServerFigure(label, text, note, level)


def _changes_note(changes: int | None, since: str) -> str:
    return f"{format_count(changes, 'change')} since {since}" if changes is not None else ""


def _works(ok: bool | None, failed: ProblemLevel) -> tuple[str | None, str, ProblemLevel]:
    if ok is None:
        return None, "", ProblemLevel.OK
    return ("working", "", ProblemLevel.OK) if ok else ("failing", "the last one could not be written", failed)


def _memory_level(health: RedisHealth, scale: Scale) -> ProblemLevel:
    return scale.level(thresholds.MEMORY, health.memory_ratio)


def _limit_note(source: SourceStats) -> str:
    health = source.health
    if health.memory_limited is False:
        return "no limit"
    if health.memory_ratio is None:
        return ""
    if source.nodes:
        limit = f"of {size(health.maxmemory_bytes)}; " if health.maxmemory_bytes else ""
        return f"{limit}the fullest node {format_percent(health.memory_ratio)}"
    if health.maxmemory_bytes is None:
        return ""
    return f"{format_percent(health.memory_ratio)} of {size(health.maxmemory_bytes)}"


def _policy_note(policy: str | None) -> str:
    if policy is None:
        return ""
    return "new jobs are refused" if policy == "noeviction" else "keys are evicted, jobs among them"


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _size(count: int | None) -> str | None:
    return None if count is None else size(count)


def _short(count: int | None) -> str | None:
    return None if count is None else shorten_number(count)


def _percent(ratio: float | None) -> str | None:
    return None if ratio is None else format_percent(ratio)
