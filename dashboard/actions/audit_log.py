"""Who did what, when, to which jobs, and what came of it: one event per act, in the log and in a capped stream."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from ..backends.actions import ActionResult
from ..clock import instant, iso, now_s
from ..errors import QueuedeckError
from ..model import Value
from ..redact import mask_text, masked_logger
from ..sources.source import Source
from ..store.redis_store import PREFIX, Store

AUDIT = f"{PREFIX}:audit"  # stream of JSON events, at most MAX_EVENTS
MAX_EVENTS = 10_000
MAX_IDS = 100
MAX_ID = 200
MAX_REASON = 500

# KEYS stream. ARGV most, event. Where memory is short, a script that has begun to write may go on, and trimming needs
# none: acts that are done then are not to go unseen.
_ADD = """
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1])
return append(KEYS[1], ARGV[1], 'event', ARGV[2])
"""

# For scripts that do what they record, so that no other process can record its effect first. It is called before the
# change, for the reason above. An audit that cannot be written does not stop the change. Answers 1 when it was kept.
RECORD = f"""
local function record(stream, event)
  redis.pcall('XTRIM', stream, 'MAXLEN', '~', {MAX_EVENTS})
  return pcall(append, stream, {MAX_EVENTS}, 'event', event) and 1 or 0
end
"""

log = logging.getLogger("queuedeck.audit")
own_log = masked_logger(__name__)


class Actor(Value, frozen=True, kw_only=True):
    """Who acts, as the request told."""

    name: str
    role: str
    address: str | None = None


class AuditEvent(Value, frozen=True, kw_only=True):
    """One act. `outcomes` = how many things ended how; None while it is under way. No payloads in it, ever."""

    at: float
    who: str
    role: str
    address: str | None
    action: str
    source: str | None = None
    backend: str | None = None
    queue: str | None = None
    state: str | None = None
    ids: tuple[str, ...] = ()  # the first MAX_IDS
    count: int = 0
    outcomes: dict[str, int] | None = None
    reason: str | None = None
    detail: str | None = None
    bulk_id: str | None = None
    batch: str | None = None  # of the bin: what was deleted, or put back
    id: str | None = None  # of the entry in the stream

    def public(self) -> dict[str, Any]:
        """The event as the API and the log tell it."""
        fields = msgspec.structs.asdict(self)
        return fields | {"at": iso(instant(self.at)), "ids": list(self.ids)}


_decoder = msgspec.json.Decoder(AuditEvent)


class AuditLog:
    """Writes and reads events. A store that cannot be written costs the stream, never the line in the log."""

    def __init__(self, own: Source) -> None:
        self._own = own
        self._store = Store(own)

    def log_intent(self, event: AuditEvent) -> None:
        """Note in the log that an act is about to happen, so that one that kills the process is known too."""
        log.info("asked %s", msgspec.json.encode(_clean_event(event).public()).decode())

    def record_event(self, event: AuditEvent) -> None:
        """Note what came of an act, in the log and in the stream. Never raises. Cost: 1 round trip."""
        _log_done(event)
        try:
            self._store.run_script(_ADD, (AUDIT,), MAX_EVENTS, encode_event(event))
        except (QueuedeckError, ResponseError) as exc:
            own_log.warning("an act could not be kept in the audit stream: %s", exc)

    def list_events(self, *, count: int = 100, before: str | None = None) -> list[AuditEvent]:
        """The newest events first; `before` = the id of the last one seen. Raises BackendUnavailable. 1 round trip."""
        end = f"({before}" if before else "+"
        (reply,) = self._store.read_keys(("XREVRANGE", AUDIT, end, "-", "COUNT", min(count, 1000)))
        events = []
        for entry_id, fields in reply or ():
            try:
                event = _decoder.decode(fields[1])
            except (msgspec.DecodeError, msgspec.ValidationError, IndexError, TypeError, ValueError, RecursionError):
                continue
            events.append(msgspec.structs.replace(event, id=entry_id.decode("ascii", "replace")))
        return events


def encode_event(event: AuditEvent) -> bytes:
    """The event as the stream holds it: the argument of RECORD."""
    return msgspec.json.encode(_clean_event(event))


def log_recorded(event: AuditEvent, *, kept: bool) -> None:
    """Log an act that a script has recorded by RECORD; `kept` = its answer."""
    _log_done(event)
    if not kept:
        own_log.warning("an act could not be kept in the audit stream: Redis refused it")


def _log_done(event: AuditEvent) -> None:
    log.info("done %s", msgspec.json.encode(_clean_event(event).public()).decode())


def build_event(actor: Actor, action: str, *, ids: Iterable[str] = (), **fields: Any) -> AuditEvent:
    """An Event of now. `count` is the number of ids unless it is given."""
    listed = tuple(ids)
    fields.setdefault("count", len(listed))
    return AuditEvent(
        at=now_s(),
        who=actor.name,
        role=actor.role,
        address=actor.address,
        action=action,
        ids=listed[:MAX_IDS],
        **fields,
    )


def count_outcomes(acted: Sequence[ActionResult]) -> dict[str, int]:
    """How many things ended how, in no order."""
    return dict(Counter(each.outcome.value for each in acted))


def _clean_event(found: AuditEvent) -> AuditEvent:
    """The event with text that JSON can hold: ids and names may have any bytes."""

    def text(value: str | None, limit: int = MAX_ID) -> str | None:
        return None if value is None else value[:limit].encode("utf-8", "backslashreplace").decode()

    return msgspec.structs.replace(
        found,
        who=text(found.who) or "?",
        source=text(found.source),
        queue=text(found.queue),
        ids=tuple(text(each) or "" for each in found.ids),
        reason=text(mask_text(found.reason or "") or None, MAX_REASON),
        detail=text(mask_text(found.detail or "") or None, MAX_REASON),
    )
