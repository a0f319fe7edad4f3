"""What a process remembers of a bulk operation while it runs it; lost with the process, and not needed to continue."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...backends.actions import MAX_BATCH, JobRef
from .operation import BulkOperation, BulkPhase
from .operation_jobs import OperationJobs
from .pacing import FIRST_BATCH


@dataclass(slots=True)
class RunningOperation:
    """One operation that this process runs."""

    batch_limit: int = FIRST_BATCH  # the most jobs of the next batch
    due: float = 0.0  # monotonic: not before
    unsure: bool = True  # whether its last batch may have run without a record
    has_asked: bool = False  # people were asked to approve it
    repeats_to: int = 0  # jobs before this number may have been in that batch
    coming: list[tuple[int, JobRef]] = field(default_factory=list)  # read ahead, from number `coming_at` on
    coming_at: int = 0

    def expect_repeats(self, operation: BulkOperation) -> None:
        """Note which jobs may be processed again, if the last batch may have run without a record."""
        if self.unsure:
            self.unsure = False
            self.repeats_to = 0 if operation.phase is BulkPhase.COLLECTING else operation.processed + MAX_BATCH

    def next_jobs(self, jobs: OperationJobs, operation: BulkOperation, size: int) -> list[tuple[int, JobRef]]:
        """The next jobs of the list, at most `size`. Cost: 1 round trip per MAX_BATCH jobs."""
        start = operation.processed - self.coming_at
        if start < 0 or start + size > len(self.coming):
            self.coming, self.coming_at, start = (
                jobs.list_job_refs(operation.id, operation.processed, MAX_BATCH),
                operation.processed,
                0,
            )
        return self.coming[start : start + size]
