"""Deletion of jobs that can be restored: byte for byte, at the same score or about the same position, and only once.

Sidekiq keeps no trace of a job that ran, so the bytes alone do not show whether a deletion was already undone. The
script that deletes a job therefore records the deletion next to the queues (`keys.DELETED`, one short entry for a day
and an hour); restoring the job removes that entry.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

import msgspec

from ....model import QueueRef, State
from ....sources.source import Argument, Source
from ...actions import MAX_KEPT_BYTES, ActionResult, JobBackup, JobRef, Outcome, refused_result
from ...lua_reads import Scripts
from ...lua_writes import JobCall
from .. import job_ties, keys
from ..job_decoding import decode_payload, job_name
from .job_lookup import Located, LocatedEntry, locate_entries, no_room
from .scripts import result_from_reply, run_for_each

_TIED = re.compile(rb'"(?:bid|lock_digest|unique_digest)"')
UNSAFE = "Sidekiq cannot remove a running job from its process; stop the process to return the job to its queue"
UNREADABLE_BACKUP = "its backup in the trash cannot be read"


class DeletedEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A deleted job as it was stored: `raw` is "" when it was too long to keep; then `version` identifies it."""

    key: str
    raw: bytes
    at: bytes | int  # its score, or its position from the end that workers fetch from
    token: bytes


def backup_jobs(
    scripts: Scripts, ref: QueueRef, state: State, job_refs: Sequence[JobRef]
) -> list[JobBackup | ActionResult]:
    """Implement `Backend.backup_jobs`. Cost: that of `locate_entries`, again for each further 2 MiB of payloads."""
    place = keys.location_of(ref)
    why = _explain_refusal(place, state)
    if why is not None:
        return [refused_result(job_ref.id, why) for job_ref in job_refs]
    key = _key_of_list(place, state)
    taken: dict[int, JobBackup | ActionResult] = {}
    while left := [n for n in range(len(job_refs)) if n not in taken]:
        asked = [job_refs[n] for n in left]
        located = locate_entries(scripts, place, state, asked, MAX_KEPT_BYTES)
        for n, job_ref, one in zip(left, asked, located, strict=True):
            if one is not None:
                taken[n] = _build_backup(key, job_ref, one)
        if all(one is None for one in located):
            taken.update({n: no_room(job_refs[n]) for n in left})
    return [taken[n] for n in range(len(job_refs))]


def delete_jobs(
    source: Source, scripts: Scripts, ref: QueueRef, state: State, backups: Sequence[JobBackup]
) -> list[ActionResult]:
    """Implement `Backend.delete_jobs`. Cost: 1 round trip; 2 to 3 more if some jobs are too long to back up."""
    place = keys.location_of(ref)
    why = _explain_refusal(place, state)
    if why is not None:
        return [refused_result(job.id, why) for job in backups]
    key = _key_of_list(place, state)
    result: dict[int, ActionResult] = {}
    calls: dict[int, JobCall] = {}
    long = [n for n, job in enumerate(backups) if job.blob is None]
    for n, found in zip(long, _found_again(scripts, place, state, [backups[n] for n in long]), strict=True):
        if isinstance(found, LocatedEntry):
            calls[n] = JobCall((), (found.at, b"", found.version, b""))
        else:
            result[n] = found or ActionResult(id=backups[n].id, outcome=Outcome.CHANGED)
    for n, job in enumerate(backups):
        if job.blob is None:
            continue
        entry = _decode_backup(job, key, state)
        if entry is None:
            result[n] = refused_result(job.id, UNREADABLE_BACKUP)
        else:
            calls[n] = JobCall((), (entry.at, entry.raw, b"", entry.token))
    listed = place.queue is not None
    order = sorted(calls, key=lambda n: calls[n].arguments[0]) if listed else list(calls)
    now = (repr(source.now_s()),)
    script = "delete_from_queue" if listed else "delete_from_set"
    replies = run_for_each(source, script, [key, keys.DELETED], now, [calls[n] for n in order], counted=listed)
    for n, reply in zip(order, replies, strict=True):
        result[n] = _with_ties(result_from_reply(backups[n].id, reply), calls[n].arguments[1])
    return [result[n] for n in range(len(backups))]


def restore_jobs(source: Source, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
    """Implement `Backend.restore_jobs`; a job of a queue returns to its position from the end that workers fetch from.

    A position more than 1,500 jobs from both ends of a queue is not restored: the job runs earlier than it would have,
    and `detail` says so. Cost: 1 round trip.
    """
    place = keys.location_of(ref)
    key = _key_of_list(place, state)
    result: dict[int, ActionResult] = {}
    entries: list[tuple[int, DeletedEntry]] = []
    for n, job in enumerate(backups):
        entry = _decode_backup(job, key, state)
        if entry is None:
            why = "it was too large to back up" if job.blob is None else UNREADABLE_BACKUP
            result[n] = refused_result(job.id, why)
        else:
            entries.append((n, entry))
    if place.queue is not None:
        entries.sort(key=lambda one: one[1].at)
    calls = [JobCall((), (entry.at, entry.raw, entry.token)) for _, entry in entries]
    if place.queue is None:
        replies = run_for_each(source, "restore_to_set", [key, keys.DELETED], (), calls)
    else:
        names = [key, keys.DELETED, f"{place.namespace}queues"]
        replies = run_for_each(source, "restore_to_queue", names, (place.queue,), calls)
    for (n, _), reply in zip(entries, replies, strict=True):
        result[n] = _as_undo_result(result_from_reply(backups[n].id, reply))
    return [result[n] for n in range(len(backups))]


def _with_ties(result: ActionResult, raw: Argument) -> ActionResult:
    """The result, with a detail about what the deletion leaves behind if the entry is known here."""
    if result.outcome is not Outcome.DONE or result.detail or not isinstance(raw, bytes) or not _TIED.search(raw):
        return result
    return msgspec.structs.replace(result, detail=job_ties.after_delete(decode_payload(raw)))


def _as_undo_result(result: ActionResult) -> ActionResult:
    if result.outcome is not Outcome.CHANGED:
        return result
    why = "the job already exists, was restored before, or was not deleted"
    return msgspec.structs.replace(result, detail=why, again=True)


def _explain_refusal(place: keys.NamespaceLocation, state: State) -> str | None:
    if state is State.ACTIVE:
        return UNSAFE
    if state not in keys.NATIVE:
        return f"Sidekiq has no {state.value} jobs"
    if (place.queue is None) == (state is State.WAITING):
        return f"Sidekiq stores {state.value} jobs " + (
            "per queue" if place.queue is None else "for all queues together"
        )
    return None


def _key_of_list(place: keys.NamespaceLocation, state: State) -> str:
    name = f"{keys.QUEUE}{place.queue}" if place.queue is not None else keys.SETS.get(state, "")
    return f"{place.namespace}{name}"


def _build_backup(key: str, job_ref: JobRef, one: LocatedEntry | ActionResult) -> JobBackup | ActionResult:
    if isinstance(one, ActionResult):
        return one
    if one.raw is None:
        return JobBackup(id=job_ref.id, version=one.version, blob=None, size_bytes=one.size_bytes)
    entry = DeletedEntry(key=key, raw=one.raw, at=one.at, token=secrets.token_bytes(12))
    payload = decode_payload(one.raw)
    return JobBackup(
        id=job_ref.id,
        version=one.version,
        blob=msgspec.msgpack.encode(entry),
        size_bytes=one.size_bytes,
        name=job_name(payload) if payload else None,
    )


def _decode_backup(backup: JobBackup, key: str, state: State) -> DeletedEntry | None:
    """The backup of a job; None when it is unreadable or belongs to a list other than `key`."""
    if backup.blob is None:
        return None
    try:
        entry = msgspec.msgpack.decode(backup.blob, type=DeletedEntry)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    listed = state is State.WAITING
    fits = isinstance(entry.at, int) == listed and (not listed or int(entry.at) >= 0) and len(entry.token) == 12
    return entry if fits and entry.key == key else None


def _found_again(
    scripts: Scripts, place: keys.NamespaceLocation, state: State, backups: Sequence[JobBackup]
) -> list[Located]:
    if not backups:
        return []
    return locate_entries(
        scripts, place, state, [JobRef(id=job.id, version=job.version) for job in backups], MAX_KEPT_BYTES
    )
