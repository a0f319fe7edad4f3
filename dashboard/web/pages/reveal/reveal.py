"""The page of a job with its masked values. It is the answer to a POST and does not poll: it is gone with a reload."""

from __future__ import annotations

from flask import Blueprint, render_template

from ...context import app_services
from ...forms.request_input import form_fields
from ...views.jobs.job_facts import describe_facts, describe_progress, former_error_title
from ...views.jobs.stack_trace import frames
from ...views.jobs.timeline import story
from .. import layout
from ..job_actions import parse_reason
from ..jobs import payload_sections
from ..queues import find_queue
from .revealed_job import reveal_job

bp = Blueprint("reveal", __name__)


@bp.post("/queues/<segment:source>/<segment:backend>/<segment:name>/jobs/<segment:job_id>/reveal")
@form_fields("reason")
def show(source: str, backend: str, name: str, job_id: str) -> str:
    """Show the masked values of a job, and record who sees them."""
    current, queue = find_queue(source, backend, name)
    library = app_services().sources.backend(queue.source, queue.backend)
    revealed = reveal_job(queue, job_id, parse_reason())
    job = revealed.job
    return render_template(
        "jobs/revealed.html",
        **layout.page_context(current, ""),
        queue=queue,
        backend=library,
        job=job,
        job_id=job_id,
        parts=revealed.parts,
        story=story(job),
        facts=describe_facts(job),
        progress=describe_progress(job.progress),
        former_error=former_error_title(job),
        frames=frames(job.error.stack) if job.error and job.error.stack else (),
        sections=payload_sections(job, library),
        keeps_logs=False,
    )
