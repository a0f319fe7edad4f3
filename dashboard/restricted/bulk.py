"""Bulk operations as someone with some rights sees them: those on queues that may all be seen."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from ..actions.audit_log import AuditEvent
from ..actions.bulk.operation import BulkOperation, BulkPhase, BulkRequest, JobListRef
from ..actions.bulk.store import BulkOperationNotFound, BulkStore
from ..dead_letters.lists import BackendOf
from ..errors import NotFound, RightMissing
from ..rights.right import Right
from ..rights.rights import Rights
from .actions import right_for
from .backend import RestrictedBackend, decisive_queue

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

    def limit_request(self, request: BulkRequest) -> BulkRequest:
        """As BulkStore.limit_request: an operation on an error group is limited to the lists on which the rights `bulk`
        and that of the action are given, one on ids to jobs that may be seen.

        Raises RightMissing without the rights, NotFound for jobs that may not be seen. Cost: that of reading each job,
        if ids are the same in all queues of the library.
        """
        if request.fingerprint is not None:
            allowed = tuple(each for each in self._lists_of(request.fingerprint) if self._may_act(request, each))
            if not allowed:
                raise RightMissing("You do not have the rights for this on any queue of this error.")
            request = replace(request, job_lists=allowed, within_lists=True)
        self._check_may_act(request)
        return self._only_visible_jobs(request)

    def create(self, request: BulkRequest, make_event: Callable[[str], AuditEvent] | None = None) -> str:
        """As BulkStore.create, of what limit_request leaves. Raises as limit_request."""
        return self._inner.create(self.limit_request(request), make_event)

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
        self,
        bulk_id: str,
        command: str,
        make_event: Callable[[BulkOperation], AuditEvent] | None = None,
        *,
        who: str = "",
    ) -> BulkPhase:
        """As BulkStore.change_phase. Raises RightMissing without the rights that creating the operation needs."""
        self._check_may_act(self.get(bulk_id).request)
        return self._inner.change_phase(bulk_id, command, make_event, who=who)

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

    def _only_visible_jobs(self, request: BulkRequest) -> BulkRequest:
        """The request without ids that would reach jobs of other queues. Raises NotFound if there are no others."""
        if not request.job_refs:
            return request
        hidden: set[str] = set()
        for ref in (job_list.ref for job_list in request.job_lists):
            backend = self._backend_of(ref.source, ref.backend)
            assert isinstance(backend, RestrictedBackend)
            hidden |= backend.find_hidden(ref, [job_ref.id for job_ref in request.job_refs])
        found = tuple(job_ref for job_ref in request.job_refs if job_ref.id not in hidden)
        if not found:
            raise NotFound("Job not found.")
        return replace(request, job_refs=found)

    def _name_of(self, job_list: JobListRef) -> str:
        return decisive_queue(self._backend_of, job_list.ref, job_list.state)
