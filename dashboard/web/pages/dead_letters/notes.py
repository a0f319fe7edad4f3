"""Annotations of error groups: plain forms, answered with 303 to the page that shows the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ....actions import audit_log
from ....dead_letters.annotations import MAX_NAME, MAX_NOTE
from ....dead_letters.fingerprint import is_fingerprint
from ....errors import NotFound, Unsupported
from ...access.security import current_actor
from ...context import app_services
from ...forms.request_input import check_form, form_fields

bp = Blueprint("notes", __name__, url_prefix="/dead")

Fields = Mapping[str, str | float | None]
MAX_HOURS = 90 * 24
MAX_MORE = 1_000_000


@bp.post("/<segment:fingerprint>/<word>")
@form_fields("hours", "more", "owner", "note")
def update(fingerprint: str, word: str) -> ResponseReturnValue:
    """Acknowledge, ignore or resolve a group, undo any of these, or set its owner and note."""
    fields_of = _UPDATES.get(word)
    if fields_of is None or not is_fingerprint(fingerprint):
        raise NotFound("Unknown action.")
    check_form(*_FORM_FIELDS.get(word, ()))
    if not app_services().dead_letter_service.update_annotation(
        fingerprint, fields_of(fingerprint, current_actor().name[:MAX_NAME])
    ):
        raise NotFound(
            "This error group is unknown, or no longer exists. Nothing was saved.",
            hint="Open the Dead letters page first: a group is known once its jobs have been read.",
        )
    group = app_services().dead_letter_service.current_groups().grouped.find(fingerprint)
    event = audit_log.build_event(
        current_actor(),
        f"{word} error group",
        ids=(fingerprint,),
        count=group.count if group else 0,
        detail=group.title if group else None,
    )
    app_services().action_service.audit_log.record_event(event)
    return redirect(url_for("dead.show", fingerprint=fingerprint, said=word), code=303)


def _acknowledge(_fingerprint: str, who: str) -> Fields:
    return {"ack_by": who, "ack_at": app_services().sources.now_s()}


def _unacknowledge(_fingerprint: str, _who: str) -> Fields:
    return {"ack_by": None, "ack_at": None}


def _ignore(fingerprint: str, who: str) -> Fields:
    """For `hours`, or until there are `more` jobs than now. Raises Unsupported for an invalid number."""
    if more := request.form.get("more", "").strip():
        group = app_services().dead_letter_service.current_groups().grouped.find(fingerprint)
        above = (group.count if group else 0) + _whole("more", more, MAX_MORE)
        return {"ignored_by": who, "ignored_until": None, "ignored_above": above}
    hours = _whole("hours", request.form.get("hours", ""), MAX_HOURS)
    return {"ignored_by": who, "ignored_until": app_services().sources.now_s() + hours * 3600, "ignored_above": None}


def _notice(_fingerprint: str, _who: str) -> Fields:
    return {"ignored_by": None, "ignored_until": None, "ignored_above": None}


def _resolve(_fingerprint: str, who: str) -> Fields:
    return {"resolved_by": who, "resolved_at": app_services().sources.now_s()}


def _reopen(_fingerprint: str, _who: str) -> Fields:
    return {"resolved_by": None, "resolved_at": None}


def _note(_fingerprint: str, who: str) -> Fields:
    owner, note = (request.form.get(name, "").replace("\r\n", "\n").strip() for name in ("owner", "note"))
    if len(owner) > MAX_NAME or len(note) > MAX_NOTE:
        raise Unsupported(f"The owner can have at most {MAX_NAME} characters, the note {MAX_NOTE}.")
    return {"owner": owner or None, "note": note or None, "note_by": who, "note_at": app_services().sources.now_s()}


def _whole(name: str, text: str, most: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not 1 <= number <= most:
        raise Unsupported(f"{name}: expected a whole number from 1 to {most:,}.")
    return number


_FORM_FIELDS = {"ignore": ("hours", "more"), "note": ("owner", "note")}
_UPDATES: dict[str, Callable[[str, str], Fields]] = {
    "acknowledge": _acknowledge,
    "unacknowledge": _unacknowledge,
    "ignore": _ignore,
    "notice": _notice,
    "resolve": _resolve,
    "reopen": _reopen,
    "note": _note,
}
