"""The JSON API's writes: acts on jobs and queues, bulk work, undo; and the audit for admins."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Blueprint, Response, jsonify, request

from dashboard.acts.bin import check_batch
from dashboard.acts.bulk.plan import preview
from dashboard.acts.bulk.work import Spec, Work
from dashboard.backends.acting import MAX_BATCH, Acted, Action, Outcome, Pick, Wishes
from dashboard.clock import instant, iso, now_s
from dashboard.errors import Conflict, Forbidden, NotFound, QueuedeckError, Unsupported
from dashboard.model import State
from dashboard.redact import mask_text
from dashboard.web import bulk
from dashboard.web.acts import MAX_TEXT
from dashboard.web.auditing import PER_PAGE, before
from dashboard.web.deck import deck
from dashboard.web.formatting import printable
from dashboard.web.security import actor
from dashboard.web.starting import start, undo_batches
from dashboard.web.starting import undo as undo_work

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
_FAILED = (Outcome.REFUSED, Outcome.INVALID, Outcome.UNSUPPORTED)
# What an act that came to nothing is called; the error stands beside it.
_NOT_DONE = ((NotFound, Outcome.GONE), (Forbidden, Outcome.REFUSED), (Unsupported, Outcome.UNSUPPORTED))


def _with_outcome(act: Callable[..., tuple[Response, int]]) -> Callable[..., tuple[Response, int]]:
    """`act`, whose answer tells an outcome also when it ends in an error."""

    @wraps(act)
    def told(**place: str) -> tuple[Response, int]:
        try:
            return act(**place)
        except QueuedeckError as exc:
            outcome = next((outcome for kind, outcome in _NOT_DONE if isinstance(exc, kind)), None)
            if outcome is None:
                raise
            error = {"code": exc.code, "message": printable(mask_text(exc.message)), "hint": exc.hint}
            acted = Acted(id=place.get("job_id", ""), outcome=outcome, detail=error["message"])
            return _answer(acted, error=error)

    return told


@bp.post(f"{_QUEUE}/jobs/<segment:job_id>/<verb>")
@_with_outcome
def on_job(source: str, backend: str, name: str, job_id: str, verb: str) -> tuple[Response, int]:
    """Act on one job, in the state it is in, or only in `state` and under `stamp` where the body names them.

    `edit` makes a new job of `payload`, JSON as text. Where that shows the mask of a secret in the place in which the
    stored payload has the secret, the stored value is used; any other mask is refused with the outcome `invalid`.
    """
    here = deck()
    queue = here.queue(source, backend, name)
    body = _body()
    action = _action(verb)
    if "state" in body:
        state = _state(body["state"])
    else:
        found = here.job(queue, job_id).state
        if found is None:
            return _answer(Acted(id=job_id, outcome=Outcome.CHANGED, detail="It is in none of the library's lists."))
        state = found
        library = here.backend(source, backend)
        if action not in library.job_actions.get(state, ()) and any(
            action in each for each in library.job_actions.values()
        ):
            detail = f"It is {state.value}: {library.title} does not offer {action.value} for such jobs."
            return _answer(Acted(id=job_id, outcome=Outcome.CHANGED, detail=detail))
    pick = Pick(id=job_id, stamp=_text(body, "stamp"))
    result = here.actions.on_jobs(
        actor(),
        queue.ref,
        state,
        action,
        [pick],
        _wishes(body),
        reason=_reason(body),
        for_good=body.get("for_good") is True,
    )
    return _answer(result.acted[0], undo=result.batch)


@bp.post(f"{_QUEUE}/<any(pause, resume, purge, obliterate):verb>")
@_with_outcome
def on_queue(source: str, backend: str, name: str, verb: str) -> tuple[Response, int]:
    """Act on a queue. `purge` starts bulk work that deletes what waits; `obliterate` needs `confirm`, the name."""
    here = deck()
    queue = here.queue(source, backend, name)
    body = _body()
    action = _action(verb)
    if action is Action.PURGE:
        place = bulk.place_of(queue, State.WAITING.value, None)
        bulk.check_bulk(Action.DELETE, (place,))
        spec = Spec(
            action=Action.DELETE,
            actor=actor(),
            places=(place,),
            pace_per_s=0,
            for_good=body.get("for_good") is True,
            reason=_reason(body),
            created_at=now_s(),
        )
        return jsonify(outcome="done", detail=None, bulk_id=start(spec)), 200
    if action is Action.OBLITERATE and body.get("confirm") != name:
        raise Conflict("Send the queue's name as `confirm`: this cannot be undone.")
    return _answer(here.actions.on_queue(actor(), queue, action, reason=_reason(body)))


@bp.post("/bulk")
def create() -> tuple[Response, int]:
    """Start bulk work, or with `preview` only tell what it would be about."""
    body = _body()
    action = _action(str(body.get("action", "")))
    ids = body.get("ids")
    if ids is not None and (not isinstance(ids, list) or len(ids) > MAX_BATCH):
        raise Unsupported(f"ids: expected a list of at most {MAX_BATCH} ids.")
    fingerprint = _text(body, "fingerprint")
    places: tuple[Any, ...] = ()
    if fingerprint is None:
        found = deck().queue(*(str(body.get(key, "")) for key in ("source", "backend", "queue")))
        places = (bulk.place_of(found, str(body.get("state", "")), _text(body, "native")),)
    bulk.check_bulk(action, places)
    spec = Spec(
        action=action,
        actor=actor(),
        places=places,
        picks=tuple(Pick(id=str(each)) for each in ids or ()),
        q=_text(body, "q"),
        fingerprint=fingerprint,
        wishes=_wishes(body),
        pace_per_s=bulk.number(body.get("pace_per_s"), 100.0, 0.0, bulk.MAX_PACE),
        canary=int(bulk.number(body.get("canary"), 0, 0, bulk.MAX_CANARY)),
        canary_wait_s=bulk.number(body.get("canary_wait_s"), 60.0, 1.0, 3600.0),
        canary_max_ratio=bulk.number(body.get("canary_max_ratio"), 0.0, 0.0, 1.0),
        for_good=body.get("for_good") is True,
        reason=_reason(body) if not body.get("preview") else None,
        created_at=now_s(),
    )
    if not body.get("preview"):
        bulk.check_target(spec)
    seen = preview(spec, deck().backend, deck().known_of, deck().settings.bulk_max_jobs)
    told = {"matched": seen.matched, "exact": seen.exact, "scanned": seen.scanned, "total": seen.total}
    if body.get("preview"):
        return jsonify(bulk_id=None, **told, sample_ids=[job.id for job in seen.samples]), 200
    return jsonify(bulk_id=start(spec), **told), 201


@bp.post("/bulk/<work_id>/<word>")
def tell(work_id: str, word: str) -> tuple[Response, int]:
    """Pause, resume, abort or undo bulk work."""
    if word not in ("pause", "resume", "abort", "undo"):
        raise NotFound("There is no such thing to do.")
    if word == "undo":
        back = undo_work(work_id)
        if isinstance(back, Work):
            return _under_way(back)
        restored = sum(each.outcome is Outcome.DONE for each in back)
        changed = sum(each.outcome is Outcome.CHANGED for each in back)
        return jsonify(restored=restored, changed=changed, bulk_id=None), 200
    bulk.order(work_id, word)
    return jsonify(_work(deck().bulk.get(work_id))), 200


@bp.post("/undo/<batch>")
def undo(batch: str) -> tuple[Response, int]:
    """Put back the jobs of a delete: at once, or as bulk work to follow where there are many."""
    work = undo_batches([check_batch(batch)], None)
    if work is not None:
        return _under_way(work)
    result = deck().actions.undo(actor(), batch)
    return jsonify(restored=result.count(Outcome.DONE), changed=result.count(Outcome.CHANGED), bulk_id=None), 200


def _under_way(work: Work) -> tuple[Response, int]:
    back = {"restored": work.done, "changed": work.outcomes.get(Outcome.CHANGED.value, 0)}
    return jsonify(_work(work) | back), 202


@bulk_bp.get("/bulk")
def works() -> Response:
    """The pieces of bulk work that are kept, newest first."""
    return jsonify(bulk=[_work(work) for work in deck().bulk.newest()])


@bulk_bp.get("/bulk/<work_id>")
def work(work_id: str) -> Response:
    """One piece of bulk work."""
    return jsonify(_work(deck().bulk.get(work_id)))


@audit_bp.get("/audit")
def audit() -> Response:
    """The newest acts first; `before` = the id of the last one seen."""
    events = deck().actions.record.events(count=PER_PAGE, before=before())
    return jsonify(events=[event.public() for event in events])


def _answer(acted: Acted, **more: Any) -> tuple[Response, int]:
    told = {"outcome": acted.outcome.value, "detail": acted.detail, "new_id": acted.new_id, **more}
    return jsonify(told), _STATUS[acted.outcome]


def _work(work: Work) -> dict[str, Any]:
    return {
        "bulk_id": work.id,
        "state": work.phase.value,
        "action": work.spec.action.value,
        "matched": work.matched,
        "at": work.at,
        "done": work.done,
        "skipped": work.outcomes.get(Outcome.GONE.value, 0) + work.outcomes.get(Outcome.CHANGED.value, 0),
        "failed": sum(work.outcomes.get(kind.value, 0) for kind in _FAILED),
        "outcomes": work.outcomes,
        "pace_per_s": work.spec.pace_per_s,
        "canary": work.spec.canary,
        "canary_failed": work.canary_failed,
        "note": work.note,
        "truncated": work.truncated,
        "undoes": work.spec.undoes,
        "undoable": work.undoable,
        "restored": work.restored,
        "who": work.spec.actor.name,
        "created_at": iso(instant(work.spec.created_at)),
        "ended_at": iso(instant(work.ended_at)),
    }


def _body() -> dict[str, Any]:
    if not request.content_length:
        return {}
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise Unsupported("Expected a JSON object.", hint="Send Content-Type: application/json.")
    return body


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Unsupported(f"{name}: expected text.")
    return value or None


def _wishes(body: dict[str, Any]) -> Wishes:
    payload = _text(body, "payload")
    if payload is not None and len(payload) > MAX_TEXT:
        raise Conflict(f"The payload is longer than {MAX_TEXT // 1024} KiB.")
    return Wishes(payload=payload, target=_text(body, "target"), reset_attempts=body.get("reset_attempts") is True)


def _reason(body: dict[str, Any]) -> str | None:
    text = _text(body, "reason")
    if text is None and deck().settings.require_reason:
        raise Conflict("A reason is needed here.", hint="Send it as `reason`.")
    return text


def _action(word: str) -> Action:
    try:
        return Action(word)
    except ValueError:
        raise Unsupported(f"{word[:40]!r} is nothing that can be done.") from None


def _state(word: Any) -> State:
    try:
        return State(word)
    except ValueError:
        raise Unsupported("state: expected one of ours.") from None
