"""Celery's workers: by the heartbeats that the sampling process hears, and by the mailboxes they leave behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dashboard.backends.celery import keys
from dashboard.backends.celery.index import heartbeats
from dashboard.backends.payload import printable, text
from dashboard.clock import instant
from dashboard.model import Worker, WorkerState
from dashboard.sources import Source

# A worker beats every 2 s.
SUSPECT_AFTER_S, DEAD_AFTER_S = 10.0, 60.0
SILENT = "it has a mailbox, but no heartbeat was heard: killed, or started with --without-heartbeat"


def read(broker: Source, own: Source | None, places: Collection[keys.Place]) -> list[Worker]:
    """The workers of the apps with the prefixes and separators of `places`, by name. Cost: 2 round trips."""
    separators = {place.separator for place in places}
    prefixes = sorted({place.prefix for place in places})
    beats = heartbeats(own, broker.name)
    replies = broker.batch([("SSCAN", f"{prefix}{keys.MAILBOX}", 0, "COUNT", 1000) for prefix in prefixes])
    names = set(beats)
    for reply in replies:
        for member in reply[1] if isinstance(reply, list) else ():
            name = _mailbox(text(member), separators).removesuffix(".celery.pidbox")
            if name and not name.startswith("celerybeat@"):
                names.add(name)
    now = broker.now_s()
    return [_worker(broker.name, name, beats.get(name), now) for name in sorted(names)]


def _mailbox(member: str, separators: Collection[str]) -> str:
    """The queue in a binding of the mailboxes' exchange, which has no routing key and no pattern."""
    if keys.SEPARATOR in member:
        return member.rsplit(keys.SEPARATOR, 1)[-1]
    own = next((separator for separator in separators if member.startswith(separator * 2)), "")
    return member.removeprefix(own * 2)


def _worker(source: str, name: str, beat: Mapping[str, object] | None, now: float) -> Worker:
    host = name.partition("@")[2] or None
    if beat is None:
        return Worker(id=name, source=source, backend="celery", state=WorkerState.UNKNOWN, reason=SILENT, hostname=host)
    at, active, processed = (_number(beat.get(part)) for part in ("at", "active", "processed"))
    age_s = now - at if at is not None else None
    state, reason = (WorkerState.BUSY if active else WorkerState.IDLE), None
    if age_s is not None and age_s > SUSPECT_AFTER_S:
        state = WorkerState.DEAD if age_s > DEAD_AFTER_S else WorkerState.SUSPECT
        reason = f"no heartbeat for {age_s:.0f} s"
    pid, version = _number(beat.get("pid")), beat.get("sw_ver")
    load = beat.get("loadavg")
    return Worker(
        id=name,
        source=source,
        backend="celery",
        state=state,
        reason=reason,
        hostname=host,
        pid=int(pid) if pid is not None else None,
        version=printable(version, 40) if isinstance(version, str) else None,
        busy=int(active) if active is not None else None,
        heartbeat_at=instant(at),
        processed=int(processed) if processed is not None else None,
        facts=(("Load of its machine", ", ".join(str(part)[:8] for part in load[:3])),)
        if isinstance(load, list)
        else (),
    )


def is_alive(beat: Mapping[str, object], now: float) -> bool:
    """Whether a worker was heard of lately; `now` by the clock of the broker."""
    at = _number(beat.get("at"))
    return at is not None and now - at <= DEAD_AFTER_S


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None
