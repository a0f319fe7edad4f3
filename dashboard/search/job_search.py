"""A bounded search through the lists of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..backends.base import WINDOW_ROWS, Backend
from ..backends.unreadable_data import data_errors_foreseen
from ..clock import monotonic_s
from ..errors import NotFound, QueuedeckError, Unsupported
from ..model import Capability, Job, JobQuery, QueueStats, Searched, State
from .matches import FoundJob, describe_match
from .query import SearchQuery
from .search_cursor import SearchCursor, key_of, parse_cursor

ROWS_PER_LIST = 5000
SECONDS = 2.0
ID_SECONDS = 3.0
MAX_FOUND = 100
MAX_PROBLEMS = 5
ORDER = (
    *(State.DEAD, State.RETRYING, State.ACTIVE, State.WAITING, State.SCHEDULED),
    *(State.BLOCKED, State.COMPLETED, State.CANCELED),
)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of one part of a search: the `jobs` it found, and the progress of all parts so far.

    `searched`: rows searched in this part, of the `total` in the lists (None: not counted). `cursor`: where the next
    part starts; None if all rows were searched. `at_least`: there may be more jobs than `total`, which are not listed
    and not searched. `found_total`, `searched_total`: with the parts before. `problems`: what could not be read in this
    part, at most MAX_PROBLEMS; `unread` counts them in all parts. `only_list`: the list, if the query chooses one.
    """

    jobs: tuple[FoundJob, ...]
    searched: int
    total: int | None
    seconds: float
    cursor: str | None
    problems: tuple[str, ...] = ()
    at_least: bool = False
    found_total: int = 0
    searched_total: int = 0
    unread: int = 0
    only_list: tuple[QueueStats, State] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether everything was searched: no other job can match."""
        return self.cursor is None and not self.unread and not self.at_least


class _JobList(NamedTuple):
    """A list that can contain matching jobs; `size` None: not counted."""

    queue: QueueStats
    state: State
    size: int | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to search. A list that could not be counted because of an error is searched anyway:
        parts may be readable, or the error is reported.
        """
        return self.size == 0 or (self.size is None and self.queue.error is None)

    def ends_before(self, row: int) -> bool:
        """Whether the list is known to have no row with this number."""
        return self.size is not None and self.size <= row and self.state not in self.queue.at_least

    @property
    def key(self) -> str:
        """What identifies the list in a cursor."""
        return key_of(self.state.value, self.queue.source, self.queue.backend, self.queue.key)


def search_jobs(
    query: SearchQuery,
    queues: Sequence[QueueStats],
    backend_of: Callable[[QueueStats], Backend],
    cursor: str | None = None,
    seen: Callable[[Iterable[Job]], None] = lambda _jobs: None,
) -> SearchResult:
    """Search for jobs that match, at most MAX_FOUND, in the order of ORDER; if a job has exactly the id, only that one.

    Searches ROWS_PER_LIST rows of each list, all rows of a list that the server can scan, and for at most SECONDS, but
    always makes one read; the cursor continues from there. Calls `seen` with all jobs that were searched.
    """
    started = monotonic_s()
    start = parse_cursor(cursor)
    run = _SearchRun(query, backend_of, started, seen, start)
    # Empty lists keep their place: between two parts of a search, a list can become empty, or no longer be.
    lists = list(_searched_lists(query, queues, backend_of))
    if cursor is None and query.bare_id:
        run.find_by_id(query.bare_id, queues)
    run.count_lists(lists)
    if cursor is None and run.has_found:
        return run.build_result(SearchCursor())  # the cursor leads to further matches
    turn, at, offset = start.turn, *_find_place(start, lists)
    while query.terms:
        while at < len(lists):
            offset = max(offset, turn * ROWS_PER_LIST)
            following = run.search_list(lists[at], offset, turn)
            if following is not None:
                return run.build_result(replace(_place_of(lists, at), turn=turn, offset=following))
            at, offset = at + 1, 0
        turn, at = turn + 1, 0
        if not any(
            (job_list.size or 0) > turn * ROWS_PER_LIST and not run.can_scan(job_list.queue, job_list.state)
            for job_list in lists
        ):
            break
        return run.build_result(SearchCursor(turn))
    return run.build_result(None)


def _searched_lists(
    query: SearchQuery, queues: Sequence[QueueStats], backend_of: Callable[[QueueStats], Backend]
) -> Iterable[_JobList]:
    for state in ORDER:
        for queue in queues:
            backend = backend_of(queue)
            if Capability.SEARCH not in backend.capabilities or state not in backend.states:
                continue
            words = backend.states[state]
            # This list can also contain jobs of other states; there each job is checked.
            others = [one.value for one, at in backend.listed_with.items() if at is state]
            if query.wants_list(queue, state, words) or (others and query.wants_list(queue, state, (*words, *others))):
                yield _JobList(queue, state, queue.counts.of(state))


def _place_of(lists: Sequence[_JobList], at: int) -> SearchCursor:
    """The cursor to the list of this number."""
    state = lists[at].state
    numbers = [number for number, job_list in enumerate(lists) if job_list.state is state]
    return SearchCursor(
        state=ORDER.index(state), lists=len(numbers), list_number=at - numbers[0], list_key=lists[at].key
    )


def _find_place(cursor: SearchCursor, lists: Sequence[_JobList]) -> tuple[int, int]:
    """The number of the list at which the search continues, and of the row in it.

    Queues can have come or gone meanwhile. If the list is gone, the search continues with the one after it; where more
    lists of its state are gone, earlier by their number, because they may have been before it.
    """
    if not cursor.list_key:
        return 0, 0
    start = next((at for at, job_list in enumerate(lists) if ORDER.index(job_list.state) >= cursor.state), len(lists))
    at = start + cursor.list_number
    if at < len(lists) and lists[at].key == cursor.list_key:
        return at, cursor.offset
    moved = next((number for number, job_list in enumerate(lists) if job_list.key == cursor.list_key), None)
    if moved is not None:
        return moved, cursor.offset
    left = sum(ORDER.index(job_list.state) == cursor.state for job_list in lists)
    others_gone = max(0, cursor.lists - left - 1)
    return start + min(max(0, cursor.list_number - others_gone), left), 0


class _SearchRun:
    """The search of one request through the lists."""

    def __init__(
        self,
        query: SearchQuery,
        backend_of: Callable[[QueueStats], Backend],
        started: float,
        seen: Callable[[Iterable[Job]], None],
        start: SearchCursor,
    ) -> None:
        self._start = start
        self._known = frozenset(start.known)
        self._seen = seen
        self._query = query
        self._backend_of = backend_of
        self._started = started
        self._jobs: dict[str, FoundJob] = {}
        self._searched = 0
        self._has_read = False  # whether this part has tried to read a list
        self._total: int | None = None
        self._only_list: tuple[QueueStats, State] | None = None
        self._at_least = False
        self._problems: list[str] = []

    @property
    def has_found(self) -> bool:
        """Whether any job was found so far."""
        return bool(self._jobs)

    def count_lists(self, lists: Sequence[_JobList]) -> None:
        """Note how many jobs the lists have."""
        filled = [job_list for job_list in lists if not job_list.is_empty]
        self._at_least = any(state in queue.at_least for queue, state, _ in filled)
        self._only_list = filled[0][:2] if len(filled) == 1 else None
        if all(job_list.size is not None for job_list in filled):
            self._total = sum(job_list.size or 0 for job_list in filled)

    def _source_now(self, queue: QueueStats) -> float:
        """The current time by the clock of the Redis that stores the jobs."""
        return self._backend_of(queue).source.now_s()

    def find_by_id(self, job_id: str, queues: Sequence[QueueStats]) -> None:
        """Look up the job in each queue, for at most ID_SECONDS; queues that address jobs by id come first."""
        asked = [queue for queue in queues if self._query.chooses_queue(queue)]
        for n, queue in enumerate(sorted(asked, key=lambda queue: not self._backend_of(queue).keyed_by_id)):
            if len(self._jobs) >= MAX_FOUND:
                return
            if monotonic_s() - self._started > ID_SECONDS:
                self._problems.append(f"only {n} of {len(asked)} queues were checked for this id within the time limit")
                return
            try:
                with data_errors_foreseen(f"job {job_id!r}", queue.name):
                    job = self._backend_of(queue).read_job(queue.ref, job_id)
            except (NotFound, Unsupported):
                continue
            except QueuedeckError as exc:
                self._problems.append(f"{queue.name}: {exc.message}")
                continue
            if self._query.is_chosen(job, self._source_now(queue)):
                self._add_job(queue, Searched(job=job, text=""))

    def can_scan(self, queue: QueueStats, state: State) -> bool:
        """Whether the server itself can scan this list."""
        return self._query.word is not None and self._backend_of(queue).can_scan(state)

    def search_list(self, job_list: _JobList, offset: int, turn: int) -> int | None:
        """Search the rows of one list from `offset` on that belong to this `turn`. Returns the offset to continue at if
        time or room is used up, else None.
        """
        queue, state, size = job_list
        if job_list.is_empty or (turn > 0 and job_list.ends_before(turn * ROWS_PER_LIST)):
            return None
        if self.can_scan(queue, state) and size is not None:
            if turn > 0:
                return None  # the list was already searched to its end
            while offset < size:
                if self._is_full:
                    return offset
                reached = self._scan_stretch(queue, state, offset)
                if reached is None:
                    break
                offset = reached
            if offset >= size or self.can_scan(queue, state):
                return None
        return self._search_windows(queue, state, offset, (turn + 1) * ROWS_PER_LIST)

    def _scan_stretch(self, queue: QueueStats, state: State, offset: int) -> int | None:
        """Scan one range of a list. Returns where the next range begins; None at the end, or if not permitted."""
        self._has_read = True
        try:
            with data_errors_foreseen(f"the {state.value} jobs", queue.name):
                found = self._backend_of(queue).scan_matches(queue.ref, state, self._query.word or "", offset)
        except QueuedeckError as exc:
            self._problems.append(f"{queue.name}: {exc.message}")
            return None
        if found is None:
            return None
        self._searched += found.reached - offset
        self._seen(row.job for row in found.rows)
        now = self._source_now(queue)
        for row in found.rows:
            if self._query.matches_row(row, now):
                self._add_job(queue, row)
        return found.reached if found.more else None

    @property
    def _is_full(self) -> bool:
        """Whether time or room is used up. The first read of a part is always made: with each part a search comes
        nearer to its end, even on a slow server."""
        late = self._has_read and monotonic_s() - self._started > SECONDS
        return late or len(self._jobs) >= MAX_FOUND

    def _search_windows(self, queue: QueueStats, state: State, offset: int, end: int) -> int | None:
        """Search the rows of one list from `offset` to `end`. Returns the same as `search_list`."""
        while offset < end:
            if self._is_full:
                return offset
            self._has_read = True
            query = JobQuery(state=state, page=offset // WINDOW_ROWS + 1, per_page=WINDOW_ROWS)
            try:
                with data_errors_foreseen(f"the {state.value} jobs", queue.name):
                    window = self._backend_of(queue).search_page(queue.ref, query)
            except QueuedeckError as exc:
                self._problems.append(f"{queue.name}: {exc.message}")
                return None
            self._problems += [f"{queue.name}: {problem}" for problem in window.problems]
            self._at_least = self._at_least or window.at_least
            self._searched += len(window.rows)
            self._seen(row.job for row in window.rows)
            now = self._source_now(queue)
            for row in window.rows:
                if self._query.matches_row(row, now):
                    self._add_job(queue, row)
            if len(window.rows) < WINDOW_ROWS:
                return None
            offset += WINDOW_ROWS
        return None

    def build_result(self, following: SearchCursor | None) -> SearchResult:
        """The result so far; `following` is where the search continues, None at its end."""
        seconds = monotonic_s() - self._started
        problems = tuple(dict.fromkeys(self._problems))
        found = self._start.found + len(self._jobs)
        searched = self._start.searched + self._searched
        unread = self._start.unread + len(problems)
        if following is not None:
            known = (*self._start.known, *self._jobs)
            following = replace(following, found=found, searched=searched, unread=unread, known=known)
        return SearchResult(
            jobs=tuple(self._jobs.values()),
            searched=self._searched,
            # The lists may have grown since they were counted.
            total=None if self._total is None else max(self._total, searched),
            seconds=seconds,
            cursor=following.text if following is not None else None,
            problems=problems[:MAX_PROBLEMS],
            at_least=self._at_least,
            found_total=found,
            searched_total=searched,
            unread=unread,
            only_list=self._only_list,
        )

    def _add_job(self, queue: QueueStats, row: Searched) -> None:
        job = row.job
        bare = job.id.rpartition("-")[2] if queue.shared else job.id
        key = key_of(queue.source, queue.backend, job.queue, bare, job.native_state)
        if key not in self._jobs and key not in self._known:
            self._jobs[key] = describe_match(self._query, queue, row)
