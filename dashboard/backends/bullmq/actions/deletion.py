"""Deletion of jobs that can be restored: the backup that is read first, and how jobs return to their positions."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ....model import QueueRef, State
from ....sources.source import Argument, Reply, Source, raw_bytes, text
from ...actions import (
    BACK_KEPT_S,
    MAX_BATCH,
    MAX_KEPT_BYTES,
    ActionResult,
    JobBackup,
    JobRef,
    Outcome,
    back_before,
    refused_result,
)
from ...list_positions import locate_jobs
from ...lua_writes import JobCall, split_by_cost
from .. import keys
from .scripts import WRITES, restored_key

# How often a waiting job is searched for, in a list that changes in the meantime.
LOOKS = 3
# The bytes of job backups that one script returns, and one call in total; jobs beyond it are refused.
TOLD_BYTES, MOST_BYTES = 2 * 1024 * 1024, 64 * 1024 * 1024
# The list entries that one script can walk over to restore jobs to their positions: a millisecond or two.
WALK = 100_000
LATER, LOST = b"later", b"lost"


class _WaitPosition(NamedTuple):
    """Position of a waiting job: its list; the id that runs before it, b"" for none; its place, 1 = next to run."""

    native: str
    before: bytes
    place: int


NOWHERE = _WaitPosition("", b"", 0)


class _JobDump(msgspec.Struct, array_like=True, frozen=True):
    """All data of a deleted job, as returned by take.lua."""

    native: bytes
    version: bytes
    before: bytes
    place: int
    signature: bytes
    dedup: bytes
    dedup_ms: int
    parent: bytes
    waits: bytes
    dumps: tuple[bytes, ...]
    token: bytes = b""  # of this deletion: it can be undone once
    following: bytes = b""  # the job that the library holds back until this one finishes


def backup_jobs(
    source: Source, ref: QueueRef, state: State | None, job_refs: Sequence[JobRef]
) -> list[JobBackup | ActionResult]:
    """See `Backend.backup_jobs`; with `state` None for jobs that are in no list.

    Cost: 1 round trip per 2 MiB; for waiting jobs 1 more, and a few more in long lists.
    """
    base = f"{ref.key}:"
    places, why = _find_positions(source, ref, state, [job_ref.id for job_ref in job_refs])
    sets = "-"
    if state is not None:
        sets = " ".join(entry.native for entry in keys.BY_STATE[state] if entry.kind == "zset")
    replies: list[Reply] = [LATER] * len(job_refs)
    left, room = list(range(len(job_refs))), MOST_BYTES
    while left and room > 0:
        calls = []
        for job_ref in (job_refs[n] for n in left):
            place = places.get(job_ref.id, NOWHERE)
            seen = (raw_bytes(job_ref.id), job_ref.version or "", *place)
            calls.append(JobCall((raw_bytes(base + job_ref.id),), seen))
        common = (base, MAX_KEPT_BYTES, TOLD_BYTES, sets)
        answers = WRITES.run_for_each(source, "take", calls, arguments=common)
        for n, reply in zip(left, answers, strict=True):
            replies[n] = reply
            room -= reply[4] if isinstance(reply, list) else 0
        left = [n for n in left if replies[n] == LATER]
    return [
        _backup_from_reply(job_ref, reply, None if job_ref.id in places else why)
        for job_ref, reply in zip(job_refs, replies, strict=True)
    ]


def _find_positions(
    source: Source, ref: QueueRef, state: State | None, ids: Sequence[str]
) -> tuple[dict[str, _WaitPosition], str | None]:
    """Return (the `ids` that are in lists, with their positions; why others may be missing).

    The reason is None if no list was searched. Sorted sets are not searched.
    """
    found: dict[str, _WaitPosition] = {}
    why: str | None = None
    whole = True
    for entry in keys.BY_STATE[state] if state is not None else ():
        left = [job_id for job_id in ids if job_id not in found] if entry.kind == "list" else ()
        if left:
            there = locate_jobs(source, f"{ref.key}:{entry.native}", left, served_last=True)
            found |= {
                job_id: _WaitPosition(entry.native, place.after, place.behind + 1) for job_id, place in there.items()
            }
            if whole:
                why, whole = there.missing_reason, there.whole
    return found, why


def _backup_from_reply(job_ref: JobRef, reply: Reply, why: str | None) -> JobBackup | ActionResult:
    if reply == LATER:
        why = "these jobs are too large to delete in one batch; select fewer"
        return refused_result(job_ref.id, why)
    if not isinstance(reply, list):
        return WRITES.result_from_reply(job_ref.id, reply, changed=why)
    native, score, before, place, size, signature, dedup, dedup_ms, following, parent, waits, name, *dumps = reply
    token = secrets.token_bytes(9)
    blob = _JobDump(
        native, score, before, place, signature, dedup, dedup_ms, parent, waits, tuple(dumps), token, following
    )
    whole = msgspec.msgpack.encode(blob)
    # A job that is too large is deleted by its position alone; the stamp then holds that position.
    version = f"{native.decode()} {score.decode()}"
    return JobBackup(
        id=job_ref.id,
        version=version,
        blob=whole if dumps and len(whole) <= MAX_KEPT_BYTES else None,
        size_bytes=int(size),
        name=text(name) or None,
    )


def delete_jobs(source: Source, ref: QueueRef, state: State | None, backups: Sequence[JobBackup]) -> list[ActionResult]:
    """See `Backend.delete_jobs`; with `state` None for jobs that are in no list.

    Cost: 1 round trip per 2 MiB; more if a list of waiting jobs changed since the backup.
    """
    blobs = {job.id: blob for job in backups if (blob := _decode_dump(job)) is not None}
    lists = {entry.native for entry in (keys.BY_STATE[state] if state is not None else ()) if entry.kind == "list"}
    listed = {job.id: native for job in backups if (native := _list_and_score(job)[0]) in lists}
    places = {
        job_id: _WaitPosition(native, b"", blobs[job_id].place if job_id in blobs else 0)
        for job_id, native in listed.items()
    }
    why: str | None = None
    if any(not place.place for place in places.values()):
        places, why = _find_positions(source, ref, state, list(listed))
    replies: list[Reply] = [LOST] * len(backups)
    left = list(range(len(backups)))
    for look in range(LOOKS):
        if look:
            places, why = _find_positions(source, ref, state, [backups[n].id for n in left])
        # Next to run first: each removed job moves the jobs behind it up by one.
        left.sort(key=lambda n: places.get(backups[n].id, NOWHERE).place)
        asked = [backups[n] for n in left]
        for n, reply in zip(left, _remove_jobs(source, f"{ref.key}:", asked, places, blobs), strict=True):
            replies[n] = reply
        left = [n for n in left if replies[n] == LOST]
        if not left:
            break
    return [_result_of_removal(job, reply, blobs.get(job.id), why) for job, reply in zip(backups, replies, strict=True)]


def _list_and_score(job: JobBackup) -> tuple[str, str]:
    """Return the name of the list or sorted set that a job was in, and its score there, from the backup's version."""
    native, _, score = (job.version or "").partition(" ")
    return native, score


def _remove_jobs(
    source: Source,
    base: str,
    backups: Sequence[JobBackup],
    places: Mapping[str, _WaitPosition],
    blobs: Mapping[str, _JobDump],
) -> list[Reply]:
    """Return the script's reply for each job; one script reads all data of its jobs, at most 2 MiB."""
    replies: list[Reply] = []
    removed: Counter[str] = Counter()
    for portion in split_by_cost(((job, job.size_bytes) for job in backups), most=MAX_BATCH, cost=TOLD_BYTES):
        calls = []
        for job in portion:
            native, score = _list_and_score(job)
            place, blob = places.get(job.id, NOWHERE), blobs.get(job.id)
            native = place.native or native
            at = max(0, place.place - removed[native])
            arguments = (raw_bytes(job.id), native, score, at, blob.signature if blob else b"")
            calls.append(JobCall((raw_bytes(base + job.id),), arguments))
        answers = WRITES.run_for_each(source, "remove", calls, arguments=(base,))
        removed.update(
            places.get(job.id, NOWHERE).native for job, reply in zip(portion, answers, strict=True) if reply == b"done"
        )
        replies += answers
    return replies


def _result_of_removal(job: JobBackup, reply: Reply, blob: _JobDump | None, why: str | None) -> ActionResult:
    if reply != LOST:
        return WRITES.result_from_reply(job.id, reply)
    if blob is not None and not any(blob.dumps):
        return ActionResult(id=job.id, outcome=Outcome.GONE)
    return ActionResult(id=job.id, outcome=Outcome.CHANGED, detail=why)


def restore_jobs(source: Source, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
    """See `Backend.restore_jobs`. Jobs that were next to run are restored first, so that each finds the one before it.

    Cost: 1 round trip; more for jobs that were far from both ends of a long list.
    """
    base = f"{ref.key}:"
    left = [(job, blob) for job in backups if (blob := _decode_dump(job)) is not None and len(blob.dumps) == 6]
    left.sort(key=lambda pair: pair[1].place)
    done: dict[str, ActionResult] = {}
    while left:
        calls = [JobCall((raw_bytes(base + job.id),), _restore_arguments(job.id, blob)) for job, blob in left]
        common = (base, WALK, restored_key(source, base), int(source.now_s()), BACK_KEPT_S)
        replies = WRITES.run_for_each(source, "restore", calls, arguments=common)
        for (job, _), reply in zip(left, replies, strict=True):
            if reply == b"again":
                done[job.id] = back_before(job.id)
            elif reply != LATER:
                done[job.id] = WRITES.result_from_reply(job.id, reply)
        left = [(job, blob) for job, blob in left if job.id not in done]
    return [done.get(job.id) or refused_result(job.id, "its backup in the trash cannot be read") for job in backups]


def _restore_arguments(job_id: str, blob: _JobDump) -> tuple[Argument, ...]:
    where = (raw_bytes(job_id), blob.native, blob.version, blob.before, blob.dedup, blob.dedup_ms)
    return (*where, blob.following, blob.parent, blob.waits, blob.token, *blob.dumps)


def _decode_dump(job: JobBackup) -> _JobDump | None:
    if job.blob is None:
        return None
    try:
        return msgspec.msgpack.decode(job.blob, type=_JobDump)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
