"""The search page: finds jobs of all queues by ID or text, within limits that the page shows."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, render_template, request

from ...errors import Unsupported
from ...search.job_search import SearchResult
from ...search.query import MAX_QUERY, parse_query
from ...sources.metering import measure_cost
from ..context import app_services
from . import layout

bp = Blueprint("search", __name__)

EXAMPLES = (
    ("state:dead timeout", "dead jobs with “timeout” in their name, payload or error"),
    ('error:"410 Gone" queue:web*', "a phrase in the error, in queues whose names start with web"),
    ("name:send age:>1h -state:completed", "jobs named send, older than an hour and not completed"),
    ("id:4711", "a job by its ID"),
)
SUGGESTED = 200


@bp.get("/search")
def index() -> str:
    """The page; `q` is the query, `cursor` where the next page of results starts."""
    text = request.args.get("q", "")[:MAX_QUERY].strip()
    current = app_services().snapshots.current()
    queues = current.snapshot.queues if current.snapshot else ()
    found: SearchResult | None = None
    wrong: Unsupported | None = None
    with measure_cost() as meter:
        if text:
            try:
                found = app_services().job_reader.search_jobs(parse_query(text), queues, request.args.get("cursor"))
            except Unsupported as exc:
                wrong = exc
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    names = sorted({queue.name for queue in queues if not queue.shared})[:SUGGESTED]
    return render_template(
        "search/index.html",
        **layout.page_context(current, cost),
        text=text,
        found=found,
        wrong=wrong,
        examples=EXAMPLES,
        matching=[queue for queue in queues if text and text.casefold() in queue.name.casefold()][:10],
        suggestions=[
            *_query_terms("queue", names),
            *_query_terms("name", app_services().job_reader.names.newest_names(SUGGESTED)),
        ],
        titles=app_services().sources.titles,
        list_words=lambda job: app_services().sources.backend(job.source, job.backend).list_words(),
    )


def _query_terms(field: str, values: Iterable[str]) -> list[str]:
    """A search term for each of `values` that the query language can express."""
    return [f'{field}:"{value}"' if " " in value else f"{field}:{value}" for value in values if '"' not in value]
