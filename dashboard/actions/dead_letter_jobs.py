"""The dead letters of the newest snapshot as bulk operations need them: each job with its list and its origin queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..dead_letters.groups import GroupMember
from ..dead_letters.lists import UnreadList
from ..dead_letters.service import DeadLetterService
from ..model import Job, JobError, QueueRef, QueueStats
from .bulk.operation import JobListRef
from .bulk.selection import KnownDeadLetters, MemberJob


class DeadLetterJobs:
    """Lists the jobs of an error group, or with None as its fingerprint all dead letters of the given lists."""

    def __init__(
        self,
        dead_letter_service: DeadLetterService,
        current_queues: Callable[[], Sequence[QueueStats]],
        rows_per_list: int,
    ) -> None:
        """`rows_per_list`: how many rows of each list `members_of` reads."""
        self._service = dead_letter_service
        self._current_queues = current_queues
        self._rows_per_list = rows_per_list

    def members_of(
        self, fingerprint: str | None, job_lists: tuple[JobListRef, ...], most: int
    ) -> Iterable[MemberJob | UnreadList]:
        """The current jobs, at most `most`, and the lists that could not be read. Those of an error group are in
        `job_lists`, or without any, in all lists.

        See DeadLetterService.list_group_jobs for the cost.
        """
        restore_queues = RestoreQueues(self._current_queues())
        is_limited = fingerprint is None or bool(job_lists)
        only = {(job_list.ref, job_list.state) for job_list in job_lists} if is_limited else None
        for found in self._service.list_group_jobs(fingerprint, most, self._rows_per_list, only):
            if isinstance(found, UnreadList):
                yield found
                continue
            ref, state = found.dead_list.list_ref
            job_list = JobListRef(ref=ref, state=state, origin_queue=restore_queues.queue_for(ref, found.origin_queue))
            yield MemberJob(job_list, found.job_ref, found.died_at)

    def known_of(self, fingerprint: str | None, job_lists: tuple[JobListRef, ...]) -> KnownDeadLetters:
        """Those jobs as of the last reading of dead letters, newest first."""
        is_limited = fingerprint is None or bool(job_lists)
        grouped = self._service.current_groups().grouped
        restore_queues = RestoreQueues(self._current_queues())
        only = {(job_list.ref, job_list.state) for job_list in job_lists}
        groups = [group for group in grouped.groups if fingerprint in (None, group.error.fingerprint)]
        members = [
            (
                JobListRef(
                    ref=each.ref,
                    state=each.state,
                    origin_queue=restore_queues.queue_for(each.ref, each.dead_letter.origin_queue),
                ),
                listed_job(each),
            )
            for group in groups
            for each in group.members
            if not is_limited or (each.ref, each.state) in only
        ]
        whole = all(group.whole for group in groups) and not grouped.truncated
        asked = {ref for ref, _ in only}
        unread = tuple(each.line for each in grouped.unread_lists if not is_limited or each.ref in asked)
        return KnownDeadLetters(tuple(members), whole, grouped.scanned, grouped.total, unread)


class RestoreQueues:
    """The queues that dead letters can return to: existing queues of the same source and library."""

    def __init__(self, queues: Sequence[QueueStats]) -> None:
        self._names = {(queue.source, queue.backend, queue.name) for queue in queues if not queue.shared}

    def queue_for(self, ref: QueueRef, origin_queue: str | None) -> str | None:
        """`origin_queue`, if it is such a queue and not the job's present queue; else None."""
        if origin_queue is None or origin_queue == ref.name:
            return None
        return origin_queue if (ref.source, ref.backend, origin_queue) in self._names else None


def listed_job(member: GroupMember) -> Job:
    """The job with the fields that a list of dead letters has."""
    ref, dead_letter = member.ref, member.dead_letter
    error_class = dead_letter.error.error_class
    return Job(
        id=dead_letter.id,
        source=ref.source,
        backend=ref.backend,
        queue=dead_letter.queue,
        version=dead_letter.version,
        state=member.state,
        name=dead_letter.name,
        error=JobError(class_name=error_class, message=dead_letter.message)
        if error_class or dead_letter.message
        else None,
    )
