"""Deletion of jobs that can be restored: the backup that is read first, and how jobs return to their positions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from redis.exceptions import ResponseError

from ....model import State
from ....sources.source import Argument, Reply, Source, text
from ...actions import (
    BACK,
    BACK_KEPT_S,
    MAX_KEPT_BYTES,
    ActionResult,
    JobBackup,
    JobRef,
    Outcome,
    back_before,
    refused_result,
)
from ...list_positions import ListPosition, ListPositions, locate_jobs
from ...lua_writes import JobCall
from ..keys import QueueKeys
from ..serialization import call_parts
from . import scripts
from .descriptions import ENDED, STATUSES
from .dispatch import NOWHERE, in_line, key_kind, script_flag
from .stray_jobs import check_missing

# The most that one call returns. Jobs beyond it are refused; the caller can ask for them again.
MOST_BYTES = 64 * 1024 * 1024
# RQ's queues are lists, which Redis walks from the front to insert into them. REACH is the deepest position at which a
# job is restored; WALK is how far one script walks for several jobs: 1 to 2 ms.
REACH = WALK = 50_000
# How far one call walks in total. After that, only jobs that were near the front return to their position; the others
# go to the end.
WALK_IN_ALL = 25_000_000
NEAR = 1_000
# Scripts that are sent together: they must finish before the connection times out.
SCRIPTS_PER_TRIP = 100
# At most this many jobs per call are checked for being in no list: each check searches the whole queue.
STRAYS_AT_ONCE = 20
# Stored in place of the id behind a job: the job was in no list.
STRAY = b"\0in no list"
RUNNING = "a worker is running it; stop it first"
_UNREADABLE = "its backup in the trash cannot be read"

_Part = tuple[bytes, int]  # a key in the form of DUMP, its time to live in ms (-1: no expiry)


class _DeletedJob(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A deleted job with everything that take.lua returned; `mark` distinguishes its hash from an altered one."""

    score: bytes
    mark: bytes
    group: bytes
    waiters: int
    parts: tuple[_Part, _Part, _Part, _Part]  # hash, dependents, dependencies, results
    parents: tuple[bytes, ...]
    place: Annotated[int, Meta(ge=0)]
    after: bytes  # the id behind it in its queue
    front: bool  # whether it was enqueued ahead of older jobs
    token: bytes = b""  # identifies this deletion, which is undone only once


def backup_jobs(
    source: Source, queue: QueueKeys, state: State, job_refs: Sequence[JobRef]
) -> list[JobBackup | ActionResult]:
    """Implement `Backend.backup_jobs`. A started job is backed up only if it is no longer in any list.

    Cost: 1 round trip per few MiB; for waiting jobs that of `locate_jobs` in addition. If a few jobs are not in their
    list, that of `check_missing` and 1 more.
    """
    places = (
        locate_jobs(source, queue.queue, [job_ref.id for job_ref in job_refs])
        if state is State.WAITING
        else ListPositions()
    )
    replies: list[Reply] = [scripts.LATER] * len(job_refs)
    left, room = list(range(len(job_refs))), MOST_BYTES
    fixed = (key_kind(state), STATUSES[state], script_flag(state in ENDED), MAX_KEPT_BYTES, scripts.BYTES_PER_SCRIPT)

    def after(n: int) -> bytes:
        return places[job_refs[n].id].after if job_refs[n].id in places else b""

    while left and room > 0:
        calls = [
            JobCall((queue.job(job_refs[n].id),), (job_refs[n].id, job_refs[n].version or "", after(n))) for n in left
        ]
        answers = scripts.run_for_each(source, "take", queue, calls, keys=(queue.list_of(state),), arguments=fixed)
        for n, reply in zip(left, answers, strict=True):
            replies[n] = reply
            room -= reply[1] if isinstance(reply, list) else 0
        left = [n for n in left if replies[n] == scripts.LATER]
    listed = state is State.WAITING
    taken = [
        _backup_from_reply(
            job_ref, reply, places.get(job_ref.id, NOWHERE) if listed else ListPosition(0, b""), places.missing_reason
        )
        for job_ref, reply in zip(job_refs, replies, strict=True)
    ]
    changed = [n for n, one in enumerate(taken) if isinstance(one, ActionResult) and one.outcome is Outcome.CHANGED]
    strays: list[JobBackup | ActionResult | None] = [None] * len(changed)
    if changed and places.whole and len(job_refs) <= STRAYS_AT_ONCE:
        strays = _take_stray(source, queue, state, [job_refs[n] for n in changed])
    for n, stray in zip(changed, strays, strict=True):
        running = refused_result(job_refs[n].id, RUNNING) if state is State.ACTIVE else None
        taken[n] = stray or running or taken[n]
    return taken


def _take_stray(
    source: Source, queue: QueueKeys, state: State, job_refs: Sequence[JobRef]
) -> list[JobBackup | ActionResult | None]:
    """Back up jobs that are in no list; None for other jobs. Cost: that of `check_missing`, and 1 round trip."""
    found: list[JobBackup | ActionResult | None] = [None] * len(job_refs)
    replies = check_missing(source, queue, state, job_refs)
    for n, reply in enumerate(replies):
        if reply == scripts.UNSURE:
            found[n] = ActionResult(id=job_refs[n].id, outcome=Outcome.CHANGED, detail=scripts.ASK_AGAIN)
    left = [n for n, reply in enumerate(replies) if reply == b"done"]
    fixed = ("none", STATUSES[state], script_flag(state in ENDED), MAX_KEPT_BYTES, scripts.BYTES_PER_SCRIPT)
    calls = [JobCall((queue.job(job_refs[n].id),), (job_refs[n].id, job_refs[n].version or "", "")) for n in left]
    answers = scripts.run_for_each(source, "take", queue, calls, keys=(queue.queue,), arguments=fixed)
    for n, reply in zip(left, answers, strict=True):
        one = _backup_from_reply(job_refs[n], reply, ListPosition(0, STRAY), "")
        found[n] = one if isinstance(one, JobBackup) else None
    return found


def _backup_from_reply(job_ref: JobRef, reply: Reply, place: ListPosition, why: str) -> JobBackup | ActionResult:
    if reply == scripts.LATER:
        why = "these jobs are too large to delete in one batch; select fewer"
        return refused_result(job_ref.id, why)
    if not isinstance(reply, list):
        return scripts.WRITES.result_from_reply(job_ref.id, reply)
    score, size, mark, group, waiters, front, described, *rest = reply
    if place == NOWHERE:
        if mark == b"gone":
            return ActionResult(id=job_ref.id, outcome=Outcome.GONE)
        return ActionResult(id=job_ref.id, outcome=Outcome.CHANGED, detail=why)
    if not rest:
        return JobBackup(id=job_ref.id, version=job_ref.version, blob=None, size_bytes=size)
    parts = tuple(zip(rest[0:8:2], rest[1:8:2], strict=True))
    token = secrets.token_bytes(9)
    blob = msgspec.msgpack.encode(
        _DeletedJob(score, mark, group, waiters, parts, tuple(rest[8:]), place.at, place.after, front == b"1", token)  # type: ignore[arg-type]
    )
    fits = len(blob) <= MAX_KEPT_BYTES
    return JobBackup(
        id=job_ref.id,
        version=job_ref.version,
        blob=blob if fits else None,
        size_bytes=max(size, len(blob)),
        name=call_parts(text(described))[0],
    )


def delete_jobs(source: Source, queue: QueueKeys, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
    """Implement `Backend.delete_jobs`. Cost: 1 round trip; more if the queue moved since the backup of waiting jobs."""
    blobs = {job.id: _decode_dump(job) for job in backups}
    job_refs = [
        JobRef(id=job.id, version=job.version) for job in backups if job.blob is None or blobs[job.id] is not None
    ]
    first, fixed = queue.list_of(state), (key_kind(state), STATUSES[state], script_flag(state in ENDED))

    def remove(asked: Sequence[JobRef], places: Sequence[int]) -> list[Reply]:
        calls = []
        for job_ref, at in zip(asked, places, strict=True):
            blob = blobs[job_ref.id]
            seen: tuple[Argument, ...] = (blob.mark, blob.score, blob.waiters) if blob else ("", "", "")
            calls.append(JobCall((queue.job(job_ref.id),), (job_ref.id, job_ref.version or "", *seen, at)))
        return scripts.run_for_each(source, "remove", queue, calls, keys=(first,), arguments=fixed, counted=True)

    strays = {job_id for job_id, blob in blobs.items() if blob is not None and blob.after == STRAY}
    listed = [job_ref for job_ref in job_refs if job_ref.id not in strays]
    if state is State.WAITING:
        seen_at = [blob.place if (blob := blobs[job_ref.id]) else NOWHERE.at for job_ref in listed]
        replies = in_line(source, queue, listed, seen_at, remove)
    else:
        replies = remove(listed, [0] * len(listed))
    done = scripts.WRITES.results_from_replies(listed, replies)
    unlisted = [job_ref for job_ref in job_refs if job_ref.id in strays]
    first, fixed = queue.queue, ("none", *fixed[1:])
    done += scripts.stray_results(unlisted, remove(unlisted, [0] * len(unlisted)))
    by_id = {result.id: result for result in done}
    return [by_id.get(job.id) or _unreadable_result(job) for job in backups]


def restore_jobs(source: Source, queue: QueueKeys, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
    """Implement `Backend.restore_jobs`. Cost: 1 round trip; more for jobs that were far back in a queue."""
    blobs = {job.id: blob for job in backups if (blob := _decode_dump(job)) is not None}
    strays = {job_id: blob for job_id, blob in blobs.items() if blob.after == STRAY}
    done = _restore_from_dumps(source, queue, "none", state, strays)
    done |= _restore_from_dumps(
        source, queue, key_kind(state), state, {key: blob for key, blob in blobs.items() if key not in strays}
    )
    return [done.get(job.id) or _unreadable_result(job) for job in backups]


def _restore_from_dumps(
    source: Source, queue: QueueKeys, into: str, state: State, blobs: Mapping[str, _DeletedJob]
) -> dict[str, ActionResult]:
    left = sorted(blobs, key=lambda job_id: blobs[job_id].place)
    walk = WALK_IN_ALL
    done: dict[str, ActionResult] = {}
    per_script = scripts.JOBS_PER_SCRIPT
    while left:
        now = left[: per_script * SCRIPTS_PER_TRIP]
        calls = [JobCall((queue.job(job_id),), _restore_arguments(job_id, blobs[job_id])) for job_id in now]
        fixed = (
            into,
            script_flag(state in ENDED),
            REACH if walk > 0 else NEAR,
            WALK,
            source.own_key(BACK),
            BACK_KEPT_S,
        )
        replies = scripts.run_for_each(
            source, "restore", queue, calls, keys=(queue.list_of(state),), arguments=fixed, per_script=per_script
        )
        answered = {
            job_id: _result_from_reply(job_id, reply)
            for job_id, reply in zip(now, replies, strict=True)
            if isinstance(reply, ResponseError) or reply != scripts.LATER
        }
        done |= answered
        walk -= sum(blobs[job_id].place for job_id in answered)
        # As many as one script could handle; its other jobs were too far back for one script.
        per_script = max(1, min(per_script, len(answered) * per_script // len(now)))
        left = [job_id for job_id in left if job_id not in done]
    return done


def _result_from_reply(job_id: str, reply: Reply) -> ActionResult:
    if reply == b"again":
        return back_before(job_id)
    return scripts.WRITES.result_from_reply(job_id, reply)


def _restore_arguments(job_id: str, blob: _DeletedJob) -> tuple[Argument, ...]:
    parts = tuple(value for part in blob.parts for value in part)
    where = (job_id, blob.score, blob.place, blob.after, script_flag(blob.front), blob.group, blob.token)
    return (*where, *parts, len(blob.parents), *blob.parents)


def _decode_dump(job: JobBackup) -> _DeletedJob | None:
    """Return the decoded backup of a job; None if there is none or it cannot be read."""
    if job.blob is None:
        return None
    try:
        return msgspec.msgpack.decode(job.blob, type=_DeletedJob)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _unreadable_result(job: JobBackup) -> ActionResult:
    return refused_result(job.id, _UNREADABLE)
