"""Sources: the health of each Redis, and the cost of sampling it."""

from __future__ import annotations

from .base import Value


class RedisHealth(Value, frozen=True, kw_only=True):
    """The figures that INFO reports for one Redis; None if INFO omits them or is not permitted."""

    version: str | None = None
    flavour: str = "redis"  # redis, valkey, …
    role: str | None = None
    run_id: str | None = None
    uptime_s: int | None = None
    used_memory_bytes: int | None = None
    maxmemory_bytes: int | None = None  # None if unlimited or unknown: see memory_limited
    memory_limited: bool | None = None
    memory_ratio: float | None = None  # (used - not counted for eviction) / maxmemory; None without a maxmemory
    eviction_policy: str | None = None
    clients: int | None = None
    max_clients: int | None = None
    blocked_clients: int | None = None
    ops_per_s: int | None = None
    evicted_keys: int | None = None
    rejected_connections: int | None = None
    fragmentation_ratio: float | None = None
    allocator_frag_ratio: float | None = None
    allocator_frag_bytes: int | None = None
    replicas: int | None = None  # connected to this server
    replica_lag_bytes: int | None = None  # of the slowest replica; None if there is none
    replica_link_up: bool | None = None  # None: this server is not a replica
    replica_link_down_s: int | None = None  # seconds since the link went down; 0 while up, None if it never was up
    write_probe: str | None = None  # "ok", or the error code of our refused test write; None: not tried
    keyspace_hit_ratio: float | None = None
    keys: int | None = None  # of the database in use
    persistence_ok: bool | None = None
    used_memory_peak_bytes: int | None = None
    used_memory_rss_bytes: int | None = None  # what the operating system has given it
    system_memory_bytes: int | None = None  # of its machine
    saved_since_start: bool | None = None  # whether a snapshot was written to disk since the server started
    last_save_age_s: float | None = None  # since the last snapshot on disk; None if none was written since the start
    last_save_ok: bool | None = None  # None if none was tried since the start
    changes_since_save: int | None = None
    aof_enabled: bool | None = None
    aof_ok: bool | None = None  # the last write and the last rewrite of the AOF; None while it is off
    replica_of: str | None = None  # host:port of the primary; None: this server is not a replica


class ClusterNode(Value, frozen=True, kw_only=True):
    """One primary of a Redis Cluster; None where INFO is not permitted."""

    address: str  # host:port
    slots: int  # how many hash slots it serves
    replicas: int | None = None
    used_memory_bytes: int | None = None
    memory_ratio: float | None = None  # as in RedisHealth
    clients: int | None = None
    ops_per_s: int | None = None
    keys: int | None = None


class SourceStats(Value, frozen=True, kw_only=True):
    """One Redis as of a snapshot: whether it is reachable, its health, and the cost of sampling it."""

    name: str
    address: str  # without credentials
    reachable: bool
    error: str | None = None
    hint: str | None = None
    unreachable_since: float | None = None
    health: RedisHealth = RedisHealth()
    memory_full_in_s: float | None = None  # None: no limit, or it does not fill up, as far as can be said
    libraries: tuple[str, ...] = ()  # backends with at least one queue here
    needs_noeviction: bool = False  # a library with queues here loses jobs if keys are evicted
    discovered: bool = False  # the first full scan for queues is complete
    search_progress: float | None = None  # approximate progress of that scan, 0 to 1; None if complete or unknown
    together_per_min: float | None = None  # jobs finished per minute in queues whose own rates cannot be separated
    together_total: int | None = None  # the number of those jobs that leaders have counted so far
    commands: int = 0  # the cost of the last sample
    round_trips: int = 0
    cost_s: float = 0.0
    problems: tuple[str, ...] = ()  # the backends that could not be read, and why
    primary: str | None = None  # host:port that the Sentinels named last; None without Sentinels
    sentinel_problem: str | None = None  # why a failover would not be noticed; None if it would, or without Sentinels
    nodes: tuple[ClusterNode, ...] = ()  # the primaries of a Redis Cluster; () for a single server
