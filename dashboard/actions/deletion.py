"""Delete jobs and remove schedules with a backup in the trash, and restore them from it. Not in the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from ..backends.actions import (
    MAX_KEPT_BYTES,
    Action,
    ActionResult,
    JobBackup,
    JobRef,
    Outcome,
    refused_result,
)
from ..backends.base import Backend
from ..clock import now_s
from ..errors import BackendUnavailable, Conflict, OutcomeUnknown
from ..model import QueueRef, Schedule, State
from .trash import DeletedBatch, Trash

# The job is in the trash: a process deleted it and was killed before it recorded the result.
_ALREADY_DELETED = "already deleted"
# The same for a restored job.
_ALREADY_RESTORED = "already restored"
# How often a removal is attempted of a schedule that changes between its backup and the removal: one that runs does.
_ATTEMPTS = 5


class JobDeletion:
    """Deletes and restores jobs, with backups in the trash. All methods raise BackendUnavailable."""

    def __init__(self, trash: Trash) -> None:
        self._trash = trash

    def delete_jobs(
        self,
        backend: Backend,
        ref: QueueRef,
        state: State | None,
        job_refs: Sequence[JobRef],
        undo_batch: str,
        who: str,
        *,
        for_good: bool,
    ) -> list[ActionResult]:
        """Delete jobs (state None: jobs in no list), backed up in `undo_batch` unless `for_good`. One result per job.

        Raises Conflict when the backups do not fit, OutcomeUnknown when the connection to Redis is lost.
        """
        taken = (
            backend.backup_unlisted_jobs(ref, job_refs) if state is None else backend.backup_jobs(ref, state, job_refs)
        )
        backups = [each for each in taken if isinstance(each, JobBackup)]
        if not for_good:
            if any(job.blob is None for job in backups):
                taken = [
                    _too_large(each) if isinstance(each, JobBackup) and each.blob is None else each for each in taken
                ]
                backups = [each for each in taken if isinstance(each, JobBackup)]
            about = DeletedBatch(ref=ref, state=state, who=who, at=now_s(), server=backend.source.address)
            if not self._trash.store_batch(undo_batch, about, backups):
                raise Conflict(
                    "The trash has no room for these jobs, so they could not be restored.",
                    hint="Delete them permanently, or wait: the trash keeps jobs for 24 hours.",
                )
        try:
            return self._delete_taken(backend, ref, state, undo_batch, taken, backups, for_good=for_good)
        except BackendUnavailable as exc:
            if for_good or not backups:
                raise
            raise OutcomeUnknown(exc, undo_batch) from exc

    def _delete_taken(
        self,
        backend: Backend,
        ref: QueueRef,
        state: State | None,
        undo_batch: str,
        taken: list[JobBackup | ActionResult],
        backups: Sequence[JobBackup],
        *,
        for_good: bool,
    ) -> list[ActionResult]:
        delete = (
            partial(backend.delete_unlisted_jobs, ref) if state is None else partial(backend.delete_jobs, ref, state)
        )
        deleted = {each.id: each for each in delete(backups)} if backups else {}
        if not for_good:
            self._trash.drop_jobs(undo_batch, [job for job in backups if deleted[job.id].outcome is not Outcome.DONE])
            gone = [each.id for each in taken if isinstance(each, ActionResult) and each.outcome is Outcome.GONE]
            before = self._trash.held_ids(undo_batch, gone)
            taken = [
                ActionResult(id=each.id, outcome=Outcome.DONE, detail=_ALREADY_DELETED) if each.id in before else each
                for each in taken
            ]
        return [deleted[each.id] if isinstance(each, JobBackup) else each for each in taken]

    def remove_schedule(
        self, backend: Backend, schedule: Schedule, undo_batch: str, who: str
    ) -> tuple[ActionResult, bool]:
        """Remove a schedule, backed up in `undo_batch`: the result, and whether it can be restored.

        Raises Conflict when the backup does not fit, OutcomeUnknown when the connection to Redis is lost.
        """
        for _ in range(_ATTEMPTS):
            backup = backend.backup_schedule(schedule)
            if backup is None:
                return backend.act_on_schedule(schedule, Action.REMOVE_SCHEDULE), False
            if isinstance(backup, ActionResult):
                return backup, False
            if backup.blob is None:
                return refused_result(schedule.id, f"Too large for the trash ({backup.size_bytes:,} bytes)."), False
            result = self._remove_backed_up(backend, schedule, backup, undo_batch, who)
            if result.outcome is not Outcome.CHANGED:
                return result, result.outcome is Outcome.DONE
        why = "It changed while it was being removed; try again."
        return ActionResult(id=schedule.id, outcome=Outcome.CHANGED, detail=why), False

    def _remove_backed_up(
        self, backend: Backend, schedule: Schedule, backup: JobBackup, undo_batch: str, who: str
    ) -> ActionResult:
        nowhere = QueueRef(source=schedule.source, backend=schedule.backend, name=schedule.queue or "", key="")
        about = DeletedBatch(
            ref=schedule.ref or nowhere,
            state=None,
            who=who,
            at=now_s(),
            server=backend.source.address,
            schedule=schedule.id,
        )
        if not self._trash.store_schedule(undo_batch, about, backup):
            raise Conflict(
                "The trash has no room for this schedule, so it could not be restored.",
                hint="Restore something from the trash, or wait: it keeps what was deleted for 24 hours.",
            )
        try:
            result = backend.remove_schedule(schedule, backup)
        except BackendUnavailable as exc:
            raise OutcomeUnknown(exc, undo_batch) from exc
        if result.outcome is not Outcome.DONE:
            self._trash.drop_jobs(undo_batch, [backup])
        return result

    def restore_batch(
        self, backend: Backend, ref: QueueRef, state: State, undo_batch: str, ids: Sequence[str] | None = None
    ) -> Iterator[list[ActionResult]]:
        """Restore all jobs of an undo batch, or only `ids`: the results of one portion after the other."""
        if ids is not None:
            yield self.restore_jobs(backend, ref, state, undo_batch, ids, repeated=False)
            return
        cursor = 0
        while True:
            backups, cursor = self._trash.read_page(undo_batch, cursor)
            if backups:
                yield self._restore_backups(backend, ref, state, undo_batch, backups)
            if cursor == 0:
                return

    def restore_jobs(
        self, backend: Backend, ref: QueueRef, state: State, undo_batch: str, ids: Sequence[str], *, repeated: bool
    ) -> list[ActionResult]:
        """Restore jobs of an undo batch. One result per id, in order; `gone` = not in the trash.

        `repeated`: a process may have done this and been killed before it recorded the result; jobs that are already
        restored count as `done`.
        """
        results: list[ActionResult] = []
        for portion in self._trash.read_backups(undo_batch, ids):
            backups = [each for each in portion if isinstance(each, JobBackup)]
            restored = iter(self._restore_backups(backend, ref, state, undo_batch, backups) if backups else ())
            results += [next(restored) if isinstance(each, JobBackup) else _not_in_trash(each) for each in portion]
        if repeated:
            return [
                ActionResult(id=each.id, outcome=Outcome.DONE, detail=_ALREADY_RESTORED)
                if each.again or each.outcome is Outcome.GONE
                else each
                for each in results
            ]
        return results

    def _restore_backups(
        self, backend: Backend, ref: QueueRef, state: State, undo_batch: str, backups: Sequence[JobBackup]
    ) -> list[ActionResult]:
        jobs = [backup for backup in backups if not backup.is_schedule]
        schedules = [backup for backup in backups if backup.is_schedule]
        of_jobs = iter(backend.restore_jobs(ref, state, jobs) if jobs else ())
        of_schedules = iter(backend.restore_schedules(ref, schedules) if schedules else ())
        results = [next(of_schedules if backup.is_schedule else of_jobs) for backup in backups]
        restored = {each.id for each in results if each.outcome is Outcome.DONE or each.again}
        self._trash.drop_jobs(undo_batch, [job for job in backups if job.id in restored])
        return results


def _too_large(job: JobBackup) -> ActionResult:
    why = f"Too large for the trash ({job.size_bytes:,} bytes)"
    if job.size_bytes <= MAX_KEPT_BYTES:
        why = "The key of this id does not contain a job, so the trash cannot store it"
    return ActionResult(id=job.id, outcome=Outcome.REFUSED, detail=f"{why}; it can only be deleted permanently.")


def _not_in_trash(job_id: str) -> ActionResult:
    return ActionResult(id=job_id, outcome=Outcome.GONE, detail="No longer in the trash.")
