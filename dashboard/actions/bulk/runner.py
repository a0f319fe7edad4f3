"""Run bulk operations: a thread in each process leases operations and runs batches of each in turn.

When a process dies, another one continues its operations after the lease expires. No job is acted on twice: each batch
names the stamp with which the job was listed, and the position in the list advances only after a batch. The batch that
was running when the process died runs again; jobs that were already moved are then `gone` or `changed`, or in an undo
`done`: each deletion is restored only once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ...clock import monotonic_s, now_s
from ...errors import UNEXPECTED_ERROR, BackendUnavailable, Conflict, NotFound, QueuedeckError, WrongType
from ...lazy_thread import LazyThread
from ...model import QueueRef
from ...redact import masked_logger
from ..service import ActionService
from . import selection
from .batches import BatchRunner
from .canary import CanaryWatch
from .collection import JobCollector, approval_fields
from .operation import ENDED, BulkOperation, BulkPhase
from .progress import ProgressWriter
from .running_operation import RunningOperation
from .store import BulkOperationNotFound, BulkStore

log = masked_logger(__name__)

LOOK_EVERY_S = 0.5
# When a source does not respond, its operations wait this long before the next try.
WAIT_FOR_REDIS_S = 2.0
# How often to look for unfinished operations that are missing from the set of open ones because that set was lost.
REOPEN_EVERY_S = 60.0
NOT_APPROVED = "No one approved it within 24 hours."


class BulkRunner:
    """Runs bulk operations in a thread. `queues_of` lists the queues of a source and library, to find moved jobs."""

    def __init__(
        self,
        store: BulkStore,
        actions: ActionService,
        backend_of: selection.BackendOf,
        members_of: selection.MembersOf,
        queues_of: Callable[[str, str], Sequence[QueueRef]],
        holder: str,
        most: int,
        ask_for_approval: Callable[[BulkOperation], None] = lambda _operation: None,
    ) -> None:
        """`ask_for_approval`: notifies people of an operation that waits for approval; it can be called twice."""
        self._ask_for_approval = ask_for_approval
        self._store = store
        self._actions = actions
        self._backend_of = backend_of
        self._holder = holder
        self._progress = ProgressWriter(store, holder)
        self._collector = JobCollector(store, actions, self._progress, backend_of, members_of, holder, most)
        self._batches = BatchRunner(store.jobs, actions, self._progress, backend_of)
        self._canary = CanaryWatch(store.jobs, self._progress, backend_of, queues_of)
        self._running: dict[str, RunningOperation] = {}
        self._unreadable: set[str] = set()  # ids of open operations that this version or these settings cannot run
        self._reopen_at = 0.0  # monotonic
        self._wake = threading.Event()
        self._stopped = False
        self._thread = LazyThread("queuedeck-bulk", self._run_loop)

    def start(self) -> None:
        """Start the thread, or check for new operations immediately."""
        if not self._stopped:
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """Finish the current batch and leave the operations to other processes."""
        self._stopped = True
        self._wake.set()
        self._thread.join(5.0)

    def _run_loop(self) -> None:
        while not self._stopped:
            self._wake.clear()
            try:
                wait = self.run_turn()
            except QueuedeckError as exc:
                log.info("bulk operations cannot be read: %s", exc.message)
                wait = WAIT_FOR_REDIS_S
            except Exception:
                log.exception("running bulk operations failed")
                wait = WAIT_FOR_REDIS_S
            if wait > 0 and not self._stopped:
                self._wake.wait(wait)
        for bulk_id in list(self._running):
            self._let_go(bulk_id)

    def run_turn(self) -> float:
        """Run one turn: advance each operation that is due, in order. Batches of one operation stop after TURN_SHARE_S.

        Returns the seconds until one can be due again.
        """
        if monotonic_s() >= self._reopen_at:
            self._reopen_at = monotonic_s() + REOPEN_EVERY_S
            self._store.reopen_unfinished()
        ids = self._store.open_ids()
        for ended in set(self._running) - set(ids):
            try:
                self._record_abort(ended)
            except BulkOperationNotFound:
                self._drop_vanished(ended)
        wait = LOOK_EVERY_S
        self._unreadable.intersection_update(ids)
        for bulk_id in ids:
            if self._stopped:
                break
            if bulk_id in self._unreadable:
                continue
            running = self._running.get(bulk_id)
            if running is None:
                if not self._store.acquire_lease(bulk_id, self._holder):
                    continue
                running = self._running[bulk_id] = RunningOperation()
            if monotonic_s() >= running.due:
                try:
                    self._run_operation(bulk_id, running)
                except BulkOperationNotFound:
                    self._drop_vanished(bulk_id)
                    continue
            wait = min(wait, max(0.0, running.due - monotonic_s()))
        return wait

    def _drop_vanished(self, bulk_id: str) -> None:
        """Drop an operation without a record (flushed, evicted, lost in a failover), so that others do not wait."""
        self._let_go(bulk_id)
        if self._store.forget_missing(bulk_id):
            log.warning("bulk operation %s dropped: its record no longer exists in Redis", bulk_id)
        else:
            # Another version of Queuedeck may have written it, and may be able to run it.
            self._unreadable.add(bulk_id)
            log.warning("bulk operation %s left to other processes: its record cannot be read", bulk_id)

    def _record_abort(self, bulk_id: str) -> None:
        """Record the progress of an operation that this process runs and a user aborted."""
        operation = self._store.get(bulk_id)
        if operation.phase is BulkPhase.ABORTED:
            self._actions.audit_log.record_event(self._progress.event_at_end(operation))
        self._let_go(bulk_id)

    def _let_go(self, bulk_id: str) -> None:
        if self._running.pop(bulk_id, None) is None:
            return
        try:
            self._store.release_lease(bulk_id, self._holder)
        except QueuedeckError as exc:
            log.info("the lease of bulk operation %s could not be released: %s", bulk_id, exc.message)

    def _run_operation(self, bulk_id: str, running: RunningOperation) -> None:
        operation = self._store.renew_lease(bulk_id, self._holder)
        if operation is None:
            self._running.pop(bulk_id, None)  # the lease expired: another process may run it
            return
        if (away := self._not_watched(operation)) is not None:
            self._let_go(bulk_id)
            self._unreadable.add(bulk_id)
            log.warning("bulk operation %s left to other processes: %s is not watched here", bulk_id, away)
            return
        running.expect_repeats(operation)
        phase = self._advance_operation(operation, running)
        if phase is None:
            self._running.pop(bulk_id, None)  # another process runs it
        elif phase is BulkPhase.ABORTED:
            self._record_abort(bulk_id)
        elif phase in ENDED:
            self._let_go(bulk_id)

    def _advance_operation(self, operation: BulkOperation, running: RunningOperation) -> BulkPhase | None:
        """Run the operation's share of a turn; an error ends it. Returns the phase after, None if the lease is lost."""
        try:
            return self._run_phase(operation, running)
        except WrongType as exc:
            return self._progress.end_operation(operation, BulkPhase.FAILED, exc.message)
        except BackendUnavailable as exc:
            # Nothing is lost: the batch runs again when its Redis responds.
            running.unsure = True
            running.due = monotonic_s() + WAIT_FOR_REDIS_S
            return self._progress.write(operation, note=f"Waiting: {exc.message}")
        except BulkOperationNotFound:
            raise
        except QueuedeckError as exc:
            return self._progress.end_operation(operation, BulkPhase.FAILED, exc.message)
        except Exception:
            log.exception("bulk operation %s failed", operation.id)
            return self._progress.end_operation(operation, BulkPhase.FAILED, UNEXPECTED_ERROR)

    def _run_phase(self, operation: BulkOperation, running: RunningOperation) -> BulkPhase | None:
        match operation.phase:
            case BulkPhase.COLLECTING:
                return self._collector.collect_jobs(operation)
            case BulkPhase.CANARY | BulkPhase.RUNNING if operation.lacks_approval:
                # However it came to this phase: an older copy of the store may have been restored, for example.
                fields = approval_fields(operation, operation.phase, operation.matched)
                return self._progress.write(operation, to=BulkPhase.APPROVAL, **fields)
            case BulkPhase.CANARY | BulkPhase.RUNNING:
                return self._batches.run_batches(operation, running)
            case BulkPhase.WATCHING:
                return self._canary.watch_canary(operation, running)
            case BulkPhase.APPROVAL:
                return self._await_approval(operation, running)
            case _:
                running.due = monotonic_s() + LOOK_EVERY_S
                return self._progress.write(operation)

    def _await_approval(self, operation: BulkOperation, running: RunningOperation) -> BulkPhase | None:
        if operation.approval_until is None or now_s() > operation.approval_until:
            return self._progress.end_operation(operation, BulkPhase.ABORTED, NOT_APPROVED)
        running.due = monotonic_s() + LOOK_EVERY_S
        if not running.has_asked:
            try:
                self._ask_for_approval(operation)
            except Conflict as exc:  # other settings own the alerts of this store
                log.warning("no notification that bulk operation %s waits for approval: %s", operation.id, exc.message)
            running.has_asked = True
        return self._progress.write(operation)

    def _not_watched(self, operation: BulkOperation) -> str | None:
        """A source of the operation that this process does not watch; another process may watch it."""
        for source, backend in dict.fromkeys(
            (job_list.ref.source, job_list.ref.backend) for job_list in operation.request.job_lists
        ):
            try:
                here = self._backend_of(source, backend).source.address
            except NotFound:
                return source
            server = operation.request.servers.get(source)
            if server is not None and server != here:
                return f"{source} at {server}"
        return None
