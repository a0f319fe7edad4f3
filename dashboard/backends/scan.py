"""Key scans in small steps: never KEYS, never longer than the budget of the step allows."""

from __future__ import annotations

from ..sources.source import Argument, Reply, Source
from .base import Budget

# Redis examines about this many keys per call: 1000 keeps a call under 1 ms, or 2 ms with a TYPE filter.
KEYS_PER_CALL = 1000


def scan_step(
    source: Source, cursor: int, budget: Budget, *, match: str, key_type: str | None = None
) -> tuple[list[bytes], int]:
    """Return the keys that match `match` in the next part of the key space, and the next cursor; 0 = the scan is done.

    A key can occur twice. The order is Redis's own. Cost: as many round trips as `budget` allows, at least one.
    """
    found: list[bytes] = []
    filters = ("TYPE", key_type) if key_type else ()
    while True:
        reply, server_s = timed_command(source, "SCAN", cursor, "MATCH", match, "COUNT", KEYS_PER_CALL, *filters)
        following, keys = reply
        found.extend(keys)
        cursor = int(following)
        if not budget.spend(server_s) or cursor == 0:
            return found, cursor


def timed_command(source: Source, *command: Argument) -> tuple[Reply, float]:
    """Return the reply to a command, and the seconds it took on the server; 0.0 if the server's clock cannot be read.

    Raises the errors of Source.execute. Cost: 1 round trip with 3 commands.
    """
    before, reply, after = source.run_batch([("TIME",), command, ("TIME",)])
    source.check_reply(reply)
    begun, ended = _parse_seconds(before), _parse_seconds(after)
    return reply, 0.0 if begun is None or ended is None else max(0.0, ended - begun)


def _parse_seconds(reply: Reply) -> float | None:
    return int(reply[0]) + int(reply[1]) / 1e6 if isinstance(reply, list) and len(reply) == 2 else None
