"""The current jobs of an error group, for actions on all of them. Known dead letters are not read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..backends.actions import JobRef
from ..backends.base import WINDOW_ROWS
from .fingerprint import normalize_job_error
from .groups import GroupedDeadLetters
from .index import DeadLetter, died_at
from .lists import BackendOf, DeadLetterList, DeadListRef, ListUnreadable, UnreadList, read_job_refs, read_window
from .origin_queue import find_origin_queue

# A list that changes while it is read is scanned again for the jobs that were missed, at most this often.
TURNS = 3


@dataclass(frozen=True, slots=True)
class GroupJobRef:
    """A job of a group to act on, the list that contains it, and its origin queue, if its data names one.

    `died_at`: see DeadLetter.at.
    """

    dead_list: DeadLetterList
    job_ref: JobRef
    origin_queue: str | None
    died_at: float | None


def list_group_jobs(
    lists: Sequence[DeadLetterList],
    backend_of: BackendOf,
    grouped: GroupedDeadLetters,
    fingerprint: str | None,
    most: int,
    rows: int,
) -> Iterator[GroupJobRef | UnreadList]:
    """The jobs of a group, or of all groups with None: at most `most`, from the first `rows` of each list.

    `grouped` contains the fingerprints of most of them. A list that cannot be read yields an UnreadList in its place.
    Cost: at most 2 round trips for each MAX_BATCH jobs, and for each WINDOW_ROWS of them that include one unknown to
    `grouped`.
    """
    known = _known_dead_letters(grouped)
    found = 0
    for dead_list in lists:
        try:
            for one in _in_list(dead_list, backend_of, known.get(dead_list.list_ref, {}), fingerprint, rows):
                if found >= most:
                    return
                found += 1
                yield one
        except ListUnreadable as exc:
            yield UnreadList(dead_list.queue.ref, str(exc))


def _known_dead_letters(grouped: GroupedDeadLetters) -> dict[DeadListRef, dict[JobRef, DeadLetter]]:
    known: dict[DeadListRef, dict[JobRef, DeadLetter]] = {}
    for group in grouped.groups:
        for member in group.members:
            dead_letter = member.dead_letter
            job_ref = JobRef(id=dead_letter.id, version=dead_letter.version)
            known.setdefault((member.ref, member.state), {})[job_ref] = dead_letter
    return known


def _in_list(
    dead_list: DeadLetterList,
    backend_of: BackendOf,
    known: Mapping[JobRef, DeadLetter],
    fingerprint: str | None,
    rows: int,
) -> Iterator[GroupJobRef]:
    """The jobs of one list, in its order, except that those that had to be read come last."""
    job_refs = read_job_refs(dead_list, backend_of, rows)
    for job_ref in job_refs:
        dead_letter = known.get(job_ref)
        if dead_letter is not None and fingerprint in (None, dead_letter.error.fingerprint):
            yield GroupJobRef(dead_list, job_ref, dead_letter.origin_queue, dead_letter.at)
    unknown = {job_ref: n // WINDOW_ROWS + 1 for n, job_ref in enumerate(job_refs) if job_ref not in known}
    for _ in range(TURNS):
        for page in sorted(set(unknown.values())):
            for row in read_window(dead_list, backend_of, page):
                job_ref = JobRef(id=row.job.id, version=row.job.version)
                if unknown.pop(job_ref, None) is None:
                    continue
                if fingerprint is None or normalize_job_error(row.job, row.stack).fingerprint == fingerprint:
                    origin_queue = (
                        find_origin_queue(row.job, row.text, dead_list.queue.name) if dead_list.is_dlq else None
                    )
                    yield GroupJobRef(dead_list, job_ref, origin_queue, died_at(row.job))
        if not unknown:
            return
        pages = {job_ref: n // WINDOW_ROWS + 1 for n, job_ref in enumerate(read_job_refs(dead_list, backend_of, rows))}
        unknown = {job_ref: pages[job_ref] for job_ref in unknown if job_ref in pages}
