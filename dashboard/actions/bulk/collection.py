"""The first phase of a bulk operation: its jobs are listed, none is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from msgspec.structs import replace

from ...backends.actions import MAX_BATCH, Action, JobRef
from ...clock import monotonic_s, now_s
from ...store.packing import pack
from .. import audit_log
from ..approval import APPROVAL_S
from ..service import ActionService
from . import selection
from .audit_events import event_of
from .operation import MAX_UNREAD, BulkOperation, BulkPhase, BulkRequest, JobListRef
from .progress import ProgressWriter
from .store import BulkStore
from .undo import deleted_jobs

PROGRESS_EVERY_S = 2.0
WAITS = "bulk operation waits for approval"


@dataclass(slots=True)
class _CollectedJobs:
    """What was found so far. Jobs carry the number of their list in `job_lists`; the first `canary` are the canary."""

    job_lists: dict[JobListRef, int]
    canary: int
    pending: list[tuple[int, JobRef]] = field(default_factory=list)  # not stored yet
    first: list[str] = field(default_factory=list)  # ids for the audit log
    matched: int = 0
    scanned: int = 0
    truncated: bool = False
    unread: dict[str, None] = field(default_factory=dict)

    def add(self, found: selection.SelectedJob) -> None:
        """Add a row of the selection."""
        self.scanned = found.scanned
        if found.unread is not None:
            self.unread[found.unread] = None
        if found.job_ref is not None and found.job_list is not None:
            self.matched += 1
            self.pending.append((self.job_lists.setdefault(found.job_list, len(self.job_lists)), found.job_ref))
            if len(self.first) < audit_log.MAX_IDS:
                self.first.append(found.job_ref.id)

    def take_pending(self) -> list[tuple[int, JobRef]]:
        """The jobs to store, the canary first: by list, since a batch is of one list; otherwise in their order."""
        pending, self.pending = self.pending, []
        rest = max(0, self.canary - (self.matched - len(pending)))
        return [*sorted(pending[:rest], key=itemgetter(0)), *sorted(pending[rest:], key=itemgetter(0))]


class JobCollector:
    """Stores the list of jobs of an operation, `most` at most. Methods return the phase after, None without lease."""

    def __init__(
        self,
        store: BulkStore,
        actions: ActionService,
        progress: ProgressWriter,
        backend_of: selection.BackendOf,
        members_of: selection.MembersOf,
        holder: str,
        most: int,
    ) -> None:
        self._store = store
        self._actions = actions
        self._progress = progress
        self._backend_of = backend_of
        self._members_of = members_of
        self._holder = holder
        self._most = most

    def collect_jobs(self, operation: BulkOperation) -> BulkPhase | None:
        """List all jobs of the operation and go to its next phase."""
        request = operation.request
        self._store.jobs.clear_job_refs(operation.id)  # left by a process that died while collecting
        collected = _CollectedJobs({job_list: n for n, job_list in enumerate(request.job_lists)}, request.canary)
        written_at = monotonic_s()
        for found in self._list_selected(request):
            if found.job_ref is not None and collected.matched >= self._most:
                collected.truncated = True
                break
            collected.add(found)
            # Also when few of many jobs match, so that the lease does not expire during the scan.
            if len(collected.pending) >= MAX_BATCH or monotonic_s() - written_at > PROGRESS_EVERY_S:
                written_at = monotonic_s()
                phase = self._write_some(operation, collected)
                if phase is not operation.phase:
                    return phase
        if not self._store_pending(operation, collected):
            return None
        return self._finish_collection(operation, collected)

    def _list_selected(self, request: BulkRequest) -> Iterator[selection.SelectedJob]:
        if request.action is Action.UNDO:
            return deleted_jobs(request, self._store, self._actions.trash)
        return selection.select_jobs(request, self._backend_of, self._members_of, self._most + 1)

    def _write_some(self, operation: BulkOperation, collected: _CollectedJobs) -> BulkPhase | None:
        if not self._store_pending(operation, collected):
            return None
        return self._progress.write(operation, matched=collected.matched, scanned=collected.scanned)

    def _store_pending(self, operation: BulkOperation, collected: _CollectedJobs) -> bool:
        return self._store.jobs.store_job_refs(operation.id, self._holder, collected.take_pending())

    def _finish_collection(self, operation: BulkOperation, collected: _CollectedJobs) -> BulkPhase | None:
        request, matched, unread = operation.request, collected.matched, collected.unread
        unread_fields: dict[str, Any] = {"unread": pack(tuple(unread)[:MAX_UNREAD]), "unread_count": len(unread)}
        if unread and not matched:
            note = f"Could not be read: {next(iter(unread))}"
            return self._progress.end_operation(operation, BulkPhase.FAILED, note, **unread_fields)
        self._actions.audit_log.log_intent(replace(event_of(operation, matched), ids=tuple(collected.first)))
        following = BulkPhase.CANARY if 0 < request.canary < matched else BulkPhase.RUNNING
        fields: dict[str, Any] = {}
        if request.needs_approval(matched):
            fields = approval_fields(operation, following, matched)
            following = BulkPhase.APPROVAL
        return self._progress.write(
            operation,
            to=following,
            **fields,
            matched=matched,
            scanned=collected.scanned,
            truncated=int(collected.truncated),
            **unread_fields,
            request=pack(replace(request, job_lists=tuple(collected.job_lists))),
        )


def approval_fields(operation: BulkOperation, following: BulkPhase, matched: int) -> dict[str, Any]:
    """What is written when the operation begins to wait for approval; `following`: its phase after that."""
    return {
        # As after a pause, `before` is the phase that follows.
        "entering": {"before": following.value, "approval_until": now_s() + APPROVAL_S},
        "event": replace(event_of(operation, matched), action=WAITS, detail=operation.request.action.value),
    }
