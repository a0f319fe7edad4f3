"""Celery's workers, from the heartbeats that the sampling process receives and from the mailboxes in Redis."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from ...clock import instant
from ...model import Worker, WorkerState
from ...sources.source import Source, text
from ...units import format_duration
from ..payloads.decoding import count_or_none, printable
from ..unreadable_data import worker_row
from . import keys
from .stored_heartbeats import DEAD_AFTER_S, SUSPECT_AFTER_S, read_heartbeats

# How long a worker that fell silent stays listed.
LISTED_S = 3600.0
# How many mailboxes are read; if there are more, which workers have none stays unknown.
MAX_MAILBOXES = 1000
SILENT = "it has a mailbox, but no heartbeat was received: killed, or started with --without-heartbeat"


def list_workers(
    broker: Source, own: Source | None, own_name: str, places: Collection[keys.QueueLocation]
) -> list[Worker]:
    """Return the workers of the apps with the prefixes and separators of `places`, by name. Cost: 2 round trips.

    `own_name` = the name of this source in Queuedeck's own keys.

    A silent worker without a mailbox has shut down and is not listed. A killed worker leaves its mailbox.
    """
    separators = {place.separator for place in places}
    prefixes = sorted({place.prefix for place in places})
    beats = read_heartbeats(own, own_name)
    found = read_mailboxes(broker, prefixes, separators)
    now = broker.now_s()
    names = {name for some in found.values() if some for name in some if name not in beats}
    for name, beat in beats.items():
        boxes = found.get(str(beat.get("prefix", "")))
        if not _is_silent(beat, now, SUSPECT_AFTER_S) or (
            (boxes is None or name in boxes) and not _is_silent(beat, now, LISTED_S)
        ):
            names.add(name)
    return [
        worker_row(partial(_build_worker, broker.name, name, beats.get(name), now), name, broker.name, "celery")
        for name in sorted(names)
    ]


def read_mailboxes(
    broker: Source, prefixes: Sequence[str], separators: Collection[str]
) -> dict[str, frozenset[str] | None]:
    """Return the names of the workers with a mailbox, by prefix; None if they are incomplete. Cost: 1 round trip."""
    replies = broker.run_batch([("SSCAN", f"{prefix}{keys.MAILBOX}", 0, "COUNT", MAX_MAILBOXES) for prefix in prefixes])
    found: dict[str, frozenset[str] | None] = {}
    for prefix, reply in zip(prefixes, replies, strict=True):
        if not isinstance(reply, list) or reply[0] != b"0":
            found[prefix] = None
            continue
        names = (_mailbox_queue(text(member), separators).removesuffix(".celery.pidbox") for member in reply[1])
        found[prefix] = frozenset(name for name in names if name and not name.startswith("celerybeat@"))
    return found


def _mailbox_queue(member: str, separators: Collection[str]) -> str:
    """Return the queue of a binding of the mailbox exchange, which has no routing key and no pattern."""
    if keys.SEPARATOR in member:
        return member.rsplit(keys.SEPARATOR, 1)[-1]
    own = next((separator for separator in separators if member.startswith(separator * 2)), "")
    return member.removeprefix(own * 2)


def _build_worker(source: str, name: str, beat: Mapping[str, object] | None, now: float) -> Worker:
    host = name.partition("@")[2] or None
    if beat is None:
        return Worker(id=name, source=source, backend="celery", state=WorkerState.UNKNOWN, reason=SILENT, hostname=host)
    at = _parse_number(beat.get("at"))
    active, processed, pid = (count_or_none(beat.get(part)) for part in ("active", "processed", "pid"))
    age_s = now - at if at is not None else None
    state, reason = (WorkerState.BUSY if active else WorkerState.IDLE), None
    if age_s is not None and age_s > SUSPECT_AFTER_S:
        state = WorkerState.DEAD if age_s > DEAD_AFTER_S else WorkerState.SUSPECT
        reason = f"no heartbeat for {format_duration(age_s)}"
    version = beat.get("sw_ver")
    load = beat.get("loadavg")
    return Worker(
        id=name,
        source=source,
        backend="celery",
        state=state,
        reason=reason,
        hostname=host,
        pid=pid,
        version=printable(version, 40) if isinstance(version, str) else None,
        busy=active,
        heartbeat_at=instant(at),
        processed=processed,
        facts=(("System load", ", ".join(str(part)[:8] for part in load[:3])),) if isinstance(load, list) else (),
    )


def is_alive(beat: Mapping[str, object], now: float) -> bool:
    """Whether a worker sent a heartbeat recently; `now` is the broker's time."""
    return not _is_silent(beat, now, DEAD_AFTER_S)


def _is_silent(beat: Mapping[str, object], now: float, after_s: float) -> bool:
    at = _parse_number(beat.get("at"))
    return at is None or now - at > after_s


def _parse_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None
