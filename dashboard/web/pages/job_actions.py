"""Actions on jobs, queues, schedules and workers: plain forms, answered with 303 to the page that shows the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec.structs import replace

from ...actions.audit_log import MAX_REASON
from ...actions.bulk.operation import BulkRequest, JobListRef
from ...actions.trash import check_undo_batch, nothing_left
from ...backends.actions import Action, ActionOptions, JobRef, Outcome
from ...clock import now_s
from ...dead_letters.fingerprint import is_fingerprint
from ...errors import Conflict, NotFound, Unsupported
from ...model import Job, Payload, QueueRef, QueueStats, Schedule, State, Worker
from ...redact import MASK
from ...sampling.snapshot_reader import CurrentSnapshot
from ...units import format_size
from ..access.security import current_actor
from ..context import app_context, app_services
from ..formatting import job_url, printable, queue_url
from ..forms.job_tokens import read_job_token
from ..forms.request_input import form_fields, form_flag
from ..urls import read_segment
from ..views.confirmation import row_stamp
from ..views.flash import MAX_UNDO_BATCHES, ActionFlash
from ..views.offered_actions import job_verbs, why_unsupported
from . import layout
from .action_steps import ActionSteps
from .bulk.start import not_restored, start_large_undo, start_operation
from .queues import find_queue

bp = Blueprint("job_actions", __name__)

_QUEUE = "/queues/<segment:source>/<segment:backend>/<segment:name>"
MAX_TEXT = 512 * 1024
# Fields of every form of job actions.
ACTION = ("action", "reason", "target", "reset_attempts")
ORIGIN_UNKNOWN = "origin queue unknown: choose a destination"


@bp.post(f"{_QUEUE}/act")
@form_fields(*ACTION, "state", "native", "page", many=("pick",))
def on_jobs(source: str, backend: str, name: str) -> ResponseReturnValue:
    """Apply an action to the selected jobs of a list."""
    _, queue = find_queue(source, backend, name)
    action, state = wanted_action(), wanted_state()
    job_refs = [read_job_token(token) for token in request.form.getlist("pick")]
    if not job_refs:
        raise Conflict("No jobs selected.", hint="Go back and select at least one job.")
    native = request.form.get("native") or None
    if app_services().action_service.approval.needs(action, len(job_refs)):
        job_list = JobListRef(ref=queue.ref, state=state, native=native)
        return redirect_to(url_for("bulk.show", work_id=_start_selected(action, job_list, job_refs)))
    steps = ActionSteps()
    run_action(steps, queue.ref, state, action, job_refs, parse_options(), parse_reason())
    flash = steps.bulk_flash(action)
    return redirect_to(queue_url(queue, state=state.value, native=native, page=request.form.get("page"), **flash.query))


def _start_selected(action: Action, job_list: JobListRef, job_refs: Sequence[JobRef]) -> str:
    """Start a bulk operation on selected jobs, for those that need approval; its id."""
    bulk_request = BulkRequest(
        action=action,
        actor=current_actor(),
        job_lists=(job_list,),
        job_refs=tuple(job_refs),
        options=parse_options(),
        pace_per_s=0,
        reason=parse_reason(),
        created_at=now_s(),
    )
    return start_operation(bulk_request)


def run_action(
    steps: ActionSteps,
    ref: QueueRef,
    state: State | None,
    action: Action,
    job_refs: Sequence[JobRef],
    options: ActionOptions,
    reason: str | None,
) -> None:
    """Act on jobs of one list, and add the results to `steps`. Jobs moved without a target go to their origin queue.

    Raises as ActionSteps.run.
    """

    def act(moved: Sequence[JobRef], chosen: ActionOptions) -> None:
        on_jobs_of_list = partial(
            app_services().action_service.on_jobs, current_actor(), ref, state, action, moved, chosen, reason=reason
        )
        steps.run(ref.source, moved, on_jobs_of_list)

    if action is not Action.MOVE or options.target is not None or state is None:
        act(job_refs, options)
        return
    known = app_services().dead_letter_jobs.known_of(None, (JobListRef(ref=ref, state=state),)).jobs
    origin_queues = {(job.id, job.version): job_list.origin_queue for job_list, job in known}
    by_origin: dict[str | None, list[JobRef]] = {}
    for job_ref in job_refs:
        by_origin.setdefault(origin_queues.get((job_ref.id, job_ref.version)), []).append(job_ref)
    for origin_queue, moved in by_origin.items():
        if origin_queue is None:
            steps.refuse(moved, Outcome.REFUSED, ORIGIN_UNKNOWN)
        else:
            act(moved, replace(options, target=origin_queue))


@bp.post(f"{_QUEUE}/jobs/<segment:job_id>/act")
@form_fields(*ACTION, "state", "stamp", "payload")
def on_job(source: str, backend: str, name: str, job_id: str) -> ResponseReturnValue:
    """Apply an action to one job; without a state where the job is in no list."""
    current, queue = find_queue(source, backend, name)
    action, state = wanted_action(), wanted_state() if request.form.get("state") else None
    job_ref = JobRef(id=job_id, version=read_segment(request.form.get("stamp", "")) or None)
    acted_at = app_services().sources.now_s(queue.source)
    steps = ActionSteps()
    run_action(steps, queue.ref, state, action, [job_ref], parse_options(), parse_reason())
    (result,) = steps.results
    if result.outcome is Outcome.INVALID:
        text = request.form.get("payload", "")
        job = app_services().job_reader.read_job(queue, job_id)
        return _edit_page(current, queue, job, text, wrong=result.detail), 422
    flash = steps.flash(action)
    shown = result.new_id or job_id
    # A deleted job no longer has a page, and a job from a list for all queues is found under another id.
    if result.outcome is Outcome.DONE and (action in (Action.DELETE, Action.MOVE) or queue.shared):
        return redirect_to(queue_url(queue, state=state.value if state else None, **flash.query))
    url = job_url(queue, shown)
    if url:
        return redirect_to(_with_query(url, dataclasses.replace(flash, acted_at=acted_at).query))
    return redirect_to(queue_url(queue, state=state.value if state else None, **flash.query))


@bp.get(f"{_QUEUE}/jobs/<segment:job_id>/edit")
def edit(source: str, backend: str, name: str, job_id: str) -> str:
    """The form that edits a job's payload, to be run as a new job."""
    current, queue = find_queue(source, backend, name)
    job = app_services().job_reader.read_job(queue, job_id)
    library = app_services().sources.backend(source, backend)
    if Action.EDIT not in job_verbs(library, queue, job):
        raise Unsupported(queue.read_only or why_unsupported(library, Action.EDIT))
    return _edit_page(current, queue, job, editable_text(job.payload))


def editable_text(payload: Payload | None) -> str:
    """The payload as the edit form shows it; "" where it cannot be shown in full.

    Submitted unchanged, it creates a job with the same payload: secrets are masked, and their stored values are used.
    """
    if payload is None or payload.truncated or payload.kind not in ("json", "text") or len(payload.text) > MAX_TEXT:
        return ""
    return payload.text if payload.kind == "json" else printable(payload.text, MAX_TEXT)


def _edit_page(current: CurrentSnapshot, queue: QueueStats, job: Job, text: str, *, wrong: str | None = None) -> str:
    library = app_services().sources.backend(queue.source, queue.backend)
    return render_template(
        "actions/edit.html",
        **layout.page_context(current, ""),
        queue=queue,
        backend=library,
        job=job,
        text=text,
        wrong=wrong,
        mask=MASK,
        whole=bool(editable_text(job.payload)),
        max_text=MAX_TEXT,
    )


@bp.post(f"{_QUEUE}/queue")
@form_fields("action", "reason", "confirm")
def on_queue(source: str, backend: str, name: str) -> ResponseReturnValue:
    """Pause, resume or delete a queue; deleting cannot be undone and needs the queue's name in `confirm`."""
    _, queue = find_queue(source, backend, name)
    action = wanted_action()
    if action is Action.OBLITERATE:
        check_confirmed(queue)
    result = app_services().action_service.on_queue(current_actor(), queue, action, reason=parse_reason())
    flash = ActionFlash.of(action, [result])
    if action is Action.OBLITERATE and result.outcome is Outcome.DONE:
        return redirect_to(_with_query(url_for("overview.index"), flash.query))
    return redirect_to(queue_url(queue, **flash.query))


@bp.post("/schedules/act")
@form_fields("action", "reason", "source", "backend", "id", "queue", "stamp")
def on_schedule() -> ResponseReturnValue:
    """Apply an action to one schedule."""
    found = _confirmed_row(app_services().schedules.current_rows().rows)
    report = app_services().action_service.on_schedule(current_actor(), found, wanted_action(), reason=parse_reason())
    app_services().forget_live_rows()
    flash = ActionFlash.of(wanted_action(), report.results, report.undo_batch)
    return redirect_to(url_for("schedules.index", **flash.query))


@bp.post("/workers/act")
@form_fields("action", "reason", "source", "backend", "id", "stamp")
def on_worker() -> ResponseReturnValue:
    """Send a request to one worker."""
    found = _confirmed_row(app_services().workers.current_rows().rows)
    result = app_services().action_service.on_worker(current_actor(), found, wanted_action(), reason=parse_reason())
    app_services().forget_live_rows()
    return redirect_to(url_for("workers.index", **ActionFlash.of(wanted_action(), [result]).query))


@bp.post("/undo")
@form_fields("reason", "fingerprint", many=("batch",))
def undo() -> ResponseReturnValue:
    """Restore deleted jobs. A batch that fails keeps the results of those before it."""
    undo_batches = [check_undo_batch(text) for text in request.form.getlist("batch")]
    if not undo_batches:
        raise Conflict("No batch of deleted jobs given.")
    if len(undo_batches) > MAX_UNDO_BATCHES:
        raise Conflict(f"You can restore at most {MAX_UNDO_BATCHES} batches at a time.")
    services, reason = app_services(), parse_reason()
    operation = start_large_undo(undo_batches, reason)
    if operation is not None:
        return redirect_to(url_for("bulk.show", work_id=operation.id))
    trash, steps = services.action_service.trash, ActionSteps()
    # Read before anything is restored: a trash that cannot be read loses no results then.
    origins, left = trash.describe_batches(undo_batches), trash.count_left(undo_batches)
    if not origins:
        raise nothing_left()
    for undo_batch, origin in origins.items():
        restore = partial(services.action_service.restore_batch, current_actor(), undo_batch, reason=reason)
        steps.run(origin.ref.source, [JobRef(id=undo_batch)] * left.get(undo_batch, 0), restore)
    if (refused := not_restored(steps.results)) is not None:
        raise refused
    flash = steps.flash(Action.UNDO)
    if origin.schedule is not None:
        services.forget_live_rows()
        return redirect_to(
            url_for("schedules.index", **dataclasses.replace(steps.flash(Action.UNDO), verb="undo_schedule").query)
        )
    flash = steps.flash(Action.UNDO)
    fingerprint = request.form.get("fingerprint", "")
    if is_fingerprint(fingerprint):
        return redirect_to(url_for("dead.show", fingerprint=fingerprint, **flash.query))
    ref = origin.ref
    state = origin.state.value if origin.state else None
    url = url_for("queues.show", source=ref.source, backend=ref.backend, name=ref.name, state=state)
    return redirect_to(_with_query(url, flash.query))


def wanted_action(name: str | None = None) -> Action:
    """The action of that name, by default the one that the form names. Raises Unsupported for an unknown one."""
    if name is None:
        name = request.form.get("action", "")
    try:
        return Action(name)
    except ValueError:
        raise Unsupported(f"Unknown action {name[:40]!r}.") from None


def wanted_state() -> State:
    """The state in which the jobs were seen. Raises Unsupported for an unknown one."""
    name = request.form.get("state", "")
    try:
        return State(name)
    except ValueError:
        raise Unsupported(f"Unknown job state {name[:40]!r}.") from None


def parse_options() -> ActionOptions:
    """The options of the form. Raises Conflict for a payload that is too long."""
    payload = request.form.get("payload")
    if payload is not None and len(payload) > MAX_TEXT:
        raise Conflict(f"The payload is longer than {format_size(MAX_TEXT)}.")
    return ActionOptions(
        payload=payload,
        target=(request.form.get("target") or "").strip() or None,
        reset_attempts=form_flag("reset_attempts"),
    )


def parse_reason() -> str | None:
    """The reason that the form gives. Raises as checked_reason."""
    return checked_reason(request.form.get("reason"), hint="Enter a reason in one line.")


def checked_reason(text: str | None, *, hint: str) -> str | None:
    """`text` as given_reason. Raises Conflict, with `hint`, where the settings require a reason and there is none."""
    given = given_reason(text)
    if given is None and app_context().settings.require_reason:
        raise Conflict("A reason is required.", hint=hint)
    return given


def given_reason(text: str | None) -> str | None:
    """`text` without surrounding whitespace; None when empty. Raises Unsupported for one that is too long for the audit
    log."""
    given = (text or "").strip()
    if len(given) > MAX_REASON:
        raise Unsupported(f"reason: expected at most {MAX_REASON} characters.")
    return given or None


def check_confirmed(queue: QueueStats) -> None:
    """Raise Conflict unless `confirm` is the queue's name."""
    if request.form.get("confirm", "").strip() != layout.name_to_type(queue):
        raise Conflict("The name you typed does not match the queue. Nothing was deleted.")


def _confirmed_row(rows: Sequence[Any]) -> Any:
    """The row that the form names. Raises NotFound, or Conflict if it is no longer the one that was confirmed."""
    found = find_single_row(rows)
    stamp = request.form.get("stamp")
    if stamp and stamp != row_stamp(found):
        raise Conflict(
            f"{found.id[:120]} has changed since you were asked. Nothing was done.", hint="Check it and try again."
        )
    return found


def find_single_row(rows: Sequence[Any]) -> Any:
    """The worker or schedule that the form names by source, library and id. Raises NotFound."""
    form = request.form
    for row in rows:
        same = row.source == form.get("source") and row.backend == form.get("backend")
        if same and row.id == read_segment(form.get("id", "")) and (isinstance(row, Worker) or _queue_fits(row)):
            return row
    raise NotFound("This worker or schedule no longer exists. Reload the page.")


def _queue_fits(row: Schedule) -> bool:
    return (row.queue or "") == read_segment(request.form.get("queue", ""))


def _with_query(url: str, query: dict[str, Any]) -> str:
    return f"{url}?{urlencode(query)}" if query and "?" not in url else f"{url}&{urlencode(query)}"


def redirect_to(url: str) -> ResponseReturnValue:
    """A 303 to the page that shows the result."""
    return redirect(url, code=303)
