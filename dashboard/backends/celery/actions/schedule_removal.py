"""Removal of RedBeat entries that can be restored: read first, and compared in the script that removes them."""

from __future__ import annotations

import msgspec
from redis.exceptions import ResponseError

from ....model import Schedule
from ....sources.source import Source, raw_bytes
from ...actions import MAX_KEPT_BYTES, ActionResult, JobBackup, Outcome, refused_result
from .scripts import WRITES

# redbeat writes two fields; another program may have added some.
MAX_FIELDS = 100


class _EntryDump(msgspec.Struct, array_like=True, frozen=True):
    """A removed entry: the key of the sorted set, its score there as Redis wrote it, and its fields."""

    due_key: bytes
    score: bytes
    fields: tuple[tuple[bytes, bytes], ...]


def backup_entry(store: Source, schedule: Schedule, due_key: str) -> JobBackup | ActionResult:
    """See `Backend.backup_schedule`. `due_key`: the sorted set of the app's entries. Cost: 2 round trips."""
    key = raw_bytes(schedule.id)
    score, count, size = store.run_batch(
        [("ZSCORE", due_key, key), ("HLEN", key), ("MEMORY", "USAGE", key, "SAMPLES", 0)]
    )
    for reply in (score, count):
        if isinstance(reply, ResponseError):
            return WRITES.result_from_reply(schedule.id, reply)
    if score is None:
        return ActionResult(id=schedule.id, outcome=Outcome.GONE)
    size_bytes = size if isinstance(size, int) else 0
    fits = count <= MAX_FIELDS and size_bytes <= MAX_KEPT_BYTES
    (flat,) = store.run_batch([("HGETALL", key)]) if fits else [None]
    if isinstance(flat, ResponseError):
        return WRITES.result_from_reply(schedule.id, flat)
    blob = None
    if flat is not None:
        fields = tuple(zip(flat[::2], flat[1::2], strict=True))
        blob = msgspec.msgpack.encode(_EntryDump(raw_bytes(due_key), score, fields))
    return JobBackup(
        id=schedule.id,
        version=None,
        blob=blob if blob is not None and len(blob) <= MAX_KEPT_BYTES else None,
        size_bytes=size_bytes,
        name=schedule.name,
        is_schedule=True,
    )


def remove_entry(store: Source, backup: JobBackup) -> ActionResult:
    """See `Backend.remove_schedule`. Cost: 1 round trip."""
    return _run_with_dump(store, "unschedule", backup)


def restore_entry(store: Source, backup: JobBackup) -> ActionResult:
    """See `Backend.restore_schedules`. A run that was due in the meantime starts at once. Cost: 1 round trip."""
    return _run_with_dump(store, "reschedule", backup)


def _run_with_dump(store: Source, script: str, backup: JobBackup) -> ActionResult:
    try:
        dump = msgspec.msgpack.decode(backup.blob or b"", type=_EntryDump)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return refused_result(backup.id, "its backup in the trash cannot be read")
    fields = (part for pair in dump.fields for part in pair)
    reply = WRITES.run_script(store, script, [dump.due_key, raw_bytes(backup.id)], [dump.score, *fields])
    return WRITES.result_from_reply(backup.id, reply)
