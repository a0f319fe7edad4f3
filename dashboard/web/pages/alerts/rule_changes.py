"""Changes to alert rules, each with an event in the audit log that says who made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....actions import audit_log
from ....alerts.rules.metrics import METRICS
from ....alerts.rules.rule import Origin, Rule
from ....errors import Unsupported
from ...access.security import current_actor
from ...context import app_services
from ...forms.rule_form import RuleForm, describe_changes

# The fields that a link to the form of a new rule can fill in.
PREFILLED = ("name", "metric", "queues", "source", "backend", "warning", "critical")
MAX_PREFILLED = 120


def set_rule_enabled(rule_id: str, *, on: bool, version: int) -> Rule:
    """Enable or disable a rule, and record who did. Raises as RuleEditor.set_enabled."""
    rule = app_services().alert_service.rules.set_enabled(rule_id, on=on, by=current_actor().name, version=version)
    _record("enable rule" if on else "disable rule", rule_id)
    return rule


def delete_rule(rule_id: str, *, version: int) -> bool:
    """Delete a custom rule or reset a built-in one, and record who did. Returns whether the rule is built-in.

    Raises as RuleEditor.delete_rule.
    """
    ships = app_services().alert_service.rules.find_rule(rule_id).shipped
    app_services().alert_service.rules.delete_rule(rule_id, version=version)
    _record("delete rule", rule_id)
    return ships


def save_rule(values: dict[str, Any], version: int | None) -> Rule:
    """Save a rule, and record who did and what changed.

    Raises as RuleEditor.save_rule, and Unsupported for a built-in rule.
    """
    alert_service = app_services().alert_service
    old = next((entry for entry in alert_service.rules.rules_in_force() if entry.rule.id == values.get("id")), None)
    if old is not None and old.shipped and old.origin is not Origin.TOML:
        raise Unsupported("This is a built-in rule. Disable it, then duplicate it and edit the copy.")
    rule = alert_service.rules.save_rule(values, by=current_actor().name, version=version)
    what = describe_changes(old.rule, rule) if old else ""
    _record("edit rule" if old else "create rule", rule.id, what)
    return rule


def fill_in_rule(form: RuleForm, values: Mapping[str, str]) -> None:
    """Fill the form of a new rule with the arguments of a URL, such as a link of a queue's page; others are ignored.

    What is invalid is shown in the form, whose fields report it when it is saved.
    """
    for name in PREFILLED:
        if (text := values.get(name, "").strip()[:MAX_PREFILLED]) and text.isprintable():
            form.texts[name] = text
    if form.texts["metric"] not in METRICS:
        form.texts["metric"] = "queue.depth"


def _record(action: str, rule_id: str, detail: str = "") -> None:
    app_services().action_service.audit_log.record_event(
        audit_log.build_event(current_actor(), action, ids=[rule_id], detail=detail or None)
    )
