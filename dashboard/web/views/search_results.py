"""Search results in tables: marked words, the time that the search asks for, and what can be done with each job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup, escape

from ...backends.actions import Action
from ...backends.base import Backend
from ...model import QueueStats, State
from ...search.matches import FoundJob, error_text, excerpt, find_spans, first_span
from ...search.query import SearchQuery
from ...search.time_terms import TIMES
from ..formatting import one_line
from ..forms.job_tokens import found_token
from .offered_actions import job_verbs, list_verbs, why_none

# What people do with jobs of several queues; everything else is on the job's page.
ACTIONS = (Action.RETRY, Action.PROMOTE, Action.DELETE)
ERROR_STATES = (State.DEAD, State.RETRYING, State.SCHEDULED, State.CANCELED, None)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A found job with its checkbox value, None if it cannot be selected, and its actions; `why` there are none."""

    found: FoundJob
    token: str | None
    actions: tuple[Action, ...]
    why: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class WordMarker:
    """Shows text on one line with the words of a search marked."""

    query: SearchQuery

    def mark(self, text: str, limit: int, *fields: str) -> Markup:
        """At most about `limit` characters of `text`, with the words that must be in one of `fields` marked.

        Starts at the first of them if it would be cut off. Escaped, and linear in the text.
        """
        words = self.query.words_of(*fields)
        shown = one_line(excerpt(" ".join(text[: 16 * 1024].split()), words, limit), limit)
        parts: list[Markup] = []
        reached = 0
        for start, end in find_spans(shown, words):
            parts += [escape(shown[reached:start]), Markup("<mark>{}</mark>").format(shown[start:end])]
            reached = end
        return Markup("").join([*parts, escape(shown[reached:])])

    def mark_error(self, found: FoundJob) -> Markup | None:
        """The error of the job with its words marked; None for a job without one, or whose last run succeeded."""
        message = found.job.error.message if found.job.error else None
        if found.job.error is None or not ("error" in found.matched_in or found.job.state in ERROR_STATES):
            return None
        return self.mark(message if message and self._is_in(message) else error_text(found.job), 160, "error")

    def _is_in(self, text: str) -> bool:
        return first_span(text, self.query.words_of("error")) is not None


def result_rows(
    query: SearchQuery, jobs: Sequence[FoundJob], backend_of: Callable[[str, str], Backend]
) -> list[ResultRow]:
    """The rows of the table, in the order of the search."""
    return [_result_row(query, found, backend_of(found.queue.source, found.queue.backend)) for found in jobs]


def _result_row(query: SearchQuery, found: FoundJob, backend: Backend) -> ResultRow:
    verbs = job_verbs(backend, found.queue, found.job) if found.job.state is not None else ()
    actions = tuple(action for action in ACTIONS if action in verbs)
    why = found.queue.read_only or (
        "not in any list"
        if found.job.state is None
        else why_none(backend, found.queue.ref, Action.RETRY, Action.DELETE, state=found.job.state)
    )
    return ResultRow(
        found=found,
        token=found_token(found) if actions else None,
        actions=actions,
        why=None if actions else why,
        at=TIMES[query.time_name](found.job),
    )


def list_actions(backend: Backend, queue: QueueStats, state: State) -> tuple[Action, ...]:
    """Actions on all jobs of a list that match."""
    return tuple(action for action in ACTIONS if action in list_verbs(backend, queue, state, None))
