"""The slow log and the latency events of one Redis, each with the reason where it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from ..redact import mask_text
from .failures import CommandMissing, error_line
from .slow_commands import command_key, command_name
from .source import Reply, Source, text

MAX_SLOW = 25
MAX_EVENTS = 30
MAX_EVENT_NAME = 60


class SlowCommand(NamedTuple):
    """An entry of the slow log. `at`: seconds since 1970. `key`: "" if the command has none; it is masked."""

    at: float
    duration_s: float
    name: str
    key: str
    arguments: int


class LatencyEvent(NamedTuple):
    """What made Redis slow: its name for it, when last, how long then, and the longest time so far."""

    name: str
    at: float
    latest_s: float
    worst_s: float


@dataclass(frozen=True, slots=True)
class ServerLogs:
    """The newest slow commands and the latency events; None where they cannot be read, and then why.

    `slow_total`: how many commands the slow log holds. `slow_from_s`, `latency_from_s`: from which duration on they are
    recorded; None if unknown, 0 for all of them, and for `latency_from_s` 0 means off. `slow_from_s` < 0: it is off.
    """

    slow: tuple[SlowCommand, ...] | None = None
    slow_total: int | None = None
    slow_problem: str | None = None
    slow_from_s: float | None = None
    latency: tuple[LatencyEvent, ...] | None = None
    latency_problem: str | None = None
    latency_from_s: float | None = None


def read_server_logs(source: Source) -> ServerLogs:
    """The logs of a server, at most MAX_SLOW commands and MAX_EVENTS events. Raises BackendUnavailable.

    Cost: 1 round trip with 5 commands, whose replies are at most 100 kB.
    """
    slow, total, latency, slow_from, latency_from = source.run_batch(
        [
            ("SLOWLOG", "GET", MAX_SLOW),
            ("SLOWLOG", "LEN"),
            ("LATENCY", "LATEST"),
            ("CONFIG", "GET", "slowlog-log-slower-than"),
            ("CONFIG", "GET", "latency-monitor-threshold"),
        ]
    )
    slow_us, latency_ms = _setting(slow_from), _setting(latency_from)
    return ServerLogs(
        slow=_slow_commands(slow),
        slow_total=total if isinstance(total, int) else None,
        slow_problem=refusal_reason(slow, "SLOWLOG GET"),
        slow_from_s=None if slow_us is None else slow_us / 1e6,
        latency=_latency_events(latency),
        latency_problem=refusal_reason(latency, "LATENCY LATEST"),
        latency_from_s=None if latency_ms is None else latency_ms / 1e3,
    )


def refusal_reason(reply: Reply, command: str) -> str | None:
    """Why Redis refused `command`, in one line for users; None if it did not."""
    if isinstance(reply, CommandMissing):
        return f"this server does not have {command}"
    if isinstance(reply, NoPermissionError):
        return f"the Redis user is not permitted to run {command}"
    if isinstance(reply, ResponseError):
        return f"Redis refused {command}: {error_line(reply)}"
    return None if isinstance(reply, list) else f"this server answers {command} in an unknown form"


def _slow_commands(reply: Reply) -> tuple[SlowCommand, ...] | None:
    if not isinstance(reply, list):
        return None
    return tuple(found for entry in reply[:MAX_SLOW] if (found := _slow_command(entry)) is not None)


def _slow_command(entry: Reply) -> SlowCommand | None:
    """An entry as a SlowCommand; None if it has another form."""
    if not isinstance(entry, list) or len(entry) < 4 or not isinstance(entry[3], list):
        return None
    at, duration_us, arguments = entry[1], entry[2], entry[3]
    if not isinstance(at, int) or not isinstance(duration_us, int):
        return None
    words = [word for word in arguments if isinstance(word, bytes)]
    key = command_key(words)
    return SlowCommand(
        at, duration_us / 1e6, command_name(words), "" if key is None else mask_text(text(key)), max(0, len(words) - 1)
    )


def _latency_events(reply: Reply) -> tuple[LatencyEvent, ...] | None:
    if not isinstance(reply, list):
        return None
    found = []
    for entry in reply[:MAX_EVENTS]:
        if isinstance(entry, list) and len(entry) >= 4 and all(isinstance(number, int) for number in entry[1:4]):
            name = text(entry[0][:MAX_EVENT_NAME]) if isinstance(entry[0], bytes) else "unknown"
            found.append(LatencyEvent(name, entry[1], entry[2] / 1e3, entry[3] / 1e3))
    return tuple(sorted(found, key=lambda event: -event.worst_s))


def _setting(reply: Reply) -> int | None:
    """The number of a setting; None if CONFIG is not permitted, as on most managed servers."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
        try:
            return int(reply[1])
        except ValueError:
            return None
    return None
