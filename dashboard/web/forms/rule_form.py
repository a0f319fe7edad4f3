"""The form of a rule: converts the input to the fields of a Rule, and reports each error at its field."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...alerts.rules.default_rules import example_rule
from ...alerts.rules.metrics import METRICS
from ...alerts.rules.rule import MAX_GLOBS, OPERATOR_WORDS, Rule
from ...errors import ConfigurationError
from ...units import format_duration, format_number, read_amount, write_amount

# The fields of the form, by kind of value.
TIMES = ("window_s", "for_s", "recover_for_s", "new_instance_grace_s", "repeat_every_s", "group_wait_s")
LEVELS = ("warning", "critical", "warning_recover", "critical_recover")
COUNTS = ("min_samples", "min_events")
GLOBS = ("queues", "queues_not")
NAMES = ("channels_warning", "channels_critical", "inhibited_by")
TEXTS = ("id", "name", "metric", "reducer", "source", "backend", "scope", "op", "no_data")
OPTIONAL = ("fallback_channel", "runbook_url")
# All fields with text input.
FIELDS = (*TEXTS, *TIMES, *LEVELS, *COUNTS, *OPTIONAL, *GLOBS, *NAMES)
# The names of the fields on the form.
LABELS = {
    "name": "Name",
    "id": "ID",
    "metric": "Metric",
    "op": "Fires when",
    "warning": "Warning",
    "critical": "Critical",
    "for_s": "For",
    "queues": "Queues",
    "queues_not": "Exclude",
    "backend": "Library",
    "source": "Redis",
    "scope": "Evaluate",
    "channels": "Channels",
    "notify_resolved": "Notify when resolved",
    "repeat_every_s": "Repeat every",
    "runbook_url": "Runbook",
    "warning_recover": "Warning recovers at",
    "critical_recover": "Critical recovers at",
    "recover_for_s": "Resolve after",
    "min_samples": "Samples",
    "reducer": "Value",
    "window_s": "Over the last",
    "no_data": "Unknown values",
    "min_events": "Finished jobs",
    "new_instance_grace_s": "Grace period",
    "group_wait_s": "Group wait",
    "channels_warning": "Warnings to",
    "channels_critical": "Critical alerts to",
    "fallback_channel": "Fallback",
    "inhibited_by": "Inhibited by",
    "enabled": "Enabled",
}
MAX_FIELD = 4000
MAX_ID = 64
# Represents an empty list where an empty field means "as above".
EVERY = "*"


@dataclass(slots=True)
class RuleForm:
    """The form as it is shown: texts and errors by field; `general` = an error of no particular field."""

    texts: dict[str, str]
    enabled: bool = True
    notify_resolved: bool = True
    channels: tuple[str, ...] = ()
    errors: dict[str, str] = field(default_factory=dict)
    general: str | None = None
    suggested_id: str = ""  # made from the name; used while the field for the id is empty

    @classmethod
    def of(cls, rule: Rule) -> RuleForm:
        """The form filled in with a rule."""
        unit = METRICS[rule.metric].unit if rule.metric in METRICS else "count"
        plain: dict[str, Any] = msgspec.to_builtins(rule)
        texts = {name: str(plain[name]) for name in TEXTS}
        texts |= {name: write_amount(plain[name], "s") for name in TIMES}
        texts |= {name: "" if plain[name] is None else write_amount(plain[name], unit) for name in LEVELS}
        texts |= {name: "" if plain[name] is None else str(plain[name]) for name in (*COUNTS, *OPTIONAL)}
        texts |= {name: "\n".join(plain[name]) for name in GLOBS}
        for name in NAMES:
            given = plain[name]
            texts[name] = EVERY if given == [] and name != "inhibited_by" else ", ".join(given or ())
        return cls(texts, rule.enabled, rule.notify_resolved, tuple(rule.channels))

    @classmethod
    def typed(cls, form: Mapping[str, str], channels: Sequence[str]) -> RuleForm:
        """The form as it was submitted; `channels` = the selected ones."""
        texts = {name: form.get(name, "").replace("\r\n", "\n").strip()[:MAX_FIELD] for name in FIELDS}
        return cls(texts, form.get("enabled") == "1", form.get("notify_resolved") == "1", tuple(channels))

    def values(self) -> dict[str, Any]:
        """The fields of a Rule. An invalid value sets `errors` and is replaced by the default."""
        texts = self.texts
        metric = METRICS.get(texts["metric"])
        if metric is None:
            self.errors["metric"] = "choose a metric"
        elif metric.unavailable:
            self.errors["metric"] = f"not available yet: {metric.unavailable}"
        unit = metric.unit if metric else "count"
        found: dict[str, Any] = {name: texts[name] for name in TEXTS}
        found["id"] = texts["id"] or self.suggested_id
        found["source"], found["backend"] = texts["source"] or "*", texts["backend"] or "*"
        found |= {name: texts[name] or None for name in OPTIONAL}
        for name in TIMES:
            found[name] = self._parse_amount(name, "s", missing=0.0)
        for name in LEVELS:
            found[name] = self._parse_amount(name, unit, missing=None)
        for name in COUNTS:
            found[name] = self._parse_integer(name, missing=1 if name == "min_samples" else None)
        for name in GLOBS:
            found[name] = [glob for line in texts[name].splitlines() if (glob := line.strip())][: MAX_GLOBS + 1]
        for name in NAMES:
            listed = [part for part in texts[name].replace(",", " ").split() if part]
            every = listed == [EVERY] and name != "inhibited_by"
            found[name] = [] if every else listed or ([] if name == "inhibited_by" else None)
        found["enabled"], found["notify_resolved"] = self.enabled, self.notify_resolved
        found["channels"] = list(self.channels)
        return found

    def meanings(self) -> dict[str, str]:
        """By field, the amount that was entered as rules store it: "5 min" = 300 s, "80%" = 0.8. Only where that says
        more than the text."""
        metric = METRICS.get(self.texts["metric"])
        units = dict.fromkeys(TIMES, "s") | dict.fromkeys(LEVELS, metric.unit if metric else "count")
        found: dict[str, str] = {}
        for name, unit in units.items():
            meaning = _explain_amount(self.texts[name], unit)
            if meaning:
                found[name] = meaning
        return found

    def forget_empty_fields(self) -> None:
        """Drop the errors of fields that are still empty, for a form that is being filled in."""
        self.errors = {name: text for name, text in self.errors.items() if self.texts.get(name, " ")}

    def add_problem(self, exc: ConfigurationError) -> None:
        """Report an error of the rule at the field that it names."""
        # "form: rule 'x': field: expected …", without the id if that is what is invalid
        named, _, text = exc.message.split(": ", 2)[-1].partition(": ")
        first = named.split(",")[0].strip()
        if not text or (first not in self.texts and first != "channels"):
            self.general = exc.message.split(": ", 1)[-1]
            return
        self.errors.setdefault(first, text)

    def _parse_amount(self, name: str, unit: str, *, missing: float | None) -> float | None:
        if not self.texts[name]:
            return missing
        try:
            return read_amount(self.texts[name], unit)
        except ValueError as exc:
            self.errors[name] = str(exc)
            return missing

    def _parse_integer(self, name: str, *, missing: int | None) -> int | None:
        text = self.texts[name]
        if not text:
            return missing
        if text.isascii() and text.isdigit() and len(text) < 8:
            return int(text)
        self.errors[name] = "expected a whole number"
        return missing


def suggest_id(name: str, taken: Collection[str]) -> str:
    """An id made from the name of a rule and not `taken`: "Mail: too deep" -> mail-too-deep, then mail-too-deep-2.

    "" for an empty name; a name without Latin letters and digits becomes "rule".
    """
    if not name.strip():
        return ""
    plain = unicodedata.normalize("NFKD", name[:200].casefold()).encode("ascii", "ignore").decode()
    words = "".join(sign if sign.isalnum() else " " for sign in plain).split()
    stem = "-".join(words)[: MAX_ID - 8].strip("-") or "rule"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
    return next(found for found in names if found not in taken)


def example_texts(metric: str) -> dict[str, str]:
    """What the built-in rule on a metric says in the fields `op`, `warning` and `critical`; {} without one."""
    rule = example_rule(metric)
    if rule is None:
        return {}
    return {name: RuleForm.of(rule).texts[name] for name in ("op", "warning", "critical")}


def _explain_amount(text: str, unit: str) -> str:
    if not text:
        return ""
    try:
        value = read_amount(text, unit)
    except ValueError:
        return ""
    plain = text.replace(",", "").strip()
    if unit == "s":
        is_bare = plain.replace(".", "", 1).isdigit()
        if is_bare:
            return f"= {format_duration(value)}"
        return "" if plain.lower() == f"{value:g} s" else f"= {format_number(value)} s"
    if unit == "bytes":
        return f"= {format_number(value)} bytes"
    if unit == "ratio":
        return f"= {write_amount(value, 'count')}" if plain.endswith("%") else f"= {write_amount(value, 'ratio')}"
    return f"= {format_number(value)}" if plain != format_number(value).replace(",", "") else ""


def describe_changes(old: Rule, new: Rule) -> str:
    """What an edit changed, in the words of the form: "Warning: 5 m → 1 m; …", for the audit log and for conflicting
    edits."""
    before, after = _plain_texts(old), _plain_texts(new)
    changed = [name for name in before if before[name] != after[name]]
    return "; ".join(f"{LABELS[name]}: {before[name]} → {after[name]}" for name in changed)


def _plain_texts(rule: Rule) -> dict[str, str]:
    """The fields of the form, with the values of a rule."""
    metric = METRICS.get(rule.metric)
    texts = {name: text.replace("\n", ", ") or "none" for name, text in RuleForm.of(rule).texts.items()}
    return texts | {
        "metric": metric.label if metric else rule.metric,
        "op": OPERATOR_WORDS[rule.op],
        "queues": ", ".join(rule.queues) or "all",
        "channels": ", ".join(rule.channels) or "all",
        "enabled": "yes" if rule.enabled else "no",
        "notify_resolved": "yes" if rule.notify_resolved else "no",
    }
