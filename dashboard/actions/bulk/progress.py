"""The progress of bulk operations, as the process that holds their leases writes it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ...clock import now_s
from ...errors import QueuedeckError
from .. import audit_log
from .audit_events import event_at_end
from .operation import BulkOperation, BulkPhase
from .store import BulkStore


class ProgressWriter:
    """Writes the progress of operations whose lease `holder` has.

    All writes return the phase after them, None if the lease is lost, and raise BulkOperationNotFound,
    BackendUnavailable.
    """

    def __init__(self, store: BulkStore, holder: str) -> None:
        self._store = store
        self._holder = holder

    def write(self, operation: BulkOperation, **fields: Any) -> BulkPhase | None:
        """Write the fields of `BulkStore.write_progress` unless the phase has changed. Cost: 1 round trip."""
        return self._store.write_progress(operation.id, self._holder, expected=operation.phase, **fields)

    def end_operation(
        self, operation: BulkOperation, phase: BulkPhase, note: str | None, **fields: Any
    ) -> BulkPhase | None:
        """Write that the operation ended in `phase`, with its audit event. Cost: 2 round trips."""
        event = self.event_at_end(replace(operation, phase=phase, note=note))
        return self.write(operation, to=phase, event=event, ended_at=now_s(), note=note or "", **fields)

    def event_at_end(self, operation: BulkOperation) -> audit_log.AuditEvent:
        """The audit event of an operation that has finished; of an aborted one, only the jobs that were processed."""
        return event_at_end(operation, self._processed_ids(operation))

    def _processed_ids(self, operation: BulkOperation) -> list[str]:
        if not operation.processed:
            return []
        count = min(operation.processed, audit_log.MAX_IDS)
        try:
            return [job_ref.id for _, job_ref in self._store.jobs.list_job_refs(operation.id, 0, count)]
        except QueuedeckError:
            return []  # the event is recorded without them
