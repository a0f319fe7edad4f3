"""The libraries with queues on a source, their versions, and the queues that cannot be read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from ..backends.base import Backend, Budget, EventAccess
from ..backends.payloads.decoding import printable
from ..errors import BackendUnavailable, QueuedeckError, Unsupported
from ..model import QueueRef, QueueStats
from ..units import format_count
from . import acl
from .findings import DoctorFinding, note_finding, ok_finding, problem_finding, warning_finding

# The limits of one discovery step, and of the whole discovery: the user is waiting for the result.
SEARCH_BUDGET = (500, 0.5)  # commands, seconds
SEARCH_S = 15.0
NAMES_SHOWN = 5


def examine_library(backend: Backend) -> list[DoctorFinding]:
    """Return the findings about one library. Raises BackendUnavailable if the server cannot be reached.

    Cost: discovery, at most SEARCH_S, and 3 round trips; a few more, and up to 3 s, if the library publishes events.
    """
    try:
        refs, unseen = find_queues(backend)
        stats = backend.read_stats(refs) if refs else []
        versions = backend.library_versions(refs) if refs else ()
        hearing = backend.event_access() if refs else None
    except ResponseError as exc:
        return [problem_finding(f"{backend.title} cannot be read: {exc}")]
    except QueuedeckError as exc:
        if isinstance(exc, BackendUnavailable) and exc.reason != "forbidden":
            raise
        return [problem_finding(f"{backend.title} cannot be read: {exc.message}", exc.hint or "")]
    findings = [_queues_finding(backend, stats, versions)]
    doubt = backend.describe_ambiguity(stats)
    if doubt is not None:
        findings.append(note_finding(f"{backend.title}: {doubt[0]}.", f"{doubt[1]}."))
    if hearing is not None:
        findings.append(_events_finding(backend, hearing))
    if unseen is not None:
        findings.append(unseen)
    if refs and (backend.job_actions or backend.queue_actions):
        findings.append(examine_actions(backend, refs))
    return [*findings, *_unreadable_findings(backend, stats)]


def examine_actions(backend: Backend, refs: Sequence[QueueRef]) -> DoctorFinding:
    """Return whether this Redis user permits actions on this library. Cost: 2 round trips."""
    try:
        missing = acl.missing_grants(backend, refs)
    except Unsupported as exc:
        return note_finding(
            f"{backend.title}: unknown whether this user can act on jobs. {exc.message}",
            "Run `queuedeck doctor --acl` for the ACL command.",
        )
    if not missing:
        return ok_finding(f"{backend.title}: this user can act on jobs.")
    return note_finding(
        f"{backend.title}: this user cannot act on jobs.",
        f"To allow it, grant {' '.join(missing)}.",
        command=f"ACL SETUSER {acl.NAME} {' '.join(missing)}",
    )


def find_queues(backend: Backend) -> tuple[list[QueueRef], DoctorFinding | None]:
    """Return (the queues, why there may be more or None if all were found)."""
    deadline = time.monotonic() + SEARCH_S
    known: dict[str, QueueRef] = {}
    cursor: Any = None
    while True:
        step = backend.discover_queues(cursor, Budget(*SEARCH_BUDGET))
        known.update((ref.key, ref) for ref in step.found)
        cursor = step.cursor
        if step.complete:
            return list(known.values()), None
        if step.problem is not None:
            return list(known.values()), warning_finding(f"{backend.title}: {step.problem}")
        if time.monotonic() > deadline:
            why = f"{backend.title}: the search stopped after {SEARCH_S:.0f} s; there may be more queues."
            return list(known.values()), note_finding(why)


def _queues_finding(backend: Backend, stats: Sequence[QueueStats], versions: Sequence[str]) -> DoctorFinding:
    if not stats:
        return note_finding(f"{backend.title}: no queues")
    prefixes = sorted({printable(queue.prefix) for queue in stats if queue.prefix})
    queues = sum(not queue.shared for queue in stats)
    count = format_count(queues, "queue")
    under = f" under {', '.join(prefixes[:NAMES_SHOWN])}" if prefixes else ""
    more = f" and {len(prefixes) - NAMES_SHOWN} more prefixes" if len(prefixes) > NAMES_SHOWN else ""
    written = f"; written by version {', '.join(map(printable, versions))}" if versions else "; version unknown"
    return ok_finding(f"{backend.title}: {count}{under}{more}{written}")


def _events_finding(backend: Backend, hearing: EventAccess) -> DoctorFinding:
    if not hearing.refused:
        return ok_finding(f"{backend.title}: this user can subscribe to {', '.join(hearing.channels)}")
    grants = " ".join(f"&{channel}" for channel in hearing.refused)
    return note_finding(
        f"{backend.title}: this user cannot PSUBSCRIBE to {', '.join(hearing.refused)}: {hearing.without}.",
        f"Grant +psubscribe {grants}.",
    )


def _unreadable_findings(backend: Backend, stats: Sequence[QueueStats]) -> list[DoctorFinding]:
    broken = [queue for queue in stats if queue.error]
    findings = [
        warning_finding(
            f"{backend.title} queue {printable(queue.name)!r} cannot be read: {printable(queue.error or '')}"
        )
        for queue in broken[:NAMES_SHOWN]
    ]
    if len(broken) > NAMES_SHOWN:
        findings.append(warning_finding(f"{backend.title}: {len(broken) - NAMES_SHOWN:,} more queues cannot be read."))
    return findings
