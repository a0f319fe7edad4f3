"""The jobs of a bulk operation: a preview before it starts, and the full list when it does."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from msgspec.structs import replace

from ...backends.actions import Action, JobRef
from ...backends.base import WINDOW_ROWS, Backend
from ...backends.unreadable_data import data_errors_foreseen
from ...dead_letters.lists import UnreadList, unread_line
from ...errors import NotFound
from ...model import Job, JobPage, JobQuery, Searched, State
from ...search.list_scan import ReadableList, scan_last_rows, scan_rows
from ...search.query import parse_query
from ...sources.metering import measure_cost
from .operation import BulkRequest, JobListRef, JobOrder

BackendOf = Callable[[str, str], Backend]


class MemberJob(NamedTuple):
    """A job of an error group: its list, with its origin queue if known, and when it died; see DeadLetter.at."""

    job_list: JobListRef
    job_ref: JobRef
    died_at: float | None = None


# (fingerprint, lists, maximum) -> the jobs of an error group, in these lists if there are any, or with None all dead
# letters of those lists; see dead_letters. A queue that could not be read yields an UnreadList in place of a job.
MembersOf = Callable[[str | None, tuple[JobListRef, ...], int], Iterable[MemberJob | UnreadList]]
SAMPLES = 3
# Rows that a filter scans for a preview; the operation itself scans further.
PREVIEW_ROWS = 5_000
# Jobs per page of a list, powers of two; as many as block Redis for at most AIM_S.
LEAST_PAGE, FIRST_PAGE, MOST_PAGE = 16, 128, 512
AIM_S = 0.002
# Members of an error group that are held before those that come too late in the order are dropped.
SORT_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class BulkPreview:
    """The jobs that a bulk operation selects. `exact` False: `matched` of the first `scanned` of `total` match.

    The limit of the request is not applied to `matched`; see `planned`.
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
    limit: int | None = None  # that of the request

    @property
    def planned(self) -> int:
        """The number of jobs that the operation would process, as far as known."""
        return self.matched if self.limit is None else min(self.matched, self.limit)


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
        reader = _ListReader(request, job_list, backend_of(job_list.ref.source, job_list.ref.backend))
        page = reader.read_page(0, SAMPLES)
        total += page.total or 0
        exact = exact and page.total is not None and not page.at_least
        unread += _unread_parts(job_list, page)
        if request.q is None:
            matched += page.total or 0
            samples += reader.read_samples(page)
            continue
        for jobs, looked in reader.match_pages(PREVIEW_ROWS):
            scanned = looked
            matched += len(jobs)
            samples = [*jobs, *samples] if reader.from_end else [*samples, *jobs]
        exact = exact and scanned < PREVIEW_ROWS
    shown = tuple(samples[:SAMPLES])
    return BulkPreview(
        min(matched, most),
        exact,
        scanned,
        total,
        shown,
        unread=tuple(unread),
        beyond=matched > most,
        limit=request.limit,
    )


def _unread_parts(job_list: JobListRef, page: JobPage) -> list[str]:
    """The parts of a list that cannot be read, one line each."""
    return [unread_line(job_list.ref.source, job_list.ref.backend, job_list.ref.name, why) for why in page.problems]


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
        samples=tuple(job for _, job in (jobs[::-1] if request.order is JobOrder.OLDEST else jobs)[:SAMPLES]),
        job_lists=tuple(job_list for job_list, _ in job_lists.most_common()),
        origins=dict(origin_queues.most_common()),
        without_origin=without_origin,
        unread=known.unread,
        beyond=len(jobs) > most,
        limit=request.limit,
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

    With an order, the first ones in that order. Raises as the backends do.
    Cost: one or two round trips per LEAST_PAGE to MOST_PAGE jobs, or per window of rows if there is a filter.
    """
    wanted = most if request.limit is None else min(most, request.limit)
    if request.fingerprint is not None or request.to_origin:
        yield from _select_members(request, backend_of, members_of, wanted, most)
        return
    if request.job_refs:
        yield from (SelectedJob(request.job_lists[0], job_ref, n) for n, job_ref in enumerate(request.job_refs, 1))
        return
    scanned = found = 0
    for job_list in request.job_lists:
        reader = _ListReader(request, job_list, backend_of(job_list.ref.source, job_list.ref.backend))
        looked = 0
        for job_refs, looked in reader.select_pages(wanted - found, most):
            yield SelectedJob(None, None, scanned + looked)
            for job_ref in job_refs[: wanted - found]:
                found += 1
                yield SelectedJob(job_list, job_ref, scanned + looked)
            if found >= wanted:
                break
        scanned += looked
        yield from (SelectedJob(None, None, scanned, line) for line in reader.read_unread_lines())
        if found >= wanted:
            return


def _select_members(
    request: BulkRequest, backend_of: BackendOf, members_of: MembersOf, wanted: int, most: int
) -> Iterator[SelectedJob]:
    """The jobs of an error group, at most `wanted`: as listed, or the first ones by time of death."""
    offered = _ActionSupport(request, backend_of)
    first: list[tuple[tuple[bool, float, int], SelectedJob]] = []
    found = 0
    limit = most if request.order is None else sys.maxsize
    lists = request.job_lists if request.fingerprint is None or request.within_lists else ()
    for n, member in enumerate(members_of(request.fingerprint, lists, limit), 1):
        if isinstance(member, UnreadList):
            yield SelectedJob(None, None, n, member.line)
            continue
        job_list = member.job_list
        if not offered.is_supported(job_list) or (request.to_origin and job_list.origin_queue is None):
            yield SelectedJob(job_list, None, n)
            continue
        selected = SelectedJob(
            job_list if request.to_origin else replace(job_list, origin_queue=None), member.job_ref, n
        )
        if request.order is None:
            found += 1
            yield selected
            if found >= wanted:
                return
            continue
        backend = backend_of(job_list.ref.source, job_list.ref.backend)
        first.append((_age_key(request.order, member.died_at, n, backend, job_list.state), selected))
        if len(first) >= 2 * wanted + SORT_EVERY:
            first = sorted(first, key=itemgetter(0))[:wanted]
        yield SelectedJob(job_list, None, n)
    yield from (selected for _, selected in sorted(first, key=itemgetter(0))[:wanted])


def _age_key(
    order: JobOrder, died_at: float | None, number: int, backend: Backend, state: State
) -> tuple[bool, float, int]:
    """Sorts members by age: those whose time of death is unknown last, those of the same time as in their list."""
    rank = -number if state in backend.newest_first else number
    sign = 1 if order is JobOrder.OLDEST else -1
    return died_at is None, sign * (died_at or 0.0), sign * rank


class _ListReader:
    """Reads the jobs of one list, in the order of the request: from the front of the list, or from its end."""

    def __init__(self, request: BulkRequest, job_list: JobListRef, backend: Backend) -> None:
        self._job_list = job_list
        self._backend = backend
        self._query = None if request.q is None else parse_query(request.q)
        self._page_rows = FIRST_PAGE
        newest_first = job_list.state in backend.newest_first
        self.from_end = request.order is not None and newest_first == (request.order is JobOrder.OLDEST)

    def read_page(self, start: int, count: int) -> JobPage:
        """A page of the list. Raises as the backends do, and UnreadableData."""
        with self._errors_foreseen():
            return self._backend.list_jobs(self._job_list.ref, self._page_query(start, count))

    def read_samples(self, page: JobPage) -> Sequence[Job]:
        """The first jobs in the order of the request; `page` = the first of the list. Cost: that of a page, or none."""
        if not self.from_end:
            return page.jobs
        return self.read_page(max(0, (page.total or 0) - SAMPLES), SAMPLES).jobs[::-1]

    def read_unread_lines(self) -> list[str]:
        """The parts of the list that cannot be read, one line each. Cost: that of a page with one job."""
        try:
            return _unread_parts(self._job_list, self.read_page(0, 1))
        except NotFound:
            return []

    def select_pages(self, wanted: int, rows: int) -> Iterator[tuple[list[JobRef], int]]:
        """(jobs, rows scanned so far), page by page, `wanted` jobs or more if there are so many; a filter scans `rows`.

        From the end of a list, the last page has the jobs and those before it have none.
        """
        if self._query is None:
            yield from _add_row_counts(self._ref_pages(wanted))
            return
        last: deque[JobRef] = deque(maxlen=wanted)
        scanned = 0
        for jobs, scanned in self.match_pages(rows):
            job_refs = [JobRef(id=job.id, version=job.version) for job in jobs]
            last.extend(job_refs)
            yield ([] if self.from_end else job_refs), scanned
        if self.from_end:
            yield list(reversed(last)), scanned

    def match_pages(self, rows: int) -> Iterator[tuple[list[Job], int]]:
        """(matching jobs, rows scanned so far) for the first `rows` of the list, or from its end for the last ones.

        From the end also rows that were added to the list since it was counted: up to `rows` more.
        Raises the errors of `Backend.search_page`, and UnreadableData. Cost: one `search_page` per WINDOW_ROWS rows.
        """
        query = self._query
        assert query is not None
        now = self._backend.source.now_s()
        scanned = 0
        most = 2 * rows if self.from_end else rows
        for page in self._row_pages(rows):
            looked = page[: most - scanned]
            scanned += len(looked)
            yield [row.job for row in looked if query.matches_row(row, now)], scanned
            if scanned >= most:
                return

    def _row_pages(self, rows: int) -> Iterator[list[Searched]]:
        """The rows of the list page by page, to its end: from its front, or about the last `rows`."""
        source = ReadableList(self._read_rows, _id_of_row, lambda: WINDOW_ROWS, self._count_rows)
        start = sys.maxsize if self.from_end else 0
        is_empty = True
        while is_empty:
            if self.from_end:  # again where the list became shorter before it was read
                start = max(0, min(start, self._count_rows() or 0) - rows)
            is_empty = start > 0
            for page in scan_rows(source, start):
                is_empty = is_empty and not page
                yield page

    def _ref_pages(self, wanted: int) -> Iterator[list[JobRef]]:
        source = ReadableList(self._read_refs, _id_of, self._page_size, self._count_rows)
        return scan_last_rows(source, wanted) if self.from_end else scan_rows(source)

    def _count_rows(self) -> int | None:
        return self.read_page(0, 1).total

    def _page_size(self) -> int:
        return self._page_rows

    def _read_refs(self, start: int, count: int) -> Sequence[JobRef]:
        with measure_cost() as meter, self._errors_foreseen():
            job_refs = self._backend.list_job_refs(self._job_list.ref, self._page_query(start, count))
        if meter.held_s > AIM_S:
            self._page_rows = max(LEAST_PAGE, self._page_rows // 2)
        elif meter.held_s < AIM_S / 2:
            self._page_rows = min(MOST_PAGE, 2 * self._page_rows)
        return job_refs

    def _read_rows(self, start: int, count: int) -> Sequence[Searched]:
        with self._errors_foreseen():
            return self._backend.search_page(self._job_list.ref, self._page_query(start, count)).rows

    def _page_query(self, start: int, count: int) -> JobQuery:
        page = start // count + 1
        return JobQuery(
            state=self._job_list.state, native=self._job_list.native, page=page, per_page=count, start=start
        )

    def _errors_foreseen(self) -> AbstractContextManager[None]:
        return data_errors_foreseen(f"The {self._job_list.state.value} jobs of {self._job_list.ref.name!r}")


def _id_of(job_ref: JobRef) -> str:
    return job_ref.id


def _id_of_row(row: Searched) -> str:
    return row.job.id


def _add_row_counts(pages: Iterable[list[JobRef]]) -> Iterator[tuple[list[JobRef], int]]:
    scanned = 0
    for page in pages:
        scanned += len(page)
        yield page, scanned
