"""The health of a cluster, from that of its primaries. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ...model import ClusterNode, RedisHealth
from ...settings.sentinel_urls import host_and_port
from .slot_map import Address, SlotMap

# Each is added up; unknown if it is unknown of one node.
_SUMS = (
    *("used_memory_bytes", "maxmemory_bytes", "clients", "max_clients", "blocked_clients", "ops_per_s", "keys"),
    *("evicted_keys", "rejected_connections", "allocator_frag_bytes", "used_memory_rss_bytes", "changes_since_save"),
)
# The worst of those that are known: an alert must not wait until all nodes are full.
_LARGEST = (
    *("memory_ratio", "fragmentation_ratio", "allocator_frag_ratio", "replica_lag_bytes", "last_save_age_s"),
    "replica_link_down_s",
)
_SMALLEST = ("uptime_s", "keyspace_hit_ratio")
_NUMBER = re.compile(r"\d{1,9}")
# False if it is false of one node.
_ALL = ("persistence_ok", "saved_since_start", "last_save_ok", "aof_enabled", "aof_ok")


def merge_health(nodes: Sequence[RedisHealth]) -> RedisHealth:
    """The health of the whole cluster: figures that count are added up, of the others the worst counts.

    `replicas` is the smallest number of a primary: a primary without one cannot be replaced. Addresses, ids and the
    memory of machines, of which several nodes can share one, are None.
    """
    fields: dict[str, Any] = {name: _of_all(nodes, name, sum) for name in _SUMS}
    fields |= {name: _of_known(nodes, name, max) for name in _LARGEST}
    fields |= {name: _of_known(nodes, name, min) for name in _SMALLEST}
    fields |= {name: _all_true([getattr(node, name) for node in nodes]) for name in _ALL}
    fields["memory_limited"] = any(limits) if (limits := _known(nodes, "memory_limited")) else None
    policies = [node.eviction_policy for node in nodes if node.eviction_policy is not None]
    risky = [policy for policy in policies if policy != "noeviction"]
    versions = sorted((node.version for node in nodes if node.version is not None), key=_numbers)
    roles = {node.role for node in nodes}
    return RedisHealth(
        **fields,
        version=versions[0] if versions else None,
        flavour=nodes[0].flavour,
        role="cluster" if roles == {"master"} else None,
        eviction_policy=next(iter(risky or policies), None),
        replicas=_of_known(nodes, "replicas", min),
    )


def describe_nodes(nodes: dict[Address, RedisHealth], slots: SlotMap) -> tuple[ClusterNode, ...]:
    """The primaries in the order of their slots."""
    return tuple(
        ClusterNode(
            address=host_and_port(*address),
            slots=slots.owners.count(address),
            replicas=health.replicas,
            used_memory_bytes=health.used_memory_bytes,
            memory_ratio=health.memory_ratio,
            clients=health.clients,
            ops_per_s=health.ops_per_s,
            keys=health.keys,
        )
        for address, health in nodes.items()
    )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(version[:50])]


def _known(nodes: Sequence[RedisHealth], name: str) -> list[Any]:
    return [value for node in nodes if (value := getattr(node, name)) is not None]


def _of_all(nodes: Sequence[RedisHealth], name: str, merge: Callable[[list[Any]], Any]) -> Any:
    known = _known(nodes, name)
    return merge(known) if len(known) == len(nodes) else None


def _of_known(nodes: Sequence[RedisHealth], name: str, merge: Callable[[list[Any]], Any]) -> Any:
    known = _known(nodes, name)
    return merge(known) if known else None


def _all_true(values: Sequence[bool | None]) -> bool | None:
    known = [value for value in values if value is not None]
    return all(known) if known else None
