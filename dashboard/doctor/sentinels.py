"""Whether the Sentinels of a Redis respond, agree, and can fail over."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import RedisError

from ..settings.sentinel_urls import host_and_port
from ..sources.failures import error_line
from ..sources.sentinels import address_of, is_down
from ..sources.source import Source
from ..units import format_count
from .findings import DoctorFinding, ok_finding, problem_finding, warning_finding

# With fewer, the loss of one leaves no majority, and no failover happens.
LEAST_SENTINELS = 3


def examine_sentinels(source: Source) -> list[DoctorFinding]:
    """Return what the Sentinels of this server report; nothing without any. Cost: 1 round trip to each Sentinel."""
    sentinels = source.sentinels
    if sentinels is None:
        return []
    replies = list(sentinels.ask_each())
    states = {name: reply for name, reply in replies if not isinstance(reply, RedisError)}
    findings = [
        warning_finding(
            f"Sentinel {name}: {error_line(reply)}",
            "Start it, or correct its address in the URL.",
            why="it does not help when the primary fails",
        )
        for name, reply in replies
        if isinstance(reply, RedisError)
    ]
    return [*findings, *_examine_states(sentinels.service, states, len(replies))]


def _examine_states(service: str, states: dict[str, dict[str, str]], configured: int) -> Iterator[DoctorFinding]:
    if not states:
        yield problem_finding(f"No Sentinel of {service} answers", why="a failover would not be noticed")
        return
    addresses = {name: address_of(state) for name, state in states.items()}
    named = {name: host_and_port(*address) for name, address in addresses.items() if address is not None}
    primaries = sorted(set(named.values()))
    if len(primaries) > 1:
        reports = ", ".join(f"{name} reports {primary}" for name, primary in sorted(named.items()))
        yield problem_finding(
            f"The Sentinels disagree about the primary of {service}: {reports}",
            "This is normal for seconds during a failover. If it lasts, check their logs.",
            why="writes to the wrong one are lost",
        )
    first = next(iter(states.values()))
    others, replicas, quorum = (_number(first, key) for key in ("num-other-sentinels", "num-slaves", "quorum"))
    if any(is_down(state) for state in states.values()):
        yield problem_finding(f"A Sentinel reports the primary of {service} as down", why="a failover may be under way")
    if replicas == 0:
        yield warning_finding(
            f"The primary of {service} has no replica",
            "Add one with REPLICAOF.",
            why="no server can take over",
        )
    if others is not None and others + 1 < LEAST_SENTINELS:
        yield warning_finding(
            f"{service} is monitored by {format_count(others + 1, 'Sentinel')}",
            f"Run at least {LEAST_SENTINELS}, on machines of their own.",
            why="without a majority of them there is no failover",
        )
    yield ok_finding(
        f"{len(states)} of {format_count(configured, 'Sentinel')} in the URL answer: the primary of {service} is "
        f"{' or '.join(primaries) or 'unknown'}"
        + (f", with {format_count(replicas, 'replica')}" if replicas else "")
        + (f", quorum {quorum}" if quorum is not None else "")
    )


def _number(state: dict[str, str], key: str) -> int | None:
    text = state.get(key, "")
    return int(text) if text.isdecimal() and len(text) <= 6 else None
