"""A bounded search through the lists of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..backends.base import WINDOW_ROWS, Backend
from ..backends.unreadable_data import data_errors_foreseen
from ..clock import monotonic_s
from ..errors import NotFound, QueuedeckError, Unsupported
from ..model import Capability, Job, JobQuery, QueueStats, State
from .query import SearchQuery

ROWS_PER_LIST = 5000
SECONDS = 2.0
ID_SECONDS = 3.0
MAX_FOUND = 100
START = "0.0.0"
ORDER = (
    *(State.DEAD, State.RETRYING, State.ACTIVE, State.WAITING, State.SCHEDULED),
    *(State.BLOCKED, State.COMPLETED, State.CANCELED),
)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search: `jobs`, each with the queue in whose list it was found, and the progress of the search.

    `searched`: rows searched so far, of the `total` in the lists (None: not counted). `cursor`: where to continue; None
    if all rows were searched. `at_least`: there may be more jobs than `total`, which are not listed and not searched.
    """

    jobs: tuple[tuple[QueueStats, Job], ...]
    searched: int
    total: int | None
    seconds: float
    cursor: str | None
    problems: tuple[str, ...] = ()
    at_least: bool = False


def search_jobs(
    query: SearchQuery,
    queues: Sequence[QueueStats],
    backend_of: Callable[[QueueStats], Backend],
    cursor: str | None = None,
    seen: Callable[[Iterable[Job]], None] = lambda _jobs: None,
) -> SearchResult:
    """Search for jobs that match, at most MAX_FOUND, in the order of ORDER; if a job has exactly the id, only that one.

    Searches ROWS_PER_LIST rows of each list, all rows of a list that the server can scan, and for at most SECONDS; the
    cursor continues from there. Calls `seen` with all jobs that were searched.
    """
    started = monotonic_s()
    run = _SearchRun(query, backend_of, started, seen)
    lists = list(_searched_lists(query, queues, backend_of))
    turn, at, offset = _parse_cursor(cursor)
    if cursor is None and query.bare_id:
        run.find_by_id(query.bare_id, queues)
    total = sum(count or 0 for *_, count in lists) if all(count is not None for *_, count in lists) else None
    run.at_least = any(state in queue.at_least for queue, state, _ in lists)
    if cursor is None and run.has_found:
        return run.build_result(total, START)  # the cursor leads to further matches
    while query.terms:
        while at < len(lists):
            offset = max(offset, turn * ROWS_PER_LIST)
            following = run.search_list(*lists[at], offset, turn)
            if following is not None:
                return run.build_result(total, f"{turn}.{at}.{following}")
            at, offset = at + 1, 0
        turn, at = turn + 1, 0
        if not any(
            (count or 0) > turn * ROWS_PER_LIST and not run.can_scan(queue, state) for queue, state, count in lists
        ):
            break
        return run.build_result(total, f"{turn}.0.0")
    return run.build_result(total, None)


def _searched_lists(
    query: SearchQuery, queues: Sequence[QueueStats], backend_of: Callable[[QueueStats], Backend]
) -> Iterable[tuple[QueueStats, State, int | None]]:
    for state in ORDER:
        for queue in queues:
            backend = backend_of(queue)
            count = queue.counts.of(state)
            # A list that could not be counted is searched anyway: parts may be readable, or the error is reported.
            nothing = count == 0 or (count is None and queue.error is None)
            if nothing or Capability.SEARCH not in backend.capabilities or state not in backend.states:
                continue
            words = backend.states[state]
            # This list can also contain jobs of other states; there each job is checked.
            others = [one.value for one, at in backend.listed_with.items() if at is state]
            if query.wants_list(queue, state, words) or (others and query.wants_list(queue, state, (*words, *others))):
                yield queue, state, count


def _parse_cursor(cursor: str | None) -> tuple[int, int, int]:
    parts = (cursor or START).split(".")
    if len(parts) != 3 or not all(part.isdigit() and len(part) < 9 for part in parts):
        raise Unsupported("Invalid search cursor.", hint="Start the search again.")
    turn, at, offset = (int(part) for part in parts)
    return turn, at, offset


class _SearchRun:
    """The search of one request through the lists."""

    def __init__(
        self,
        query: SearchQuery,
        backend_of: Callable[[QueueStats], Backend],
        started: float,
        seen: Callable[[Iterable[Job]], None],
    ) -> None:
        self._seen = seen
        self._query = query
        self._backend_of = backend_of
        self._started = started
        self._jobs: dict[tuple[str, str, str, str, str | None], tuple[QueueStats, Job]] = {}
        self._searched = 0
        self.at_least = False
        self._problems: list[str] = []

    @property
    def has_found(self) -> bool:
        """Whether any job was found so far."""
        return bool(self._jobs)

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
                self._add_job(queue, job)

    def can_scan(self, queue: QueueStats, state: State) -> bool:
        """Whether the server itself can scan this list."""
        return self._query.word is not None and self._backend_of(queue).can_scan(state)

    def search_list(self, queue: QueueStats, state: State, count: int | None, offset: int, turn: int) -> int | None:
        """Search the rows of one list from `offset` on that belong to this `turn`. Returns the offset to continue at if
        time or room is used up, else None.
        """
        if self.can_scan(queue, state) and count is not None:
            if turn > 0:
                return None  # the list was already searched to its end
            while offset < count:
                if self._is_full:
                    return offset
                reached = self._scan_stretch(queue, state, offset)
                if reached is None:
                    break
                offset = reached
            if offset >= count or self.can_scan(queue, state):
                return None
        return self._search_windows(queue, state, offset, (turn + 1) * ROWS_PER_LIST)

    def _scan_stretch(self, queue: QueueStats, state: State, offset: int) -> int | None:
        """Scan one range of a list. Returns where the next range begins; None at the end, or if not permitted."""
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
                self._add_job(queue, row.job)
        return found.reached if found.more else None

    @property
    def _is_full(self) -> bool:
        """Whether time or room is used up."""
        return monotonic_s() - self._started > SECONDS or len(self._jobs) >= MAX_FOUND

    def _search_windows(self, queue: QueueStats, state: State, offset: int, end: int) -> int | None:
        """Search the rows of one list from `offset` to `end`. Returns the same as `search_list`."""
        while offset < end:
            if self._is_full:
                return offset
            query = JobQuery(state=state, page=offset // WINDOW_ROWS + 1, per_page=WINDOW_ROWS)
            try:
                with data_errors_foreseen(f"the {state.value} jobs", queue.name):
                    window = self._backend_of(queue).search_page(queue.ref, query)
            except QueuedeckError as exc:
                self._problems.append(f"{queue.name}: {exc.message}")
                return None
            self._problems += [f"{queue.name}: {problem}" for problem in window.problems]
            self.at_least = self.at_least or window.at_least
            self._searched += len(window.rows)
            self._seen(row.job for row in window.rows)
            now = self._source_now(queue)
            for row in window.rows:
                if self._query.matches_row(row, now):
                    self._add_job(queue, row.job)
            if len(window.rows) < WINDOW_ROWS:
                return None
            offset += WINDOW_ROWS
        return None

    def build_result(self, total: int | None, cursor: str | None) -> SearchResult:
        """The result so far."""
        seconds = monotonic_s() - self._started
        problems = tuple(dict.fromkeys(self._problems))[:5]
        if total is not None:
            total = max(total, self._searched)  # the lists may have grown since they were counted
        return SearchResult(tuple(self._jobs.values()), self._searched, total, seconds, cursor, problems, self.at_least)

    def _add_job(self, queue: QueueStats, job: Job) -> None:
        bare = job.id.rpartition("-")[2] if queue.shared else job.id
        self._jobs.setdefault((queue.source, queue.backend, job.queue, bare, job.native_state), (queue, job))
