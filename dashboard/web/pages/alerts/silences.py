"""Silences and maintenance windows: the list, and the form that creates one."""

from __future__ import annotations

from typing import Any

from flask import Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....alerts.evaluation.preview import preview_silence
from ....alerts.silences import Silence, describe_silence
from ....auth import Role
from ....errors import ConfigurationError
from ... import fragments
from ...access.security import current_actor, has_role
from ...context import app_services
from ...forms.request_input import form_fields, form_flag, form_word
from ...forms.silence_form import DAYS, FIELDS, SilenceForm
from .. import layout
from . import alerts
from .alerts import record_action

bp, edit_bp = alerts.bp, alerts.edit_bp


@bp.get("/alerts/silences")
def quiet() -> str:
    """Silences and maintenance windows."""
    return render_template(
        "alerts/silences.html", **layout.page_context(app_services().snapshots.current(), "") | _quiet()
    )


@bp.get("/alerts/silences/_list")
def quiet_fragment() -> Response:
    """The polled part of the page."""
    return fragments.render_live("alerts/_silences.html", _quiet())


def _quiet() -> dict[str, Any]:
    alert_list, listed = (
        app_services().alert_service.alerts.list_alerts(),
        app_services().alert_service.silences.list_silences(),
    )
    states = [alert.state for alert in (*alert_list.firing, *alert_list.pending)]
    snapshot = app_services().snapshots.current().snapshot
    rows = [
        {
            "silence": each,
            "holds": each.starts_at <= alert_list.at
            and (each.weekly is None or each.weekly.contains_time(alert_list.at)),
            "matches": preview_silence(each, states, snapshot, ()),
        }
        for each in listed
    ]
    return {
        "rows": rows,
        "at": alert_list.at,
        "days": DAYS,
        "rule_titles": {entry.rule.id: entry.rule.title for entry in alert_list.rules},
        "titles": app_services().sources.titles,
    }


@edit_bp.get("/silences/new")
def silence_form() -> str:
    """The form of a silence, filled in from the query parameters."""
    return _silence_form(SilenceForm.of(request.args))


@edit_bp.post("/silences")
@form_fields(*FIELDS, "everything", "do", many=("days",))
def silence() -> ResponseReturnValue:
    """Create a silence: 303 to the silences, or the form again with its errors or the preview."""
    previewing = form_word("do", "store", "preview") == "preview"
    form_flag("everything")
    form = SilenceForm.typed(request.form, request.form.getlist("days"))
    alert_service = app_services().alert_service
    values = form.values(alert_service.alerts.list_alerts().at, admin=has_role(Role.ADMIN))
    if form.errors:
        unconfirmed = set(form.errors) == {"everything"}
        return _silence_form(form), 403 if form.needs_admin else (409 if unconfirmed else 422)
    try:
        drafted = alert_service.silences.draft_silence(by=current_actor().name, **values)
    except ConfigurationError as exc:
        form.errors["when"] = exc.message.removeprefix("silence: ")
        return _silence_form(form), 422
    if previewing:
        return _silence_form(form, drafted)
    alert_service.silences.save_silence(drafted)
    record_action("silence", [drafted.id], drafted.comment, describe_silence(drafted))
    return redirect(url_for("alerting.quiet"), code=303)


def _silence_form(form: SilenceForm, drafted: Silence | None = None) -> str:
    found = None
    current = app_services().snapshots.current()
    rules = [entry.rule for entry in app_services().alert_service.rules.rules_in_force()]
    if drafted is not None:
        alert_list = app_services().alert_service.alerts.list_alerts()
        states = [alert.state for alert in (*alert_list.firing, *alert_list.pending)]
        found = preview_silence(
            drafted,
            states,
            current.snapshot,
            rules,
        )
    return render_template(
        "alerts/silence.html",
        **layout.page_context(current, ""),
        form=form,
        found=found,
        rules=rules,
        days=DAYS,
        titles=app_services().sources.titles,
        sources=list(app_services().sources.sources),
    )


@edit_bp.post("/silences/<segment:silence_id>/expire")
@form_fields()
def expire(silence_id: str) -> ResponseReturnValue:
    """End a silence now."""
    ended = app_services().alert_service.silences.expire_silence(silence_id)
    record_action("expire silence", [silence_id], None, describe_silence(ended))
    return redirect(url_for("alerting.quiet"), code=303)
