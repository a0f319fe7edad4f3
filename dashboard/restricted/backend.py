"""A queue library as someone with some rights sees it: other queues do not exist, and actions need their right.

It passes on only what it checks. A method of `Backend` that is not here does what `Backend` itself does, which is
nothing, so that a new method is closed until it is checked here.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, TypeVar, cast, get_origin, get_type_hints

from msgspec.structs import replace

from ..backends.actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from ..backends.base import NO_OPTIONS, Backend, Budget, Discovery
from ..errors import Forbidden, NotFound, Unsupported
from ..model import (
    Argument,
    ClassBoard,
    FlowDelta,
    Job,
    JobLink,
    JobPage,
    JobQuery,
    Mark,
    QueueRef,
    QueueStats,
    ScanResult,
    Schedule,
    Searched,
    State,
    Window,
    Worker,
)
from ..rights.grants import ALL_QUEUES
from ..rights.right import Right
from ..rights.rights import Rights
from .actions import right_for

T = TypeVar("T")
NO_QUEUE, NO_JOB = "Queue not found.", "Job not found."
NOT_ALL = "They can be seen and acted on only by those who may see all queues of the library."
# What a restricted backend shows of the class that it restricts.
_FACTS = tuple(name for name, hint in get_type_hints(Backend).items() if get_origin(hint) is ClassVar)


class RestrictedBackend(Backend):
    """One library on one source, for one set of rights. Create it with `restrict_backend`.

    Raises NotFound for a queue or a job that may not be seen, Forbidden for an action without its right.
    """

    def __init__(self, inner: Backend, rights: Rights, all_queues: Callable[[], Mapping[str, QueueStats]]) -> None:
        """`all_queues`: those of the library on the source by name, also those that may not be seen."""
        super().__init__(inner.source, inner.settings)
        self.own_source = inner.own_source
        self._inner = inner
        self._rights = rights
        self._all_queues = all_queues

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:  # noqa: ARG002
        _only_sampled()

    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:  # noqa: ARG002
        _only_sampled()

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        for ref in refs:
            self._check_seen(ref)
        return self._inner.read_stats(refs)

    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        self._check_list(ref, query.state)
        page = self._inner.list_jobs(ref, query)
        return replace(page, jobs=tuple(job for job in page.jobs if self._sees_job(ref, job)))

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        self._check_seen(ref)
        if _is_within(ref, job_id, self._longer_keys(ref)):
            raise NotFound(NO_JOB)
        try:
            job = self._inner.read_job(ref, job_id)
        except NotFound as exc:
            raise NotFound(NO_JOB) from exc  # without where the job may be
        # Of a job in a set of all queues, it can be unknown which queue it is of.
        if not self._sees_job(ref, job) or not self._may(Right.VIEW, self.list_name(ref, job.state)):
            raise NotFound(NO_JOB)
        return self._without_hidden_links(job)

    def list_workers(self, refs: Sequence[QueueRef]) -> list[Worker]:  # noqa: ARG002
        found = (self._visible_part(worker) for worker in self._inner.list_workers(self._all_refs()))
        return [worker for worker in found if worker is not None]

    def list_schedules(self, refs: Sequence[QueueRef]) -> list[Schedule]:  # noqa: ARG002
        found = self._inner.list_schedules(self._all_refs())
        return [schedule for schedule in found if self._may(Right.VIEW, _queue_of(schedule))]

    def read_class_stats(self, ref: QueueRef) -> ClassBoard | None:
        """None unless all queues may be seen: the library has these figures of all of them together."""
        self._check_seen(ref)
        return self._inner.read_class_stats(ref) if self._may(Right.VIEW, ALL_QUEUES) else None

    def read_marks(self, refs: Sequence[QueueRef], start_s: float, end_s: float) -> list[Mark]:
        return self._inner.read_marks([ref for ref in refs if self._may(Right.VIEW, ref.name)], start_s, end_s)

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        self._check_list(ref, query.state)
        return self._inner.search_page(ref, query)

    def arguments_of(self, row: Searched) -> tuple[Argument, ...]:
        return self._inner.arguments_of(row)

    def can_scan(self, state: State) -> bool:
        return self._inner.can_scan(state)

    def scan_matches(self, ref: QueueRef, state: State, word: str, offset: int) -> ScanResult | None:
        self._check_list(ref, state)
        return self._inner.scan_matches(ref, state, word, offset)

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        self._check_list(ref, query.state)
        return self._inner.list_job_refs(ref, query)

    def offered_actions(
        self, state: State | None, *, shared: bool = False, abandoned: bool = False
    ) -> tuple[Action, ...]:
        """What the library supports; whether the right is given, `permits` says, and acting without it is refused."""
        return self._inner.offered_actions(state, shared=shared, abandoned=abandoned)

    def act_on_jobs(
        self,
        ref: QueueRef,
        action: Action,
        state: State,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
    ) -> list[ActionResult]:
        self._check_may(action, self.list_name(ref, state))
        if action is Action.MOVE and options.target is not None:
            self._check_may(action, options.target)
        return self._of_seen(ref, job_refs, lambda seen: self._inner.act_on_jobs(ref, action, state, seen, options))

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        self._check_may(Action.DELETE, self.list_name(ref, state))
        return self._of_seen(ref, job_refs, lambda seen: self._inner.backup_jobs(ref, state, seen))

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        self._check_may(Action.DELETE, self.list_name(ref, state))
        return self._inner.delete_jobs(ref, state, backups)

    def backup_unlisted_jobs(self, ref: QueueRef, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """Jobs that no list names are found by their id alone, which does not show their queue: each is read first."""
        self._check_may(Action.DELETE, ref.name)
        for job_ref in job_refs:
            self._check_own_job(ref, job_ref.id)
        return self._inner.backup_unlisted_jobs(ref, job_refs)

    def delete_unlisted_jobs(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        self._check_may(Action.DELETE, ref.name)
        for backup in backups:
            self._check_own_job(ref, backup.id)
        return self._inner.delete_unlisted_jobs(ref, backups)

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        self._check_may(Action.UNDO, self.list_name(ref, state))
        return self._inner.restore_jobs(ref, state, backups)

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        in_all = self.pauses_whole_library and action in (Action.PAUSE, Action.RESUME)
        self._check_may(action, ALL_QUEUES if in_all else ref.name)
        return self._inner.act_on_queue(ref, action)

    def act_on_schedule(self, schedule: Schedule, action: Action) -> ActionResult:
        self._check_may(action, _queue_of(schedule))
        return self._inner.act_on_schedule(schedule, action)

    def backup_schedule(self, schedule: Schedule) -> JobBackup | ActionResult | None:
        self._check_may(Action.REMOVE_SCHEDULE, _queue_of(schedule))
        return self._inner.backup_schedule(schedule)

    def remove_schedule(self, schedule: Schedule, backup: JobBackup) -> ActionResult:
        self._check_may(Action.REMOVE_SCHEDULE, _queue_of(schedule))
        return self._inner.remove_schedule(schedule, backup)

    def restore_schedules(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        self._check_may(Action.UNDO, ref.name or ALL_QUEUES)
        return self._inner.restore_schedules(ref, backups)

    def act_on_worker(self, worker: Worker, action: Action) -> ActionResult:
        """Needs the right on all queues that the worker serves. Cost: also that of `list_workers`."""
        whole = next((each for each in self._inner.list_workers(self._all_refs()) if each.id == worker.id), None)
        if whole is None or self._visible_part(whole) is None:
            raise NotFound("This worker no longer exists.")
        for queue in whole.queues or (ALL_QUEUES,):
            self._check_may(action, queue)
        return self._inner.act_on_worker(whole, action)

    def library_versions(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        return self._inner.library_versions([ref for ref in refs if self._may(Right.VIEW, ref.name)])

    def configured_ref(self, ref: QueueRef) -> QueueRef | None:
        return self._inner.configured_ref(ref) if self._may(Right.VIEW, ref.name) else None

    def changed_keys(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        return self._inner.changed_keys(refs)

    def changed_channels(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        return self._inner.changed_channels(refs)

    def permits(self, action: Action, queue: str) -> bool:
        """Whether the rights for an action are given on a queue; to purge one is a bulk operation."""
        if self.pauses_whole_library and action in (Action.PAUSE, Action.RESUME):
            queue = ALL_QUEUES
        is_bulk = action is Action.PURGE
        return self._may(right_for(action), queue) and (not is_bulk or self._may(Right.BULK, queue))

    def list_name(self, ref: QueueRef, state: State | None) -> str:
        """The queue whose rights decide about a list: that of `ref`, or all for a set of all queues together. It is one
        if the library has such sets and the queue itself has no count of the state."""
        queues = self._all_queues()
        together = queues.get(ALL_QUEUES)
        if ref.shared or together is None or not together.shared:
            return ALL_QUEUES if ref.shared else ref.name
        own = queues.get(ref.name)
        is_counted = own is not None and state is not None and own.counts.of(state) is not None
        return ref.name if is_counted else ALL_QUEUES

    def find_hidden(self, ref: QueueRef, job_ids: Iterable[str]) -> set[str]:
        """Those of the ids that would reach jobs of queues that may not be seen; of a library in which ids are the same
        in all queues, also those of no job. Cost: then that of reading each job, else none."""
        longer = self._longer_keys(ref)
        return {job_id for job_id in job_ids if _is_within(ref, job_id, longer) or self._is_hidden(ref, job_id)}

    def _is_hidden(self, ref: QueueRef, job_id: str) -> bool:
        if not self._inner.ids_of_all_queues:
            return False
        try:
            self.read_job(ref, job_id)
        except NotFound:
            return True
        return False

    def _longer_keys(self, ref: QueueRef) -> list[str]:
        """The keys of other queues that begin with that of `ref`."""
        return [queue.key for queue in self._all_queues().values() if queue.key.startswith(f"{ref.key}:")]

    def _of_seen(
        self, ref: QueueRef, job_refs: Sequence[JobRef], act: Callable[[Sequence[JobRef]], Sequence[T]]
    ) -> list[T | ActionResult]:
        """The results of `act` on those jobs that may be seen, and that the others do not exist, in order."""
        hidden = self.find_hidden(ref, [job_ref.id for job_ref in job_refs])
        seen = [job_ref for job_ref in job_refs if job_ref.id not in hidden]
        results = iter(act(seen) if seen else ())
        return [
            ActionResult(id=each.id, outcome=Outcome.GONE) if each.id in hidden else next(results) for each in job_refs
        ]

    def _all_refs(self) -> list[QueueRef]:
        return [queue.ref for queue in self._all_queues().values()]

    def _may(self, right: Right, queue: str) -> bool:
        return self._rights.may(right, self.source.name, self.name, queue)

    def _check_seen(self, ref: QueueRef) -> None:
        if not self._may(Right.VIEW, ref.name):
            raise NotFound(NO_QUEUE)

    def _check_list(self, ref: QueueRef, state: State) -> None:
        """Raise NotFound for a queue that may not be seen, and Unsupported for a list of all queues together."""
        self._check_seen(ref)
        if not self._may(Right.VIEW, self.list_name(ref, state)):
            raise Unsupported(f"{self.title} keeps the {state.value} jobs of all queues together. {NOT_ALL}")

    def _check_may(self, action: Action, queue: str) -> None:
        """Raise NotFound for a queue that may not be seen, and Forbidden without the right for the action on it."""
        if queue != ALL_QUEUES and not self._may(Right.VIEW, queue):
            raise NotFound(NO_QUEUE)
        right = right_for(action)
        if not self._may(right, queue):
            where = f"all queues of {self.title} on {self.source.name}" if queue == ALL_QUEUES else queue
            raise Forbidden(f"You need the right {right.value!r} on {where} for this.")

    def _check_own_job(self, ref: QueueRef, job_id: str) -> None:
        if self.read_job(ref, job_id).queue != ref.name and not self._may(Right.DELETE, ALL_QUEUES):
            raise NotFound(NO_JOB)

    def _sees_job(self, ref: QueueRef, job: Job) -> bool:
        """Whether a job that was read through a queue is one of a queue that may be seen: an id alone finds others."""
        return ref.shared or job.queue == ref.name or self._may(Right.VIEW, job.queue)

    def _without_hidden_links(self, job: Job) -> Job:
        def is_seen(link: JobLink) -> bool:
            return self._may(Right.VIEW, link.ref.name if link.ref is not None else link.queue)

        parent = job.parent if job.parent is not None and is_seen(job.parent) else None
        children = tuple(child for child in job.children if is_seen(child))
        total = job.children_total if len(children) == len(job.children) else None
        return replace(job, parent=parent, children=children, children_total=total)

    def _visible_part(self, worker: Worker) -> Worker | None:
        """The worker with the queues and the jobs that may be seen; None if it serves none of them."""
        queues = tuple(queue for queue in worker.queues if self._may(Right.VIEW, queue))
        if queues == worker.queues and (queues or self._may(Right.VIEW, ALL_QUEUES)):
            return worker
        if not queues:
            return None
        work = tuple(each for each in worker.work if each.queue is not None and self._may(Right.VIEW, each.queue))
        return replace(worker, queues=queues, work=work, facts=(), problem=None)


def restrict_backend(
    inner: Backend, rights: Rights, all_queues: Callable[[], Mapping[str, QueueStats]]
) -> RestrictedBackend:
    """`inner` for someone with these rights."""
    facts = {name: getattr(inner, name) for name in _FACTS}
    facts["__module__"] = type(inner).__module__  # shows where the scripts of the library are
    kind = abc.ABCMeta(f"Restricted{type(inner).__name__}", (RestrictedBackend,), facts)
    return cast(type[RestrictedBackend], kind)(inner, rights, all_queues)


def decisive_queue(backend_of: Callable[[str, str], Backend], ref: QueueRef, state: State | None) -> str:
    """The queue whose rights decide about a list, see RestrictedBackend.list_name; all for a library that is not
    known. `backend_of`: the restricted backends."""
    try:
        backend = backend_of(ref.source, ref.backend)
    except NotFound:
        return ALL_QUEUES
    assert isinstance(backend, RestrictedBackend)
    return backend.list_name(ref, state) if ref.name else ALL_QUEUES


def _is_within(ref: QueueRef, job_id: str, longer_keys: Sequence[str]) -> bool:
    """Whether the key of that job would be that of a job of another queue: with the prefixes "app" and "app:mail",
    "app:mail:pay:1" is the key of job 1 of pay, and of a job "pay:1" of mail."""
    return any(f"{ref.key}:{job_id}".startswith(f"{key}:") for key in longer_keys)


def _queue_of(schedule: Schedule) -> str:
    """The queue of a schedule; one that names none is for all."""
    return (schedule.ref.name if schedule.ref is not None else schedule.queue) or ALL_QUEUES


def _only_sampled() -> NoReturn:
    raise AssertionError("only the sampler reads this, for everyone")
