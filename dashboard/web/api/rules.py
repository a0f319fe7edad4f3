"""The rules of the JSON API: their definitions and current states, and requests that save, switch and delete them."""

from __future__ import annotations

from typing import Literal

import msgspec
from flask import Blueprint
from msgspec.structs import asdict

from ...alerts.evaluation.preview import RulePreview
from ...alerts.rules.metrics import METRICS, Unit
from ...alerts.rules.rule import Origin, Rule, Severity
from ...alerts.rules.ruleset import RuleInForce
from ...clock import instant, iso
from ...errors import ConfigurationError, NotFound, Unsupported
from ..context import app_context, app_services
from ..forms.request_input import Body, json_body
from ..pages.alerts.rule_changes import delete_rule, save_rule, set_rule_enabled
from . import alerts
from .alerts import join_problem
from .responses import JsonObject, Time, json_response

bp = alerts.bp
edit_bp = Blueprint("api_rules", __name__, url_prefix="/api/v1/rules")


class RuleMatchJson(JsonObject, frozen=True, kw_only=True):
    """A queue or source beyond a threshold of a rule."""

    labels: dict[str, str]
    value: float | None
    severity: Severity | None


class RulePreviewJson(JsonObject, frozen=True, kw_only=True):
    """What a rule finds now. `beyond`, worst first, holds at most 20 of all `warnings` and `criticals`; `unknown` of
    `looked_at` have an unknown figure. `judged` is false while the figures of the rule's time window are unknown."""

    judged: bool
    warnings: int
    criticals: int
    looked_at: int
    unknown: int
    beyond: list[RuleMatchJson]


class RuleJson(Rule, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A rule and where it is defined. `metric_label`: the metric in words. `ships`: a built-in rule has this id. `now`
    comes from the newest sample; null before the first."""

    metric_label: str
    unit: Unit
    origin: Origin
    ships: bool
    edited_by: str | None
    edited_at: Time | None
    now: RulePreviewJson | None


class RulesJson(JsonObject, frozen=True, kw_only=True):
    """All rules. `problem` says why they are not evaluated."""

    rules: list[RuleJson]
    problem: str | None


class DeletedRuleJson(JsonObject, frozen=True, kw_only=True):
    """A rule was deleted. `ships`: it is built in, and has its default again."""

    outcome: Literal["done"]
    ships: bool


@bp.get("/rules")
@json_response
def rules() -> RulesJson:
    """List all rules and where each is defined.

    `problem` says why they are not evaluated; it is null while they are.
    """
    overview = app_context().caches.rule_overview()
    listed = [_json_rule(entry, overview.previews.get(entry.rule.id)) for entry in overview.entries]
    return RulesJson(rules=listed, problem=join_problem(app_services().alert_service.ownership.conflict))


@bp.get("/rules/<segment:rule_id>")
@json_response
def rule(rule_id: str) -> RuleJson:
    """Retrieve a rule and its current state."""
    entry = app_services().alert_service.rules.find_rule(rule_id)
    return _json_rule(entry, app_context().caches.rule_overview().previews.get(entry.rule.id))


class VersionBody(Body, frozen=True, kw_only=True):
    """`version`: the version that you read, to detect conflicting edits."""

    version: int


# The fields of a Rule; UNSET marks those that were not sent.
RuleBody = msgspec.defstruct(
    "RuleBody",
    [
        (field.name, field.type) if field.required else (field.name, field.type | msgspec.UnsetType, msgspec.UNSET)
        for field in msgspec.structs.fields(Rule)
        if field.name != "version"
    ]
    + [("version", int | None, None)],
    bases=(Body,),
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
)


@edit_bp.post("")
@json_body(RuleBody)
@json_response
def api_save(body: msgspec.Struct) -> tuple[RuleJson, int]:
    """Create or update a rule.

    To update one, send the version that you read as `version`.
    """
    values = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not msgspec.UNSET}
    version = values.pop("version", None)
    try:
        rule = save_rule(values, version)
    except ConfigurationError as exc:
        raise Unsupported(exc.message.removeprefix("form: ")) from None
    return _stored(rule), 200 if version else 201


@edit_bp.post("/<segment:rule_id>/<any(enable, disable):verb>")
@json_body(VersionBody)
@json_response
def api_switch(body: VersionBody, rule_id: str, verb: str) -> RuleJson:
    """Enable or disable a rule.

    `version` is the version that you read.
    """
    return _stored(set_rule_enabled(rule_id, on=verb == "enable", version=body.version))


@edit_bp.post("/<segment:rule_id>/delete")
@json_body(VersionBody)
@json_response
def api_remove(body: VersionBody, rule_id: str) -> DeletedRuleJson:
    """Delete a custom rule, or reset a built-in one to its default.

    `version` is the version that you read.
    """
    return DeletedRuleJson(outcome="done", ships=delete_rule(rule_id, version=body.version))


def _stored(rule: Rule) -> RuleJson:
    entry = next(
        (entry for entry in app_services().alert_service.rules.rules_in_force() if entry.rule.id == rule.id), None
    )
    if entry is None:
        raise NotFound("This rule no longer exists.")
    return _json_rule(entry, None)


def _json_rule(entry: RuleInForce, preview: RulePreview | None) -> RuleJson:
    rule = entry.rule
    return RuleJson(
        **asdict(rule) | {"name": rule.title},
        metric_label=METRICS[rule.metric].label,
        unit=METRICS[rule.metric].unit,
        origin=entry.origin,
        ships=entry.shipped,
        edited_by=entry.edited_by,
        edited_at=iso(instant(entry.edited_at)),
        now=_json_preview(preview) if preview else None,
    )


def _json_preview(preview: RulePreview) -> RulePreviewJson:
    return RulePreviewJson(
        judged=preview.judged,
        warnings=preview.warnings,
        criticals=preview.criticals,
        looked_at=preview.looked_at,
        unknown=preview.unknown,
        beyond=[
            RuleMatchJson(labels=match.labels.as_dict(), value=match.value, severity=match.severity)
            for match in preview.beyond
        ],
    )
