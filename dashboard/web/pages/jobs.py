"""The page of a job, read live: what happened to it on the left, its details on the right."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, render_template, request, url_for

from ...auth import Role
from ...backends.actions import Action
from ...backends.base import Backend
from ...dead_letters.fingerprint import normalize_job_error
from ...model import Capability, Job, Payload, QueueStats, State
from ...redact import MASK
from ...sources.metering import measure_cost
from ...units import format_number
from ..access.security import has_role
from ..context import app_context, app_services, read_context
from ..rights.revealing import may_reveal
from ..views.flash import ActionFlash
from ..views.jobs.after_action import describe_since
from ..views.jobs.job_facts import describe_facts, describe_progress, former_error_title
from ..views.jobs.masked_parts import masked_parts
from ..views.jobs.payload_tree import NONE, PayloadNode, build_tree
from ..views.jobs.stack_trace import frames
from ..views.jobs.timeline import story
from ..views.jobs.waiting_reasons import WaitingReason, explain_not_running, explain_pause
from ..views.offered_actions import job_verbs, queue_verbs
from ..views.queues.context import QueueContext
from . import layout
from .queues import find_queue, list_groups_url

bp = Blueprint("jobs", __name__, url_prefix="/queues/<segment:source>/<segment:backend>/<segment:name>/jobs")

TEMPLATE = "jobs/_job.html"


@bp.get("/<segment:job_id>")
def show(source: str, backend: str, name: str, job_id: str) -> str:
    """The page. 404 when the job does not exist, or no longer does."""
    variables = job_context(source, backend, name, job_id)
    return render_template("jobs/show.html", **variables | layout.page_context(variables["reading"], variables["cost"]))


@bp.get("/<segment:job_id>/_job")
def fragment(source: str, backend: str, name: str, job_id: str) -> Response:
    """The part of the page that polls."""
    return layout.render_polled(TEMPLATE, job_context(source, backend, name, job_id))


def job_context(source: str, backend: str, name: str, job_id: str) -> dict[str, Any]:
    """The variables of the fragment. Raises NotFound, BackendUnavailable."""
    current, queue = find_queue(source, backend, name)
    library = app_services().sources.backend(queue.source, queue.backend)
    with measure_cost() as meter:
        job = app_services().job_reader.read_job(queue, job_id)
    flash = ActionFlash.read(request.args)
    context = read_context(current, queue, app_context().caches.alert_facts(with_pauses=False))
    return _link_error_group(job, queue, context) | {
        "context": context,
        "reading": current,
        "queue": queue,
        "backend": library,
        "job": job,
        "story": story(job),
        "reasons": explain_not_running(
            job, queue, app_services().sources.now_s(queue.source), _explain_pause(library, queue)
        ),
        "facts": describe_facts(job),
        "progress": describe_progress(job.progress),
        "former_error": former_error_title(job),
        "frames": frames(job.error.stack) if job.error and job.error.stack else (),
        "sections": payload_sections(job, library),
        "flash": flash,
        "since_action": describe_since(flash, job),
        "offered": job_verbs(library, queue, job) if has_role(Role.OPERATOR) else (),
        "can_reveal": may_reveal(queue.ref, job) and bool(masked_parts(job)),
        "mask": MASK,
        "keeps_logs": Capability.LOGS in library.capabilities,
        "cost": layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000),
    }


def payload_sections(job: Job, library: Backend) -> tuple[tuple[str, str, Payload, PayloadNode | None], ...]:
    """The payload, result, options and meta of a job: key, title, value, and a tree of those that are JSON."""
    values = (
        ("payload", "Payload", job.payload, NONE, NONE),
        ("result", "Result", job.result, NONE, NONE),
        ("options", "Options", job.options, library.option_units, library.option_names),
        ("meta", "Meta", job.meta, NONE, NONE),
    )
    return tuple(
        (key, title, value, build_tree(value.value, units, names) if value.kind == "json" else None)
        for key, title, value, units, names in values
        if value is not None and (value.kind != "missing" or key == "payload")
    )


def _link_error_group(job: Job, queue: QueueStats, context: QueueContext) -> dict[str, str | None]:
    """The error group of a dead job, from the groups that this process has read; the groups of its queue before."""
    group_list = app_services().dead_letter_service.cached_groups()
    if job.state is not State.DEAD or job.error is None:
        return {"group_url": None, "group_text": None}
    if group_list is None:
        return {"group_url": list_groups_url(queue, context), "group_text": "Error groups of this queue"}
    group = group_list.grouped.find(normalize_job_error(job, job.error.stack).fingerprint)
    if group is None:
        return {"group_url": None, "group_text": None}
    final = "" if group_list.grouped.is_final(group) else "+"
    jobs = f"{format_number(group.count)}{final} job{'' if group.count == 1 and not final else 's'} with this error"
    return {"group_url": url_for("dead.show", fingerprint=group.error.fingerprint), "group_text": jobs}


def _explain_pause(library: Backend, queue: QueueStats) -> WaitingReason | None:
    """Who paused the queue, and whether its page can resume it; None when it is not paused."""
    if not queue.paused:
        return None
    obstacle = None
    if Action.RESUME not in queue_verbs(library, queue):
        obstacle = queue.read_only or library.unsupported_reasons.get(Action.RESUME, "")
    now = app_services().sources.now_s(queue.source)
    return explain_pause(queue, app_context().caches.current_pauses(), now, obstacle)
