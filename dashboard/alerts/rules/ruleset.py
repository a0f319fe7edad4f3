"""The rules in force: default rules, rules stored by the page, rules of the TOML file. A later one replaces an earlier
one of the same id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from ...errors import ConfigurationError
from ...model import Value
from ...redact import masked_logger
from ...settings.known_names import KnownNames
from .default_rules import default_rules
from .rule import Origin, Rule, parse_rule

log = masked_logger(__name__)


class StoredRule(Value, frozen=True, kw_only=True):
    """A stored rule, with author and time. It replaces the default rule of the same id."""

    rule: dict[str, Any]
    by: str
    at: float


class StoredRules(Value, frozen=True, kw_only=True):
    """All rules stored by the page; `version` rises with each edit of any of them."""

    version: int = 0
    rules: dict[str, StoredRule] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleInForce:
    """A rule in force and where it comes from."""

    rule: Rule
    origin: Origin
    edited_by: str | None = None
    edited_at: float | None = None
    shipped: bool = False  # a default rule has this id, so that deleting the edit restores it


class Ruleset:
    """Caches what it decoded: the same bytes are not decoded twice. Thread-safe: it only ever replaces one tuple."""

    def __init__(self, toml: Sequence[Mapping[str, Any]], interval_s: float, names: KnownNames | None = None) -> None:
        """Raises ConfigurationError for the first invalid rule of `toml`. `names` None: any source and library."""
        self._names = names
        self._shipped = {rule.id: rule for rule in default_rules(interval_s)}
        self._toml: dict[str, Rule] = {}
        for values in toml:
            rule = self.parse_rule(values, "rules")
            if rule.id in self._toml:
                raise ConfigurationError(f"rules: rule {rule.id!r}: id: expected a unique id for each rule")
            self._toml[rule.id] = rule
        self._last: tuple[bytes, tuple[RuleInForce, ...]] | None = None

    def parse_rule(self, values: Mapping[str, Any], where: str) -> Rule:
        """The rule that `values` describe; with a default rule's id, they change only the fields they name.

        Raises ConfigurationError.
        """
        base = self._shipped.get(str(values.get("id")))
        if base is not None and values.get("metric", base.metric) == base.metric:
            return parse_rule({**non_default_fields(base), **values}, where)
        return parse_rule(values, where)

    def check_names(self, channels: Sequence[str], where: str = "rules") -> None:
        """Raise ConfigurationError when a rule of the settings names a channel, rule, source or library that does not
        exist."""
        known = {*self._shipped, *self._toml}
        for rule in self._toml.values():
            problem = self.find_scope_problem(rule)
            if problem is not None:
                raise ConfigurationError(f"{where}: rule {rule.id!r}: {problem}")
            wanted = {*rule.channels, *(rule.channels_warning or ()), *(rule.channels_critical or ())}
            wanted |= {rule.fallback_channel} if rule.fallback_channel else set()
            for name in sorted(wanted - set(channels)):
                raise ConfigurationError(
                    f"{where}: rule {rule.id!r}: channels: expected ids of [[channels]]; unknown channel {name!r}"
                )
            for name in sorted(set(rule.inhibited_by) - known):
                raise ConfigurationError(
                    f"{where}: rule {rule.id!r}: inhibited_by: expected ids of rules; unknown rule {name!r}"
                )

    def find_scope_problem(self, rule: Rule) -> str | None:
        """`field: expected …` for a rule that names a source or library that does not exist; else None."""
        return self._names.find_problem(rule.source, rule.backend) if self._names is not None else None

    def rules_in_force(self, stored: bytes = b"") -> tuple[RuleInForce, ...]:
        """All rules, including disabled ones: default rules in their order, then the others by id."""
        last = self._last
        if last is not None and last[0] == stored:
            return last[1]
        wrong = unreadable_ids(stored)
        if wrong:
            log.warning("ignoring unreadable custom rules: %s", ", ".join(wrong)[:300])
        found = {rule.id: RuleInForce(rule, Origin.SHIPPED, shipped=True) for rule in self._shipped.values()}
        for name, page in sorted(decode_rules(stored).rules.items()):
            try:
                rule = self.parse_rule({**page.rule, "id": name}, "stored rule")
            except ConfigurationError as exc:
                log.warning("%s; ignoring this rule", exc.message)
                continue
            found[name] = RuleInForce(rule, Origin.PAGE, page.by, page.at, shipped=name in self._shipped)
        for name, rule in sorted(self._toml.items()):
            found[name] = RuleInForce(rule, Origin.TOML, shipped=name in self._shipped)
        entries = tuple(found.values())
        self._last = (stored, entries)
        return entries

    def list_rules(self, stored: bytes = b"") -> tuple[Rule, ...]:
        """The rules of `rules_in_force`."""
        return tuple(entry.rule for entry in self.rules_in_force(stored))


def non_default_fields(rule: Rule) -> dict[str, Any]:
    """The fields of a rule that differ from the defaults, as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(rule)
    return {
        field.name: plain[field.name]
        for field in msgspec.structs.fields(Rule)
        if field.required or getattr(rule, field.name) != field.default
    }


class _RulesAsStored(Value, frozen=True, kw_only=True):
    """StoredRules before each rule is decoded, so that an invalid one does not affect the others."""

    version: Any = 0
    rules: dict[str, Any] = msgspec.field(default_factory=dict)


def decode_rules(stored: bytes) -> StoredRules:
    """The stored rules, without those that cannot be read."""
    return _decode_rules(stored)[0]


def unreadable_ids(stored: bytes) -> tuple[str, ...]:
    """The ids of stored rules that cannot be read; "all" when none can."""
    return _decode_rules(stored)[1]


@lru_cache(maxsize=4)
def _decode_rules(stored: bytes) -> tuple[StoredRules, tuple[str, ...]]:
    if not stored:
        return StoredRules(), ()
    try:
        found = msgspec.json.decode(stored, type=_RulesAsStored)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return StoredRules(), ("all",)
    rules: dict[str, StoredRule] = {}
    wrong: list[str] = []
    for name, value in found.rules.items():
        try:
            rules[name] = msgspec.convert(value, StoredRule)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            wrong.append(name)
    version = found.version if type(found.version) is int and 0 <= found.version < 2**53 else 0
    return StoredRules(version=version, rules=rules), tuple(wrong)
