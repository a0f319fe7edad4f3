"""One grammar for looking for jobs, and a bounded look through their lists.

Words and "phrases" must all be found in a job's id, name, payload or error, case ignored; `-` before a term excludes.
`id:`, `name:`, `queue:`, `state:`, `library:`, `source:`, `error:`, `payload:` look at one part; `age:>1h` and
`age:<10m` at the time since a job was enqueued.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..backends.base import SIFTABLE, WINDOW_ROWS, Backend
from ..backends.unreadable_data import data_errors_foreseen
from ..clock import monotonic_s
from ..errors import NotFound, QueuedeckError, Unsupported
from ..globs import GLOB_LIMIT, glob_matches, is_plain
from ..model import Capability, Job, JobQuery, QueueStats, Searched, State

ROWS_PER_LIST = 5000
SECONDS = 2.0
ID_SECONDS = 3.0
MAX_FOUND = 100
MAX_QUERY = 500
START = "0.0.0"
FIELDS = ("id", "name", "queue", "state", "library", "source", "error", "payload", "age")
# What these say of a queue holds for all its jobs.
CHOOSING = ("queue", "source", "library")
ALIASES = {"backend": "library"}
ORDER = (
    *(State.DEAD, State.RETRYING, State.ACTIVE, State.WAITING, State.SCHEDULED),
    *(State.BLOCKED, State.COMPLETED, State.CANCELED),
)
_STATES = frozenset(state.value for state in State)
_TOKEN = re.compile(r'(-?)(?:([A-Za-z]+):)?(?:"([^"]*)"?|(\S+))')
_AGE = re.compile(r"([<>])\s*(\d+(?:\.\d+)?)(ms|s|m|h|d)?\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """One condition: `text` in lower case must be in `field`, or anywhere when that is None."""

    text: str
    field: str | None = None
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is looked for."""

    terms: tuple[SearchTerm, ...]

    @property
    def bare_id(self) -> str | None:
        """The one word that may be a job's id, or the id beside terms that choose queues; None for anything else."""
        asked = [term for term in self.terms if term.field not in CHOOSING]
        if len(asked) != 1 or asked[0].excluded:
            return None
        alone = asked[0].field is None and len(self.terms) == 1
        return asked[0].text if alone or asked[0].field == "id" else None

    @property
    def word(self) -> str | None:
        """A word that stands in the data of every job that matches; the longest, None for none that a sift takes."""
        words = (
            term.text
            for term in self.terms
            if not term.excluded and term.field in (None, "id", "name", "error", "payload")
            # An entry without an id is called raw…, which stands nowhere in it.
            if SIFTABLE.match(term.text) and not term.text.casefold().startswith("raw")
        )
        return max(words, key=len, default=None)

    def chooses_queue(self, queue: QueueStats) -> bool:
        """Whether a queue is among those that are chosen, or holds jobs of several."""
        return all(_admits_list(term, queue, ()) for term in self.terms if term.field in CHOOSING)

    def is_chosen(self, job: Job, now: float) -> bool:
        """Whether a job is of a queue that is chosen."""
        row = Searched(job=job, text="")
        return all(_term_holds(term, row, now) != term.excluded for term in self.terms if term.field in CHOOSING)

    def wants_list(self, queue: QueueStats, state: State, native: Sequence[str]) -> bool:
        """Whether a list can hold what is looked for."""
        return all(_admits_list(term, queue, (state.value, *(word.lower() for word in native))) for term in self.terms)

    def matches_row(self, row: Searched, now: float) -> bool:
        """Whether a job is what is looked for."""
        return all(_term_holds(term, row, now) != term.excluded for term in self.terms)


def parse_query(text: str) -> SearchQuery:
    """The query that `text` spells. Raises Unsupported for an age that is none, and for a pattern that is too long."""
    terms = []
    for minus, field, phrase, word in _TOKEN.findall(text[:MAX_QUERY]):
        name = ALIASES.get(field.lower(), field.lower())
        value = phrase or word
        if field and name not in FIELDS:
            name, value = "", f"{field}:{value}"
        if name == "age" and not _AGE.match(value):
            raise Unsupported(f"age:{value[:40]} is no age.", hint="Write age:>1h or age:<10m; units are s, m, h, d.")
        if name in CHOOSING and len(value) > GLOB_LIMIT and not is_plain(value):
            raise Unsupported(
                f"{name}:{value[:40]}… is too long a pattern.",
                hint=f"Write at most {GLOB_LIMIT} characters with * or ?.",
            )
        if value:
            # The case of an id is part of it; everything else is compared without.
            terms.append(SearchTerm(value if name == "id" or not name else value.casefold(), name or None, bool(minus)))
    return SearchQuery(tuple(terms))


def _admits_list(term: SearchTerm, queue: QueueStats, words: Sequence[str]) -> bool:
    """Whether a list of `queue`, called by any of `words`, can hold what `term` asks for."""
    if term.field == "queue":
        # The lists of all queues hold jobs of this one, too; there each job is asked.
        return queue.shared or _matches_glob(queue.name, term.text) != term.excluded
    if term.field == "source":
        return _matches_glob(queue.source, term.text) != term.excluded
    if term.field == "library":
        return _matches_glob(queue.backend, term.text) != term.excluded
    return term.field != "state" or (term.text in words) != term.excluded


def _matches_glob(value: str, pattern: str) -> bool:
    return glob_matches(pattern, value.casefold())


def _term_holds(term: SearchTerm, row: Searched, now: float) -> bool:
    job, wanted = row.job, term.text.casefold()
    error = f"{job.error.class_name or ''} {job.error.message or ''}" if job.error else ""
    if term.field is None:
        return any(wanted in part.casefold() for part in (job.id, job.name or "", row.text, error))
    if term.field == "age":
        return _age_holds(wanted, job, now)
    if term.field in ("source", "library") or (term.field == "state" and job.state is None):
        return not term.excluded  # whole lists were chosen by these
    if term.field == "state":
        native = (job.native_state or "").casefold()
        # A library's words may be several: "queued, revoked".
        if job.state is not None and wanted in (job.state.value, native, *native.replace(",", " ").split()):
            return True
        return not term.excluded and wanted not in _STATES  # the library's own word chose the list
    if term.field == "queue":
        return _matches_glob(job.queue, wanted)
    return wanted in {"id": job.id, "name": job.name or "", "error": error, "payload": row.text}[term.field].casefold()


def _age_holds(wanted: str, job: Job, now: float) -> bool:
    match = _AGE.match(wanted)
    at = job.enqueued_at or job.finished_at
    if match is None or at is None:
        return False
    age_s, limit_s = now - at.timestamp(), float(match[2]) * _UNITS[match[3] or "s"]
    return age_s > limit_s if match[1] == ">" else age_s < limit_s


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a look brought: `jobs` with the queue in whose list each stands, and how far it went.

    `searched` rows of the `total` that the lists hold (None = not counted); `cursor` leads on, None = all was seen.
    `at_least`: there may be more jobs than `total`, which are not listed and were not searched.
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
    """Jobs that match, at most MAX_FOUND, in the order of ORDER; the job of that very id alone where there is one.

    Looks at ROWS_PER_LIST rows of each list, at all of one that can be sifted, and for SECONDS at most; the cursor goes
    on from there. `seen` is told of
    all jobs that were looked at.
    """
    started = monotonic_s()
    look = _SearchRun(query, backend_of, started, seen)
    lists = list(_searched_lists(query, queues, backend_of))
    turn, at, offset = _parse_cursor(cursor)
    if cursor is None and query.bare_id:
        look.by_id(query.bare_id, queues)
    total = sum(count or 0 for *_, count in lists) if all(count is not None for *_, count in lists) else None
    look.at_least = any(state in queue.at_least for queue, state, _ in lists)
    if cursor is None and look.has_found:
        return look.build_result(total, START)  # whoever wants more searches further
    while query.terms:
        while at < len(lists):
            offset = max(offset, turn * ROWS_PER_LIST)
            following = look.search_list(*lists[at], offset, turn)
            if following is not None:
                return look.build_result(total, f"{turn}.{at}.{following}")
            at, offset = at + 1, 0
        turn, at = turn + 1, 0
        if not any(
            (count or 0) > turn * ROWS_PER_LIST and not look.can_scan(queue, state) for queue, state, count in lists
        ):
            break
        return look.build_result(total, f"{turn}.0.0")
    return look.build_result(total, None)


def matching_rows(
    query: SearchQuery, queue: QueueStats, state: State, backend: Backend, rows: int
) -> Iterator[tuple[Job | None, int]]:
    """(a job that matches or None, rows looked at so far) for the first `rows` of one list, in its order.

    Raises as Backend.window, and UnreadableData. Cost: a window for each WINDOW_ROWS rows.
    """
    now = backend.source.now_s()
    looked = 0
    while looked < rows:
        asked = JobQuery(state=state, page=looked // WINDOW_ROWS + 1, per_page=WINDOW_ROWS)
        with data_errors_foreseen(f"The {state.value} jobs of {queue.name!r}"):
            window = backend.search_page(queue.ref, asked)
        for row in window.rows:
            looked += 1
            yield (row.job if query.matches_row(row, now) else None), looked
        if len(window.rows) < WINDOW_ROWS:
            return


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
            # Jobs of another state may stand in this list; there each job is asked.
            others = [one.value for one, at in backend.listed_with.items() if at is state]
            if query.wants_list(queue, state, words) or (others and query.wants_list(queue, state, (*words, *others))):
                yield queue, state, count


def _parse_cursor(cursor: str | None) -> tuple[int, int, int]:
    parts = (cursor or START).split(".")
    if len(parts) != 3 or not all(part.isdigit() and len(part) < 9 for part in parts):
        raise Unsupported("This is no place at which a search could go on.", hint="Start the search again.")
    turn, at, offset = (int(part) for part in parts)
    return turn, at, offset


class _SearchRun:
    """One request's look through lists."""

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
        """Whether something was found so far."""
        return bool(self._jobs)

    def _source_now(self, queue: QueueStats) -> float:
        """By the clock of the Redis in which the jobs' times are kept."""
        return self._backend_of(queue).source.now_s()

    def by_id(self, job_id: str, queues: Sequence[QueueStats]) -> None:
        """Ask each queue for the job itself, for ID_SECONDS at most; first those that know their jobs by id."""
        asked = [queue for queue in queues if self._query.chooses_queue(queue)]
        for n, queue in enumerate(sorted(asked, key=lambda queue: not self._backend_of(queue).keyed_by_id)):
            if len(self._jobs) >= MAX_FOUND:
                return
            if monotonic_s() - self._started > ID_SECONDS:
                self._problems.append(f"{n} of {len(asked)} queues were asked for a job of this id, for want of time")
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
        """Whether the server itself looks through a list."""
        return self._query.word is not None and self._backend_of(queue).can_scan(state)

    def search_list(self, queue: QueueStats, state: State, count: int | None, offset: int, turn: int) -> int | None:
        """Look at the rows of one list from `offset` on that are due in this `turn`; where to go on when time or room
        is up, else None.
        """
        if self.can_scan(queue, state) and count is not None:
            if turn > 0:
                return None  # it was looked through to its end
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
        """Look at one stretch of a list; where the next begins, None at the end or where that is not permitted."""
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
        """Whether time or room is up."""
        return monotonic_s() - self._started > SECONDS or len(self._jobs) >= MAX_FOUND

    def _search_windows(self, queue: QueueStats, state: State, offset: int, end: int) -> int | None:
        """Look at the rows of one list from `offset` to `end`; as `search_list`."""
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
        """What was found so far."""
        seconds = monotonic_s() - self._started
        problems = tuple(dict.fromkeys(self._problems))[:5]
        if total is not None:
            total = max(total, self._searched)  # the lists may have grown since they were counted
        return SearchResult(tuple(self._jobs.values()), self._searched, total, seconds, cursor, problems, self.at_least)

    def _add_job(self, queue: QueueStats, job: Job) -> None:
        bare = job.id.rpartition("-")[2] if queue.shared else job.id
        self._jobs.setdefault((queue.source, queue.backend, job.queue, bare, job.native_state), (queue, job))
