"""The search syntax for jobs.

All words and "phrases" must match a job's id, name, payload or error, ignoring case; `-` before a term excludes it.
`id:`, `name:`, `queue:`, `state:`, `library:`, `source:`, `error:` and `payload:` match one field; `age:>1h` and
`age:<10m` match the time since a job was enqueued. `from:` and `to:` match when it was enqueued, or with `by:finished`
(started, failed, due) that time; see time_terms.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..backends.base import SCANNABLE
from ..clock import now_s
from ..errors import Unsupported
from ..globs import GLOB_LIMIT, glob_matches, is_plain
from ..model import Job, QueueStats, Searched, State
from ..units import read_amount
from .time_terms import BOUNDS, DEFAULT_TIME, bound_holds, check_bound, check_time

MAX_QUERY = 500
FIELDS = ("id", "name", "queue", "state", "library", "source", "error", "payload", "age", "from", "to", "by")
# Fields that have the same value for all jobs of a queue.
CHOOSING = ("queue", "source", "library")
ALIASES = {"backend": "library"}
_STATES = frozenset(state.value for state in State)
_TOKEN = re.compile(r'(-?)(?:([A-Za-z]+):)?(?:"([^"]*)"?|(\S+))')
_AGE = re.compile(r"[<>]\s*\d")


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """One condition: `field` must contain `text`, ignoring case; any field if `field` is None.

    `by`: which time of a job `from:` and `to:` mean; None for other fields.
    """

    text: str
    field: str | None = None
    excluded: bool = False
    by: str | None = None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A parsed search: all its terms must match."""

    terms: tuple[SearchTerm, ...]

    @property
    def bare_id(self) -> str | None:
        """The only word, if it may be a job's id, or the `id:` term beside terms that choose queues; otherwise None."""
        asked = [term for term in self.terms if term.field not in CHOOSING]
        if len(asked) != 1 or asked[0].excluded:
            return None
        alone = asked[0].field is None and len(self.terms) == 1
        return asked[0].text if alone or asked[0].field == "id" else None

    @property
    def word(self) -> str | None:
        """The longest word that the data of every matching job contains; None if the server cannot scan for any."""
        words = (
            term.text
            for term in self.terms
            if not term.excluded and term.field in (None, "id", "name", "error", "payload")
            # An entry without an id has the generated id raw…, which its data does not contain.
            if SCANNABLE.match(term.text) and not term.text.casefold().startswith("raw")
        )
        return max(words, key=len, default=None)

    @property
    def time_name(self) -> str:
        """Which time of a job `from:` and `to:` mean: a key of time_terms.TIMES."""
        return next((term.by for term in self.terms if term.by is not None), DEFAULT_TIME)

    def words_of(self, *fields: str) -> tuple[str, ...]:
        """The texts, in lower case, that must be in one of these fields or in any field: those to mark there."""
        wanted = (term.text.casefold() for term in self.terms if not term.excluded and term.field in (None, *fields))
        return tuple(dict.fromkeys(wanted))

    def words_in(self, field: str) -> frozenset[str]:
        """The texts, in lower case, that must be in this very field."""
        return frozenset(term.text.casefold() for term in self.terms if not term.excluded and term.field == field)

    def chooses_queue(self, queue: QueueStats) -> bool:
        """Whether the terms choose this queue, or it is a shared entry with jobs of several queues."""
        return all(_admits_list(term, queue, ()) for term in self.terms if term.field in CHOOSING)

    def is_chosen(self, job: Job, now: float) -> bool:
        """Whether the terms choose the queue of this job."""
        row = Searched(job=job, text="")
        return all(_term_holds(term, row, now) != term.excluded for term in self.terms if term.field in CHOOSING)

    def wants_list(self, queue: QueueStats, state: State, native: Sequence[str]) -> bool:
        """Whether a list can contain matching jobs."""
        return all(_admits_list(term, queue, (state.value, *(word.lower() for word in native))) for term in self.terms)

    def matches_row(self, row: Searched, now: float) -> bool:
        """Whether a job matches all terms."""
        return all(_term_holds(term, row, now) != term.excluded for term in self.terms)


def parse_query(text: str) -> SearchQuery:
    """Parse `text`. Raises Unsupported for an invalid age or time, and for a pattern that is too long."""
    terms = []
    for minus, field, phrase, word in _TOKEN.findall(text[:MAX_QUERY]):
        name = ALIASES.get(field.lower(), field.lower())
        value = phrase or word
        if field and name not in FIELDS:
            name, value = "", f"{field}:{value}"
        if name == "age":
            _parse_age(value)
        if name in CHOOSING and len(value) > GLOB_LIMIT and not is_plain(value):
            raise Unsupported(
                f"Pattern too long: {name}:{value[:40]}….",
                hint=f"Use at most {GLOB_LIMIT} characters with * or ?.",
            )
        if value:
            # Ids are case-sensitive; everything else is compared ignoring case.
            terms.append(SearchTerm(value if name == "id" or not name else value.casefold(), name or None, bool(minus)))
    return SearchQuery(_with_times(terms))


def _with_times(terms: Sequence[SearchTerm]) -> tuple[SearchTerm, ...]:
    """The terms without `by:`, which is the time that `from:` and `to:` mean. Raises Unsupported for invalid times."""
    chosen = [term for term in terms if term.field == "by"]
    bounds = [term for term in terms if term.field in BOUNDS]
    by = check_time(chosen[0].text) if chosen else DEFAULT_TIME
    if len({term.text for term in chosen}) > 1 or any(term.excluded for term in chosen):
        raise Unsupported("Only one by: is possible, without a -.", hint="Write by:finished from:-2h.")
    if chosen and not bounds:
        raise Unsupported(f"by:{by} needs from: or to:.", hint=f"Write by:{by} from:-2h.")
    now = now_s()
    limits: dict[str, list[float]] = {name: [] for name in BOUNDS}
    for term in bounds:
        limit = check_bound(str(term.field), term.text, now)
        if not term.excluded:
            limits[str(term.field)].append(limit)
    if limits["from"] and limits["to"] and max(limits["from"]) >= min(limits["to"]):
        raise Unsupported("from: is not before to:.", hint="A time without a date is today's: add the date.")
    return tuple(replace(term, by=by) if term in bounds else term for term in terms if term.field != "by")


def _admits_list(term: SearchTerm, queue: QueueStats, words: Sequence[str]) -> bool:
    """Whether a list of `queue` whose state is named by any of `words` can contain jobs that match `term`."""
    if term.field == "queue":
        # Shared lists also contain jobs of this queue; there each job is checked.
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
    if term.field in BOUNDS:
        holds = bound_holds(term.field, wanted, term.by or DEFAULT_TIME, job, now)
        return term.excluded if holds is None else holds  # a job whose time is unknown never matches
    if term.field in ("source", "library") or (term.field == "state" and job.state is None):
        return not term.excluded  # these terms already chose whole lists
    if term.field == "state":
        native = (job.native_state or "").casefold()
        # A library's state can have several words: "queued, revoked".
        if job.state is not None and wanted in (job.state.value, native, *native.replace(",", " ").split()):
            return True
        return not term.excluded and wanted not in _STATES  # the library's own word chose the list
    if term.field == "queue":
        return _matches_glob(job.queue, wanted)
    return wanted in {"id": job.id, "name": job.name or "", "error": error, "payload": row.text}[term.field].casefold()


def _age_holds(wanted: str, job: Job, now: float) -> bool:
    at = job.enqueued_at or job.finished_at
    if at is None:
        return False
    older, limit_s = _parse_age(wanted)
    age_s = now - at.timestamp()
    return age_s > limit_s if older else age_s < limit_s


def _parse_age(text: str) -> tuple[bool, float]:
    """Whether jobs must be older, not younger, and than how many seconds. Raises Unsupported."""
    try:
        return text.startswith(">"), read_amount(text[1:] if _AGE.match(text) else "", "s")
    except ValueError:
        hint = "Write age:>1h or age:<10m; units are s, m, h, d."
        raise Unsupported(f"Invalid age: {text[:40]}.", hint=hint) from None
