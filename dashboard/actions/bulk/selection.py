"""The jobs of a bulk operation: a preview before it starts, and the full list when it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from ...backends.actions import Action, JobRef
from ...backends.base import Backend
from ...backends.unreadable_data import data_errors_foreseen
from ...dead_letters.lists import UnreadList, unread_line
from ...errors import NotFound
from ...model import Job, JobPage, JobQuery, QueueStats, State
from ...search.job_search import matching_rows
from ...search.query import parse_query
from ...sources.metering import measure_cost
from .operation import BulkRequest, JobListRef

BackendOf = Callable[[str, str], Backend]
# (fingerprint, lists, maximum) -> the jobs of an error group, or with None all dead letters of those lists; each with
# its list and, if known, its origin queue; see dead_letters.
# A queue that could not be read yields an UnreadList in place of a job.
MembersOf = Callable[[str | None, tuple[JobListRef, ...], int], Iterable[tuple[JobListRef, JobRef] | UnreadList]]
SAMPLES = 3
# Rows that a filter scans for a preview; the operation itself scans further.
PREVIEW_ROWS = 5_000
# Jobs per page of a list, powers of two; as many as block Redis for at most AIM_S.
LEAST_PAGE, FIRST_PAGE, MOST_PAGE = 16, 128, 512
AIM_S = 0.002


@dataclass(frozen=True, slots=True)
class BulkPreview:
    """The jobs that a bulk operation would process. `exact` False: `matched` of the first `scanned` of `total` match.

    For moves to origin queues: `origins` = the number of jobs per queue, `without_origin` = jobs without a recorded
    origin queue, which are left where they are.
    """

    matched: int
    exact: bool
    scanned: int
    total: int | None
    samples: tuple[Job, ...]
    job_lists: tuple[JobListRef, ...] = ()  # their lists, most jobs first; only for an error group
    origins: Mapping[str, int] = field(default_factory=dict)
    without_origin: int = 0
    unread: tuple[str, ...] = ()  # queues that could not be read, and why: their jobs may be missing
    beyond: bool = False  # more jobs match than the limit of one operation; `matched` is that limit


@dataclass(frozen=True, slots=True)
class KnownDeadLetters:
    """Dead letters as last read: `jobs` among the `scanned` of `total`; `whole`: there are no others.

    `unread` = queues that could not be read, and why.
    """

    jobs: tuple[tuple[JobListRef, Job], ...]
    whole: bool
    scanned: int
    total: int
    unread: tuple[str, ...] = ()


# (fingerprint, lists) -> the last read state of the jobs that MembersOf would list; costs nothing.
KnownOf = Callable[[str | None, tuple[JobListRef, ...]], KnownDeadLetters]


def preview_jobs(request: BulkRequest, backend_of: BackendOf, known_of: KnownOf, most: int) -> BulkPreview:
    """A preview of the jobs, without listing all. Raises as the backends do. Scans at most PREVIEW_ROWS per list."""
    if request.fingerprint is not None or request.to_origin:
        return _of_known(request, backend_of, known_of(request.fingerprint, request.job_lists), most)
    if request.job_refs:
        return BulkPreview(len(request.job_refs), exact=True, scanned=len(request.job_refs), total=None, samples=())
    matched, scanned, total, exact = 0, 0, 0, True
    samples: list[Job] = []
    unread: list[str] = []
    for job_list in request.job_lists:
        backend = backend_of(job_list.ref.source, job_list.ref.backend)
        with data_errors_foreseen(_jobs_of(job_list)):
            page = backend.list_jobs(
                job_list.ref, JobQuery(state=job_list.state, native=job_list.native, per_page=SAMPLES)
            )
        total += page.total or 0
        exact = exact and page.total is not None and not page.at_least
        unread += _unread_parts(job_list, page)
        if request.q is None:
            matched += page.total or 0
            samples += page.jobs
            continue
        for job, looked in _list_matches(request, job_list, backend, PREVIEW_ROWS):
            scanned = looked
            if job is not None:
                matched += 1
                samples.append(job)
        exact = exact and scanned < PREVIEW_ROWS
    shown = tuple(samples[:SAMPLES])
    return BulkPreview(min(matched, most), exact, scanned, total, shown, unread=tuple(unread), beyond=matched > most)


def _unread_parts(job_list: JobListRef, page: JobPage) -> list[str]:
    """The parts of a list that cannot be read, one line each."""
    return [unread_line(job_list.ref.source, job_list.ref.backend, job_list.ref.name, why) for why in page.problems]


def _unread_of(job_list: JobListRef, backend: Backend) -> list[str]:
    """Ask the backend which parts of a list cannot be read. Cost: that of a page with one job."""
    try:
        with data_errors_foreseen(_jobs_of(job_list)):
            return _unread_parts(
                job_list,
                backend.list_jobs(job_list.ref, JobQuery(state=job_list.state, native=job_list.native, per_page=1)),
            )
    except NotFound:
        return []


def _of_known(request: BulkRequest, backend_of: BackendOf, known: KnownDeadLetters, most: int) -> BulkPreview:
    offered = _ActionSupport(request, backend_of)
    jobs = [(job_list, job) for job_list, job in known.jobs if offered.is_supported(job_list)]
    origin_queues: Counter[str] = Counter()
    without_origin = 0
    if request.action is Action.MOVE:
        origin_queues.update(job_list.origin_queue for job_list, _ in jobs if job_list.origin_queue is not None)
        without_origin = len(jobs) - origin_queues.total()
    if request.to_origin and origin_queues:
        jobs = [(job_list, job) for job_list, job in jobs if job_list.origin_queue is not None]
    job_lists = Counter(replace(job_list, origin_queue=None) for job_list, _ in jobs)
    return BulkPreview(
        matched=min(len(jobs), most),
        exact=known.whole and not known.unread and len(jobs) <= most,
        scanned=known.scanned,
        total=known.total,
        samples=tuple(job for _, job in jobs[:SAMPLES]),
        job_lists=tuple(job_list for job_list, _ in job_lists.most_common()),
        origins=dict(origin_queues.most_common()),
        without_origin=without_origin,
        unread=known.unread,
        beyond=len(jobs) > most,
    )


class _ActionSupport:
    """Whether a list supports the action: an error group has jobs in lists of several libraries and states."""

    def __init__(self, request: BulkRequest, backend_of: BackendOf) -> None:
        self._action = request.action
        self._backend_of = backend_of
        self._answers: dict[tuple[str, str, State, bool], bool] = {}

    def is_supported(self, job_list: JobListRef) -> bool:
        source, name = job_list.ref.source, job_list.ref.backend
        key = (source, name, job_list.state, job_list.ref.shared)
        if key not in self._answers:
            offered = self._backend_of(source, name).offered_actions(
                job_list.state, shared=job_list.ref.shared, abandoned=True
            )
            self._answers[key] = self._action in offered
        return self._answers[key]


@dataclass(frozen=True, slots=True)
class SelectedJob:
    """A job that matches, with its list, after `scanned` rows; without a job, only the progress of the scan.

    `unread` = in place of a job, a queue that could not be read, and why.
    """

    job_list: JobListRef | None
    job_ref: JobRef | None
    scanned: int
    unread: str | None = None


def select_jobs(request: BulkRequest, backend_of: BackendOf, members_of: MembersOf, most: int) -> Iterator[SelectedJob]:
    """The jobs of an operation, each once, at most `most`, and between them the number of rows scanned so far.

    Raises as the backends do.
    Cost: one or two round trips per LEAST_PAGE to MOST_PAGE jobs, or per window of rows if there is a filter.
    """
    if request.fingerprint is not None or request.to_origin:
        offered = _ActionSupport(request, backend_of)
        for n, found in enumerate(members_of(request.fingerprint, request.job_lists, most), 1):
            if isinstance(found, UnreadList):
                yield SelectedJob(None, None, n, found.line)
                continue
            job_list, job_ref = found
            if not offered.is_supported(job_list) or (request.to_origin and job_list.origin_queue is None):
                yield SelectedJob(job_list, None, n)
                continue
            yield SelectedJob(job_list if request.to_origin else replace(job_list, origin_queue=None), job_ref, n)
        return
    if request.job_refs:
        yield from (SelectedJob(request.job_lists[0], job_ref, n) for n, job_ref in enumerate(request.job_refs, 1))
        return
    scanned = 0
    for job_list in request.job_lists:
        backend = backend_of(job_list.ref.source, job_list.ref.backend)
        seen: set[str] = set()
        if request.q is not None:
            for match, looked in _list_matches(request, job_list, backend, most):
                fits = None if match is None or match.id in seen else JobRef(id=match.id, version=match.version)
                if fits is not None:
                    seen.add(fits.id)
                yield SelectedJob(job_list, fits, scanned + looked)
            yield from (SelectedJob(None, None, scanned, line) for line in _unread_of(job_list, backend))
            continue
        for job_refs in _list_pages(job_list, backend):
            for each in job_refs:
                scanned += 1
                # A list that grows at its head during the scan returns some jobs twice.
                if each.id not in seen:
                    seen.add(each.id)
                    yield SelectedJob(job_list, each, scanned)
            if len(seen) >= most:
                break
        yield from (SelectedJob(None, None, scanned, line) for line in _unread_of(job_list, backend))


def _list_pages(job_list: JobListRef, backend: Backend) -> Iterator[list[JobRef]]:
    """The jobs of a place, page by page. A page can be shorter than requested; an empty page ends the list."""
    at, size = 0, FIRST_PAGE
    while True:
        query = JobQuery(state=job_list.state, native=job_list.native, page=at // size + 1, per_page=size)
        try:
            with measure_cost() as meter, data_errors_foreseen(_jobs_of(job_list)):
                job_refs = backend.list_job_refs(job_list.ref, query)
        except NotFound:
            if at == 0:
                raise
            return  # the queue was emptied or deleted since
        if not job_refs:
            return
        yield job_refs
        at += size
        if meter.held_s > AIM_S:
            size = max(LEAST_PAGE, size // 2)
        elif meter.held_s < AIM_S / 2 and at % (2 * size) == 0:
            size = min(MOST_PAGE, 2 * size)


def _jobs_of(job_list: JobListRef) -> str:
    return f"The {job_list.state.value} jobs of {job_list.ref.name!r}"


def _list_matches(
    request: BulkRequest, job_list: JobListRef, backend: Backend, rows: int
) -> Iterator[tuple[Job | None, int]]:
    ref = job_list.ref
    queue = QueueStats(source=ref.source, backend=ref.backend, name=ref.name, key=ref.key, shared=ref.shared)
    return matching_rows(parse_query(request.q or ""), queue, job_list.state, backend, rows)
