"""Write endpoints of the JSON API: actions on jobs and queues, bulk operations, undo; and the audit log for admins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

from flask import Blueprint, Response
from msgspec import UNSET
from msgspec.structs import replace

from ...actions.bulk.operation import (
    BulkOperation,
    BulkRequest,
    JobListRef,
    JobOrder,
)
from ...actions.trash import check_undo_batch
from ...backends.actions import Action, ActionOptions, ActionResult, JobRef, Outcome
from ...clock import now_s
from ...errors import Conflict, Forbidden, NotFound, QueuedeckError, Unsupported
from ...model import State
from ..access.security import current_actor
from ..context import app_context, app_services
from ..forms.audit_query import audit_filter
from ..forms.request_input import Body, json_body
from ..pages.audit import export_events, read_page
from ..pages.bulk import operations as bulk
from ..pages.bulk.operation_list import read_operations
from ..pages.bulk.start import (
    check_matches,
    not_restored,
    preview_operation,
    start_large_undo,
    start_operation,
    undo_operation,
)
from ..pages.job_actions import checked_reason, given_reason
from ..views.audit_files import CSV_FILE, JSON_LINES
from .action_bodies import ActionBody, BulkBody, JobActionBody, QueueActionBody, ReasonBody
from .action_json import (
    ActedJson,
    AuditEventsJson,
    BulkOperationJson,
    BulkOperationsJson,
    BulkStartJson,
    DeletedBatchesJson,
    PutBackJson,
    json_batch,
    json_event,
    json_operation,
    json_restored,
    json_result,
    json_started,
)
from .responses import json_error, json_response

bp = Blueprint("api_acts", __name__, url_prefix="/api/v1")
bulk_bp = Blueprint("api_bulk", __name__, url_prefix="/api/v1")
audit_bp = Blueprint("api_audit", __name__, url_prefix="/api/v1")

_QUEUE = "/queues/<segment:source>/<segment:backend>/<segment:name>"
_STATUS = {
    Outcome.DONE: 200,
    Outcome.GONE: 404,
    Outcome.CHANGED: 409,
    Outcome.REFUSED: 403,
    Outcome.INVALID: 422,
    Outcome.UNSUPPORTED: 422,
}
# The outcomes of actions that raise; the error is returned beside the outcome.
_NOT_DONE = ((NotFound, Outcome.GONE), (Forbidden, Outcome.REFUSED), (Unsupported, Outcome.UNSUPPORTED))
MAX_BATCHES_SHOWN = 100

_ONLY_WITH: dict[str, tuple[Action, ...]] = {
    "target": (Action.MOVE,),
    "payload": (Action.EDIT,),
    "reset_attempts": (Action.RETRY,),
    "for_good": (Action.DELETE, Action.PURGE),
    "confirm": (Action.OBLITERATE,),
}


def _with_outcome(act: Callable[..., tuple[ActedJson, int]]) -> Callable[..., tuple[ActedJson, int]]:
    """`act`, with an outcome in the response also when it raises an error."""

    @wraps(act)
    def run(body: Body, **place: str) -> tuple[ActedJson, int]:
        try:
            return act(body, **place)
        except QueuedeckError as exc:
            outcome = next((outcome for kind, outcome in _NOT_DONE if isinstance(exc, kind)), None)
            if outcome is None:
                raise
            error = json_error(exc)
            return _with_status(ActedJson(outcome=outcome, detail=error.message, new_id=None, error=error))

    return run


@bp.post(f"{_QUEUE}/jobs/<segment:job_id>/<verb>")
@json_body(JobActionBody)
@json_response
@_with_outcome
def on_job(body: JobActionBody, source: str, backend: str, name: str, job_id: str, verb: str) -> tuple[ActedJson, int]:
    """Apply an action to a job.

    With `state` or `stamp`, the action applies only to the job as you saw it; otherwise to its current state.

    `edit` creates a new job from `payload`, JSON as text. A masked secret in the same place as in the stored payload
    keeps its stored value; a mask anywhere else is rejected with the outcome `invalid`.
    """
    services = app_services()
    queue = app_context().find_queue_stats(source, backend, name)
    action = _parse_action(verb)
    _check_applies(body, action)
    state = body.state
    if state is None:
        job, library = services.job_reader.read_job(queue, job_id), services.sources.backend(source, backend)
        state = job.state
        known = any(action in each for each in library.job_actions.values())
        if known and action not in library.offered_actions(state, shared=queue.shared, abandoned=job.abandoned):
            where = f"The job is {state.value}" if state else "The job is not in any list"
            detail = f"{where}; {library.title} does not support {action.value} there."
            return _with_status(ActedJson(outcome=Outcome.CHANGED, detail=detail, new_id=None))
    report = services.action_service.on_jobs(
        current_actor(),
        queue.ref,
        state,
        action,
        [JobRef(id=job_id, version=body.stamp)],
        ActionOptions(payload=body.payload, target=body.target, reset_attempts=body.reset_attempts),
        reason=checked_reason_of(body.reason),
        for_good=body.for_good,
    )
    return _with_status(replace(json_result(report.results[0]), undo=report.undo_batch))


@bp.post(f"{_QUEUE}/<any(pause, resume, purge, obliterate):verb>")
@json_body(QueueActionBody)
@json_response
@_with_outcome
def on_queue(body: QueueActionBody, source: str, backend: str, name: str, verb: str) -> tuple[ActedJson, int]:
    """Apply an action to a queue.

    `purge` starts a bulk operation that deletes the waiting jobs; its `bulk_id` is null if there are none.
    `obliterate` deletes the queue permanently and requires the queue's name in `confirm`.
    """
    services = app_services()
    queue = app_context().find_queue_stats(source, backend, name)
    action = _parse_action(verb)
    _check_applies(body, action)
    if action is Action.PURGE:
        job_list = bulk.job_list_of(queue, State.WAITING.value, None)
        bulk.check_bulk(Action.DELETE, (job_list,))
        bulk_request = BulkRequest(
            action=Action.DELETE,
            actor=current_actor(),
            job_lists=(job_list,),
            pace_per_s=0,
            for_good=body.for_good,
            reason=checked_reason_of(body.reason),
            created_at=now_s(),
        )
        preview = preview_operation(bulk_request)
        if preview.exact and not preview.matched:
            detail = "The queue has no waiting jobs."
            return _with_status(ActedJson(outcome=Outcome.DONE, detail=detail, bulk_id=None))
        return _with_status(ActedJson(outcome=Outcome.DONE, detail=None, bulk_id=start_operation(bulk_request)))
    if action is Action.OBLITERATE and body.confirm != name:
        raise Conflict("This cannot be undone. To confirm, send the queue's name as `confirm`.")
    return _with_status(
        json_result(
            services.action_service.on_queue(current_actor(), queue, action, reason=checked_reason_of(body.reason))
        )
    )


@bp.post("/bulk")
@json_body(BulkBody)
@json_response
def create(body: BulkBody) -> tuple[BulkStartJson, int]:
    """Start a bulk operation.

    With `preview`, returns the number of matching jobs and some of their ids, and starts nothing.

    Returns 409 and starts nothing if no jobs match. If a filter finds none among the first 5,000 jobs of a longer list,
    the operation starts and scans the whole list.
    """
    _check_applies(body, body.action)
    _check_target_list(body)
    job_lists: tuple[JobListRef, ...] = ()
    if body.fingerprint is None:
        queue = app_context().find_queue_stats(body.source or "", body.backend or "", body.queue or "")
        job_lists = (bulk.job_list_of(queue, (body.state or State.WAITING).value, body.native),)
    bulk.check_bulk(body.action, job_lists)
    bulk_request = BulkRequest(
        action=body.action,
        actor=current_actor(),
        job_lists=job_lists,
        job_refs=tuple(JobRef(id=each) for each in body.ids or ()),
        q=body.q,
        fingerprint=body.fingerprint,
        options=ActionOptions(target=body.target, reset_attempts=body.reset_attempts),
        limit=body.limit,
        order=body.order if body.limit is None else body.order or JobOrder.OLDEST,
        pace_per_s=body.pace_per_s,
        canary=body.canary,
        canary_wait_s=body.canary_wait_s,
        canary_max_ratio=body.canary_max_ratio,
        for_good=body.for_good,
        reason=None if body.preview else checked_reason_of(body.reason),
        created_at=now_s(),
    )
    if not body.preview:
        bulk.check_target(bulk_request)
    preview = preview_operation(bulk_request)
    if not body.preview:
        check_matches(preview)
    answer = BulkStartJson(
        bulk_id=None if body.preview else start_operation(bulk_request),
        matched=preview.planned,
        exact=preview.exact,
        unread=preview.unread,
        scanned=preview.scanned,
        total=preview.total,
        sample_ids=[job.id for job in preview.samples] if body.preview else UNSET,
    )
    return answer, 200 if body.preview else 201


@bp.post("/bulk/<work_id>/<word>")
@json_body(ReasonBody)
@json_response
def tell(body: ReasonBody, work_id: str, word: str) -> tuple[BulkOperationJson | PutBackJson, int]:
    """Pause, resume, abort, undo, approve or reject a bulk operation.

    An undo returns the same as the undo of a batch. Only a person who has signed in, and has not started the operation,
    can approve or reject it: tokens are refused.
    """
    if word not in (*bulk.COMMANDS, "undo"):
        raise NotFound("Unknown action.")
    if word == "undo":
        undone = undo_operation(work_id, checked_reason_of(body.reason))
        return (json_started(undone), 202) if isinstance(undone, BulkOperation) else _json_undone(undone)
    bulk.change_operation(work_id, word, given_reason(body.reason))
    return json_operation(app_services().bulk_store.get(work_id)), 200


@bp.post("/undo/<batch>")
@json_body(ReasonBody)
@json_response
def undo(body: ReasonBody, batch: str) -> tuple[BulkOperationJson | PutBackJson, int]:
    """Restore the jobs of a delete.

    Few jobs are restored immediately, many as a bulk operation (202).

    `refused` lists the first 100 jobs that were not restored, each with its outcome and the reason. Returns 409 if no
    job was restored.
    """
    reason = checked_reason_of(body.reason)
    operation = start_large_undo([check_undo_batch(batch)], reason)
    if operation is not None:
        return json_started(operation), 202
    return _json_undone(app_services().action_service.restore_batch(current_actor(), batch, reason=reason).results)


def _json_undone(results: Sequence[ActionResult]) -> tuple[PutBackJson, int]:
    exc = not_restored(results)
    return json_restored(results, json_error(exc) if exc else UNSET), 409 if exc else 200


@bulk_bp.get("/undo", endpoint="deleted")
@json_response
def list_undo_batches() -> DeletedBatchesJson:
    """List deletes that can be undone, newest first, at most 100.

    `POST /undo/{batch}` restores what is left of a batch.

    The name of a batch from a bulk operation contains the operation's id. Undo the operation instead, with
    `POST /bulk/{id}/undo`.
    """
    found = app_services().action_service.trash.list_batches(MAX_BATCHES_SHOWN)
    return DeletedBatchesJson(batches=[json_batch(*each) for each in found])


@bulk_bp.get("/bulk", endpoint="works")
@json_response
def list_operations() -> BulkOperationsJson:
    """List stored bulk operations, newest first, 50 per page.

    `state` is a state of an operation, `unfinished` or `finished`; `who` is a whole name.
    """
    found = read_operations()
    return BulkOperationsJson(
        bulk=[json_operation(operation) for operation in found.operations], matching=found.matching, total=found.total
    )


@bulk_bp.get("/bulk/<work_id>", endpoint="work")
@json_response
def show_operation(work_id: str) -> BulkOperationJson:
    """Retrieve a bulk operation."""
    return json_operation(app_services().bulk_store.get(work_id))


@audit_bp.get("/audit")
@json_response
def audit() -> AuditEventsJson:
    """List audit log events, newest first, at most 100.

    `who` and `queue` are names or globs. `action` and `source` are exact, `bulk` is the id of a bulk operation.
    `outcome` is an outcome that at least one result has, or `not_done`. `from` and `to` narrow the time; a `to` without
    seconds includes its minute. For the next page, send `next_before` as `before`.
    """
    page = read_page(audit_filter())
    return AuditEventsJson(
        events=[json_event(event) for event in page.events], scanned=page.scanned, next_before=page.next_before
    )


@audit_bp.get("/audit.csv")
def csv() -> Response:
    """Export audit log events as CSV, oldest first.

    Takes the filters of `/audit`. Text that a spreadsheet would take for a formula begins with an apostrophe. If Redis
    stops responding, the last line says that the file is incomplete, and the response is cut off. Each export is
    recorded in the audit log.
    """
    return export_events(CSV_FILE)


@audit_bp.get("/audit.jsonl")
def jsonl() -> Response:
    """Export audit log events as JSON lines, oldest first.

    Takes the filters of `/audit`. Each line is an event. If Redis stops responding, the last line is an error, and the
    response is cut off. Each export is recorded in the audit log.
    """
    return export_events(JSON_LINES)


def _with_status(acted: ActedJson) -> tuple[ActedJson, int]:
    return acted, _STATUS[acted.outcome]


def _check_applies(body: ActionBody, action: Action) -> None:
    for name, actions in _ONLY_WITH.items():
        if getattr(body, name, None) and action not in actions:
            words = " and ".join(each.value for each in actions)
            raise Unsupported(f"{name}: only valid with {words}, not with {action.value}.")


def _check_target_list(body: BulkBody) -> None:
    """Raise Unsupported where fields select two sets of jobs, one of which would be ignored, or none."""
    of_list = ("source", "backend", "queue", "state")
    if body.fingerprint is not None:
        for name in (*of_list, "native", "ids", "q"):
            if getattr(body, name) is not None:
                raise Unsupported(f"{name}: not valid with fingerprint, which selects all jobs of an error group.")
        return
    for name in of_list:
        if getattr(body, name) is None:
            raise Unsupported(f"{name}: required. Send {', '.join(of_list)}, or fingerprint.")
    for name in ("limit", "order"):
        if body.ids is not None and getattr(body, name) is not None:
            raise Unsupported(f"{name}: not valid with ids, which already select the jobs.")
    if body.ids is not None and body.q is not None:
        raise Unsupported("q: not valid with ids, which already select the jobs.")


def checked_reason_of(text: str | None) -> str | None:
    """The reason of a body. Raises Conflict where the settings require one, Unsupported for one that is too long."""
    return checked_reason(text, hint="Send it as `reason`.")


def _parse_action(name: str) -> Action:
    try:
        return Action(name)
    except ValueError:
        raise Unsupported(f"Unknown action {name[:40]!r}.") from None
