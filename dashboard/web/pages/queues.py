"""The page of a queue: its figures from the sample, and its jobs by state, read live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for

from ...actions.trash_listing import TrashFilter
from ...alerts.evaluation.preview import failure_ratios
from ...auth import Role
from ...backends.actions import Action
from ...backends.base import Backend
from ...errors import BackendUnavailable, Forbidden, NotFound, UnreadableData, Unsupported
from ...model import JobPage, JobQuery, QueueStats, State
from ...sampling.recent_history import Point
from ...sampling.snapshot_reader import CurrentSnapshot
from ...sources.metering import measure_cost
from ..access.security import has_role
from ..context import app_context, app_services, read_context
from ..forms.job_query import job_query
from ..fragments import current_outage
from ..views.flash import ActionFlash
from ..views.offered_actions import list_verbs, queue_verbs
from ..views.problems.checks import dead_growth
from ..views.problems.problem import ProblemKind, level_of
from ..views.problems.problem_list import list_queue_problems
from ..views.queues.context import QueueContext
from ..views.queues.error_groups import list_shared_entries
from ..views.queues.suggested_rule import suggest_rule
from ..views.sparkline import line
from . import layout
from .moments.asked_moment import asked_moment
from .moments.past_queue import render_past_queue
from .overview import span_text

bp = Blueprint("queues", __name__, url_prefix="/queues/<segment:source>/<segment:backend>/<segment:name>")

TEMPLATE = "queues/_queue.html"
CHART_SIZE = (240, 48)
# Which tab opens first: the first of these states that has jobs.
FIRST_TABS = (State.WAITING, State.ACTIVE, State.DEAD, State.SCHEDULED, State.RETRYING, State.BLOCKED)


@dataclass(frozen=True, slots=True)
class StateTab:
    """One state: the library's own names for it, and how many jobs are in it."""

    state: State
    native: tuple[str, ...]
    count: int | None
    selected: bool
    at_least: bool  # the count is a lower bound: part of the list could not be read


@dataclass(frozen=True, slots=True)
class JobListing:
    """A page of jobs, or the error that prevented reading it."""

    query: JobQuery
    jobs: JobPage | None
    error: str | None
    hint: str | None

    @property
    def first(self) -> int:
        """Number of the first row shown, from 1; 0 when there is none."""
        return self.query.offset + 1 if self.jobs and self.jobs.jobs else 0

    @property
    def last(self) -> int:
        """Number of the last row shown."""
        return self.query.offset + len(self.jobs.jobs) if self.jobs else 0

    @property
    def more(self) -> bool:
        """Whether there is a next page."""
        if self.jobs is None or not self.jobs.jobs:
            return False
        total = self.jobs.total
        return len(self.jobs.jobs) >= self.query.per_page if total is None else self.last < total


@bp.get("")
def show(source: str, backend: str, name: str) -> str:
    """The page. 404 when the queue is not in the latest snapshot, or neither then nor now for a moment in the past."""
    moment = asked_moment()
    if moment is not None:
        return render_past_queue(source, backend, name, moment)
    current, queue = find_queue(source, backend, name)
    variables = queue_context(current, queue)
    return render_template(
        "queues/show.html",
        **layout.page_context(current, variables.pop("cost")),
        **variables,
        in_trash=count_in_trash(queue),
    )


@bp.get("/_queue")
def fragment(source: str, backend: str, name: str) -> Response:
    """The part of the page that polls."""
    return layout.render_polled(TEMPLATE, queue_context(*find_queue(source, backend, name)))


def find_queue(source: str, backend: str, name: str) -> tuple[CurrentSnapshot, QueueStats]:
    """The queue at that URL. Raises NotFound, or BackendUnavailable when its Redis has not been read yet."""
    services = app_services()
    services.sources.backend(source, backend)
    current = services.snapshots.current()
    try:
        return current, app_context().find_queue_stats(source, backend, name)
    except NotFound:
        for stats in current.snapshot.sources if current.snapshot else ():
            if stats.name == source and not stats.reachable:
                raise BackendUnavailable(
                    stats.error or f"Redis {source} is not responding", source=source, reason="lost", hint=stats.hint
                ) from None
        raise


def count_in_trash(queue: QueueStats) -> int | None:
    """The deleted jobs of a queue that can be restored; None if the trash cannot be read.

    Only for the page, not for its polls. Cost: 1 round trip, 2 if the trash is not empty.
    """
    wanted = TrashFilter(source=queue.source, backend=queue.backend, queue=queue.name)
    try:
        return app_services().trash_listing.count_jobs(wanted)
    except (BackendUnavailable, Forbidden):
        return None


def queue_context(current: CurrentSnapshot, queue: QueueStats) -> dict[str, Any]:
    """The variables of the fragment."""
    backend = app_services().sources.backend(queue.source, queue.backend)
    with measure_cost() as meter:
        listing = _read_listing(backend, queue)
        classes = app_services().job_reader.class_stats(queue)
    facts = app_context().caches.alert_facts(with_pauses=bool(queue.paused))
    problems = list_queue_problems(queue, facts, dead_growth(queue, current.history))
    past = current.history.history_of(queue)
    context = read_context(current, queue, facts)
    slots = len(current.history.totals.depth)

    def chart(points: tuple[Point, ...]) -> str:
        return line(points, slots, *CHART_SIZE)

    def ratio_chart(ratios: tuple[Point, ...]) -> str:
        return line(ratios, slots, *CHART_SIZE, top=max([0.05, *(ratio for ratio in ratios if ratio is not None)]))

    acts = has_role(Role.OPERATOR)
    moves = not queue.read_only and Action.MOVE in backend.job_actions.get(State.WAITING, ())
    redrives = acts and moves and app_services().dead_letter_service.is_dlq(queue)
    return {
        "reading": current,
        "queue": queue,
        "backend": backend,
        "problems": problems,
        "recorded_pauses": facts.pauses,
        "context": context,
        "groups_url": list_groups_url(queue, context),
        "shared_queue": _find_shared_queue(current, queue) if listing.error else None,
        "suggested": suggest_rule(queue, backend.title, past, {problem.kind for problem in problems}),
        "history": past,
        "chart": chart,
        "ratio_chart": ratio_chart,
        "error_ratios": failure_ratios(past) if past else (),
        "error_level": level_of(problems, ProblemKind.FAILING),
        "dead_level": level_of(problems, ProblemKind.DEAD_LETTERS, ProblemKind.RISING),
        "span_text": span_text(current.history),
        "tabs": _build_tabs(backend, queue, listing),
        "natives": _native_lists(backend, queue, listing.query.state),
        "list_words": backend.list_words(),
        "listing": listing,
        "classes": classes,
        "cost": layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000),
        "is_down": current_outage(current) is not None,
        "flash": ActionFlash.read(request.args),
        "offered": list_verbs(backend, queue, listing.query.state, listing.jobs) if acts else (),
        "queue_offered": queue_verbs(backend, queue) if acts else (),
        "redrives": redrives,
    }


def _find_shared_queue(current: CurrentSnapshot, queue: QueueStats) -> QueueStats | None:
    return next(list_shared_entries(queue, current.snapshot.queues if current.snapshot else ()), None)


def list_groups_url(queue: QueueStats, context: QueueContext) -> str:
    """The list of error groups, narrowed to the queue; to its library if its name cannot be part of a filter."""
    name = context.error_groups.name if context.error_groups else None if queue.shared else queue.name
    filtered = name if name and name.isprintable() else None
    return url_for("dead.index", source=queue.source, library=queue.backend, queue=filtered)


def _read_listing(backend: Backend, queue: QueueStats) -> JobListing:
    """The page of jobs that the URL asks for. If Redis fails, only the list is missing, not the whole page."""
    query = job_query(backend, request.args.get("state") or _first_state(backend, queue).value)
    jobs, error, hint = None, None, None
    try:
        jobs = app_services().job_reader.list_jobs(queue, query)
    except (BackendUnavailable, Forbidden, NotFound, Unsupported, UnreadableData) as exc:
        error, hint = exc.message, exc.hint
    return JobListing(query, jobs, error, hint)


def _first_state(backend: Backend, queue: QueueStats) -> State:
    states = _listed_states(backend, queue)
    return next((state for state in FIRST_TABS if state in states and queue.counts.of(state)), states[0])


def _listed_states(backend: Backend, queue: QueueStats) -> list[State]:
    """The states this queue has lists for: some libraries keep several lists in a shared entry for all queues."""
    own = {entry.state for entry in queue.native}
    return [state for state in backend.states if not own or state in own]


def _build_tabs(backend: Backend, queue: QueueStats, listing: JobListing) -> tuple[StateTab, ...]:
    """The tabs with the counts of the sample. The open tab has the count of the list below it, which is newer."""
    query = listing.query
    now = listing.jobs.total if listing.jobs and query.native is None else None
    return tuple(
        StateTab(
            state,
            _native_words(backend, queue, state),
            now if state is query.state and now is not None else queue.counts.of(state),
            state is query.state,
            bool(listing.jobs and listing.jobs.at_least and now is not None and state is query.state),
        )
        for state in _listed_states(backend, queue)
    )


def _native_words(backend: Backend, queue: QueueStats, state: State) -> tuple[str, ...]:
    """The library's names for the lists of a state; only those that this queue has, where that is known."""
    own = {entry.native for entry in queue.native if entry.state is state}
    return tuple(word for word in backend.states[state] if word in own) or backend.states[state]


def _native_lists(backend: Backend, queue: QueueStats, state: State) -> tuple[tuple[str, int | None], ...]:
    """The library's own lists within a state, with their counts; () if there is only one."""
    words = _native_words(backend, queue, state)
    counts = {entry.native: entry.count for entry in queue.native}
    return tuple((word, counts.get(word)) for word in words) if len(words) > 1 else ()
