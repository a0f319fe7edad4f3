"""Whether the nodes of a Redis Cluster serve all slots, have replicas, and permit the same to this user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from redis.exceptions import NoPermissionError

from ..settings.sentinel_urls import host_and_port
from ..sources.cluster.slot_map import SLOTS, Address
from ..sources.cluster.source import ClusterSource
from ..sources.source import Command, Source
from ..units import format_count
from .findings import DoctorFinding, ok_finding, problem_finding, warning_finding
from .server import examine_info, examine_server

NAMES_SHOWN = 5
# With fewer primaries, the loss of one leaves no majority that could replace it.
LEAST_PRIMARIES = 3


def examine_servers(source: Source) -> list[DoctorFinding]:
    """Return what the server is, or each node of a cluster, and its risks. Raises BackendUnavailable.

    Cost: 1 round trip, of a cluster to each node.
    """
    return examine_cluster(source) if isinstance(source, ClusterSource) else examine_server(source)


def examine_cluster(source: ClusterSource) -> list[DoctorFinding]:
    """Return what the cluster is, and the risks of each node. Raises BackendUnavailable. Cost: 1 round trip to each."""
    replies = source.read_nodes([("INFO",), ("DBSIZE",), ("CONFIG", "GET", "save")])
    of_nodes = {address: examine_info(*found, is_node=True) for address, found in replies.items()}
    return [*_examine_topology(source), *_merge_findings(of_nodes)]


def _examine_topology(source: ClusterSource) -> Iterator[DoctorFinding]:
    slots = source.topology.current()
    replicas = sum(slots.replicas.values())
    yield ok_finding(
        f"Redis Cluster: {_primaries(len(slots.primaries))}, {format_count(replicas, 'replica')}, "
        f"{SLOTS - slots.uncovered:,} of {SLOTS:,} hash slots served"
    )
    if slots.uncovered:
        yield problem_finding(
            f"{format_count(slots.uncovered, 'hash slot')} served by no node",
            "Check CLUSTER NODES; `redis-cli --cluster fix` assigns them.",
            why="queues in them cannot be read, and jobs cannot be added",
        )
    alone = [host_and_port(*address) for address in slots.primaries if not slots.replicas[address]]
    if alone:
        more = f" and {len(alone) - NAMES_SHOWN} more" if len(alone) > NAMES_SHOWN else ""
        yield warning_finding(
            f"No replica: {', '.join(alone[:NAMES_SHOWN])}{more}",
            "Add one with `redis-cli --cluster add-node --cluster-slave`.",
            why="no server can take over",
        )
    if len(slots.primaries) < LEAST_PRIMARIES:
        yield warning_finding(
            f"{_primaries(len(slots.primaries))} only",
            f"Run at least {LEAST_PRIMARIES}, on machines of their own.",
            why="without a majority of them there is no failover",
        )


def _primaries(count: int) -> str:
    return f"{count} {'primary' if count == 1 else 'primaries'}"


def _merge_findings(of_nodes: dict[Address, list[DoctorFinding]]) -> list[DoctorFinding]:
    """Findings that all nodes share, once; all others with the name of the node in front."""
    shared = set.intersection(*(set(findings) for findings in of_nodes.values()))
    merged = list(dict.fromkeys(finding for findings in of_nodes.values() for finding in findings if finding in shared))
    for address, findings in of_nodes.items():
        name = host_and_port(*address)
        merged += [
            DoctorFinding(finding.level, f"Node {name}: {finding.text}", finding.advice, finding.why, finding.command)
            for finding in findings
            if finding not in shared
        ]
    return merged


def refused_commands(source: Source, commands: Sequence[Command]) -> list[list[NoPermissionError | None]]:
    """For each server, in the order of the nodes of a cluster: the error per command, None for a permitted one.

    A node that does not have the key answers that it is elsewhere: after it checked the permission. Cost: 1 round trip
    to each.
    """
    if isinstance(source, ClusterSource):
        rows = list(source.read_nodes(commands).values())
    else:
        rows = [source.run_batch(commands)]
    return [[reply if isinstance(reply, NoPermissionError) else None for reply in row] for row in rows]
