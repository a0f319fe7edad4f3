"""Parsing of INFO into figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from ..model import RedisHealth

SERVER_TIME = re.compile(rb"^server_time_usec:(\d{1,18})\r?$", re.MULTILINE)
_REPLICA = re.compile(r"slave\d+\Z")
_OFFSET = re.compile(r"(?:\A|,)offset=(\d{1,18})(?:,|\Z)")


def info_fields(info: bytes) -> dict[str, str]:
    """The fields of INFO by name, with their text unchanged."""
    fields: dict[str, str] = {}
    for line in info.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value
    return fields


def _replica_lag(fields: Mapping[str, str], written: int | None) -> int | None:
    """How many bytes the slowest connected replica is behind; None if there is none."""
    if written is None:
        return None
    offsets = [
        int(found.group(1))
        for name, value in fields.items()
        if _REPLICA.match(name) and (found := _OFFSET.search(value)) is not None
    ]
    return max(0, written - min(offsets)) if offsets else None


def _link_down_s(status: str | None, since: int | None) -> int | None:
    """How long the link of a replica has been down, in seconds; None if there is no link or it was never up."""
    if status is None:
        return None
    if status == "up":
        return 0
    # Redis reports -1 for a link that was never established: this is not a duration, and not 0.
    return since if since is not None and since >= 0 else None


def _integer(fields: Mapping[str, str], name: str) -> int | None:
    try:
        return int(fields[name])
    except (KeyError, ValueError):
        return None


def _ratio(fields: Mapping[str, str], name: str) -> float | None:
    try:
        return float(fields[name])
    except (KeyError, ValueError):
        return None


def _hit_ratio(hits: int | None, misses: int | None) -> float | None:
    return hits / (hits + misses) if hits is not None and misses is not None and hits + misses else None


def _age_s(now_us: int | None, then_s: int | None) -> float | None:
    """The seconds from `then_s` to `now_us`, both since 1970 by the clock of the server."""
    return max(0.0, round(now_us / 1e6 - then_s, 1)) if now_us is not None and then_s is not None else None


def _all_ok(statuses: Sequence[str | None]) -> bool | None:
    """Whether all known statuses are "ok"; None if none is known."""
    return all(status in (None, "ok") for status in statuses) if any(statuses) else None


def _saved_since_start(
    saves: int | None, saved_at: int | None, now_us: int | None, uptime_s: int | None
) -> bool | None:
    """Whether a snapshot was written since the server started: until the first one, Redis reports the time of its start
    as that of the last one.

    `saves`: how many were tried, from Redis 7 on; CONFIG RESETSTAT sets it to 0, so it counts only without times.
    """
    if saved_at is None or now_us is None or uptime_s is None:
        return False if saves == 0 else None
    return saved_at > now_us / 1e6 - uptime_s + 1


def parse_info(info: bytes, keys: int | None) -> RedisHealth:
    """RedisHealth from the text of INFO; a field that is missing or not a number stays None."""
    fields = info_fields(info)
    number, ratio = partial(_integer, fields), partial(_ratio, fields)
    used, limit = number("used_memory"), number("maxmemory")
    not_counted = number("mem_not_counted_for_evict") or 0
    link = fields.get("master_link_status")
    appends = number("aof_enabled")
    saves = [fields.get("rdb_last_bgsave_status"), fields.get("aof_last_write_status")]
    clock_us, uptime_s, saved_at = number("server_time_usec"), number("uptime_in_seconds"), number("rdb_last_save_time")
    saved = _saved_since_start(number("rdb_saves"), saved_at, clock_us, uptime_s)
    save_ok = _all_ok(saves[:1])
    return RedisHealth(
        version=fields.get("valkey_version") or fields.get("redis_version"),
        flavour="valkey" if "valkey_version" in fields else "redis",
        role=fields.get("role"),
        run_id=fields.get("run_id"),
        uptime_s=uptime_s,
        used_memory_bytes=used,
        maxmemory_bytes=limit or None,
        memory_limited=None if limit is None else limit > 0,
        memory_ratio=max(0.0, (used - not_counted) / limit) if used is not None and limit else None,
        eviction_policy=fields.get("maxmemory_policy"),
        clients=number("connected_clients"),
        max_clients=number("maxclients"),
        blocked_clients=number("blocked_clients"),
        ops_per_s=number("instantaneous_ops_per_sec"),
        evicted_keys=number("evicted_keys"),
        rejected_connections=number("rejected_connections"),
        fragmentation_ratio=ratio("mem_fragmentation_ratio"),
        allocator_frag_ratio=ratio("allocator_frag_ratio"),
        allocator_frag_bytes=number("allocator_frag_bytes"),
        replicas=number("connected_slaves"),
        replica_lag_bytes=_replica_lag(fields, number("master_repl_offset")),
        replica_link_up=None if link is None else link == "up",
        replica_link_down_s=_link_down_s(link, number("master_link_down_since_seconds")),
        keyspace_hit_ratio=_hit_ratio(number("keyspace_hits"), number("keyspace_misses")),
        keys=keys,
        persistence_ok=_all_ok(saves),
        used_memory_peak_bytes=number("used_memory_peak"),
        used_memory_rss_bytes=number("used_memory_rss"),
        system_memory_bytes=number("total_system_memory"),
        saved_since_start=saved,
        last_save_age_s=None if saved is False else _age_s(clock_us, saved_at),
        last_save_ok=None if saved is False and save_ok else save_ok,
        changes_since_save=number("rdb_changes_since_last_save"),
        aof_enabled=None if appends is None else appends == 1,
        aof_ok=_all_ok([saves[1], fields.get("aof_last_bgrewrite_status")]) if appends else None,
        replica_of=f"{host}:{fields.get('master_port', '?')}" if (host := fields.get("master_host")) else None,
    )
