"""Alert rules: current state and last hour of each, and forms that create, edit, enable, disable and delete them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....alerts.rules.metrics import METRICS, Metric, format_amount
from ....alerts.rules.rule import OPERATOR_WORDS, Origin, Rule
from ....alerts.rules.ruleset import RuleInForce
from ....errors import BackendUnavailable, Conflict, Forbidden, Unsupported
from ....sources.metering import measure_cost
from ... import fragments
from ...context import app_context, app_services
from ...forms.request_input import form_fields, form_flag, form_word
from ...forms.rule_form import FIELDS, LABELS, RuleForm, describe_changes, example_texts, suggest_id
from .. import layout
from .alerts import refuse_elsewhere
from .rule_changes import delete_rule, fill_in_rule, save_rule, set_rule_enabled
from .rule_preview import Draft, draft_context, parse_draft, past_hour, preview_context, small_graph

bp = Blueprint("rules", __name__, url_prefix="/alerts")
edit_bp = Blueprint("rules_edit", __name__, url_prefix="/alerts")

LIST, RULE = "rules/_list.html", "rules/_rule.html"
CONFIRMATIONS = {
    "made": "Rule created. It takes effect at the next evaluation.",
    "changed": "Rule saved. It takes effect at the next evaluation.",
    "on": "Rule enabled. It takes effect at the next evaluation.",
    "off": "Rule disabled. Its firing alerts resolve at the next evaluation.",
    "removed": "Rule deleted. Its firing alerts resolve at the next evaluation.",
    "shipped": "Rule reset to default.",
}
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
ID_TRIES = 3
# Fields of the forms that save a rule.
_FORM = (*FIELDS, "enabled", "notify_resolved", "do")
UNREADABLE = "Rules cannot be saved right now."


edit_bp.before_request(refuse_elsewhere)


@bp.get("/rules")
def index() -> str:
    """All rules."""
    context = _list_context()
    confirmation = CONFIRMATIONS.get(request.args.get("said", ""))
    return render_template(
        "rules/index.html",
        **layout.page_context(app_services().snapshots.current(), context["cost"]) | context,
        confirmation=confirmation,
    )


@bp.get("/rules/_list")
def list_fragment() -> Response:
    """The polled part of the list."""
    return fragments.render_live(LIST, _list_context())


@bp.get("/rule/<segment:rule_id>")
def show(rule_id: str) -> str:
    """One rule."""
    context = _rule_context(rule_id)
    confirmation = CONFIRMATIONS.get(request.args.get("said", ""))
    return render_template(
        "rules/show.html",
        **layout.page_context(app_services().snapshots.current(), context["cost"]) | context,
        confirmation=confirmation,
    )


@bp.get("/rule/<segment:rule_id>/_one")
def one_fragment(rule_id: str) -> Response:
    """The polled part of the page."""
    return fragments.render_live(RULE, _rule_context(rule_id))


def _list_context() -> dict[str, Any]:
    with measure_cost() as meter:
        overview, alerts = app_context().caches.rule_overview(), app_services().alert_service.alerts.list_alerts()
    current = app_services().snapshots.current()
    firing: dict[str, int] = {}
    for alert in alerts.incidents:
        firing[alert.state.rule_id] = firing.get(alert.state.rule_id, 0) + 1
    rows = [
        {
            "entry": entry,
            "preview": (preview := overview.previews.get(entry.rule.id)),
            "firing": firing.get(entry.rule.id, 0),
            "past": (found := past_hour(entry.rule, preview, current, overview.hours)),
            "graph": small_graph(entry.rule, found),
        }
        for entry in overview.entries
    ]
    return _common(meter) | {"rows": sorted(rows, key=_most_urgent)}


def _most_urgent(row: dict[str, Any]) -> int:
    """Sort key: firing rules first, then breaching ones, then the rest in their own order, disabled ones last."""
    rule, preview = row["entry"].rule, row["preview"]
    if not rule.enabled:
        return 4
    if row["firing"]:
        return 0 if preview and preview.criticals else 1
    return 2 if preview and preview.count else 3


def _rule_context(rule_id: str) -> dict[str, Any]:
    with measure_cost() as meter:
        alert_service = app_services().alert_service
        entry, alerts = alert_service.rules.find_rule(rule_id), alert_service.alerts.list_alerts()
        overview = app_context().caches.rule_overview()
    current = app_services().snapshots.current()
    return (
        _common(meter)
        | preview_context(entry.rule, overview.previews.get(rule_id), current, overview.hours)
        | {
            "entry": entry,
            "firing": [alert for alert in alerts.incidents if alert.state.rule_id == rule_id],
            "rule_titles": {each.rule.id: each.rule.title for each in overview.entries},
            "pending": [alert for alert in alerts.pending if alert.state.rule_id == rule_id],
        }
    )


def _short(value: float | None, rule: Rule, *, judged: bool = True) -> str:
    text = format_amount(value, METRICS[rule.metric].unit, rule.reducer if judged else "last")
    return text.replace(" per minute", "/min").replace(" per hour", "/h")


def _common(meter: Any) -> dict[str, Any]:
    return {
        "cost": layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000),
        "titles": app_services().sources.titles,
        "metrics": METRICS,
        "operator_words": OPERATOR_WORDS,
        "text_of": _short,
        "signs": SIGNS,
    }


@edit_bp.get("/rules/new")
def new() -> str:
    """The form of a new rule, filled in with the arguments, or with `from` of a duplicate of that rule."""
    original = request.args.get("from")
    if original is None:
        form = RuleForm.of(Rule(id="", metric="queue.depth"))
        form.texts["warning"] = form.texts["critical"] = ""
        fill_in_rule(form, request.args)
        return _form(form, None, None)
    entry = app_services().alert_service.rules.find_rule(original)
    form = RuleForm.of(entry.rule)
    form.enabled = True
    form.texts["id"] = suggest_id(f"{original} copy", _taken_ids())
    return _form(form, None, entry)


@edit_bp.post("/rules")
@form_fields(*_FORM, "from", "off", many=("channels",))
def create() -> ResponseReturnValue:
    """Create a rule: 303 to it, or the form again with its errors or the preview."""
    form = _typed()
    original = app_services().alert_service.rules.find_rule(request.form["from"]) if request.form.get("from") else None
    return _store(form, None, original)


@edit_bp.get("/rule/<segment:rule_id>/edit")
def edit(rule_id: str) -> str:
    """The form of a custom rule."""
    entry = _editable(rule_id)
    return _form(RuleForm.of(entry.rule), entry, None)


@edit_bp.post("/rule/<segment:rule_id>/edit")
@form_fields(*_FORM, "version", many=("channels",))
def change(rule_id: str) -> ResponseReturnValue:
    """Save a rule: 303 to it, or the form again, also when another user saved it first."""
    form = _typed()
    form.texts["id"] = rule_id
    return _store(form, _editable(rule_id), None)


@edit_bp.post("/rule/<segment:rule_id>/switch")
@form_fields("on", "version")
def switch(rule_id: str) -> ResponseReturnValue:
    """Enable or disable a rule."""
    said = "on" if form_flag("on") else "off"
    set_rule_enabled(rule_id, on=said == "on", version=_version())
    return redirect(url_for("rules.show", rule_id=rule_id, said=said), code=303)


@edit_bp.post("/rule/<segment:rule_id>/remove")
@form_fields("version")
def remove(rule_id: str) -> ResponseReturnValue:
    """Delete a rule; a built-in one is reset to its default."""
    ships = delete_rule(rule_id, version=_version())
    if ships:
        return redirect(url_for("rules.show", rule_id=rule_id, said="shipped"), code=303)
    return redirect(url_for("rules.index", said="removed"), code=303)


def _editable(rule_id: str) -> RuleInForce:
    entry = app_services().alert_service.rules.find_rule(rule_id)
    if entry.origin is Origin.TOML:
        raise Unsupported("This rule is defined in the settings file and can only be changed there.")
    if entry.shipped:
        raise Unsupported("This is a built-in rule. Disable it, then duplicate it and edit the copy.")
    return entry


def _typed() -> RuleForm:
    for name in ("enabled", "notify_resolved"):
        form_flag(name)
    return RuleForm.typed(request.form, request.form.getlist("channels"))


def _store(form: RuleForm, entry: RuleInForce | None, original: RuleInForce | None) -> ResponseReturnValue:
    previewing = form_word("do", "store", "preview") == "preview"
    draft = Draft(None, False, {})
    try:
        if entry is None:
            _suggest_id(form)
        draft = parse_draft(form)
        if previewing and fragments.is_htmx_request():
            form.forget_empty_fields()
            # Without a tag: a page that was being dragged on did not take the last one.
            return render_template("rules/_draft.html", **_form_context() | draft_context(form, draft))
        if previewing or not draft.is_complete:
            return _form(form, entry, original, draft=draft), 200 if draft.is_complete else 422
        rule = _save(form, draft.values, _version() if entry else None)
    except Conflict as exc:
        form.general = exc.message
        if entry is not None:
            entry = app_services().alert_service.rules.find_rule(entry.rule.id)
        return _form(form, entry, original, draft=draft, changed=bool(entry)), 409
    except Unsupported as exc:
        form.errors["id"] = exc.message
        return _form(form, entry, original, draft=draft), 422
    except (BackendUnavailable, Forbidden) as exc:
        form.general = f"{UNREADABLE} {exc.message} {exc.hint or ''}".strip()
        return _form(form, entry, original, draft=draft), 503
    if original is not None and form_flag("off") and original.rule.enabled:
        set_rule_enabled(original.rule.id, on=False, version=original.rule.version)
    return redirect(url_for("rules.show", rule_id=rule.id, said="changed" if entry else "made"), code=303)


def _suggest_id(form: RuleForm) -> None:
    """Make an id from the name where none was entered. Cost: 1 round trip, none with an id."""
    if not form.texts["id"]:
        form.suggested_id = suggest_id(form.texts["name"], _taken_ids())


def _taken_ids() -> set[str]:
    return {entry.rule.id for entry in app_services().alert_service.rules.rules_in_force()}


def _save(form: RuleForm, values: dict[str, Any], version: int | None) -> Rule:
    """Save the rule. An id that was made from the name and was taken in the meantime is made again."""
    for _ in range(ID_TRIES):
        try:
            return save_rule(values, version)
        except Conflict:
            if version is not None or form.texts["id"]:
                raise
            _suggest_id(form)
            values = {**values, "id": form.suggested_id}
    return save_rule(values, version)


def _form(
    form: RuleForm,
    entry: RuleInForce | None,
    original: RuleInForce | None,
    *,
    draft: Draft | None = None,
    changed: bool = False,
) -> str:
    """The form with the preview of `draft`; None = of what the form holds. `entry` = the edited rule, `original` = the
    duplicated one. `changed`: another user changed the rule; the form shows the saved version, and saving again
    overwrites it."""
    if draft is None:
        if entry is None and form.texts["name"]:
            _suggest_id(form)
        draft = parse_draft(form)
        form.errors.clear()
        form.general = None
    mine = draft.rule if changed and draft.is_complete else None
    return render_template(
        "rules/form.html",
        **layout.page_context(app_services().snapshots.current(), "")
        | _form_context()
        | draft_context(form, draft)
        | {
            "entry": entry,
            "original": original,
            "theirs": describe_changes(entry.rule, mine) if entry and mine else "",
            "scripts": ("js/rules.js",),
        },
    )


def _form_context() -> dict[str, Any]:
    """The variables of the form that do not depend on what it holds."""
    groups: dict[str, list[Metric]] = {}
    for metric in METRICS.values():
        groups.setdefault(metric.group, []).append(metric)
    return {
        "metrics": METRICS,
        "metric_groups": groups,
        "examples": {name: example_texts(name) for name in METRICS},
        "channels": [str(channel.get("id")) for channel in app_services().alert_service.channels],
        "titles": app_services().sources.titles,
        "operator_words": OPERATOR_WORDS,
        "labels": LABELS,
    }


def _version() -> int:
    text = request.form.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Unsupported("version: expected the version that you read, a whole number.")
    return int(text)
