"""The search page: finds jobs of all queues by ID or text, within limits that the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue

from ....errors import Unsupported
from ....model import QueueStats
from ....search.completion import write_term
from ....search.job_search import MAX_FOUND, ROWS_PER_LIST, SECONDS, SearchResult
from ....search.query import MAX_QUERY, SearchQuery, parse_query
from ....sources.metering import measure_cost
from ...context import app_services
from ...formatting import job_url
from ...views.flash import ActionFlash
from ...views.search_results import ACTIONS, WordMarker, list_actions, result_rows
from .. import layout

bp = Blueprint("search", __name__)

EXAMPLES = (
    ("state:dead timeout", "dead jobs with “timeout” in their name, payload or error"),
    ('error:"410 Gone" queue:web*', "a phrase in the error, in queues whose names start with web"),
    ("name:send age:>1h -state:completed", "jobs named send, older than an hour and not completed"),
    ("state:dead by:failed from:-2h", "dead jobs that failed in the last two hours"),
    ("from:2026-11-29T03:00 to:2026-11-29T04:30", "jobs enqueued between 03:00 and 04:30 UTC on that day"),
    ("id:4711", "a job by its ID"),
)
SUGGESTED = 200


@bp.get("/search")
def index() -> ResponseReturnValue:
    """The page; `q` is the query, `cursor` where the next part of the search starts. With `open`, a single job that has
    the ID of the query opens instead."""
    text = request.args.get("q", "")[:MAX_QUERY].strip()
    current = app_services().snapshots.current()
    queues = current.snapshot.queues if current.snapshot else ()
    found: SearchResult | None = None
    query: SearchQuery | None = None
    wrong: Unsupported | None = None
    with measure_cost() as meter:
        if text:
            try:
                query = parse_query(text)
                found = app_services().job_reader.search_jobs(query, queues, request.args.get("cursor"))
            except Unsupported as exc:
                wrong = exc
    if request.args.get("open") and found is not None and (job_page := _single_job_url(found)) is not None:
        return redirect(job_page)
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    return render_template(
        "search/index.html",
        **layout.page_context(current, cost),
        text=text,
        found=found,
        wrong=wrong,
        examples=EXAMPLES,
        is_later_part=bool(request.args.get("cursor")),
        flash=ActionFlash.read(request.args),
        matching=[queue for queue in queues if text and text.casefold() in queue.name.casefold()][:10],
        suggestions=_suggest_terms(queues),
        **(_result_context(query, found) if query is not None and found is not None else {}),
    )


def _single_job_url(found: SearchResult) -> str | None:
    """The page of the only job that was found by its ID; None if there is none, or several queues have one."""
    if found.found_total != 1 or found.searched_total or found.problems:
        return None
    (only,) = found.jobs
    return job_url(only.queue, only.job.id)


def _result_context(query: SearchQuery, found: SearchResult) -> dict[str, Any]:
    sources = app_services().sources
    rows = result_rows(query, found.jobs, sources.backend)
    list_queue, list_state = found.only_list or (None, None)
    return {
        "rows": rows,
        "offered": tuple(action for action in ACTIONS if any(action in row.actions for row in rows)),
        "marker": WordMarker(query),
        "time_name": query.time_name,
        "list_queue": list_queue,
        "list_state": list_state,
        "list_actions": _list_actions(found),
        "limits": (ROWS_PER_LIST, SECONDS, MAX_FOUND),
        "titles": sources.titles,
        "list_words": lambda job: sources.backend(job.source, job.backend).list_words(),
    }


def _list_actions(found: SearchResult) -> tuple[str, ...]:
    """Actions on all matching jobs, if the query chooses one list; they start with a preview."""
    if found.only_list is None or not found.found_total:
        return ()
    queue, state = found.only_list
    return list_actions(app_services().sources.backend(queue.source, queue.backend), queue, state)


def _suggest_terms(queues: Sequence[QueueStats]) -> list[str]:
    """Terms with the names of queues and jobs, for browsers without script; others complete the term at the caret."""
    names = sorted({queue.name for queue in queues if not queue.shared})[:SUGGESTED]
    known = (("queue", names), ("name", app_services().job_reader.names.newest_names(SUGGESTED)))
    return [term for field, values in known for value in values if (term := write_term(field, value)) is not None]
