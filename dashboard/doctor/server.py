"""Whether this Redis is suitable for jobs, according to INFO and, if permitted, CONFIG."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..model import RedisHealth
from ..sources.info import info_fields, parse_info
from ..sources.source import Reply, Source
from ..units import format_count, format_duration, format_percent, format_size
from .acl import NAME as USER
from .findings import DoctorFinding, note_finding, ok_finding, problem_finding, warning_finding

OLDEST_VERSION = (6, 2)
MEMORY_WARNING_RATIO = 0.8
MEMORY_PROBLEM_RATIO = 0.95
CLIENTS_WARNING_RATIO = 0.9
# The limit that a command suggests where none is set: a save to disk needs the rest.
LIMIT_RATIO = 0.6
_DIGITS = re.compile(r"\d{1,9}")


def examine_server(source: Source) -> list[DoctorFinding]:
    """Return what this server is, and its risks. Raises BackendUnavailable. Cost: 1 round trip."""
    return examine_info(*source.run_batch([("INFO",), ("DBSIZE",), ("CONFIG", "GET", "save")]))


def examine_info(info: Reply, keys: Reply, save_points: Reply, *, is_node: bool = False) -> list[DoctorFinding]:
    """Return what a server is, and its risks, from its replies to INFO, DBSIZE and CONFIG GET save.

    `is_node`: it was asked as one node of a cluster.
    """
    if not isinstance(info, bytes):
        return [
            warning_finding(
                "INFO is not permitted",
                "Grant +info to this user.",
                why="version, memory and risks are unknown",
                command=f"ACL SETUSER {USER} +info",
            )
        ]
    health = parse_info(info, keys if isinstance(keys, int) else None)
    fields = info_fields(info)
    return [
        _identity_finding(health),
        *_version_findings(health),
        *_role_findings(health, fields, is_node=is_node),
        *_memory_findings(health),
        *_persistence_findings(health, fields, _save_points(save_points)),
        *_clients_findings(health),
    ]


def _identity_finding(health: RedisHealth) -> DoctorFinding:
    facts = [
        f"up {format_duration(health.uptime_s)}" if health.uptime_s is not None else "",
        format_count(health.clients, "client") if health.clients is not None else "",
        format_count(health.keys, "key") if health.keys is not None else "",
        f"{format_size(health.used_memory_bytes)} used" if health.used_memory_bytes is not None else "",
    ]
    name = f"{health.flavour.title()} {health.version or 'of unknown version'}"
    return ok_finding(f"{name}: {', '.join(filter(None, facts)) or 'no details available'}")


def _version_findings(health: RedisHealth) -> Iterator[DoctorFinding]:
    numbers = tuple(int(number) for number in _DIGITS.findall((health.version or "")[:100])[:2])
    if numbers and numbers < OLDEST_VERSION:
        yield warning_finding(
            f"Version {health.version} is older than {'.'.join(map(str, OLDEST_VERSION))}, the oldest one tested.",
            "Upgrade Redis: this version no longer gets security fixes.",
        )


def _role_findings(health: RedisHealth, fields: dict[str, str], *, is_node: bool) -> Iterator[DoctorFinding]:
    if health.role is not None and health.role != "master":
        yield warning_finding(
            f"This server is a {health.role}", "Point the URL at the primary.", why="its data may lag"
        )
        if fields.get("master_link_status") == "down":
            yield problem_finding("Replication link to the primary is down", why="the data is stale")
    if fields.get("cluster_enabled") == "1" and not is_node:
        yield note_finding(
            "This is a node of a Redis Cluster: unless it has all slots, use redis+cluster:// with the nodes."
        )


def _memory_findings(health: RedisHealth) -> Iterator[DoctorFinding]:
    policy = health.eviction_policy
    if policy not in (None, "noeviction"):
        advice, command = "Set maxmemory-policy noeviction.", "CONFIG SET maxmemory-policy noeviction"
        if health.memory_limited and policy.startswith("allkeys"):
            yield problem_finding(
                f"Eviction policy {policy}", advice, why="when Redis is full, it silently deletes jobs", command=command
            )
        else:
            yield warning_finding(
                f"Eviction policy {policy}",
                advice,
                why="when Redis is full, it can delete data that the libraries need",
                command=command,
            )
    if health.memory_limited is False:
        yield warning_finding(
            "maxmemory is not set",
            "Set maxmemory, and maxmemory-policy noeviction.",
            why="a growing queue can use all memory of the machine",
            command=_limit_command(health.system_memory_bytes),
        )
    ratio = health.memory_ratio
    if ratio is not None and ratio >= MEMORY_WARNING_RATIO:
        say = problem_finding if ratio >= MEMORY_PROBLEM_RATIO else warning_finding
        yield say(
            f"{format_percent(ratio)} of maxmemory ({format_size(health.maxmemory_bytes)}) is used",
            "Raise maxmemory, empty queues, or retain fewer finished jobs.",
            why="a full Redis refuses new jobs",
        )
    if health.evicted_keys:
        yield warning_finding(
            f"{health.evicted_keys:,} keys evicted since the server started", why="jobs may be among them"
        )


def _limit_command(system_memory_bytes: int | None) -> str:
    """The command for a limit at LIMIT_RATIO of the machine's memory; "" if that is unknown."""
    size = int((system_memory_bytes or 0) * LIMIT_RATIO) // 2**20
    return f"CONFIG SET maxmemory {size}mb" if size else ""


def _persistence_findings(
    health: RedisHealth, fields: dict[str, str], save_points: str | None
) -> Iterator[DoctorFinding]:
    if health.persistence_ok is False:
        yield problem_finding(
            "The last write to disk failed.", "Check the Redis log: is the disk full or not writable?", command="BGSAVE"
        )
    if save_points == "" and fields.get("aof_enabled") == "0":
        yield warning_finding(
            "Persistence is off",
            "Set appendonly yes, or save points with save.",
            why="a restart of Redis loses every job",
            command="CONFIG SET appendonly yes",
        )


def _save_points(reply: Reply) -> str | None:
    """Return the setting `save`; None if CONFIG is not permitted, as on most managed servers."""
    return reply[1].decode("utf-8", "replace") if isinstance(reply, list) and len(reply) == 2 else None


def _clients_findings(health: RedisHealth) -> Iterator[DoctorFinding]:
    if health.clients and health.max_clients and health.clients >= CLIENTS_WARNING_RATIO * health.max_clients:
        yield warning_finding(
            f"{health.clients:,} of {health.max_clients:,} clients are connected.",
            "Raise maxclients.",
            command=f"CONFIG SET maxclients {2 * health.max_clients}",
        )
    if health.rejected_connections:
        yield warning_finding(
            f"{health.rejected_connections:,} connections rejected since the server started",
            why="maxclients was reached",
        )
