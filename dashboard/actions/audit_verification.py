"""Whether the stored audit log is whole: which events were edited, removed, inserted or reordered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from ..model import Value
from ..settings.validation import MAX_AUDIT_EVENTS
from ..store.redis_store import Store
from ..units import format_count
from .audit_chain import AUDIT, HEAD, NO_DIGEST, Head, Link, is_signed_by, read_head, read_link, read_seal

READ_AT_ONCE = 100  # entries of other programs can be large
# A log that is longer than any setting allows, with room for what `XTRIM ~` leaves, was not written by Queuedeck.
MAX_ENTRIES = MAX_AUDIT_EVENTS + 10_000
MAX_FAULTS = 20
# An event is added in the moment when it happens; clocks differ by less than this.
DELAY_S = 86_400.0

FaultKind = Literal[
    "edited",  # the event, or its place, is not what was stored
    "forged",  # its signature is wrong
    "unsigned",  # it has no signature, so anyone who can write to Redis can have made it
    "inserted",  # it is not part of the chain, is in it twice, or was added long after it happened
    "reordered",  # its number is not above the one before it
    "removed",  # events are missing
    "replaced",  # the chain before it is not the one that it was added to
    "restarted",  # the chain begins again: its head was lost
    "oversized",  # there are more events than a setting allows
]


class AuditFault(Value, frozen=True, kw_only=True):
    """Something wrong with the log. `number`: of the event in the chain; `entry`: its id in the stream."""

    kind: FaultKind
    number: int | None
    entry: str | None
    text: str


class AuditVerification(Value, frozen=True, kw_only=True):
    """The result. `first`, `last`: numbers of the oldest and newest event, None without any.

    `signed`: events with a correct signature; None if there is no key to check them. `unchained`: events from before
    the chain began. `faults`: at most MAX_FAULTS of `fault_count`, in the order of the log.
    """

    events: int
    first: int | None
    last: int | None
    digest: str | None
    signed: int | None
    unchained: int
    fault_count: int
    faults: tuple[AuditFault, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.fault_count


class _Moment(msgspec.Struct):
    at: float


_moment_decoder = msgspec.json.Decoder(_Moment)


class ChainCheck:
    """Checks events one by one, oldest first. `keys` = those that may have signed them; () checks no signatures.

    `unsigned_before`: the number of the first event that has to be signed; above 1, there can also be entries from
    before the chain. It must not come from Redis: those who can write there can remove signatures and compute all
    hashes again.

    Holds about 300 bytes per event, of at most MAX_ENTRIES.
    """

    def __init__(self, keys: Sequence[bytes] = (), unsigned_before: int = 1) -> None:
        self._keys = keys
        self._unsigned_before = unsigned_before
        self._unsigned: list[Link] = []  # the first and the last of those that have to be signed
        self._unsigned_count = 0
        self._faults: list[AuditFault] = []
        self._fault_count = 0
        self._events = self._unchained = self._signed = 0
        self._first: int | None = None
        self._last: Link | None = None
        self._is_restarted = False
        # Number -> hash of its last occurrence, to check what later events saw; the signatures so far.
        self._digests: dict[int, bytes] = {}
        self._signatures: set[bytes] = set()

    @property
    def is_full(self) -> bool:
        """Whether there are more events than a log can have."""
        return self._events >= MAX_ENTRIES

    def add_entry(self, entry: str, fields: Any) -> None:
        """Check the next entry of the stream; at most one fault per entry is noted."""
        self._events += 1
        link = read_link(fields)
        if link is None:
            if self._last is None:
                self._unchained += 1
            else:
                self._add_fault("inserted", None, entry, "is not part of the chain")
            return
        # Each of them, because each notes something; the first fault is named.
        faults = (self._find_edit(link), self._find_gap(link), self._check_seal(link), self._find_delay(entry, link))
        fault = next((each for each in faults if each is not None), None)
        if fault is not None:
            self._add_fault(fault[0], link.number, entry, fault[1])
        if self._first is None:
            self._first = link.number
        self._digests[link.number] = bytes.fromhex(link.digest)
        self._last = link

    def finish(self, before: Head | None, after: Head | None) -> AuditVerification:
        """The result. `before`, `after`: the stored head before and after the events were read."""
        if before and after and after.first > before.first:
            self._drop_trimmed(after.first)
        if self.is_full:
            self._add_fault("oversized", None, None, "the log has more events than Queuedeck keeps; the rest is unread")
        elif before is None:
            if self._last is not None:
                self._add_fault("removed", self._last.number, None, "the record of the newest event is missing")
        else:
            trimmed_to = max(before.first, after.first) if after else before.first
            self._check_end(before, trimmed_to)
            if not self._is_restarted:
                self._check_beginning(before, trimmed_to)
        self._check_unsigned()
        last = self._last
        return AuditVerification(
            events=self._events,
            first=self._first,
            last=last.number if last else None,
            digest=last.digest if last else None,
            signed=self._signed if self._keys else None,
            unchained=self._unchained,
            fault_count=self._fault_count,
            faults=tuple(self._faults),
        )

    def _add_fault(self, kind: FaultKind, number: int | None, entry: str | None, text: str) -> None:
        self._fault_count += 1
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(AuditFault(kind=kind, number=number, entry=entry, text=text))

    @staticmethod
    def _find_edit(link: Link) -> tuple[FaultKind, str] | None:
        return None if link.is_intact else ("edited", "is not what was stored")

    def _find_gap(self, link: Link) -> tuple[FaultKind, str] | None:
        """What is wrong between this event and the one before it."""
        last = self._last
        if last is None:
            if link.number == 1 and link.before != NO_DIGEST:
                return "replaced", "is the first one, but was added to others"
            return None
        if link.number == last.number + 1:
            return None if link.before == last.digest else ("replaced", f"was not added to event {last.number}")
        if link.number == 1:
            self._is_restarted = True
            return "restarted", "begins a new chain: what Redis stored about the old one was lost or removed"
        if link.number > last.number:
            missing = link.number - last.number - 1
            return "removed", _missing(missing, "before it")
        return "reordered", f"comes after event {last.number}"

    def _check_seal(self, link: Link) -> tuple[FaultKind, str] | None:
        """What is wrong with its signature, or with what its process had seen."""
        seal = read_seal(link.seal)
        if seal is None:
            return "edited", "has no valid seal"
        if self._keys and seal.signature is None and link.number >= self._unsigned_before:
            self._unsigned = [*self._unsigned[:1], link]
            self._unsigned_count += 1
        elif self._keys and seal.signature is not None:
            if not is_signed_by(self._keys, seal, link.event):
                return "forged", "is not signed with secret_key or one of secret_key_fallbacks"
            self._signed += 1
        identity = f"{seal.nonce} {seal.signature}".encode("utf-8", "surrogateescape")[:40]
        if identity in self._signatures:
            return "inserted", "is a copy of an event before it"
        self._signatures.add(identity)
        if seal.seen_number >= link.number:
            text = f"was added after event {seal.seen_number}: events before it were removed, or it was moved"
            return "removed", text
        known = self._digests.get(seal.seen_number)
        if known is not None and known.hex() != seal.seen_digest:
            return "replaced", f"was added when event {seal.seen_number} was another one"
        return None

    @staticmethod
    def _find_delay(entry: str, link: Link) -> tuple[FaultKind, str] | None:
        """Whether the event happened long before it was added: a copy of one that has been trimmed."""
        try:
            at, added_ms = _moment_decoder.decode(link.event).at, int(entry.partition("-")[0])
        except (msgspec.DecodeError, msgspec.ValidationError, ValueError, RecursionError):
            return None
        return ("inserted", "was added more than a day after it happened") if added_ms / 1000 - at > DELAY_S else None

    def _check_unsigned(self) -> None:
        """Note the events that have to be signed and are not; those from before the chain have no signature at all."""
        if not self._keys:
            return
        if self._unsigned:
            first, last = self._unsigned[0].number, self._unsigned[-1].number
            what = f"{format_count(self._unsigned_count, 'event')} up to {last} not signed"
            self._add_fault("unsigned", first, None, f"{what}: recorded without secret_key, or forged")
        if self._unchained and self._unsigned_before <= 1:
            what = f"{format_count(self._unchained, 'event')} from before the chain not signed"
            self._add_fault("unsigned", None, None, f"{what}: of an earlier version, or forged")

    def _drop_trimmed(self, first: int) -> None:
        """Drop the faults of events that were trimmed while others were read."""
        kept = [fault for fault in self._faults if fault.number is None or fault.number > first]
        self._fault_count -= len(self._faults) - len(kept)
        self._faults = kept

    def _check_end(self, before: Head, trimmed_to: int) -> None:
        last_number = self._last.number if self._last else 0
        if before.number > last_number and trimmed_to <= before.number:
            missing = before.number - max(last_number, trimmed_to - 1)
            self._add_fault("removed", before.number, None, _missing(missing, "at the end"))
        elif self._digests.get(before.number, before.digest_bytes) != before.digest_bytes:
            self._add_fault("replaced", before.number, None, "was the newest one, and is not what was stored")

    def _check_beginning(self, before: Head, trimmed_to: int) -> None:
        first = self._first
        if first is not None and first > max(1, trimmed_to):
            self._add_fault("removed", first, None, _missing(first - max(1, trimmed_to), "before it"))
        if first is not None and first < before.first:
            self._add_fault("inserted", first, None, "was removed because of its age or the number of events")
        most, least = max(0, 1 - before.first), max(0, 1 - trimmed_to)
        if self._unchained > most:
            text = f"{format_count(self._unchained - most, 'event')} at the beginning not part of the chain"
            self._add_fault("inserted", None, None, text)
        elif self._unchained < least:
            self._add_fault("removed", None, None, _missing(least - self._unchained, "at the beginning"))


def verify_log(store: Store, keys: Iterable[bytes], unsigned_before: int = 1) -> AuditVerification:
    """Check the whole stored log while others write to it; see ChainCheck.

    Raises BackendUnavailable, Forbidden. Cost: 1 round trip per READ_AT_ONCE events, and 2.
    """
    check = ChainCheck(tuple(keys), unsigned_before)
    (head,) = store.read_keys(("GET", HEAD))
    before = read_head(head)
    start = "-"
    while not check.is_full:
        (reply,) = store.read_keys(("XRANGE", AUDIT, start, "+", "COUNT", READ_AT_ONCE))
        for entry_id, fields in reply or ():
            check.add_entry(entry_id.decode("ascii", "replace"), fields)
        if len(reply or ()) < READ_AT_ONCE:
            break
        start = "(" + reply[-1][0].decode("ascii", "replace")
    (head,) = store.read_keys(("GET", HEAD))
    return check.finish(before, read_head(head))


def _missing(count: int, where: str) -> str:
    return f"{format_count(count, 'event')} {where} {'is' if count == 1 else 'are'} missing"
