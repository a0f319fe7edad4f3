"""The audit log: who did what, when, to which jobs, with which outcome.

One event per action, in the log and in a capped stream, whose events form a chain (audit_chain.py).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from ..backends.actions import ActionResult
from ..clock import instant, iso, now_s
from ..errors import BackendUnavailable, QueuedeckError, join_hint
from ..model import Value
from ..redact import mask_text, masked_logger
from ..sources.source import Source
from ..store.redis_store import Store
from .audit_chain import ADD, AUDIT, HEAD, AuditChain
from .audit_filter import AuditFilter
from .audit_syslog import SyslogForwarder

MAX_IDS = 100
MAX_ID = 200
MAX_REASON = 500
READ_AT_ONCE = 1_000
# Clocks of two servers differ by less than this.
CLOCKS_DIFFER_S = 600.0
NOT_RECORDED = "The audit log could not be written, so nothing was done."

log = logging.getLogger("queuedeck.audit")
own_log = masked_logger(__name__)


class Actor(Value, frozen=True, kw_only=True):
    """The user who acts, as given by the request."""

    name: str
    role: str
    address: str | None = None


class AuditEvent(Value, frozen=True, kw_only=True):
    """One action. `outcomes`: the number of results per outcome, None before it has finished. Never holds payloads."""

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
    batch: str | None = None  # of the trash: what was deleted or restored
    id: str | None = None  # of the entry in the stream

    def public(self) -> dict[str, Any]:
        """The event as in the API and the log."""
        fields = msgspec.structs.asdict(self)
        return fields | {"at": iso(instant(self.at)), "ids": list(self.ids)}


class AuditPage(NamedTuple):
    """A page of events, how many were read for it, and the `before` of the next page (None: this is the last)."""

    events: tuple[AuditEvent, ...]
    scanned: int
    next_before: str | None


ANY = AuditFilter()
_decoder = msgspec.json.Decoder(AuditEvent)


class AuditLog:
    """Writes and reads events. If the store rejects a write, the event is missing in the stream, never in the log."""

    def __init__(self, own: Source, chain: AuditChain | None = None, syslog: SyslogForwarder | None = None) -> None:
        """`syslog`: where everything that is logged is sent, too."""
        self._store = Store(own)
        self._chain = chain or AuditChain()
        self._syslog = syslog

    @property
    def max_events(self) -> int:
        """How many events are kept."""
        return self._chain.max_events

    @property
    def max_age_s(self) -> float | None:
        """How long events are kept; None: regardless of their age."""
        return self._chain.max_age_s

    def log_intent(self, event: AuditEvent) -> None:
        """Log that an action is about to run, so that one that kills the process leaves a trace."""
        self._log("asked", event)

    def record_event(self, event: AuditEvent) -> None:
        """Record the outcome of an action in the log and in the stream. Never raises. Cost: 1 round trip."""
        self._log("done", event)
        try:
            self._chain.note_stored(self._store.run_script(ADD, (AUDIT, HEAD), self.pack_event(event)))
        except (QueuedeckError, ResponseError) as exc:
            own_log.warning("an action could not be stored in the audit stream: %s", exc)

    def require_event(self, event: AuditEvent) -> None:
        """Record what is allowed only if it is recorded. Cost: 1 round trip.

        Raises BackendUnavailable if it could not be stored: then it must not happen.
        """
        self._log("asked", event)
        try:
            stored = self._chain.note_stored(self._store.run_script(ADD, (AUDIT, HEAD), self.pack_event(event)))
            why = None if stored else "Redis refused it."
        except (QueuedeckError, ResponseError) as exc:
            why = join_hint(exc.message, exc.hint) if isinstance(exc, QueuedeckError) else str(exc)
        if why is not None:
            source = self._store.source.name
            raise BackendUnavailable(NOT_RECORDED, source=source, reason="forbidden", hint=why)
        self._log("done", event)

    def pack_event(self, event: AuditEvent) -> bytes:
        """The event as the argument of RECORD, for scripts that make the change that they record."""
        return self._chain.pack_event(encode_event(event))

    def note_recorded(self, event: AuditEvent, reply: Any) -> None:
        """Log an event that a script has recorded; `reply` is what RECORD returned for it."""
        self._log("done", event)
        if not self._chain.note_stored(reply):
            own_log.warning("an action could not be stored in the audit stream: Redis refused it")

    def stop(self) -> None:
        """Stop forwarding, after the events that are waiting for it."""
        if self._syslog is not None:
            self._syslog.stop()

    def _log(self, word: str, event: AuditEvent) -> None:
        public = _clean_event(event).public()
        log.info("%s %s", word, msgspec.json.encode(public).decode())
        if self._syslog is not None:
            self._syslog.forward(word, public)

    def list_page(self, wanted: AuditFilter = ANY, *, count: int = 100, before: str | None = None) -> AuditPage:
        """At most `count` of the events that match, newest first; `before` = the id of the last event read.

        Raises BackendUnavailable. Cost: 1 round trip without a filter. With one, 1 per READ_AT_ONCE events until enough
        match: at most `max_events` / READ_AT_ONCE and 2 more.
        """
        start, end = _entry_bounds(wanted, before)
        found: list[AuditEvent] = []
        scanned, chunk = 0, READ_AT_ONCE if wanted.narrows else min(count + 1, READ_AT_ONCE)
        reached: str | None = None
        for _ in range(self.max_events // READ_AT_ONCE + 2):
            (reply,) = self._store.read_keys(("XREVRANGE", AUDIT, end, start, "COUNT", chunk))
            found += (event for event in _decode_events(reply) if wanted.matches(event))
            scanned += len(reply or ())
            if len(found) > count or len(reply or ()) < chunk:
                reached = None
                break
            reached = reply[-1][0].decode("ascii", "replace")
            end, chunk = f"({reached}", READ_AT_ONCE
        shown = tuple(found[:count])
        # More events than the setting allows are stored for a while after it was lowered.
        return AuditPage(shown, scanned, shown[-1].id if len(found) > count else reached)

    def read_chunks(self, wanted: AuditFilter = ANY) -> Iterator[tuple[AuditEvent, ...]]:
        """The events that match, oldest first, in parts of at most READ_AT_ONCE; without those stored in the meantime.

        Raises BackendUnavailable, also between two parts. Cost: 2 round trips, and 1 for each further READ_AT_ONCE
        events in the range of time.
        """
        start, end = _entry_bounds(wanted, None)
        (newest,) = self._store.read_keys(("XREVRANGE", AUDIT, end, "-", "COUNT", 1))
        if not newest:
            return
        last = newest[0][0].decode("ascii", "replace")
        while True:
            (reply,) = self._store.read_keys(("XRANGE", AUDIT, start, last, "COUNT", READ_AT_ONCE))
            yield tuple(event for event in _decode_events(reply) if wanted.matches(event))
            reached = reply[-1][0].decode("ascii", "replace") if reply else last
            if reached == last or len(reply) < READ_AT_ONCE:
                return
            start = f"({reached}"


def _entry_bounds(wanted: AuditFilter, before: str | None) -> tuple[str, str]:
    """The range of entry ids to read. They have the clock of the store, events that of the process that acted."""
    start = "-" if wanted.since_s is None else str(max(0, int((wanted.since_s - CLOCKS_DIFFER_S) * 1000)))
    if wanted.until_s is None:
        return start, f"({before}" if before else "+"
    last_ms = max(0, int((wanted.until_s + CLOCKS_DIFFER_S) * 1000))
    if before and int(before.partition("-")[0]) <= last_ms:
        return start, f"({before}"
    return start, str(last_ms)


def _decode_events(reply: Any) -> list[AuditEvent]:
    """The readable events of a reply of XREVRANGE."""
    events = []
    for entry_id, fields in reply or ():
        try:
            event = _decoder.decode(fields[1])
        except (msgspec.DecodeError, msgspec.ValidationError, IndexError, TypeError, ValueError, RecursionError):
            continue
        events.append(msgspec.structs.replace(event, id=entry_id.decode("ascii", "replace")))
    return events


def encode_event(event: AuditEvent) -> bytes:
    """The event as stored in the stream."""
    return msgspec.json.encode(_clean_event(event))


def build_event(actor: Actor, action: str, *, ids: Iterable[str] = (), **fields: Any) -> AuditEvent:
    """An event with the current time. `count` defaults to the number of ids."""
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


def count_outcomes(results: Sequence[ActionResult]) -> dict[str, int]:
    """The number of results per outcome, in no particular order."""
    return dict(Counter(each.outcome.value for each in results))


def _clean_event(found: AuditEvent) -> AuditEvent:
    """The event with text that JSON can hold: ids and names can contain any bytes."""

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
