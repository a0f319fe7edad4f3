"""The form that adds a mark and the question before one is deleted; the marks themselves are on the chart pages."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode, urlsplit

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....actions import audit_log
from ....clock import instant
from ....errors import Unsupported
from ....marks.mark_store import AddedMark
from ....marks.new_mark import build_mark
from ....model import Mark
from ...access.security import current_actor
from ...access.sessions import safe_path
from ...context import app_services
from ...formatting import format_moment, one_line
from ...forms.request_input import form_fields
from ...views.confirmation import Confirmation
from .. import layout
from ..job_actions import checked_reason

edit_bp = Blueprint("marks_edit", __name__, url_prefix="/marks")

FIELDS = ("text", "version", "link", "at")
# The results that the URL of a chart page can name.
CONFIRMATIONS = {
    "mark-added": "Mark added.",
    "mark-known": "This mark had been added already, less than a minute before or after.",
    "mark-deleted": "Mark deleted.",
}


@edit_bp.post("")
@form_fields(*FIELDS, "back")
def add() -> ResponseReturnValue:
    """Add a mark: 303 to the page it was added from, or the form again with its error."""
    values = {name: request.form.get(name, "") for name in FIELDS}
    back = _chart_page(request.form.get("back"))
    try:
        added = add_mark(values["text"], values["version"], values["link"], _parse_time(values["at"].strip()))
    except Unsupported as exc:
        page = layout.page_context(app_services().snapshots.current(), "")
        return render_template("charts/mark.html", **page, values=values, problem=exc, here=back), 422
    return _return_to(back, "mark-added" if added.is_new else "mark-known")


@edit_bp.get("/<segment:mark_id>/delete")
def ask_to_delete(mark_id: str) -> str:
    """The question before a mark is deleted. Cost: 1 round trip."""
    mark, back = app_services().marks.mark_store.find_mark(mark_id), _chart_page(request.args.get("back"))
    added = (("Added by", one_line(mark.who, 60)),) if mark.who else ()
    question = Confirmation(
        heading=f"Delete the mark {one_line(mark.label, 120)}?",
        verb="Delete mark",
        facts=(("Time", f"{format_moment(instant(mark.at))} UTC"), *added),
        notes=("It disappears from charts and error groups, for all users. It cannot be restored.",),
        target=url_for(".delete", mark_id=mark_id),
        fields=(("back", back),),
        cancel=back,
    )
    page = layout.page_context(app_services().snapshots.current(), "")
    return render_template("actions/confirm.html", **page, question=question)


@edit_bp.post("/<segment:mark_id>/delete")
@form_fields("back", "reason")
def delete(mark_id: str) -> ResponseReturnValue:
    """Delete a mark: 303 to the page it was deleted from."""
    reason = checked_reason(request.form.get("reason"), hint="Enter why this mark is deleted.")
    delete_mark(mark_id, reason)
    return _return_to(_chart_page(request.form.get("back")), "mark-deleted")


def add_mark(text: str, version: str | None, link: str | None, at: float | None) -> AddedMark:
    """Add a mark of the user, and record it. Raises what `build_mark` and `MarkStore.add_mark` raise.

    Cost: 2 round trips; 1 for a mark that had been added.
    """
    services, who = app_services(), current_actor().name
    added = services.marks.mark_store.add_mark(build_mark(text, version, link, at, who, services.store.now_s()))
    if added.is_new:
        services.marks.forget_recent_marks()
        _record("add mark", added.mark)
    return added


def delete_mark(mark_id: str, reason: str | None = None) -> Mark:
    """Delete a mark, and record it. Raises NotFound. Cost: 2 round trips."""
    services = app_services()
    mark = services.marks.mark_store.delete_mark(mark_id)
    services.marks.forget_recent_marks()
    _record("delete mark", mark, reason)
    return mark


def _record(action: str, mark: Mark, reason: str | None = None) -> None:
    ids = (mark.id,) if mark.id else ()
    event = audit_log.build_event(current_actor(), action, ids=ids, reason=reason, detail=mark.label)
    app_services().action_service.audit_log.record_event(event)


def _parse_time(text: str) -> float | None:
    """The value of a datetime-local field, in UTC, as seconds since 1970; None for an empty one."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Unsupported(f"at: {one_line(text, 40)} is not a time, such as 2026-11-30T03:12.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _chart_page(target: str | None) -> str:
    """The path and query of the chart page to return to, without the result of an action; that of all queues if
    `target` is not a path of this site."""
    parts = urlsplit(safe_path(target))
    if parts.path == "/":  # below a mount point, this is a page of the host application
        return url_for("charts.overview")
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name != "said"])
    return f"{parts.path}?{query}" if query else parts.path


def _return_to(back: str, result: str) -> ResponseReturnValue:
    return redirect(f"{back}{'&' if '?' in back else '?'}said={result}#marks", code=303)
