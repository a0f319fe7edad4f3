"""Many alerts of one incident: all of them page by page, and the form that acknowledges or silences them together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flask import Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....alerts.delivery.message import glob_of
from ....alerts.management.alert_groups import ALL_RULES, AlertGroup, AlertScope, group_alerts
from ....alerts.management.alert_owners import AlertOwners
from ....alerts.management.alert_reader import AlertList
from ....alerts.silences import describe_silence
from ....auth import Role
from ....errors import Forbidden, NotFound, Unsupported
from ... import fragments
from ...access.security import current_actor, has_role
from ...context import app_services
from ...forms.request_input import form_fields, form_word
from ...forms.silence_form import LONGEST_S, OPERATOR_S
from ...urls import quote_segment, read_segment
from .. import layout
from . import alerts
from .alerts import acknowledge_group, record_action
from .group_result import MAX_DIGITS

bp, edit_bp = alerts.bp, alerts.edit_bp

PER_PAGE = 50
LISTED = "alerts/_firing_list.html"


@bp.get("/alerts/firing")
def all_firing() -> str:
    """All firing alerts, or with `group` those of one incident, PER_PAGE on a page."""
    return layout.render_page("alerts/firing.html", _firing_page())


@bp.get("/alerts/firing/_list")
def firing_fragment() -> Response:
    """The polled part of the page."""
    return fragments.render_live(LISTED, _firing_page())


def _firing_page() -> dict[str, Any]:
    alert_list = app_services().alert_service.alerts.list_alerts()
    key = request.args.get("group", "")[:64]
    group = group_alerts(alert_list).find_group(key) if key else None
    found = alert_list.incidents if not key else group.everything if group else ()
    pages = max(1, math.ceil(len(found) / PER_PAGE))
    text = request.args.get("page", "1")
    page = min(int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else 1, pages) or 1
    return {
        "key": key,
        "group": group,
        "total": len(found),
        "page": page,
        "pages": pages,
        "first": (page - 1) * PER_PAGE,
        "rows": found[(page - 1) * PER_PAGE : page * PER_PAGE],
        "titles": app_services().sources.titles,
        "pause_note": alerts.pause_note,
        "owners": AlertOwners(app_services().queue_directory, alert_list.rules),
        "cost": "",
    }


@edit_bp.get("/alerts/groups/<segment:key>")
def group_form(key: str) -> str:
    """The form that acknowledges or silences all alerts of an incident."""
    alert_list, group = _read_group(key)
    return render_template(
        "alerts/group.html",
        **layout.page_context(app_services().snapshots.current(), ""),
        group=group,
        scopes=[(_encode_scope(scope), scope) for scope in group.scopes],
        seen_at=alert_list.at,
        pause_note=alerts.pause_note,
        owners=AlertOwners(app_services().queue_directory, alert_list.rules),
        titles=app_services().sources.titles,
        shown=alerts.SHOWN,
        longest_h=24 if not has_role(Role.ADMIN) else int(LONGEST_S / 3600),
    )


def _read_group(key: str) -> tuple[AlertList, AlertGroup]:
    alert_list = app_services().alert_service.alerts.list_alerts()
    group = group_alerts(alert_list).find_group(key)
    if group is None:
        raise NotFound("These alerts are no longer firing.")
    return alert_list, group


@edit_bp.post("/alerts/groups/<segment:key>")
@form_fields("seen_at", "comment", "hours", "do", many=("scope",))
def act_on_group(key: str) -> ResponseReturnValue:
    """Acknowledge the alerts that the form showed, or silence the rules that it named: 303 to the alerts."""
    comment = request.form.get("comment", "")[:300]
    if form_word("do", "acknowledge", "silence") == "silence":
        scopes = [_decode_scope(text) for text in request.form.getlist("scope")]
        result = _silence_scopes(key, scopes, _read_number("hours", LONGEST_S / 3600) * 3600, comment)
    else:
        done = acknowledge_group(key, _read_number("seen_at", 1e12), comment)
        result = {"acknowledged": len(done.done), "already": done.already, "newer": done.newer}
    return redirect(url_for("alerting.index", **result), code=303)


def _silence_scopes(key: str, scopes: Sequence[AlertScope], for_s: float, comment: str) -> dict[str, Any]:
    """Create a silence for each scope that the form named; all of them, or none that is invalid.

    Rules of the group that fire only since then are not silenced, but counted.
    """
    if for_s > OPERATOR_S and not has_role(Role.ADMIN):
        raise Forbidden("You need the admin role to silence for more than 24 hours.")
    if not scopes:
        raise Unsupported("scope: expected the rules that the form shows.")
    _, group = _read_group(key)
    silences, by = app_services().alert_service.silences, current_actor().name
    drafts = [
        silences.draft_silence(
            for_s=for_s,
            by=by,
            comment=comment,
            rule=scope.rule_id if scope.rule_id == ALL_RULES else glob_of(scope.rule_id),
            source="*" if scope.source is None else glob_of(scope.source),
            backend="*" if scope.backend is None else glob_of(scope.backend),
        )
        for scope in dict.fromkeys(scopes)
    ]
    for drafted in drafts:
        silences.save_silence(drafted)
        record_action("silence", [drafted.id], comment, describe_silence(drafted))
    silenced = group.count_covered(scopes)
    return {"silenced": silenced, "others": len(group.everything) - silenced}


def _encode_scope(scope: AlertScope) -> str:
    return " ".join(quote_segment(part or "") for part in (scope.rule_id, scope.source, scope.backend))


def _decode_scope(text: str) -> AlertScope:
    parts = [read_segment(part) for part in text[:2_000].split(" ")]
    # All rules of all sources are more than any incident.
    if len(parts) != 3 or not parts[0] or (parts[0] == ALL_RULES and not parts[1]):
        raise Unsupported("scope: expected a rule, source and library as the form shows them.")
    return AlertScope(parts[0], parts[1] or None, parts[2] or None)


def _read_number(name: str, most: float) -> float:
    text = request.form.get(name, "")[:40]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= most:
        raise Unsupported(f"{name}: expected a number above 0, at most {most:,.0f}.")
    return number
