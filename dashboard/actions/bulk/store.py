"""Bulk operations in Redis: request, progress, and the process that runs it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from ...backends.actions import Action, Outcome
from ...clock import now_s
from ...errors import Conflict, Forbidden, NotFound
from ...store.packing import pack, unpack
from ...store.redis_store import Store
from ..audit_chain import AUDIT, HEAD
from ..audit_log import AuditEvent, AuditLog
from . import scripts
from .keys import (
    ALL,
    KEEP_S,
    LEASE_MS,
    OPEN,
    batch_starts_key,
    canary_key,
    job_refs_key,
    lease_key,
    record_key,
    undo_key,
)
from .operation import ENDED, PHASE_WORDS, BulkOperation, BulkPhase, BulkRequest
from .operation_jobs import OperationJobs

MAX_OPERATIONS = 200
MAX_OPEN = 20


class BulkOperationNotFound(NotFound):
    """The record of a bulk operation no longer exists or cannot be read."""

    def __init__(self) -> None:
        super().__init__("Bulk operation not found.", hint="Bulk operations are kept for seven days after they finish.")


class SamePerson(Forbidden):
    """Someone tries to approve an operation of their own."""

    def __init__(self) -> None:
        super().__init__("You started this operation: someone else has to approve it.")


class BulkStore:
    """The bulk operations of one store, thread-safe. Every method can raise BackendUnavailable."""

    def __init__(
        self,
        store: Store,
        address_of: Callable[[str], str | None] = lambda _source: None,
        audit_log: AuditLog | None = None,
        approval_over: int | None = None,
    ) -> None:
        """`address_of` returns the address of a source by name, stored with each new operation so that no process with
        other settings runs it. `audit_log`: that of this process. `approval_over`: destructive operations on more jobs
        than this need the approval of a second person; None: none do.
        """
        self._store = store
        self._audit_log = audit_log or AuditLog(store.source)
        self.jobs = OperationJobs(store)
        self._address_of = address_of
        self._approval_over = approval_over

    def limit_request(self, request: BulkRequest) -> BulkRequest:
        """The part of an operation that those who use this object have the rights for. Cost: none."""
        return request

    def create(self, request: BulkRequest, make_event: Callable[[str], AuditEvent] | None = None) -> str:
        """Store a new operation and return its id; for an undo that is already running, the id of that one.

        `make_event` creates the audit event of a new operation from its id; it is recorded before any event of the
        process that runs the operation. Raises Conflict when too many operations are unfinished. Cost: 1 round trip.
        """
        request = replace(self._with_address(request), approval_over=self._approval_over)
        bulk_id = secrets.token_hex(6)
        undo = request.action is Action.UNDO
        event = make_event(bulk_id) if make_event else None
        reply = self._store.run_script(
            scripts.CREATE,
            (
                ALL,
                OPEN,
                record_key(bulk_id),
                undo_key(request.undoes or request.undo_batches[0] if undo else bulk_id),
                *(AUDIT, HEAD),
            ),
            *(bulk_id, now_s(), pack(request), BulkPhase.COLLECTING.value, KEEP_S, MAX_OPEN, MAX_OPERATIONS, int(undo)),
            *(self._pack(event), self._store.source.own_key(record_key(""))),
        )
        if not reply:
            raise Conflict(
                f"The limit of {MAX_OPEN} unfinished bulk operations is reached.",
                hint="Wait for one to finish, or abort one.",
            )
        created_id = str(reply[0].decode("ascii", "replace"))
        if event is not None and created_id == bulk_id:
            self._audit_log.note_recorded(event, reply[1])
        return created_id

    def _pack(self, event: AuditEvent | None) -> bytes:
        return self._audit_log.pack_event(event) if event else b""

    def _with_address(self, request: BulkRequest) -> BulkRequest:
        names = {job_list.ref.source for job_list in request.job_lists} - request.servers.keys()
        found = {name: address for name in names if (address := self._address_of(name)) is not None}
        return replace(request, servers={**found, **request.servers})

    def find_last_undo(self, name: str) -> BulkOperation | None:
        """The last undo of the bulk operation or batch of that name, or None.

        Cost: 1 round trip; 2 if there is one.
        """
        (raw,) = self._store.read_keys(("GET", undo_key(name)))
        if raw is None:
            return None
        try:
            return self.get(raw.decode("ascii", "replace"))
        except NotFound:
            return None

    def get(self, bulk_id: str) -> BulkOperation:
        """One operation. Raises BulkOperationNotFound. Cost: 1 round trip."""
        reply, leased = self._store.read_keys(("HGETALL", record_key(bulk_id)), ("EXISTS", lease_key(bulk_id)))
        operation = _decode_operation(bulk_id, reply)
        if operation is None:
            raise BulkOperationNotFound
        return replace(operation, leased=leased == 1)

    def renew_lease(self, bulk_id: str, holder: str) -> BulkOperation | None:
        """Renew the lease and return the operation; None if the lease is lost.

        Raises BulkOperationNotFound. Cost: 1 round trip.
        """
        keys = (record_key(bulk_id), lease_key(bulk_id), ALL)
        reply = self._store.run_script(scripts.RENEW_LEASE, keys, holder, LEASE_MS, bulk_id, now_s())
        if reply == 0:
            return None
        operation = _decode_operation(bulk_id, reply)
        if operation is None:
            raise BulkOperationNotFound
        return operation

    def list_newest(self, count: int = 50) -> list[BulkOperation]:
        """Operations, newest first. Cost: 2 round trips."""
        (names,) = self._store.read_keys(("ZREVRANGE", ALL, 0, count - 1))
        ids = [raw.decode("ascii", "replace") for raw in names or ()]
        replies = self._store.read_keys(*(("HGETALL", record_key(each)) for each in ids))
        operations = (_decode_operation(each, reply) for each, reply in zip(ids, replies, strict=True))
        return [operation for operation in operations if operation]

    def open_ids(self) -> list[str]:
        """The ids of unfinished operations. Cost: 1 round trip."""
        (reply,) = self._store.read_keys(("SMEMBERS", OPEN))
        return sorted(raw.decode("ascii", "replace") for raw in reply or ())

    def forget_missing(self, bulk_id: str) -> bool:
        """Remove an operation without a record from the open ones; False if the record exists. Cost: 1 round trip."""
        return bool(self._store.run_script(scripts.FORGET, (record_key(bulk_id), OPEN), bulk_id, KEEP_S))

    def reopen_unfinished(self) -> None:
        """Add all unfinished operations to the open ones again, in case that set was lost. Cost: 1 round trip."""
        self._store.run_script(scripts.REOPEN, (ALL, OPEN), self._store.source.own_key(record_key("")))

    def acquire_lease(self, bulk_id: str, holder: str) -> bool:
        """Acquire the lease for LEASE_MS; False if another holder has it. Each write renews it. Cost: 1 round trip."""
        return bool(self._store.run_script(scripts.ACQUIRE_LEASE, (lease_key(bulk_id),), holder, LEASE_MS))

    def release_lease(self, bulk_id: str, holder: str) -> None:
        """Release the lease, so that another process can run the operation."""
        self._store.run_script(scripts.RELEASE_LEASE, (lease_key(bulk_id),), holder)

    def write_progress(
        self,
        bulk_id: str,
        holder: str,
        *,
        expected: BulkPhase,
        to: BulkPhase | None = None,
        restored: tuple[str, int] | None = None,
        batch_start: int | None = None,
        event: AuditEvent | None = None,
        canary_results: Mapping[int, bytes] = MappingProxyType({}),
        entering: Mapping[str, str | float] = MappingProxyType({}),
        **fields: Any,
    ) -> BulkPhase | None:
        """Store progress and go from phase `expected` to `to`. Returns the phase after it; None if the lease is lost.

        If a user has paused or aborted it in the meantime, that phase stays, and `entering`, the fields that belong to
        `to`, are not stored. Values in dicts are added to the stored ones. The note is cleared unless it is among the
        fields. `restored` = (operation id, number of its deleted jobs
        that this batch restored); `batch_start` = the number of the first job of the batch. `event` goes into the audit
        log if this call changes the phase to `to`. `canary_results`: see OperationJobs.list_canary. Everything stored
        of the operation expires KEEP_S from now. Raises BulkOperationNotFound. Cost: 1 round trip.
        """
        if expected is not BulkPhase.PAUSED:
            fields.setdefault("note", "")
        arguments: list[str | int | float | bytes] = []
        for number, result in canary_results.items():
            arguments += [f"={number}", result]
        for name, value in entering.items():
            arguments += [f">{name}", value]
        for name, value in fields.items():
            if isinstance(value, dict):
                for key, more in value.items():
                    arguments += [f"+{name}:{key}", more]
            else:
                arguments += [name, value if isinstance(value, int | float | bytes) else str(value)]
        reply = self._store.run_script(
            scripts.WRITE_PROGRESS,
            (
                *(record_key(bulk_id), lease_key(bulk_id), OPEN, record_key(restored[0] if restored else bulk_id)),
                *(batch_starts_key(bulk_id), job_refs_key(bulk_id), AUDIT, canary_key(bulk_id), HEAD),
            ),
            *(holder, LEASE_MS, expected.value, to.value if to else "", bulk_id, restored[1] if restored else 0),
            *("" if batch_start is None else batch_start, KEEP_S, self._pack(event)),
            *arguments,
        )
        if reply == -1:
            raise BulkOperationNotFound
        if reply == 0:
            return None
        phase, recorded, kept = reply
        if event is not None and recorded:
            self._audit_log.note_recorded(event, kept)
        return BulkPhase(phase.decode())

    def change_phase(
        self,
        bulk_id: str,
        command: str,
        make_event: Callable[[BulkOperation], AuditEvent] | None = None,
        *,
        who: str = "",
    ) -> BulkPhase:
        """Run the `command` of a user: pause, resume, abort, approve or reject. Returns the phase after it.

        `who` approves or rejects. `make_event` creates the audit event from the operation as it was just before. It is
        recorded together with the change, so before any event of the process that runs the operation, and not at all if
        the change is refused. Raises BulkOperationNotFound, Conflict; SamePerson if `who` started the operation, also
        with a token. Cost: 2 round trips.
        """
        operation = self.get(bulk_id)
        if command in ("approve", "reject") and operation.request.is_by(who):
            raise SamePerson
        if command == "approve" and (operation.approval_until or 0.0) < now_s():
            raise Conflict("This bulk operation does not wait for approval any more.")
        event = make_event(operation) if make_event else None
        under_way = (BulkPhase.COLLECTING, BulkPhase.CANARY, BulkPhase.WATCHING, BulkPhase.RUNNING)
        to, allowed = {
            "pause": (BulkPhase.PAUSED.value, under_way),
            "resume": ("", (BulkPhase.PAUSED,)),
            "abort": (BulkPhase.ABORTED.value, (*under_way, BulkPhase.PAUSED, BulkPhase.APPROVAL)),
            "approve": ("", (BulkPhase.APPROVAL,)),
            "reject": (BulkPhase.ABORTED.value, (BulkPhase.APPROVAL,)),
        }[command]
        reply = self._store.run_script(
            scripts.CHANGE_PHASE,
            (record_key(bulk_id), OPEN, AUDIT, HEAD),
            *(bulk_id, to, now_s(), self._pack(event)),
            *(who if command == "approve" else "", f"Rejected by {who}" if command == "reject" else ""),
            *(phase.value for phase in allowed),
        )
        if not reply:
            raise BulkOperationNotFound
        phase, changed, kept = BulkPhase(reply[0].decode()), reply[1], reply[2]
        if changed and event is not None:
            self._audit_log.note_recorded(event, kept)
        if not changed and command in ("approve", "reject"):
            raise Conflict("This bulk operation does not wait for approval (any more).")
        if phase.value != to and (to or phase in (BulkPhase.PAUSED, BulkPhase.APPROVAL, *ENDED)):
            raise Conflict(f"This bulk operation is {PHASE_WORDS.get(phase, phase.value)}; you cannot {command} it.")
        return phase

    def note_restored(self, bulk_id: str, count: int) -> None:
        """Add to the number of deleted jobs of the operation that were restored. Cost: 1 round trip."""
        self._store.run_script(scripts.ADD_RESTORED, (record_key(bulk_id),), count)


def _number_of(fields: Mapping[str, bytes], name: str) -> float | None:
    try:
        value = float(fields[name])
    except (KeyError, ValueError):
        return None
    return value if 0 <= value < 1e12 else None


def _count_of(fields: Mapping[str, bytes], name: str) -> int:
    return int(_number_of(fields, name) or 0)


def _decode_operation(bulk_id: str, reply: Any) -> BulkOperation | None:
    if not isinstance(reply, list) or not reply:
        return None
    fields = {name.decode("ascii", "replace"): value for name, value in zip(reply[::2], reply[1::2], strict=True)}
    request = unpack(fields.get("request"), BulkRequest)
    if request is None:
        return None
    count = partial(_count_of, fields)
    outcomes = {outcome.value: count(f"outcomes:{outcome.value}") for outcome in Outcome}
    try:
        phase = BulkPhase(fields.get("phase", b"").decode())
    except ValueError:
        return None
    scanned = _number_of(fields, "scanned")
    return BulkOperation(
        id=bulk_id,
        request=request,
        phase=phase,
        matched=count("matched"),
        processed=count("processed"),
        outcomes={name: value for name, value in outcomes.items() if value},
        canary_failed=count("canary_failed"),
        canary_open=count("canary_open"),
        watch_until=_number_of(fields, "watch_until"),
        note=fields.get("note", b"").decode("utf-8", "replace") or None,
        scanned=None if scanned is None else int(scanned),
        truncated=bool(count("truncated")),
        unread=unpack(fields.get("unread"), tuple[str, ...]) or (),
        unread_count=count("unread_count"),
        restored=count("restored"),
        ended_at=_number_of(fields, "ended_at"),
        approval_until=_number_of(fields, "approval_until"),
        approved_by=fields.get("approved_by", b"").decode("utf-8", "replace") or None,
    )
