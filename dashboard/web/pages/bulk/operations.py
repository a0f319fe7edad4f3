"""Bulk operations: one operation live, and the preview from which an operation is started. bulk_list.py lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec.structs import replace

from ....actions.audit_log import AuditEvent
from ....actions.bulk.audit_events import event_of
from ....actions.bulk.canary import count_canary
from ....actions.bulk.operation import (
    DEFAULT_CANARY_WAIT_S,
    DEFAULT_PACE_PER_S,
    ENDED,
    BulkOperation,
    BulkPhase,
    BulkRequest,
    JobListRef,
    JobOrder,
)
from ....actions.bulk.undo import undo_batches_of
from ....actions.trash import KEEP_S
from ....backends.actions import Action
from ....clock import now_s
from ....errors import Conflict, NotFound, Unsupported
from ....model import QueueStats, State
from ....sources.metering import measure_cost
from ....units import format_number
from ... import fragments
from ...access.security import current_actor
from ...context import app_context, app_services
from ...forms.request_input import form_fields, form_flag
from ...urls import read_segment
from ...views.flash import BULK_PAST, ActionFlash, bulk_plan, outcome_text
from ...views.offered_actions import read_only, why_unsupported
from .. import layout
from ..job_actions import ACTION, check_confirmed, given_reason, parse_options, parse_reason
from ..queues import find_queue
from .decisions import DECISIONS, check_is_person, may_decide
from .start import check_matches, not_restored, preview_operation, start_operation, undo_operation, undo_under_way

bp = Blueprint("bulk", __name__, url_prefix="/bulk")
edit_bp = Blueprint("bulk_edit", __name__, url_prefix="/bulk")

OPERATION = "bulk/_operation.html"
MAX_PACE = 100_000.0
MAX_CANARY = 1_000
MAX_LIMIT = 1_000_000
# The failed canary jobs that are listed before the rest can be run.
MAX_FAILURES = 20
# An operation on more jobs than this suggests a canary: of a tenth of them, and of at most 20.
CANARY_FROM, CANARY_SHARE, CANARY_MOST = 100, 10, 20
# The share of failed canary jobs with which a suggested canary lets the operation continue.
CANARY_MAX_PERCENT = 10
# The first jobs that are listed for someone who approves an operation.
MAX_LISTED = 20
COMMANDS = ("pause", "resume", "abort", *DECISIONS)
MAX_QUERY = 500
MAX_TARGETS = 200
# A new operation is picked up within half a second, one of a process that died when its lease expires.
ALONE_S = 5.0
# This many more jobs than the preview showed are accepted; otherwise a steadily growing list could never be processed.
FEW_MORE, SHARE_MORE = 50, 0.2
# Actions after which jobs can fail again.
CANARY_ACTIONS = (Action.RETRY, Action.PROMOTE)
# Actions that need no decision for each job.
BULK_ACTIONS = (
    *(Action.RETRY, Action.DELETE, Action.PROMOTE, Action.KILL, Action.CANCEL, Action.DUPLICATE, Action.MOVE),
)


@bp.get("/<segment:work_id>")
def show(work_id: str) -> str:
    """One bulk operation. 404 when it is no longer stored."""
    variables = _operation_context(work_id) | {"flash": ActionFlash.read(request.args)}
    page = layout.page_context(app_services().snapshots.current(), variables["cost"])
    return render_template("bulk/show.html", **page | variables)


@bp.get("/<segment:work_id>/_work")
def fragment(work_id: str) -> Response:
    """The polled part of the page."""
    return fragments.render_live(OPERATION, _operation_context(work_id))


def _operation_context(bulk_id: str) -> dict[str, Any]:
    with measure_cost() as meter:
        operation = app_services().bulk_store.get(bulk_id)
        quiet = operation.phase in (*ENDED, BulkPhase.PAUSED, BulkPhase.APPROVAL)
        undoing = undo_under_way(bulk_id) if operation.undoable else None
        left = (
            sum(app_services().action_service.trash.count_left(undo_batches_of(operation)).values())
            if quiet and undoing is None
            else 0
        )
        canary = count_canary(operation)
        failures = app_context().caches.canary_failures(operation) if canary and canary.failed else []
    return {
        "operation": operation,
        "undoing": undoing,
        "canary": canary,
        "failures": failures,
        "is_undo": operation.request.action is Action.UNDO,
        "past": BULK_PAST,
        "outcome_text": outcome_text,
        "ended": operation.phase in ENDED,
        "in_trash": left,
        "expired": operation.ended_at is not None and operation.ended_at < now_s() - KEEP_S,
        "may_approve": operation.phase is BulkPhase.APPROVAL and may_decide(operation),
        "alone": operation.leased is False and not quiet and now_s() - operation.request.created_at > ALONE_S,
        "titles": app_services().sources.titles,
        "cost": layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000),
    }


@edit_bp.get("/new")
def new() -> str:
    """The preview: which jobs, how many, what will happen to them, and the form of options."""
    queue, bulk_request = _parse_request(request.args)
    most, actions = app_context().settings.bulk_max_jobs, app_services().action_service
    approval = actions.approval
    with measure_cost() as meter:
        preview = preview_operation(bulk_request)
    if not request.args.get("canary"):
        bulk_request = suggest_canary(bulk_request, preview.planned)
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    job_lists = bulk_request.job_lists or preview.job_lists
    libraries = {
        job_list.ref.backend: app_services().sources.backend(job_list.ref.source, job_list.ref.backend)
        for job_list in job_lists
    }
    return render_template(
        "bulk/new.html",
        **layout.page_context(app_services().snapshots.current(), cost),
        bulk_request=bulk_request,
        queue=queue,
        error_title=app_services().dead_letter_service.find_title(bulk_request.fingerprint),
        preview=preview,
        needs_approval=approval.needs(bulk_request.action, preview.planned if preview.exact else None),
        approval_over=approval.over,
        most=most,
        libraries=libraries,
        titles=app_services().sources.titles,
        room_bytes=actions.trash.room_bytes() if bulk_request.action is Action.DELETE else None,
        bulk_plan=bulk_plan,
        targets=_target_queues(job_lists) if bulk_request.action is Action.MOVE else (),
        name_to_type=layout.name_to_type(queue) if queue else "delete",
    )


@edit_bp.get("/<segment:work_id>/rest")
def confirm_rest(work_id: str) -> ResponseReturnValue:
    """The second look before the rest of a stopped canary: the jobs that failed again, with their errors."""
    services = app_services()
    with measure_cost() as meter:
        operation = services.bulk_store.get(work_id)
        if not operation.stopped_by_canary:
            return redirect(url_for("bulk.show", work_id=work_id), code=303)
        failed = app_context().caches.read_canary_failures(operation, MAX_FAILURES)
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    return render_template(
        "bulk/rest.html",
        **layout.page_context(services.snapshots.current(), cost),
        operation=operation,
        failed=failed,
    )


@edit_bp.get("/<segment:work_id>/approval")
def confirm_approval(work_id: str) -> ResponseReturnValue:
    """What someone who approves an operation approves: how many jobs, some of them, and from where."""
    services = app_services()
    with measure_cost() as meter:
        operation = services.bulk_store.get(work_id)
        if operation.phase is not BulkPhase.APPROVAL:
            return redirect(url_for("bulk.show", work_id=work_id), code=303)
        listed = services.bulk_store.jobs.list_job_refs(work_id, 0, MAX_LISTED)
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    return render_template(
        "bulk/approval.html",
        **layout.page_context(services.snapshots.current(), cost),
        operation=operation,
        listed=[(operation.request.job_lists[number], job_ref.id) for number, job_ref in listed],
        may_approve=may_decide(operation),
        titles=services.sources.titles,
        bulk_plan=bulk_plan,
    )


@edit_bp.post("")
@form_fields(
    *(*ACTION, "source", "backend", "queue", "state", "native", "q", "fingerprint", "seen", "for_good", "confirm"),
    *("pace", "limit", "order", "canary", "canary_max_percent", "canary_wait_s"),
)
def create() -> ResponseReturnValue:
    """Start an operation: 303 to its page."""
    queue, bulk_request = _parse_request(request.form)
    preview = preview_operation(bulk_request)
    check_still(preview.planned, request.form.get("seen", ""))
    if bulk_request.for_good:
        if queue is not None:
            check_confirmed(queue)
        elif request.form.get("confirm", "").strip() != "delete":
            raise Conflict("To delete permanently, type delete. No jobs were deleted.")
    check_target(bulk_request)
    check_matches(preview)
    return redirect(url_for("bulk.show", work_id=start_operation(bulk_request)), code=303)


@edit_bp.post("/<segment:work_id>/<word>")
@form_fields("reason", "anyway")
def change_phase(work_id: str, word: str) -> ResponseReturnValue:
    """Pause, resume, abort, undo, approve or reject an operation: 303 to its page, or to that of a large undo."""
    if word not in (*COMMANDS, "undo"):
        raise NotFound("Unknown action.")
    query: dict[str, Any] = {}
    if word == "undo":
        undone = undo_operation(work_id, parse_reason())
        if isinstance(undone, BulkOperation):
            return redirect(url_for("bulk.show", work_id=undone.id), code=303)
        if (refused := not_restored(undone)) is not None:
            raise refused
        query = ActionFlash.of("undo", undone).query
    elif word == "resume" and not form_flag("anyway") and app_services().bulk_store.get(work_id).stopped_by_canary:
        return redirect(url_for("bulk_edit.confirm_rest", work_id=work_id), code=303)
    else:
        change_operation(work_id, word, given_reason(request.form.get("reason")))
    return redirect(url_for("bulk.show", work_id=work_id, **query), code=303)


def change_operation(bulk_id: str, command: str, reason: str | None) -> None:
    """Pause, resume, abort, approve or reject an operation, and record by whom and why.

    Raises NotFound, Conflict, SamePerson, and Forbidden as check_is_person.
    """
    actor = current_actor()
    check_is_person(command)

    def make_event(operation: BulkOperation) -> AuditEvent:
        what = "undo of bulk operation" if operation.request.action is Action.UNDO else "bulk operation"
        return replace(
            event_of(operation, operation.matched),
            at=now_s(),
            who=actor.name,
            role=actor.role,
            address=actor.address,
            reason=reason,
            action=f"{command} {what}",
            outcomes=operation.outcomes or None,
            detail=f"{operation.done:,} of {operation.matched:,} {BULK_PAST[operation.request.action]} so far",
        )

    app_services().bulk_store.change_phase(bulk_id, command, make_event, who=actor.name)
    app_services().bulk_runner.start()


def check_still(now: int, seen: str) -> None:
    """Raise Conflict when many more jobs match `now` than the `seen` that the user was shown and confirmed.

    Raises Unsupported where `seen` is not a number.
    """
    if not seen:
        return
    if not (seen.isascii() and seen.isdigit() and len(seen) < 9):
        raise Unsupported("seen: expected the number of jobs that the preview showed.")
    if now > int(seen) + max(FEW_MORE, int(seen) * SHARE_MORE):
        raise Conflict(
            f"{now:,} jobs match now; the preview showed {int(seen):,}. Nothing was started.",
            hint="Go back and reload the preview.",
        )


def check_target(bulk_request: BulkRequest) -> None:
    """Raise Conflict for a move with neither a destination queue nor an origin queue in the jobs' data."""
    if bulk_request.action is not Action.MOVE or bulk_request.options.target is not None:
        return
    if not bulk_request.to_origin:
        raise Conflict("Choose a destination queue. Nothing was started.")
    known = app_services().dead_letter_jobs.known_of(bulk_request.fingerprint, bulk_request.job_lists)
    if all(job_list.origin_queue is None for job_list, _ in known.jobs):
        raise Conflict(
            "The origin queue of these jobs is unknown. Nothing was started.",
            hint="Choose a destination queue.",
        )


def _target_queues(job_lists: Sequence[JobListRef]) -> list[str]:
    """The queues that jobs of these lists can move to."""
    snapshot = app_services().snapshots.current().snapshot
    libraries = {(job_list.ref.source, job_list.ref.backend) for job_list in job_lists}
    own = {job_list.ref.name for job_list in job_lists}
    found = {
        queue.name
        for queue in (snapshot.queues if snapshot else ())
        if (queue.source, queue.backend) in libraries
        and not queue.shared
        and not queue.read_only
        and queue.name not in own
    }
    return sorted(name for name in found if name.isprintable())[:MAX_TARGETS]


def _parse_request(form: Any) -> tuple[QueueStats | None, BulkRequest]:
    """The queue, if the request is for one, and the request."""
    try:
        action = Action(form.get("action", ""))
    except ValueError:
        raise Unsupported("This action is not available for bulk operations.") from None
    fingerprint = form.get("fingerprint") or None
    q = (form.get("q") or "").strip() or None
    if q is not None and len(q) > MAX_QUERY:
        raise Unsupported(f"q: expected at most {MAX_QUERY} characters.")
    if fingerprint is not None and (q is not None or any(form.get(name) for name in ("queue", "state", "native"))):
        raise Unsupported("fingerprint: selects all jobs of an error group; do not send a list or a filter with it.")
    queue = None
    job_lists: tuple[JobListRef, ...] = ()
    if fingerprint is None:
        _, queue = find_queue(form.get("source", ""), form.get("backend", ""), read_segment(form.get("queue", "")))
        job_lists = (job_list_of(queue, form.get("state", ""), form.get("native") or None),)
    check_bulk(action, job_lists)
    limit, order = _parse_limit(form)
    return queue, BulkRequest(
        action=action,
        actor=current_actor(),
        job_lists=job_lists,
        q=q,
        fingerprint=fingerprint,
        limit=limit,
        order=order,
        options=parse_options(),
        pace_per_s=_parse_number(form, "pace", DEFAULT_PACE_PER_S, 0.0, MAX_PACE),
        canary=int(_parse_number(form, "canary", 0, 0, MAX_CANARY)),
        canary_wait_s=_parse_number(form, "canary_wait_s", DEFAULT_CANARY_WAIT_S, 1.0, 3600.0),
        canary_max_ratio=_parse_number(form, "canary_max_percent", 0.0, 0.0, 100.0) / 100,
        for_good=form_flag("for_good"),
        reason=parse_reason() if request.method == "POST" else None,
        created_at=now_s(),
    )


def _parse_limit(form: Any) -> tuple[int | None, JobOrder | None]:
    """The most jobs to process, and which of them come first: with a limit, the oldest by default."""
    text = (form.get("limit") or "").strip()
    limit = int(_parse_number(form, "limit", 0, 1, MAX_LIMIT)) if text else None
    try:
        order = JobOrder(form["order"]) if form.get("order") else None
    except ValueError:
        raise Unsupported("order: expected oldest or newest.") from None
    return limit, order if limit is None else order or JobOrder.OLDEST


def suggest_canary(bulk_request: BulkRequest, jobs: int) -> BulkRequest:
    """The request with a canary, if it is for many jobs and its action can fail again; for the preview."""
    if bulk_request.action not in CANARY_ACTIONS or jobs <= CANARY_FROM:
        return bulk_request
    size = min(CANARY_MOST, jobs // CANARY_SHARE)
    return replace(bulk_request, canary=size, canary_max_ratio=CANARY_MAX_PERCENT / 100)


def job_list_of(queue: QueueStats, state_name: str, native: str | None) -> JobListRef:
    """The list of that queue. Raises Unsupported for a state that its library does not have."""
    backend = app_services().sources.backend(queue.source, queue.backend)
    try:
        state = State(state_name)
    except ValueError:
        raise Unsupported(f"Unknown job state {state_name[:40]!r}.") from None
    if state not in backend.states or (native is not None and native not in backend.states[state]):
        raise Unsupported(f"{backend.title} does not have this list of {state.value} jobs.")
    return JobListRef(ref=queue.ref, state=state, native=native)


def check_bulk(action: Action, job_lists: tuple[JobListRef, ...]) -> None:
    """Raise Unsupported for an action that is not available in bulk, or not for the jobs of these lists."""
    if action not in BULK_ACTIONS:
        raise Unsupported(f"{action.value} is not available for bulk operations.")
    for job_list in job_lists:
        why = read_only(app_services().snapshots.current().snapshot, job_list.ref)
        if why is not None:
            raise Unsupported(why)
        backend = app_services().sources.backend(job_list.ref.source, job_list.ref.backend)
        if action not in backend.offered_actions(job_list.state, shared=job_list.ref.shared, abandoned=True):
            raise Unsupported(why_unsupported(backend, action, state=job_list.state))


def _parse_number(form: Any, name: str, default: float, least: float, most: float) -> float:
    """A number of the form within bounds; `default` when empty. Raises Unsupported for anything else."""
    text = form.get(name)
    if text is None or text == "":
        return default
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise Unsupported(f"{name}: expected a number from {format_number(least)} to {format_number(most)}.")
    return value
