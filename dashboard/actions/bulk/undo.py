"""The undo of a delete as a separate bulk operation.

The last deleted jobs are restored first, so that stored positions in lists are valid again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...backends.actions import MAX_BATCH, Action, JobRef
from ...clock import now_s
from ...errors import NotFound
from ..audit_log import Actor
from ..trash import Trash, nothing_left
from .operation import BulkOperation, BulkRequest, JobListRef
from .selection import SelectedJob
from .store import BulkStore


def undo_batch_of(bulk_id: str, job_list: JobListRef, request: BulkRequest) -> str:
    """The name of the undo batch for the jobs that an operation deletes in one place."""
    return f"{bulk_id}x{request.job_lists.index(job_list)}"


def undo_batches_of(operation: BulkOperation) -> list[str]:
    """The undo batches with the jobs that `operation` deleted; none if it deleted nothing restorable."""
    return (
        [undo_batch_of(operation.id, job_list, operation.request) for job_list in operation.request.job_lists]
        if operation.undoable
        else []
    )


def build_undo(operation: BulkOperation, actor: Actor, reason: str | None = None) -> BulkRequest:
    """The request that restores all jobs that `operation` deleted, at full speed."""
    return BulkRequest(
        action=Action.UNDO,
        actor=actor,
        job_lists=operation.request.job_lists,
        undo_batches=tuple(undo_batches_of(operation)),
        undoes=operation.id,
        servers=operation.request.servers,
        pace_per_s=0,
        reason=reason,
        created_at=now_s(),
    )


def build_batches_undo(undo_batches: Sequence[str], trash: Trash, actor: Actor, reason: str | None) -> BulkRequest:
    """The request that restores the jobs of undo batches. Raises NotFound for one that no longer exists.

    Cost: 1 round trip.
    """
    found = trash.describe_batches(undo_batches)
    if len(found) < len(undo_batches):
        raise nothing_left()
    deleted = [found[undo_batch] for undo_batch in undo_batches]
    return BulkRequest(
        action=Action.UNDO,
        actor=actor,
        job_lists=tuple(
            JobListRef(ref=about.ref, state=about.place, undo_batch=undo_batch)
            for undo_batch, about in zip(undo_batches, deleted, strict=True)
        ),
        undo_batches=tuple(undo_batches),
        servers={about.ref.source: about.server for about in deleted if about.server},
        pace_per_s=0,
        reason=reason,
        created_at=now_s(),
    )


def deleted_jobs(request: BulkRequest, store: BulkStore, trash: Trash) -> Iterator[SelectedJob]:
    """The jobs to restore that the trash still holds, each once, with the number of rows scanned so far.

    For a bulk operation batch by batch, the last batch first, in order within each: the position of a job in its list
    was read after the jobs of earlier batches were deleted. The stamp identifies the batch. Cost: 2 round trips per
    MAX_BATCH jobs.
    """
    try:
        deletion = store.get(request.undoes) if request.undoes is not None else None
    except NotFound:
        deletion = None
    return _all_in(request, trash) if deletion is None else _newest_first(request, deletion, store, trash)


def _all_in(request: BulkRequest, trash: Trash) -> Iterator[SelectedJob]:
    scanned = 0
    for job_list, undo_batch in zip(request.job_lists, request.undo_batches, strict=True):
        seen: set[str] = set()
        cursor = -1
        while cursor:
            backups, cursor = trash.read_page(undo_batch, max(cursor, 0))
            for job in backups:
                scanned += 1
                if job.id not in seen:
                    seen.add(job.id)
                    yield SelectedJob(job_list, JobRef(id=job.id), scanned)


def _newest_first(
    request: BulkRequest, deletion: BulkOperation, store: BulkStore, trash: Trash
) -> Iterator[SelectedJob]:
    # If its process died during a batch, more jobs are deleted than recorded.
    starts = sorted({0, *store.jobs.list_batch_starts(deletion.id), deletion.processed})
    ends = [*starts[1:], deletion.processed + MAX_BATCH]
    window: list[tuple[int, JobRef]] = []
    held: dict[int, set[str]] = {}
    window_at = ends[-1]
    scanned = 0
    for start, end in zip(reversed(starts), reversed(ends), strict=True):
        if start < window_at:
            window_at = max(0, min(start, end - MAX_BATCH))
            window = store.jobs.list_job_refs(deletion.id, window_at, end - window_at)
            held = _held_jobs(request, trash, window)
        for number, job_ref in window[start - window_at : end - window_at]:
            scanned += 1
            if job_ref.id in held.get(number, ()):
                yield SelectedJob(request.job_lists[number], JobRef(id=job_ref.id, version=str(start)), scanned)


def _held_jobs(request: BulkRequest, trash: Trash, job_refs: Sequence[tuple[int, JobRef]]) -> dict[int, set[str]]:
    numbers = {number for number, _ in job_refs if 0 <= number < len(request.undo_batches)}
    return {
        number: trash.held_ids(request.undo_batches[number], [job_ref.id for at, job_ref in job_refs if at == number])
        for number in sorted(numbers)
    }
