"""The JSON of a job with the values that are masked elsewhere."""

from __future__ import annotations

from flask import Blueprint

from ...context import app_context, app_services
from ...forms.request_input import json_body
from ...pages.reveal.revealed_job import reveal_job
from ...views.offered_actions import job_verbs
from ..action_bodies import ReasonBody
from ..actions import checked_reason_of
from ..job_json import JobDetailJson, json_job_detail
from ..responses import json_response

bp = Blueprint("api_reveal", __name__, url_prefix="/api/v1")


@bp.post("/queues/<segment:source>/<segment:backend>/<segment:name>/jobs/<segment:job_id>/reveal")
@json_body(ReasonBody)
@json_response
def reveal(body: ReasonBody, source: str, backend: str, name: str, job_id: str) -> JobDetailJson:
    """Retrieve a job with the values that are masked elsewhere.

    Requires the right `payload`, which administrators have. The audit log records who asked, and which parts had masked
    values, before the response is sent; if it cannot be written, the response is an error. Also in read-only mode.
    """
    queue = app_context().find_queue_stats(source, backend, name)
    job = reveal_job(queue, job_id, checked_reason_of(body.reason)).job
    library = app_services().sources.backend(source, backend)
    return json_job_detail(job, job_verbs(library, queue, job))
