"""Bulk operations as someone with some rights sees them: those on queues that may all be seen."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from ..actions.audit_log import AuditEvent
from ..actions.bulk.operation import BulkOperation, BulkPhase, BulkRequest, JobListRef
from ..actions.bulk.store import BulkOperationNotFound, BulkStore
from ..dead_letters.lists import BackendOf
from ..errors import NotFound, RightMissing
from ..rights.grants import ALL_QUEUES
from ..rights.right import Right
from ..rights.rights import Rights
from .actions import right_for
from .backend import RestrictedBackend

# (fingerprint) -> the lists of its jobs that may be seen.
ListsOf = Callable[[str], tuple[JobListRef, ...]]
TO_ORIGIN = "To move jobs to the queues they came from, you need the right 'retry' on all queues of that library."


class RestrictedBulk(BulkStore):
    """Creates, lists and changes the operations whose rights are given on all their queues.

    Another process runs them with all rights, so that what an operation may touch is decided when it is created: its
    lists are fixed then.
    """

    def __init__(self, inner: BulkStore, rights: Rights, backend_of: BackendOf, lists_of: ListsOf) -> None:
        """`backend_of`: the restricted backends."""
        self._inner = inner
        self._rights = rights
        self._backend_of = backend_of
        self._lists_of = lists_of
        self.jobs = inner.jobs

    def create(self, request: BulkRequest, make_event: Callable[[str], AuditEvent] | None = None) -> str:
        """As BulkStore.create. Raises RightMissing without the right `bulk`, or that of the action, on a queue.

        An operation on an error group is limited to the lists on which both are given.
        """
        if request.fingerprint is not None:
            allowed = tuple(each for each in self._lists_of(request.fingerprint) if self._may_act(request, each))
            if not allowed:
                raise RightMissing("You do not have the rights for this on any queue of this error.")
            request = replace(request, job_lists=allowed, within_lists=True)
        self._check_may_act(request)
        self._check_jobs(request)
        return self._inner.create(request, make_event)

    def find_last_undo(self, name: str) -> BulkOperation | None:
        """As BulkStore.find_last_undo; None for one that may not be seen."""
        found = self._inner.find_last_undo(name)
        return found if found is not None and self._sees(found) else None

    def get(self, bulk_id: str) -> BulkOperation:
        """As BulkStore.get. Raises BulkOperationNotFound for one that may not be seen."""
        found = self._inner.get(bulk_id)
        if not self._sees(found):
            raise BulkOperationNotFound
        return found

    def list_newest(self, count: int = 50) -> list[BulkOperation]:
        """Those of the newest `count` that may be seen."""
        return [operation for operation in self._inner.list_newest(count) if self._sees(operation)]

    def change_phase(
        self, bulk_id: str, command: str, make_event: Callable[[BulkOperation], AuditEvent] | None = None
    ) -> BulkPhase:
        """As BulkStore.change_phase. Raises RightMissing without the rights that creating the operation needs."""
        self._check_may_act(self.get(bulk_id).request)
        return self._inner.change_phase(bulk_id, command, make_event)

    def note_restored(self, bulk_id: str, count: int) -> None:
        """As BulkStore.note_restored."""
        self._inner.note_restored(bulk_id, count)

    def _sees(self, operation: BulkOperation) -> bool:
        """Whether all its queues may be seen, also those to which it moves jobs."""
        request = operation.request
        if self._rights.sees_all:
            return True
        if not request.job_lists or (request.fingerprint is not None and not request.within_lists):
            return False  # it has not been decided yet which queues it is about, or it is about all of them
        return all(self._sees_list(request, each) for each in request.job_lists)

    def _sees_list(self, request: BulkRequest, job_list: JobListRef) -> bool:
        ref = job_list.ref
        names = {self._name_of(job_list), job_list.origin_queue, request.options.target} - {None}
        return all(self._rights.may(Right.VIEW, ref.source, ref.backend, name) for name in names if name is not None)

    def _check_may_act(self, request: BulkRequest) -> None:
        if not request.job_lists and not self._rights.sees_all:
            raise RightMissing("You may act on particular queues only.")
        for job_list in request.job_lists:
            if not self._may_act(request, job_list):
                needed = f"{Right.BULK.value!r} and {right_for(request.action).value!r}"
                raise RightMissing(f"You need the rights {needed} on {job_list.ref.name} for this.")

    def _may_act(self, request: BulkRequest, job_list: JobListRef) -> bool:
        """Whether both rights are given on the list and, to move jobs, on the queue to which they go."""
        right, rights, ref = right_for(request.action), self._rights, job_list.ref
        place = (ref.source, ref.backend)
        if request.to_origin and not rights.may_all_of(right, *place):
            raise RightMissing(TO_ORIGIN)
        target = request.options.target
        if target is not None and not rights.may(right, *place, target):
            return False
        return all(rights.may(each, *place, self._name_of(job_list)) for each in (Right.BULK, right))

    def _check_jobs(self, request: BulkRequest) -> None:
        """Raise NotFound for ids that would reach jobs of other queues."""
        for job_list in request.job_lists if request.job_refs else ():
            ref = job_list.ref
            backend = self._backend_of(ref.source, ref.backend)
            assert isinstance(backend, RestrictedBackend)
            if backend.reaches_other_queues(ref, (job_ref.id for job_ref in request.job_refs)):
                raise NotFound("Job not found.")

    def _name_of(self, job_list: JobListRef) -> str:
        """The queue whose rights decide about a list."""
        ref = job_list.ref
        try:
            backend = self._backend_of(ref.source, ref.backend)
        except NotFound:
            return ALL_QUEUES
        assert isinstance(backend, RestrictedBackend)
        return backend.list_name(ref, job_list.state) if ref.name else ALL_QUEUES
