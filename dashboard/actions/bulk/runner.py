"""Run bulk operations: a thread in each process leases operations and runs a batch of each in turn.

When a process dies, another one continues its operations after the lease expires. No job is acted on twice: each step
names the stamp with which the job was listed, and the position in the list advances only after a batch. The batch that
was running when the process died runs again; jobs that were already moved are then `gone` or `changed`, or in an undo
`done`: each deletion is restored only once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any

from msgspec.structs import replace

from ...backends.actions import MAX_BATCH, Action, ActionResult, JobRef, Outcome
from ...clock import monotonic_s, now_s
from ...errors import BackendUnavailable, NotFound, QueuedeckError, WrongType
from ...model import QueueRef
from ...redact import masked_logger
from ...sources.source import Meter, measure_cost
from ...store.packing import pack
from .. import audit_log
from ..service import ActionService
from . import selection
from .canary import judge_canary
from .operation import ENDED, MAX_UNREAD, BulkOperation, BulkPhase, BulkRequest, JobListRef
from .store import BulkOperationNotFound, BulkStore
from .undo import batch_of, deleted_jobs

log = masked_logger(__name__)

LOOK_EVERY_S = 0.5
# Batches below LEAST_BATCH save Redis nothing: senders split large commands themselves, and the rest of the cost of a
# batch, such as the scan of a queue without an index, does not depend on its number of jobs.
FIRST_BATCH, LEAST_BATCH = 25, 20
# Target for how long a batch blocks Redis at a time: other clients must not wait 5 ms.
AIM_S = 0.002
# A batch that takes longer in total reports progress too rarely, and repeats too much when its process dies.
LONGEST_S = 0.1
# When a source does not respond, its operations wait this long before the next try.
WAIT_FOR_REDIS_S = 2.0
WATCH_EVERY_S = 1.0
TELL_EVERY_S = 2.0
# How often to look for unfinished operations that are missing from the set of open ones because that set was lost.
REOPEN_EVERY_S = 60.0
SECONDS_PER_STEP = 0.25
# Then other operations have their turn.
SECONDS_PER_TURN = 0.1


@dataclass(slots=True)
class _RunningOperation:
    """One operation that this process runs."""

    batch: int = FIRST_BATCH
    due: float = 0.0  # monotonic: not before
    unsure: bool = True  # whether its last batch may have run without a record
    repeats_to: int = 0  # jobs before this number may have been in that batch
    canary: list[tuple[JobListRef, JobRef, ActionResult]] = field(default_factory=list)
    coming: list[tuple[int, JobRef]] = field(default_factory=list)  # read ahead, from number `coming_at` on
    coming_at: int = 0


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
    ) -> None:
        self._store = store
        self._actions = actions
        self._backend_of = backend_of
        self._members_of = members_of
        self._queues_of = queues_of
        self._holder = holder
        self._most = most
        self._slots: dict[str, _RunningOperation] = {}
        self._unreadable: set[str] = set()  # ids of open operations that this version or these settings cannot run
        self._reopen_at = 0.0  # monotonic
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, or check for new operations immediately."""
        with self._lock:
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._run_loop, name="queuedeck-bulk", daemon=True)
                self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """Finish the current batch and leave the operations to other processes."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

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
        for work_id in list(self._slots):
            self._let_go(work_id)

    def run_turn(self) -> float:
        """Run a batch of each operation that is due. Returns the seconds until one can be due again."""
        if monotonic_s() >= self._reopen_at:
            self._reopen_at = monotonic_s() + REOPEN_EVERY_S
            self._store.reopen_unfinished()
        ids = self._store.open_ids()
        for ended in set(self._slots) - set(ids):
            try:
                self._record_abort(ended)
            except BulkOperationNotFound:
                self._drop_vanished(ended)
        wait = LOOK_EVERY_S
        self._unreadable.intersection_update(ids)
        for work_id in ids:
            if self._stopped:
                break
            if work_id in self._unreadable:
                continue
            slot = self._slots.get(work_id)
            if slot is None:
                if not self._store.take_lease(work_id, self._holder):
                    continue
                slot = self._slots[work_id] = _RunningOperation()
            if monotonic_s() >= slot.due:
                try:
                    self._run_step(work_id, slot)
                except BulkOperationNotFound:
                    self._drop_vanished(work_id)
                    continue
            wait = min(wait, max(0.0, slot.due - monotonic_s()))
        return wait

    def _drop_vanished(self, work_id: str) -> None:
        """Drop an operation without a record (flushed, evicted, lost in a failover), so that others do not wait."""
        self._let_go(work_id)
        if self._store.forget_missing(work_id):
            log.warning("bulk operation %s dropped: its record no longer exists in Redis", work_id)
        else:
            # Another version of Queuedeck may have written it, and may be able to run it.
            self._unreadable.add(work_id)
            log.warning("bulk operation %s left to other processes: its record cannot be read", work_id)

    def _record_abort(self, work_id: str) -> None:
        """Record the progress of an operation that this process runs and a user aborted."""
        operation = self._store.get(work_id)
        if operation.phase is BulkPhase.ABORTED:
            self._actions.audit_log.record_event(self._event_at_end(operation))
        self._let_go(work_id)

    def _let_go(self, work_id: str) -> None:
        if self._slots.pop(work_id, None) is None:
            return
        try:
            self._store.release_lease(work_id, self._holder)
        except QueuedeckError as exc:
            log.info("the lease of bulk operation %s could not be released: %s", work_id, exc.message)

    def _run_step(self, work_id: str, slot: _RunningOperation) -> None:
        operation = self._store.hold_lease(work_id, self._holder)
        if operation is None:
            self._slots.pop(work_id, None)  # the lease expired: another process may run it
            return
        if (away := self._not_watched(operation)) is not None:
            self._let_go(work_id)
            self._unreadable.add(work_id)
            log.warning("bulk operation %s left to other processes: %s is not watched here", work_id, away)
            return
        if slot.unsure:
            slot.unsure = False
            slot.repeats_to = 0 if operation.phase is BulkPhase.COLLECTING else operation.at + MAX_BATCH
        try:
            match operation.phase:
                case BulkPhase.COLLECTING:
                    phase = self._collect_jobs(operation)
                case BulkPhase.CANARY | BulkPhase.RUNNING:
                    phase = self._act_a_while(operation, slot)
                case BulkPhase.WATCHING:
                    phase = self._watch_canary(operation, slot)
                case _:
                    slot.due = monotonic_s() + LOOK_EVERY_S
                    phase = self._store.write_progress(work_id, self._holder, expected=operation.phase)
        except WrongType as exc:
            phase = self._end_operation(operation, BulkPhase.FAILED, exc.message)
        except BackendUnavailable as exc:
            # Nothing is lost: the batch runs again when its Redis responds.
            slot.unsure = True
            slot.due = monotonic_s() + WAIT_FOR_REDIS_S
            phase = self._store.write_progress(
                work_id, self._holder, expected=operation.phase, note=f"Waiting: {exc.message}"
            )
        except BulkOperationNotFound:
            raise
        except QueuedeckError as exc:
            phase = self._end_operation(operation, BulkPhase.FAILED, exc.message)
        except Exception:
            log.exception("bulk operation %s failed", work_id)
            phase = self._end_operation(operation, BulkPhase.FAILED, "Unexpected error; the log has the details.")
        if phase is None:
            self._slots.pop(work_id, None)  # another process runs it
        elif phase is BulkPhase.ABORTED:
            self._record_abort(work_id)
        elif phase in ENDED:
            self._let_go(work_id)

    def _not_watched(self, operation: BulkOperation) -> str | None:
        """A source of the operation that this process does not watch; another process may watch it."""
        for source, backend in dict.fromkeys((place.ref.source, place.ref.backend) for place in operation.spec.places):
            try:
                here = self._backend_of(source, backend).source.address
            except NotFound:
                return source
            server = operation.spec.servers.get(source)
            if server is not None and server != here:
                return f"{source} at {server}"
        return None

    def _collect_jobs(self, operation: BulkOperation) -> BulkPhase | None:
        spec = operation.spec
        self._store.job_lists.clear_picks(operation.id)  # left by a process that died while collecting
        places: dict[JobListRef, int] = {place: n for n, place in enumerate(spec.places)}
        pending: list[tuple[int, JobRef]] = []
        first: list[str] = []
        matched = scanned = 0
        truncated = False
        unread: dict[str, None] = {}
        told = monotonic_s()
        for found in self._list_selected(spec):
            if found.job_ref is not None and matched >= self._most:
                truncated = True
                break
            scanned = found.scanned
            if found.unread is not None:
                unread[found.unread] = None
            if found.job_ref is not None and found.place is not None:
                matched += 1
                pending.append((places.setdefault(found.place, len(places)), found.job_ref))
                if len(first) < audit_log.MAX_IDS:
                    first.append(found.job_ref.id)
            # Also when few of many jobs match, so that the lease does not expire during the scan.
            if len(pending) >= MAX_BATCH or monotonic_s() - told > TELL_EVERY_S:
                told = monotonic_s()
                if not self._store.job_lists.push_picks(operation.id, self._holder, _by_place(pending)):
                    return None
                pending = []
                phase = self._store.write_progress(
                    operation.id, self._holder, expected=operation.phase, matched=matched, scanned=scanned
                )
                if phase is not operation.phase:
                    return phase
        if not self._store.job_lists.push_picks(operation.id, self._holder, _by_place(pending)):
            return None
        told_of: dict[str, Any] = {"unread": pack(tuple(unread)[:MAX_UNREAD]), "unread_count": len(unread)}
        if unread and not matched:
            return self._end_operation(
                operation, BulkPhase.FAILED, f"Could not be read: {next(iter(unread))}", **told_of
            )
        self._actions.audit_log.log_intent(replace(event_of(operation, matched), ids=tuple(first)))
        following = BulkPhase.CANARY if 0 < spec.canary < matched else BulkPhase.RUNNING
        return self._store.write_progress(
            operation.id,
            self._holder,
            expected=operation.phase,
            to=following,
            matched=matched,
            scanned=scanned,
            truncated=int(truncated),
            **told_of,
            spec=pack(replace(spec, places=tuple(places))),
        )

    def _list_selected(self, spec: BulkRequest) -> Iterator[selection.SelectedJob]:
        if spec.action is Action.UNDO:
            return deleted_jobs(spec, self._store, self._actions.trash)
        return selection.select_jobs(spec, self._backend_of, self._members_of, self._most + 1)

    def _act_a_while(self, operation: BulkOperation, slot: _RunningOperation) -> BulkPhase | None:
        """Run batches for SECONDS_PER_TURN, within the rate limit."""
        until = monotonic_s() + SECONDS_PER_TURN
        while True:
            phase, results = self._act_on_batch(operation, slot)
            if phase is not operation.phase or monotonic_s() >= until or slot.due > monotonic_s():
                return phase
            operation = replace(
                operation,
                at=operation.at + len(results),
                outcomes=_add_outcomes(operation.outcomes, audit_log.count_outcomes(results)),
            )

    def _next_jobs(self, operation: BulkOperation, slot: _RunningOperation, size: int) -> list[tuple[int, JobRef]]:
        """The next jobs of the list, at most `size`."""
        start = operation.at - slot.coming_at
        if start < 0 or start + size > len(slot.coming):
            slot.coming, slot.coming_at, start = (
                self._store.job_lists.list_job_refs(operation.id, operation.at, MAX_BATCH),
                operation.at,
                0,
            )
        return slot.coming[start : start + size]

    def _act_on_batch(
        self, operation: BulkOperation, slot: _RunningOperation
    ) -> tuple[BulkPhase | None, list[ActionResult]]:
        """Run one batch: (the phase after it, the results of its jobs)."""
        end = operation.spec.canary if operation.phase is BulkPhase.CANARY else operation.matched
        size = min(slot.batch, end - operation.at, MAX_BATCH)
        pace = operation.spec.pace_per_s
        if pace > 0:
            size = min(size, max(1, round(pace * SECONDS_PER_STEP)))
        if size <= 0:
            return self._finish_phase(operation, slot), []
        started = monotonic_s()
        # An unreadable entry of the list has no place: it counts as a missing job of the last place.
        last = len(operation.spec.places) - 1
        job_refs = [
            (place if place <= last else -1, job_ref) for place, job_ref in self._next_jobs(operation, slot, size)
        ]
        if not job_refs:
            return self._end_operation(
                operation, BulkPhase.FAILED, "The list of its jobs no longer exists in Redis."
            ), []
        together = partial(_fit_together, operation.spec.action, job_refs[0])
        same = [job_ref for _, job_ref in takewhile(together, job_refs)]
        place = operation.spec.places[job_refs[0][0]]
        with measure_cost() as meter:
            results = self._run_action(operation, place, same, repeated=operation.at < slot.repeats_to)
        slot.batch = next_batch(slot.batch, len(same), meter)
        if operation.phase is BulkPhase.CANARY:
            slot.canary += [(place, job_ref, each) for job_ref, each in zip(same, results, strict=True)]
        slot.due = started + (len(same) / pace if pace > 0 else 0.0)
        at = operation.at + len(same)
        to = self._next_phase(operation, at)
        fields: dict[str, Any] = {"ended_at": now_s()} if to is BulkPhase.DONE else {}
        if to is BulkPhase.WATCHING:
            fields["watch_until"] = now_s() + operation.spec.canary_wait_s
        if operation.spec.action is Action.DELETE and not operation.spec.for_good:
            fields["round_at"] = operation.at
        if operation.spec.undoes is not None:
            fields["restored"] = (operation.spec.undoes, sum(each.outcome is Outcome.DONE for each in results))
        if to is BulkPhase.DONE:
            # If a user has just paused it, the event is recorded after it is resumed, not twice.
            outcomes = _add_outcomes(operation.outcomes, audit_log.count_outcomes(results))
            fields["event"] = self._event_at_end(replace(operation, phase=to, at=at, outcomes=outcomes, note=None))
        phase = self._store.write_progress(
            operation.id,
            self._holder,
            expected=operation.phase,
            to=to,
            at=at,
            outcomes=audit_log.count_outcomes(results),
            **fields,
        )
        return phase, results

    def _run_action(
        self, operation: BulkOperation, place: JobListRef, job_refs: list[JobRef], *, repeated: bool
    ) -> list[ActionResult]:
        spec = operation.spec
        backend = self._backend_of(place.ref.source, place.ref.backend)
        if spec.action is Action.UNDO:
            batch, ids = spec.batches[spec.places.index(place)], [job_ref.id for job_ref in job_refs]
            return self._actions.step_back(backend, place.ref, place.state, batch, ids, repeated=repeated)
        return self._actions.run_batch(
            backend,
            place.ref,
            place.state,
            spec.action,
            job_refs,
            replace(spec.options, target=place.origin) if spec.to_origin else spec.options,
            batch_of(operation.id, place, spec) if spec.action is Action.DELETE else None,
            spec.actor.name,
            for_good=spec.for_good,
        )

    def _next_phase(self, operation: BulkOperation, at: int) -> BulkPhase | None:
        if at >= operation.matched:
            return BulkPhase.DONE
        return BulkPhase.WATCHING if operation.phase is BulkPhase.CANARY and at >= operation.spec.canary else None

    def _finish_phase(self, operation: BulkOperation, slot: _RunningOperation) -> BulkPhase | None:
        """End a phase that has no jobs left: there were none, or a process that died had finished it."""
        if operation.at >= operation.matched:
            return self._end_operation(operation, BulkPhase.DONE, None)
        slot.canary = []
        until = now_s() + operation.spec.canary_wait_s
        return self._store.write_progress(
            operation.id, self._holder, expected=operation.phase, to=BulkPhase.WATCHING, watch_until=until
        )

    def _watch_canary(self, operation: BulkOperation, slot: _RunningOperation) -> BulkPhase | None:
        slot.due = monotonic_s() + WATCH_EVERY_S
        if not slot.canary:
            # Taken over from a process that died: check all of them, whatever the result of the action.
            slot.canary = [
                (operation.spec.places[place], job_ref, ActionResult(id=job_ref.id, outcome=Outcome.DONE))
                for place, job_ref in self._store.job_lists.list_job_refs(operation.id, 0, operation.spec.canary)
            ]
        verdict = judge_canary(slot.canary, self._backend_of, self._queues_of)
        limit = operation.spec.canary_max_ratio * len(slot.canary)
        told: dict[str, Any] = {"canary_failed": verdict.failed, "canary_open": verdict.open}
        if verdict.failed > limit:
            note = f"{verdict.failed} of the first {len(slot.canary)} failed again. The other jobs were not changed."
        elif verdict.open and now_s() >= (operation.watch_until or 0):
            note = (
                f"{verdict.open} of the first {len(slot.canary)} have not finished yet. Resume to process the others."
            )
        elif verdict.open:
            return self._store.write_progress(operation.id, self._holder, expected=operation.phase, **told)
        else:
            return self._store.write_progress(
                operation.id, self._holder, expected=operation.phase, to=BulkPhase.RUNNING, **told
            )
        return self._store.write_progress(
            operation.id,
            self._holder,
            expected=operation.phase,
            to=BulkPhase.PAUSED,
            note=note,
            before=BulkPhase.RUNNING.value,
            **told,
        )

    def _end_operation(
        self, operation: BulkOperation, phase: BulkPhase, note: str | None, **told: Any
    ) -> BulkPhase | None:
        event = self._event_at_end(replace(operation, phase=phase, note=note))
        return self._store.write_progress(
            *(operation.id, self._holder),
            expected=operation.phase,
            to=phase,
            event=event,
            ended_at=now_s(),
            note=note or "",
            **told,
        )

    def _event_at_end(self, operation: BulkOperation) -> audit_log.AuditEvent:
        """The audit event of an operation that has finished."""
        try:
            # Of an aborted operation, only the jobs that were processed.
            reached = (
                self._store.job_lists.list_job_refs(operation.id, 0, min(operation.at, audit_log.MAX_IDS))
                if operation.at
                else ()
            )
            ids = tuple(job_ref.id for _, job_ref in reached)
        except QueuedeckError:
            ids = ()  # the event is recorded without them
        event = replace(event_of(operation, operation.matched), ids=ids, outcomes=operation.outcomes)
        detail = operation.note or operation.phase.value
        if operation.unread_count:
            lists = "1 list" if operation.unread_count == 1 else f"{operation.unread_count} lists"
            detail = f"{detail}; {lists} could not be read"
        return replace(event, detail=detail)


def _fit_together(action: Action, first: tuple[int, JobRef], one: tuple[int, JobRef]) -> bool:
    """Whether both can be in one batch: they have the same place, and in an undo were deleted in one batch."""
    return one[0] == first[0] and (action is not Action.UNDO or one[1].version == first[1].version)


def _by_place(job_refs: list[tuple[int, JobRef]]) -> list[tuple[int, JobRef]]:
    """Sort by place, since a batch has one place; otherwise keep the order."""
    return sorted(job_refs, key=lambda job_ref: job_ref[0])


def event_of(operation: BulkOperation, count: int) -> audit_log.AuditEvent:
    """The audit event of an operation."""
    spec = operation.spec
    refs = {place.ref for place in spec.places}
    one = next(iter(refs)) if len(refs) == 1 else None
    states = {place.state.value for place in spec.places}
    return audit_log.build_event(
        spec.actor,
        spec.action.value,
        count=count,
        source=one.source if one else None,
        backend=one.backend if one else None,
        queue=one.name if one else None,
        state=", ".join(sorted(states)) or None,
        reason=spec.reason,
        bulk_id=operation.recorded_as,
    )


def _add_outcomes(outcomes: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {name: outcomes.get(name, 0) + more.get(name, 0) for name in {*outcomes, *more}}


def next_batch(allowed: int, used: int, cost: Meter) -> int:
    """The maximum number of jobs of the next batch, after one of `used` jobs had this cost.

    Fewer immediately if Redis was blocked for too long, up to twice as many if it was not: apart from its fixed part,
    the cost of a batch grows with its jobs.
    """
    share = max(cost.held_s / AIM_S, cost.busy_s / LONGEST_S, 1e-6)
    fitting = int(used / share)
    if share > 1:
        return max(LEAST_BATCH, min(allowed, fitting))
    if used < allowed:
        return allowed
    return max(allowed, min(MAX_BATCH, 2 * allowed, fitting))
