"""Workers, identified by the names of their connections in CLIENT LIST: BullMQ keeps no other list of idle workers.

A Node worker names the connection on which it waits for jobs `<prefix>:<base64 of the queue>`. A Python worker names
all of its connections `<prefix>:<queue>`. Since 5.4, `:w:` and the worker's own name can follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...sources.source import Reply, text
from . import keys

# The command with which a worker waits for jobs; no other connection of a worker sends it.
WAITING = "bzpopmin"


class ConnectionCounts(NamedTuple):
    """Connections by base name: all of them, and those that wait for jobs."""

    named: Counter[str]
    waiting: Counter[str]

    def count_workers(self, names: tuple[str, str]) -> int:
        """Return the number of workers of a queue; `names` from `keys.worker_names`."""
        node, python = names
        return self.named.get(node, 0) + (self.waiting.get(python) or min(1, self.named.get(python, 0)))


def count_connections(clients: Reply, database: int) -> ConnectionCounts | None:
    """Count the workers' connections to `database` in CLIENT LIST; None if it is not permitted."""
    if not isinstance(clients, bytes):
        return None
    named: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for line in text(clients).splitlines():
        fields = _parse_fields(line)
        if _is_worker(fields, database):
            name = fields["name"].partition(":w:")[0]
            named[name] += 1
            waiting[name] += fields.get("cmd") == WAITING
    return ConnectionCounts(named, waiting)


@dataclass(frozen=True, slots=True)
class WorkerConnection:
    """The connection of one worker, which identifies it."""

    client_id: str
    name: str  # whole
    address: str
    age_s: int
    idle_s: int
    blocked: bool  # waiting for a job right now
    command: str  # the last one
    library: str | None  # the client library's name and version, if it reports them (Redis 7.2)

    @property
    def worker_name(self) -> str | None:
        """The worker's own name, if it has one."""
        return self.name.partition(":w:")[2] or None

    @property
    def host(self) -> str:
        """The origin of the connection: an address, or the path of a socket."""
        return self.address.rpartition(":")[0].strip("[]")


class WorkerConnections:
    """The named connections of CLIENT LIST."""

    def __init__(self, clients: Reply, database: int) -> None:
        self._by_base: dict[str, list[WorkerConnection]] = {}
        listed = text(clients) if isinstance(clients, bytes) else ""
        for line in listed.splitlines():
            fields = _parse_fields(line)
            if _is_worker(fields, database):
                self._by_base.setdefault(fields["name"].partition(":w:")[0], []).append(_parse_connection(fields))

    def connections_of(self, key: keys.QueueKey) -> list[tuple[WorkerConnection, str]]:
        """Return (connection, language of the library) for each worker of a queue."""
        node, python = (self._by_base.get(base, []) for base in keys.worker_names(key))
        return [*((one, "Node") for one in node), *((one, "Python") for one in _one_each(python))]


def _one_each(connections: Sequence[WorkerConnection]) -> Sequence[WorkerConnection]:
    """Return one connection per Python worker: the one on which it waits, as in `ConnectionCounts.count_workers`."""
    return [one for one in connections if one.command == WAITING] or connections[:1]


def _parse_fields(line: str) -> dict[str, str]:
    """Return the fields of a line of CLIENT LIST; names have no spaces, and the first of duplicate fields counts."""
    return dict(part.split("=", 1) for part in reversed(line.split(" ")) if "=" in part)


def _is_worker(fields: Mapping[str, str], database: int) -> bool:
    """Whether a connection to `database` has a name in the format of workers, `<prefix>:<queue>`."""
    return ":" in fields.get("name", "")[1:-1] and fields.get("db") == str(database) and "cmd" in fields


def _parse_connection(fields: Mapping[str, str]) -> WorkerConnection:
    library = " ".join(fields[name] for name in ("lib-name", "lib-ver") if fields.get(name))
    return WorkerConnection(
        client_id=fields.get("id", ""),
        name=fields["name"],
        address=fields.get("addr", ""),
        age_s=_parse_seconds(fields.get("age")),
        idle_s=_parse_seconds(fields.get("idle")),
        blocked="b" in fields.get("flags", ""),
        command=fields.get("cmd", ""),
        library=library or None,
    )


def _parse_seconds(value: str | None) -> int:
    return int(value) if value is not None and value.isdecimal() and len(value) < 12 else 0
