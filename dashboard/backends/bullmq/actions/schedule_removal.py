"""Removal of schedules that can be restored: a schedule is read first, and compared in the script that removes it."""

from __future__ import annotations

import secrets

import msgspec

from ....model import QueueRef, Schedule
from ....sources.source import Argument, Reply, Source, raw_bytes
from ...actions import (
    BACK_KEPT_S,
    MAX_KEPT_BYTES,
    ActionResult,
    JobBackup,
    Outcome,
    back_before,
    refused_result,
)
from ..repeat_keys import parse_repeat_key
from .scripts import WRITES, restored_key

READ, ANY = b"read", b""


class _ScheduleDump(msgspec.Struct, array_like=True, frozen=True):
    """All data of a removed schedule, as unschedule.lua returned it."""

    signature: bytes
    parts: tuple[bytes, ...]  # ms of the next run, dump, then 11 of each run
    token: bytes  # of this removal: it can be undone once


def backup_schedule(source: Source, schedule: Schedule) -> JobBackup | ActionResult:
    """See `Backend.backup_schedule`. Cost: 1 round trip."""
    if schedule.ref is None:
        return ActionResult(id=schedule.id, outcome=Outcome.GONE)
    reply = _run_unschedule(source, schedule, schedule.ref, READ)
    if not isinstance(reply, list):
        return WRITES.result_from_reply(schedule.id, reply)
    size, *rest = reply
    blob = None
    if rest:
        blob = msgspec.msgpack.encode(_ScheduleDump(rest[0], tuple(rest[1:]), secrets.token_bytes(9)))
    return JobBackup(
        id=schedule.id,
        version=None,
        blob=blob if blob is not None and len(blob) <= MAX_KEPT_BYTES else None,
        size_bytes=int(size),
        name=schedule.name,
        is_schedule=True,
    )


def remove_schedule(source: Source, schedule: Schedule, backup: JobBackup | None) -> ActionResult:
    """See `Backend.remove_schedule`; without a backup, in whatever state it is. Cost: 1 round trip."""
    if schedule.ref is None:
        return ActionResult(id=schedule.id, outcome=Outcome.GONE)
    dump = _decode_dump(backup) if backup is not None else None
    if backup is not None and dump is None:
        return refused_result(schedule.id, "its backup cannot be read")
    reply = _run_unschedule(source, schedule, schedule.ref, dump.signature if dump is not None else ANY)
    return WRITES.result_from_reply(schedule.id, reply)


def restore_schedule(source: Source, ref: QueueRef, backup: JobBackup) -> ActionResult:
    """See `Backend.restore_schedules`. Cost: 1 round trip."""
    dump = _decode_dump(backup)
    if dump is None:
        return refused_result(backup.id, "its backup in the trash cannot be read")
    base = f"{ref.key}:"
    common: tuple[Argument, ...] = (
        base,
        raw_bytes(backup.id),
        dump.token,
        restored_key(source, base),
        int(source.now_s()),
        BACK_KEPT_S,
    )
    reply = WRITES.run_script(source, "reschedule", [f"{base}repeat"], [*common, *dump.parts])
    return back_before(backup.id) if reply == b"again" else WRITES.result_from_reply(backup.id, reply)


def _run_unschedule(source: Source, schedule: Schedule, ref: QueueRef, mode: bytes) -> Reply:
    base, old = f"{ref.key}:", parse_repeat_key(schedule.id)
    runs = [raw_bytes(start) for start in old.jobs] if old else []
    arguments: list[Argument] = [base, raw_bytes(schedule.id), mode, MAX_KEPT_BYTES, *runs]
    return WRITES.run_script(source, "unschedule", [f"{base}repeat"], arguments)


def _decode_dump(backup: JobBackup) -> _ScheduleDump | None:
    try:
        dump = msgspec.msgpack.decode(backup.blob or b"", type=_ScheduleDump)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return dump if len(dump.parts) >= 2 and (len(dump.parts) - 2) % 11 == 0 else None
