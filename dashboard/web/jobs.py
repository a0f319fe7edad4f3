"""One job: the story of its life on the left, the facts on the right, read live."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, render_template, request

from dashboard.access import Role
from dashboard.model import Capability
from dashboard.sources import metered
from dashboard.web import htmx, page
from dashboard.web.deck import deck
from dashboard.web.did import Did
from dashboard.web.queues import find
from dashboard.web.security import may
from dashboard.web.stack import frames
from dashboard.web.story import story
from dashboard.web.tree import tree
from dashboard.web.why import why

bp = Blueprint("jobs", __name__, url_prefix="/queues/<segment:source>/<segment:backend>/<segment:name>/jobs")

TEMPLATE = "jobs/_job.html"


@bp.get("/<segment:job_id>")
def show(source: str, backend: str, name: str, job_id: str) -> str:
    """The page. 404 when there is no such job (any more)."""
    variables = context(source, backend, name, job_id)
    return render_template("jobs/show.html", **variables | page.shell(variables["reading"], variables["price"]))


@bp.get("/<segment:job_id>/_job")
def fragment(source: str, backend: str, name: str, job_id: str) -> Response:
    """The part of the page that polls."""
    variables = context(source, backend, name, job_id)
    response = htmx.live(TEMPLATE, variables)
    response.headers[page.PRICE] = variables["price"]
    return response


def context(source: str, backend: str, name: str, job_id: str) -> dict[str, Any]:
    """The variables of the fragment. Raises NotFound, BackendUnavailable."""
    reading, queue = find(source, backend, name)
    library = deck().backend(queue.source, queue.backend)
    with metered() as meter:
        job = deck().job(queue, job_id)
    return {
        "reading": reading,
        "queue": queue,
        "backend": library,
        "job": job,
        "story": story(job),
        "reasons": why(job, queue, deck().now_s(queue.source)),
        "frames": frames(job.error.stack) if job.error and job.error.stack else (),
        "sections": tuple(
            (key, title, value, tree(value.value) if value.kind == "json" else None)
            for key, title, value in (
                ("payload", "Payload", job.payload),
                ("result", "Result", job.result),
                ("options", "Options", job.options),
                ("meta", "Meta", job.meta),
            )
            if value is not None and (value.kind != "missing" or key == "payload")
        ),
        "did": Did.read(request.args),
        "offered": library.offered(job.state, shared=queue.shared) if job.state and may(Role.OPERATOR) else (),
        "keeps_logs": Capability.LOGS in library.capabilities,
        "price": page.price(meter.commands, meter.round_trips, meter.seconds * 1000),
    }
