"""Alert rules: current state and last hour of each, and forms that create, edit, enable, disable and delete them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ....alerts.evaluation.preview import RulePreview, Trend, has_history, rule_trend
from ....alerts.evaluation.rule_history import RuleHistories
from ....alerts.rules.metrics import METRICS, format_amount
from ....alerts.rules.rule import Origin, Rule
from ....alerts.rules.ruleset import RuleInForce
from ....errors import BackendUnavailable, ConfigurationError, Conflict, Forbidden, Unsupported
from ....sampling.recent_history import Series
from ....sampling.snapshot_reader import CurrentSnapshot
from ....sources.metering import measure_cost
from ... import fragments
from ...context import app_context, app_services
from ...forms.request_input import form_fields, form_flag, form_word
from ...forms.rule_form import FIELDS, RuleForm, describe_changes
from ...views.rule_chart import RuleChart, build_chart
from .. import layout
from .alerts import refuse_elsewhere
from .rule_changes import delete_rule, fill_in_rule, save_rule, set_rule_enabled

bp = Blueprint("rules", __name__, url_prefix="/alerts")
edit_bp = Blueprint("rules_edit", __name__, url_prefix="/alerts")

LIST, RULE = "rules/_list.html", "rules/_rule.html"
SMALL, LARGE = (96, 24), (640, 160)
CONFIRMATIONS = {
    "made": "Rule created. It takes effect at the next evaluation.",
    "changed": "Rule saved. It takes effect at the next evaluation.",
    "on": "Rule enabled. It takes effect at the next evaluation.",
    "off": "Rule disabled. Its firing alerts resolve at the next evaluation.",
    "removed": "Rule deleted. Its firing alerts resolve at the next evaluation.",
    "shipped": "Rule reset to default.",
}
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
OPS = {"gt": "above", "ge": "at or above", "lt": "below", "le": "at or below"}
REDUCERS = {
    "min": "minimum over the last",
    "max": "maximum over the last",
    "mean": "mean over the last",
    "p95": "95th percentile over the last",
    "rate": "change per minute over the last",
}
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
            "past": (found := _past(entry.rule, preview, current, overview.hours)),
            "graph": _graph(entry.rule, found, SMALL),
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
        | _preview_context(entry.rule, overview.previews.get(rule_id), current, overview.hours)
        | {
            "entry": entry,
            "firing": [alert for alert in alerts.incidents if alert.state.rule_id == rule_id],
            "pending": [alert for alert in alerts.pending if alert.state.rule_id == rule_id],
        }
    )


def _preview_context(
    rule: Rule,
    preview: RulePreview | None,
    current: CurrentSnapshot,
    histories: RuleHistories | None,
    *,
    drafted: bool = False,
) -> dict[str, Any]:
    """The variables of `rules/_preview.html`."""
    found = _past(rule, preview, current, histories)
    many = found is not None and not found.of_all and preview is not None and preview.looked_at > 1
    return {
        "rule": rule,
        "metric": METRICS[rule.metric],
        "preview": preview,
        "past": found,
        "graph": _graph(rule, found, LARGE, behind=found.envelope or () if found and many else ()),
        "drafted": drafted,
        "has_past": has_history(rule.metric),
        "reducers": REDUCERS,
        "amount": lambda value: format_amount(value, METRICS[rule.metric].unit, rule.reducer),
        "current_amount": lambda value: format_amount(value, METRICS[rule.metric].unit),
        "ops": OPS,
        "titles": app_services().sources.titles,
    }


def _past(
    rule: Rule, preview: RulePreview | None, current: CurrentSnapshot, histories: RuleHistories | None
) -> Trend | None:
    """The last hour of the worst of what the rule evaluates."""
    if current.snapshot is None:
        return None
    return rule_trend(rule, preview.worst if preview else None, current.snapshot, current.history, histories)


def _graph(rule: Rule, found: Trend | None, size: tuple[int, int], behind: Series = ()) -> RuleChart | None:
    if found is None or all(point is None for point in found.points):
        return None
    return build_chart(rule, found.points, found.slots, *size, behind)


def _short(value: float | None, rule: Rule, *, judged: bool = True) -> str:
    text = format_amount(value, METRICS[rule.metric].unit, rule.reducer if judged else "last")
    return text.replace(" per minute", "/min").replace(" per hour", "/h")


def _common(meter: Any) -> dict[str, Any]:
    return {
        "cost": layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000),
        "titles": app_services().sources.titles,
        "metrics": METRICS,
        "ops": OPS,
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
    taken = {each.rule.id for each in app_services().alert_service.rules.rules_in_force()}
    names = (f"{original[:54]}-copy{number or ''}" for number in range(len(taken) + 1))
    form.texts["id"] = next(name for name in names if name not in taken)
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
    values = form.values()
    rule: Rule | None = None
    if not form.errors:
        try:
            rule = app_services().alert_service.rules.parse_rule(values)
        except ConfigurationError as exc:
            form.add_problem(exc)
    if rule is None or form.errors or previewing:
        return _form(form, entry, original, preview=rule), 200 if rule else 422
    try:
        save_rule(values, _version() if entry else None)
    except Conflict as exc:
        form.general = exc.message
        return _form(
            form,
            app_services().alert_service.rules.find_rule(rule.id) if entry else None,
            original,
            changed=bool(entry),
        ), 409
    except Unsupported as exc:
        form.errors["id"] = exc.message
        return _form(form, entry, original), 422
    except (BackendUnavailable, Forbidden) as exc:
        form.general = f"{UNREADABLE} {exc.message} {exc.hint or ''}".strip()
        return _form(form, entry, original), 503
    if original is not None and form_flag("off") and original.rule.enabled:
        set_rule_enabled(original.rule.id, on=False, version=original.rule.version)
    return redirect(url_for("rules.show", rule_id=rule.id, said="changed" if entry else "made"), code=303)


def _form(
    form: RuleForm,
    entry: RuleInForce | None,
    original: RuleInForce | None,
    *,
    preview: Rule | None = None,
    changed: bool = False,
) -> str:
    """The form. `entry` = the edited rule, `original` = the duplicated one. `changed`: another user changed the rule;
    the form shows the saved version, and saving again overwrites it."""
    current = app_services().snapshots.current()
    preview_context: dict[str, Any] = {}
    if preview is not None:
        found, hours = {}, None
        if current.snapshot is not None:
            found = app_services().alert_service.previews.preview_rules(current.snapshot, current.history, [preview])
            hours = app_services().alert_service.previews.rule_histories(current.snapshot.sampled_at)
        preview_context = _preview_context(preview, found.get(preview.id), current, hours, drafted=True)
    mine = _tried(form) if changed else None
    return render_template(
        "rules/form.html",
        **layout.page_context(current, ""),
        form=form,
        entry=entry,
        original=original,
        metrics=METRICS,
        channels=[str(channel.get("id")) for channel in app_services().alert_service.channels],
        theirs=describe_changes(entry.rule, mine) if entry and mine else "",
        previewed=preview is not None,
        **({"titles": app_services().sources.titles} | preview_context),
    )


def _tried(form: RuleForm) -> Rule | None:
    try:
        return app_services().alert_service.rules.parse_rule(form.values())
    except ConfigurationError:
        return None


def _version() -> int:
    text = request.form.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Unsupported("version: expected the version that you read, a whole number.")
    return int(text)
