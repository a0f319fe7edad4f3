"""The rules of the JSON API: their definitions and current states, and requests that save, switch and delete them."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify

from ...alerts.evaluation.preview import RulePreview
from ...alerts.rules.metrics import METRICS
from ...alerts.rules.rule import Rule
from ...alerts.rules.ruleset import RuleInForce
from ...clock import instant, iso
from ...errors import ConfigurationError, NotFound, Unsupported
from ..context import app_context, app_services
from ..forms.request_input import Body, json_body
from ..pages.alerts.rule_changes import delete_rule, save_rule, set_rule_enabled
from . import alerts
from .alerts import join_hint

bp = alerts.bp
edit_bp = Blueprint("api_rules", __name__, url_prefix="/api/v1/rules")


@bp.get("/rules")
def rules() -> Response:
    """List all rules and where each is defined.

    `problem` says why they are not evaluated; it is null while they are.
    """
    overview = app_context().caches.rules.current()
    listed = [json_rule(entry, overview.previews.get(entry.rule.id)) for entry in overview.entries]
    return jsonify(rules=listed, problem=join_hint(app_services().alert_service.ownership.conflict))


@bp.get("/rules/<segment:rule_id>")
def rule(rule_id: str) -> Response:
    """Retrieve a rule and its current state."""
    entry = app_services().alert_service.rules.find_rule(rule_id)
    return jsonify(json_rule(entry, app_context().caches.rules.current().previews.get(entry.rule.id)))


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
def api_save(body: msgspec.Struct) -> tuple[Response, int]:
    """Create or update a rule.

    To update one, send the version that you read as `version`.
    """
    values = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not msgspec.UNSET}
    version = values.pop("version", None)
    try:
        rule = save_rule(values, version)
    except ConfigurationError as exc:
        raise Unsupported(exc.message.removeprefix("form: ")) from None
    return jsonify(_stored(rule)), 200 if version else 201


@edit_bp.post("/<segment:rule_id>/<any(enable, disable):verb>")
@json_body(VersionBody)
def api_switch(body: VersionBody, rule_id: str, verb: str) -> Response:
    """Enable or disable a rule.

    `version` is the version that you read.
    """
    return jsonify(_stored(set_rule_enabled(rule_id, on=verb == "enable", version=body.version)))


@edit_bp.post("/<segment:rule_id>/delete")
@json_body(VersionBody)
def api_remove(body: VersionBody, rule_id: str) -> Response:
    """Delete a custom rule, or reset a built-in one to its default.

    `version` is the version that you read.
    """
    return jsonify(outcome="done", ships=delete_rule(rule_id, version=body.version))


def _stored(rule: Rule) -> dict[str, Any]:
    entry = next(
        (entry for entry in app_services().alert_service.rules.rules_in_force() if entry.rule.id == rule.id), None
    )
    if entry is None:
        raise NotFound("This rule no longer exists.")
    return json_rule(entry, None)


def json_rule(entry: RuleInForce, seen: RulePreview | None) -> dict[str, Any]:
    """A rule as the API returns it. `now` comes from the newest sample; None before the first."""
    rule = entry.rule
    fields: dict[str, Any] = msgspec.to_builtins(rule)
    return fields | {
        "name": rule.title,
        "unit": METRICS[rule.metric].unit,
        "origin": str(entry.origin),
        "ships": entry.shipped,
        "edited_by": entry.edited_by,
        "edited_at": iso(instant(entry.edited_at)),
        "now": _json_preview(seen) if seen else None,
    }


def _json_preview(seen: RulePreview) -> dict[str, Any]:
    return {
        "judged": seen.judged,
        "warnings": seen.warnings,
        "criticals": seen.criticals,
        "looked_at": seen.looked_at,
        "unknown": seen.unknown,
        "beyond": [
            {"labels": spot.labels.as_dict(), "value": spot.value, "severity": spot.severity} for spot in seen.beyond
        ],
    }
