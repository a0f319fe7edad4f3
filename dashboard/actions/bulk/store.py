"""Bulk operations in Redis: request, list of jobs, progress, and the process that runs it. All keys are built here."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from ...backends.actions import Action, JobRef, Outcome
from ...clock import now_s
from ...errors import Conflict, NotFound
from ...store.packing import pack, unpack
from ...store.redis_store import PREFIX, Store
from ..audit_log import AUDIT, RECORD, AuditEvent, encode_event, log_recorded
from .operation import ENDED, BulkOperation, BulkPhase, BulkRequest

ALL = f"{PREFIX}:bulks"  # sorted set: id -> created, seconds since 1970; at most MAX_WORKS, plus unfinished ones
OPEN = f"{PREFIX}:bulks:open"  # set of ids of unfinished operations; at most MAX_OPEN
KEEP_S = 7 * 86_400
MAX_WORKS = 200
MAX_OPEN = 20
LEASE_MS = 10_000

# KEYS all, open, record, undo of, audit. ARGV id, now, spec, phase, lifetime, maximum open, maximum stored, whether it
# is an undo, event or "", prefix of the names of records. Returns {id, whether the event was stored}; for an undo that
# is already running, the id of that one; 0 if too many operations are open.
_CREATE = f"""{RECORD}
if ARGV[8] == '1' then
  local other = redis.call('GET', KEYS[4])
  local open = other and redis.call('SISMEMBER', KEYS[2], other) == 1
  if open and redis.call('EXISTS', sound(ARGV[10] .. other, 'h')) == 1 then return {{other, 1}} end
end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[6]) then return 0 end
local kept = ARGV[9] == '' and 1 or record(KEYS[5], ARGV[9])
redis.call('HSET', KEYS[3], 'spec', ARGV[3], 'phase', ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[5])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[1])
local surplus = redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[7]))
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', tonumber(ARGV[2]) - tonumber(ARGV[5]))
for _, ids in ipairs({{surplus, old}}) do
  for _, id in ipairs(ids) do
    if redis.call('SISMEMBER', KEYS[2], id) == 0 then
      redis.call('ZREM', KEYS[1], id)
      local record = ARGV[10] .. id
      for _, key in ipairs({{record, record .. ':picks', record .. ':rounds', record .. ':undo'}}) do
        if redis.call('TTL', key) == -1 then redis.call('EXPIRE', key, ARGV[5]) end
      end
    end
  end
end
if ARGV[8] == '1' then redis.call('SET', KEYS[4], ARGV[1], 'EX', ARGV[5]) end
return {{ARGV[1], kept}}
"""

# KEYS record, lease, all. ARGV holder, lease ms, id, now. Returns the record, 0 if the holder does not have the lease,
# -1 if the record no longer exists. Adds a running operation to the list again, in case the list was lost.
_HELD = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[3], 'NX', ARGV[4], ARGV[3])
return redis.call('HGETALL', KEYS[1])
"""

# KEYS record, lease, open, record of the operation whose deleted jobs are restored, rounds, picks, audit. ARGV holder,
# lease ms, expected phase, next phase or "", id, number of jobs restored, number of the first job of a round or "", new
# lifetime of record, rounds and picks, event to record when it enters the next phase or "", then fields and values; a
# value is added to a field that starts with +. Returns {phase, whether the event was recorded, whether it was stored},
# 0 if another process runs it, -1 if the record no longer exists.
_WRITE = f"""{RECORD}
if redis.call('HEXISTS', KEYS[1], 'phase') == 0 then return -1 end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
for n = 10, #ARGV, 2 do
  local name = ARGV[n]
  if string.sub(name, 1, 1) == '+' then add(KEYS[1], string.sub(name, 2), ARGV[n + 1])
  else redis.call('HSET', KEYS[1], name, ARGV[n + 1]) end
end
if ARGV[7] ~= '' then redis.call('RPUSH', KEYS[5], ARGV[7]) end
for _, key in ipairs({{KEYS[1], KEYS[5], KEYS[6]}}) do redis.call('EXPIRE', key, ARGV[8]) end
if tonumber(ARGV[6]) > 0 and redis.call('EXISTS', KEYS[4]) == 1 then
  add(KEYS[4], 'restored', ARGV[6])
end
local phase, recorded, kept = redis.call('HGET', KEYS[1], 'phase'), 0, 0
if phase == ARGV[3] and ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'phase', ARGV[4])
  phase = ARGV[4]
  if ARGV[9] ~= '' then recorded, kept = 1, record(KEYS[7], ARGV[9]) end
end
if phase == 'done' or phase == 'failed' or phase == 'aborted' then redis.call('SREM', KEYS[3], ARGV[5]) end
return {{phase, recorded, kept}}
"""

# Pause, resume or abort by a user. KEYS record, open, audit. ARGV id, next phase ('' = the one before the pause), now,
# event or "", phases in which this is allowed. Returns {the phase after it, whether it changed, whether the event was
# stored}, 0 if the record no longer exists.
_TELL = f"""{RECORD}
local phase = redis.call('HGET', KEYS[1], 'phase')
if not phase then return 0 end
for n = 5, #ARGV do
  if phase == ARGV[n] then
    local to = ARGV[2]
    local kept = ARGV[4] == '' and 1 or record(KEYS[3], ARGV[4])
    if to == 'paused' then redis.call('HSET', KEYS[1], 'before', phase) end
    if to == '' then to = redis.call('HGET', KEYS[1], 'before') or 'running' end
    redis.call('HSET', KEYS[1], 'phase', to)
    redis.call('HDEL', KEYS[1], 'note')
    if to == 'aborted' then
      redis.call('HSET', KEYS[1], 'ended_at', ARGV[3])
      redis.call('SREM', KEYS[2], ARGV[1])
    end
    return {{to, 1, kept}}
  end
end
return {{phase, 0, 0}}
"""

# KEYS picks, lease. ARGV holder, lifetime, then values. Returns 0 if the holder does not have the lease.
_PUSH = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
for n = 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[n]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS all, open. ARGV prefix of the names of records. Adds unfinished operations to the open ones: that set was lost.
_REOPEN = """
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local phase = redis.call('HGET', sound(ARGV[1] .. id, 'h'), 'phase')
  if phase and phase ~= 'done' and phase ~= 'failed' and phase ~= 'aborted' then redis.call('SADD', KEYS[2], id) end
end
return 1
"""

# KEYS lease. ARGV holder, lease ms. Returns 1, or 0 if another process holds it.
_LEASE = """
begin(KEYS[1], ARGV[2])
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
"""

# KEYS record, open. ARGV id, lifetime of a record that cannot be read. Returns 1 if the record no longer exists, or 0.
_FORGET = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  if redis.call('TTL', KEYS[1]) == -1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
  return 0
end
redis.call('SREM', KEYS[2], ARGV[1])
return 1
"""

# KEYS record. ARGV number of jobs restored.
_RESTORED = """
if redis.call('EXISTS', KEYS[1]) == 1 then add(KEYS[1], 'restored', ARGV[1]) end
return 1
"""


class BulkOperationNotFound(NotFound):
    """The record of a bulk operation no longer exists or cannot be read."""

    def __init__(self) -> None:
        super().__init__("Bulk operation not found.", hint="Bulk operations are kept for seven days after they finish.")


class BulkStore:
    """The bulk operations of one store, thread-safe. All methods raise BackendUnavailable."""

    def __init__(self, store: Store, address_of: Callable[[str], str | None] = lambda _source: None) -> None:
        """`address_of` returns the address of a source by name, stored with each new operation so that no process with
        other settings runs it."""
        self._store = store
        self._address_of = address_of

    def create(self, spec: BulkRequest, event_of: Callable[[str], AuditEvent] | None = None) -> str:
        """Store a new operation and return its id; for an undo that is already running, the id of that one.

        `event_of` creates the audit event of a new operation from its id; it is recorded before any event of the
        process that runs the operation. Raises Conflict when too many operations are unfinished. Cost: 1 round trip.
        """
        spec = self._with_address(spec)
        work_id = secrets.token_hex(6)
        undo = spec.action is Action.UNDO
        event = event_of(work_id) if event_of else None
        made = self._store.run_script(
            _CREATE,
            (ALL, OPEN, _record_key(work_id), _undo_key(spec.undoes or spec.batches[0] if undo else work_id), AUDIT),
            *(work_id, now_s(), pack(spec), BulkPhase.COLLECTING.value, KEEP_S, MAX_OPEN, MAX_WORKS, int(undo)),
            *(encode_event(event) if event else "", self._store.source.own_key(_record_key(""))),
        )
        if not made:
            raise Conflict(
                f"The limit of {MAX_OPEN} unfinished bulk operations is reached.",
                hint="Wait for one to finish, or abort one.",
            )
        made_id = str(made[0].decode("ascii", "replace"))
        if event is not None and made_id == work_id:
            log_recorded(event, kept=made[1] == 1)
        return made_id

    def _with_address(self, spec: BulkRequest) -> BulkRequest:
        names = {place.ref.source for place in spec.places} - spec.servers.keys()
        found = {name: address for name in names if (address := self._address_of(name)) is not None}
        return replace(spec, servers={**found, **spec.servers})

    def undo_of(self, name: str) -> BulkOperation | None:
        """The last undo of the bulk operation or batch of that name, or None.

        Cost: 1 round trip; 2 if there is one.
        """
        (raw,) = self._store.read_keys(("GET", _undo_key(name)))
        if raw is None:
            return None
        try:
            return self.get(raw.decode("ascii", "replace"))
        except NotFound:
            return None

    def get(self, work_id: str) -> BulkOperation:
        """One operation. Raises BulkOperationNotFound. Cost: 1 round trip."""
        reply, held = self._store.read_keys(("HGETALL", _record_key(work_id)), ("EXISTS", _lease_key(work_id)))
        operation = _decode_operation(work_id, reply)
        if operation is None:
            raise BulkOperationNotFound
        return replace(operation, held=held == 1)

    def hold_lease(self, work_id: str, holder: str) -> BulkOperation | None:
        """Renew the lease and return the operation; None if the lease is lost.

        Raises BulkOperationNotFound. Cost: 1 round trip.
        """
        keys = (_record_key(work_id), _lease_key(work_id), ALL)
        reply = self._store.run_script(_HELD, keys, holder, LEASE_MS, work_id, now_s())
        if reply == 0:
            return None
        operation = _decode_operation(work_id, reply)
        if operation is None:
            raise BulkOperationNotFound
        return operation

    def list_newest(self, count: int = 50) -> list[BulkOperation]:
        """Operations, newest first. Cost: 2 round trips."""
        (names,) = self._store.read_keys(("ZREVRANGE", ALL, 0, count - 1))
        ids = [raw.decode("ascii", "replace") for raw in names or ()]
        replies = self._store.read_keys(*(("HGETALL", _record_key(each)) for each in ids))
        works = (_decode_operation(each, reply) for each, reply in zip(ids, replies, strict=True))
        return [operation for operation in works if operation]

    def open_ids(self) -> list[str]:
        """The ids of unfinished operations. Cost: 1 round trip."""
        (reply,) = self._store.read_keys(("SMEMBERS", OPEN))
        return sorted(raw.decode("ascii", "replace") for raw in reply or ())

    def forget_missing(self, work_id: str) -> bool:
        """Remove an operation without a record from the open ones; False if the record exists. Cost: 1 round trip."""
        return bool(self._store.run_script(_FORGET, (_record_key(work_id), OPEN), work_id, KEEP_S))

    def reopen_unfinished(self) -> None:
        """Add all unfinished operations to the open ones again, in case that set was lost. Cost: 1 round trip."""
        self._store.run_script(_REOPEN, (ALL, OPEN), self._store.source.own_key(_record_key("")))

    def take_lease(self, work_id: str, holder: str) -> bool:
        """Take the lease for LEASE_MS; False if another holder has it. Each write renews it. Cost: 1 round trip."""
        return bool(self._store.run_script(_LEASE, (_lease_key(work_id),), holder, LEASE_MS))

    def release_lease(self, work_id: str, holder: str) -> None:
        """Release the lease, so that another process can run the operation."""
        self._store.run_script(
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
            (_lease_key(work_id),),
            holder,
        )

    def write_progress(
        self,
        work_id: str,
        holder: str,
        *,
        expected: BulkPhase,
        to: BulkPhase | None = None,
        restored: tuple[str, int] | None = None,
        round_at: int | None = None,
        event: AuditEvent | None = None,
        **fields: Any,
    ) -> BulkPhase | None:
        """Store progress and go from phase `expected` to `to`. Returns the phase after it; None if the lease is lost.

        If a user has paused or aborted it in the meantime, that phase stays. Values in dicts are added to the stored
        ones. The note is cleared unless it is among the fields. `restored` = (operation id, number of its deleted jobs
        that this batch restored); `round_at` = the number of the first job of the batch. `event` goes into the audit
        log if this call changes the phase to `to`. Everything stored of the operation expires KEEP_S from now. Raises
        BulkOperationNotFound. Cost: 1 round trip.
        """
        if expected is not BulkPhase.PAUSED:
            fields.setdefault("note", "")
        arguments: list[str | int | float | bytes] = []
        for name, value in fields.items():
            if isinstance(value, dict):
                for key, more in value.items():
                    arguments += [f"+{name}:{key}", more]
            else:
                arguments += [name, value if isinstance(value, int | float | bytes) else str(value)]
        reply = self._store.run_script(
            _WRITE,
            (
                *(_record_key(work_id), _lease_key(work_id), OPEN, _record_key(restored[0] if restored else work_id)),
                *(_rounds_key(work_id), _job_refs_key(work_id), AUDIT),
            ),
            *(holder, LEASE_MS, expected.value, to.value if to else "", work_id, restored[1] if restored else 0),
            *("" if round_at is None else round_at, KEEP_S, encode_event(event) if event else ""),
            *arguments,
        )
        if reply == -1:
            raise BulkOperationNotFound
        if reply == 0:
            return None
        phase, recorded, kept = reply
        if event is not None and recorded:
            log_recorded(event, kept=kept == 1)
        return BulkPhase(phase.decode())

    def change_phase(
        self, work_id: str, word: str, event_of: Callable[[BulkOperation], AuditEvent] | None = None
    ) -> BulkPhase:
        """Pause, resume or abort for a user, as in `word`. Returns the phase after it.

        `event_of` creates the audit event from the operation as it was just before. It is recorded together with the
        change, so before any event of the process that runs the operation, and not at all if the change is refused.
        Raises BulkOperationNotFound, Conflict. Cost: 2 round trips.
        """
        operation = self.get(work_id)
        event = event_of(operation) if event_of else None
        under_way = (BulkPhase.COLLECTING, BulkPhase.CANARY, BulkPhase.WATCHING, BulkPhase.RUNNING)
        to, allowed = {
            "pause": (BulkPhase.PAUSED.value, under_way),
            "resume": ("", (BulkPhase.PAUSED,)),
            "abort": (BulkPhase.ABORTED.value, (*under_way, BulkPhase.PAUSED)),
        }[word]
        reply = self._store.run_script(
            _TELL,
            (_record_key(work_id), OPEN, AUDIT),
            *(work_id, to, now_s(), encode_event(event) if event else ""),
            *(phase.value for phase in allowed),
        )
        if not reply:
            raise BulkOperationNotFound
        phase, obeyed, kept = BulkPhase(reply[0].decode()), reply[1], reply[2]
        if obeyed and event is not None:
            log_recorded(event, kept=kept == 1)
        if phase.value != to and (to or phase is BulkPhase.PAUSED or phase in ENDED):
            raise Conflict(f"This bulk operation is {phase.value}; you cannot {word} it.")
        return phase

    def clear_picks(self, work_id: str) -> None:
        """Delete the list of jobs."""
        self._store.source.execute("DEL", _job_refs_key(work_id))

    def push_picks(self, work_id: str, holder: str, job_refs: Sequence[tuple[int, JobRef]]) -> bool:
        """Append jobs, each with the number of its place; False if the lease is lost. Cost: 1 round trip per 1,000."""
        for start in range(0, len(job_refs), 1000):
            values = [pack([place, job_ref.id, job_ref.version]) for place, job_ref in job_refs[start : start + 1000]]
            if not self._store.run_script(
                _PUSH, (_job_refs_key(work_id), _lease_key(work_id)), holder, KEEP_S, *values
            ):
                return False
        return True

    def list_rounds(self, work_id: str) -> list[int]:
        """The number of the first job of each batch of a delete, ascending. Cost: 1 round trip per 5,000."""
        numbers: set[int] = set()
        at, step = 0, 5_000
        while True:
            (found,) = self._store.read_keys(("LRANGE", _rounds_key(work_id), at, at + step - 1))
            found = found or []
            numbers.update(int(raw) for raw in found if raw.isdigit() and len(raw) <= 15)
            if len(found) < step:
                return sorted(numbers)
            at += step

    def note_restored(self, work_id: str, count: int) -> None:
        """Add to the number of deleted jobs of the operation that were restored. Cost: 1 round trip."""
        self._store.run_script(_RESTORED, (_record_key(work_id),), count)

    def list_job_refs(self, work_id: str, at: int, count: int) -> list[tuple[int, JobRef]]:
        """At most `count` jobs of the list, from number `at`. Cost: 1 round trip."""
        found = []
        (listed,) = self._store.read_keys(("LRANGE", _job_refs_key(work_id), at, at + count - 1))
        for raw in listed or ():
            place, job_id, version = unpack(raw, tuple[int, str, str | None]) or (-1, "", None)
            found.append((place, JobRef(id=job_id, version=version)))
        return found


def _record_key(work_id: str) -> str:
    return f"{PREFIX}:bulk:{work_id}"  # hash, about 1 kB, expires KEEP_S after the last write


def _lease_key(work_id: str) -> str:
    return f"{PREFIX}:bulk:{work_id}:lease"  # string, expires after LEASE_MS


def _rounds_key(work_id: str) -> str:
    return f"{PREFIX}:bulk:{work_id}:rounds"  # list of numbers, one per batch of a delete; expires with the record


def _undo_key(name: str) -> str:
    return f"{PREFIX}:bulk:{name}:undo"  # string: the id of its last undo, expires after KEEP_S


def _job_refs_key(work_id: str) -> str:
    return (
        f"{PREFIX}:bulk:{work_id}:picks"  # list, about 60 bytes per job, at most bulk_max_jobs; expires with the record
    )


def _decode_operation(work_id: str, reply: Any) -> BulkOperation | None:
    if not isinstance(reply, list) or not reply:
        return None
    fields = {name.decode("ascii", "replace"): value for name, value in zip(reply[::2], reply[1::2], strict=True)}
    spec = unpack(fields.get("spec"), BulkRequest)
    if spec is None:
        return None

    def number(name: str) -> float | None:
        try:
            value = float(fields[name])
        except (KeyError, ValueError):
            return None
        return value if 0 <= value < 1e12 else None

    def count(name: str) -> int:
        return int(number(name) or 0)

    outcomes = {outcome.value: count(f"outcomes:{outcome.value}") for outcome in Outcome}
    try:
        phase = BulkPhase(fields.get("phase", b"").decode())
    except ValueError:
        return None
    scanned = number("scanned")
    return BulkOperation(
        id=work_id,
        spec=spec,
        phase=phase,
        matched=count("matched"),
        at=count("at"),
        outcomes={name: value for name, value in outcomes.items() if value},
        canary_failed=count("canary_failed"),
        canary_open=count("canary_open"),
        watch_until=number("watch_until"),
        note=fields.get("note", b"").decode("utf-8", "replace") or None,
        scanned=None if scanned is None else int(scanned),
        truncated=bool(count("truncated")),
        unread=unpack(fields.get("unread"), tuple[str, ...]) or (),
        unread_count=count("unread_count"),
        restored=count("restored"),
        ended_at=number("ended_at"),
        batch=work_id if spec.action.value == "delete" else None,
    )
