"""Reading and editing rules: versioned, checked against concurrent edits, stored in the store.

Works in every process, leader or not. Raises BackendUnavailable and Forbidden as the store does; each method states
its cost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from ...errors import ConfigurationError, Conflict, NotFound, Unsupported
from .. import keys
from ..rules.rule import Origin, Rule
from ..rules.ruleset import (
    RuleInForce,
    Ruleset,
    StoredRule,
    StoredRules,
    decode_rules,
    non_default_fields,
    unreadable_ids,
)
from ..store import AlertStore
from .ownership import AlertOwnership

MAX_NAME = 300
# Attempts at an edit when another rule is edited at the same time.
TRIES = 5

# KEYS rules. ARGV expected value, new value, "1" to set the old value aside: a part of it is unreadable here, and
# another version may need it. Returns 1, or 0 when the rules were edited in the meantime.
_REPLACE_RULES = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[3] == '1' then aside(KEYS[1], 'held rules that cannot be read') end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RuleEditor:
    """Thread-safe. Opens no connection of its own. `channels` are the ids that a rule can notify."""

    def __init__(
        self, alert_store: AlertStore, ruleset: Ruleset, channels: Collection[str], ownership: AlertOwnership
    ) -> None:
        """While another dashboard owns the alerts, only the rules of these settings exist."""
        self._ownership = ownership
        self._alert_store = alert_store
        self._store = alert_store.store
        self._ruleset = ruleset
        self._channels = frozenset(channels)

    def rules_in_force(self) -> tuple[RuleInForce, ...]:
        """All rules with their origin, including disabled ones. Cost: 1 round trip."""
        if self._ownership.conflict is not None:
            return self._ruleset.rules_in_force()
        return self._ruleset.rules_in_force(self._stored_rules())

    def find_rule(self, rule_id: str) -> RuleInForce:
        """One rule. Raises NotFound. Cost: 1 round trip."""
        for entry in self.rules_in_force():
            if entry.rule.id == rule_id:
                return entry
        raise NotFound(f"Unknown rule {rule_id!r}.")

    def parse_rule(self, values: Mapping[str, Any]) -> Rule:
        """The rule that a form describes, validated but not stored. Raises ConfigurationError. Cost: 1 round trip when
        it names other rules, or a source or library that does not exist."""
        rule = self._ruleset.parse_rule(values, "form")
        wanted = {*rule.channels, *(rule.channels_warning or ()), *(rule.channels_critical or ())}
        wanted |= {rule.fallback_channel} if rule.fallback_channel else set()
        unknown = sorted(wanted - self._channels)
        if unknown:
            raise ConfigurationError(f"form: rule {rule.id!r}: channels: unknown channel {unknown[0]!r}")
        scope_problem = self._ruleset.find_scope_problem(rule)
        if rule.inhibited_by or scope_problem is not None:
            self._check_names(rule, scope_problem)
        return rule

    def _check_names(self, rule: Rule, scope_problem: str | None) -> None:
        """Raise ConfigurationError for a name that does not exist, unless the rule as it is stored has it: a rule or a
        source may have been removed since."""
        rules = {entry.rule.id: entry.rule for entry in self.rules_in_force()}
        before = rules.get(rule.id)
        known = {*rules, *(before.inhibited_by if before is not None else ())}
        for name in sorted(set(rule.inhibited_by) - known):
            raise ConfigurationError(f"form: rule {rule.id!r}: inhibited_by: unknown rule {name!r}")
        is_same = before is not None and (before.source, before.backend) == (rule.source, rule.backend)
        if scope_problem is not None and not is_same:
            raise ConfigurationError(f"form: rule {rule.id!r}: {scope_problem}")

    def save_rule(self, values: Mapping[str, Any], *, by: str, version: int | None) -> Rule:
        """Store a rule and return it with its version raised by one. `version` = the one edited; None for a new rule.

        Raises ConfigurationError, Conflict when the rule was edited in the meantime or a new rule's id is taken,
        Unsupported for a rule of the TOML file. Cost: 3 round trips.
        """
        self._ownership.check()
        draft = self.parse_rule({**values, "version": 1})
        for _ in range(TRIES):
            stored = self._stored_rules()
            entry = next((entry for entry in self._ruleset.rules_in_force(stored) if entry.rule.id == draft.id), None)
            if entry is not None and entry.origin is Origin.TOML:
                raise Unsupported("This rule is defined in the settings file and can only be changed there.")
            self._check_version(entry, version)
            rule = msgspec.structs.replace(draft, version=(version or 0) + 1)
            kept = {**non_default_fields(rule), "enabled": rule.enabled, "version": rule.version}
            page = StoredRule(rule=kept, by=by[:MAX_NAME], at=self._alert_store.read_heartbeat()[0])
            old = decode_rules(stored)
            if self._replace_rules(stored, StoredRules(version=old.version + 1, rules={**old.rules, rule.id: page})):
                return rule
        raise Conflict("Someone else is changing the rules right now. Nothing was saved; try again.")

    def _check_version(self, entry: RuleInForce | None, version: int | None) -> None:
        if (entry.rule.version if entry else None) == version:
            return
        if entry is None:
            raise Conflict("This rule was deleted while you were editing it. Nothing was saved.")
        if version is None:
            raise Conflict(f"A rule {entry.rule.id!r} already exists. Nothing was saved.")
        who = f"by {entry.edited_by}" if entry.edited_by else "back to the default"
        raise Conflict(f"This rule was changed {who} while you were editing it. Your changes were not saved.")

    def set_enabled(self, rule_id: str, *, on: bool, by: str, version: int) -> Rule:
        """Enable or disable a rule and return it. Raises as `save_rule`, and NotFound. Cost: 4 round trips."""
        rule = self.find_rule(rule_id).rule
        return self.save_rule({**non_default_fields(rule), "id": rule_id, "enabled": on}, by=by, version=version)

    def delete_rule(self, rule_id: str, *, version: int) -> None:
        """Delete a rule stored by the page; a default rule is reset. Raises NotFound, Conflict, Unsupported.

        Cost: 2 round trips.
        """
        self._ownership.check()
        for _ in range(TRIES):
            stored = self._stored_rules()
            entry = next((entry for entry in self._ruleset.rules_in_force(stored) if entry.rule.id == rule_id), None)
            if entry is None:
                raise NotFound(f"Unknown rule {rule_id!r}.")
            if entry.origin is not Origin.PAGE:
                raise Unsupported("Only custom rules can be deleted. Disable this one instead.")
            self._check_version(entry, version)
            old = decode_rules(stored)
            rest = {name: page for name, page in old.rules.items() if name != rule_id}
            if self._replace_rules(stored, StoredRules(version=old.version + 1, rules=rest)):
                return
        raise Conflict("Someone else is changing the rules right now. Nothing was deleted; try again.")

    def _stored_rules(self) -> bytes:
        (stored,) = self._store.read_keys(("GET", keys.RULES))
        return stored if isinstance(stored, bytes) else b""

    def _replace_rules(self, expected: bytes, page: StoredRules) -> bool:
        """Replace the stored rules; False when they are no longer `expected`."""
        encoded = msgspec.json.encode(page)
        if len(encoded) > keys.MAX_RULES_BYTES:
            raise Unsupported(
                f"Rules are limited to {keys.MAX_RULES_BYTES} bytes in total. Move some to the settings file."
            )
        return bool(
            self._store.run_script(
                _REPLACE_RULES, (keys.RULES,), expected, encoded, int(bool(unreadable_ids(expected)))
            )
        )
