"""Rules: their fields, their validation, and the fingerprint of an alert. Pure.

A rule with both thresholds has two alerts for each subject, one per severity.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, get_args

import msgspec

from ...errors import ConfigurationError
from ...globs import GLOB_LIMIT, is_glob
from ...model import Value
from .metrics import METRICS, Metric

Op = Literal["gt", "ge", "lt", "le"]
Reducer = Literal["last", "min", "max", "mean", "p95", "rate"]
Scope = Literal["each", "sum", "max"]
NoData = Literal["keep", "ok", "breach"]

# Which side of a threshold is a breach.
OPERATOR_WORDS: Mapping[str, str] = {"gt": "above", "ge": "at or above", "lt": "below", "le": "at or below"}

_CHOICES = {"op": get_args(Op), "reducer": get_args(Reducer), "scope": get_args(Scope), "no_data": get_args(NoData)}

# Long patterns have crashed Redis and can waste time here, so they must be short and simple.
MAX_GLOBS = 50
MAX_WINDOW_S = 3600.0
DAY_S = 86_400.0
# The longest group wait of a critical notification, whatever the rule says.
CRITICAL_WAIT_S = 5.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_RUNBOOK = re.compile(r"https?://[\x21-\x7e]{1,500}\Z")


class Severity(StrEnum):
    """The severity of an alert; CRITICAL is the worse one."""

    WARNING = "warning"
    CRITICAL = "critical"


_CRITICAL = (Severity.CRITICAL,)
_WARNING = (Severity.WARNING,)
_BOTH = (Severity.CRITICAL, Severity.WARNING)


class Origin(StrEnum):
    """Where a rule is defined."""

    SHIPPED = "shipped"
    TOML = "toml"
    PAGE = "page"


class Rule(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule. Thresholds are in the unit of the metric. `parse_rule` creates and validates it from outside values."""

    id: str
    metric: str
    name: str = ""
    enabled: bool = True
    version: int = 1  # rises with each edit
    reducer: Reducer = "last"
    window_s: float = 0.0  # of the reducer
    source: str = "*"  # globs of its subjects
    backend: str = "*"
    queues: tuple[str, ...] = ()  # empty = all
    queues_not: tuple[str, ...] = ()
    scope: Scope = "each"  # one alert per queue, or one for all matching queues
    op: Op = "gt"
    warning: float | None = None
    critical: float | None = None
    warning_recover: float | None = None  # None = the threshold itself
    critical_recover: float | None = None
    for_s: float = 60.0
    min_samples: int = 2
    recover_for_s: float = 60.0
    no_data: NoData = "keep"
    min_events: int | None = None  # None = what the metric needs
    repeat_every_s: float = 14_400.0  # 0 = never
    notify_resolved: bool = True
    group_wait_s: float = 15.0
    new_instance_grace_s: float = 60.0
    channels: tuple[str, ...] = ()  # empty = all channels
    channels_warning: tuple[str, ...] | None = None  # None = as `channels`
    channels_critical: tuple[str, ...] | None = None
    fallback_channel: str | None = None
    inhibited_by: tuple[str, ...] = ()  # ids of rules that mute this one on the same source while they are firing
    runbook_url: str | None = None

    @property
    def title(self) -> str:
        """The display name; the id if it has none."""
        return self.name or self.id

    @property
    def severities(self) -> tuple[Severity, ...]:
        """The severities with a threshold, the worse one first."""
        if self.warning is None:
            return _CRITICAL if self.critical is not None else ()
        return _BOTH if self.critical is not None else _WARNING

    def threshold(self, severity: Severity) -> float:
        """The threshold of a severity in `severities`."""
        found = self.critical if severity is Severity.CRITICAL else self.warning
        assert found is not None
        return found

    def recover_threshold(self, severity: Severity) -> float:
        """The recovery threshold of a severity; the threshold itself if none is set."""
        found = self.critical_recover if severity is Severity.CRITICAL else self.warning_recover
        return self.threshold(severity) if found is None else found

    def is_breached(self, severity: Severity, value: float) -> bool:
        """Whether `value` is beyond the threshold."""
        return _is_beyond(self.op, value, self.threshold(severity))

    def is_recovered(self, severity: Severity, value: float) -> bool:
        """Whether `value` is on the healthy side of the recovery threshold."""
        return not _is_beyond(self.op, value, self.recover_threshold(severity))

    def severity_channels(self, severity: Severity) -> tuple[str, ...]:
        """Ids of the channels of a severity; () = all channels."""
        own = self.channels_critical if severity is Severity.CRITICAL else self.channels_warning
        return self.channels if own is None else own

    def severity_wait_s(self, severity: Severity) -> float:
        """The group wait of a severity, in seconds."""
        return min(self.group_wait_s, CRITICAL_WAIT_S) if severity is Severity.CRITICAL else self.group_wait_s

    @property
    def needed_events(self) -> int:
        """The finished jobs in the metric's window below which its figure is unknown."""
        if self.min_events is not None:
            return self.min_events
        return METRICS[self.metric].min_events

    @property
    def worsens_upwards(self) -> bool:
        """Whether higher is worse."""
        return self.op in ("gt", "ge")


def _is_beyond(op: Op, value: float, threshold: float) -> bool:
    if op == "gt":
        return value > threshold
    if op == "ge":
        return value >= threshold
    if op == "lt":
        return value < threshold
    return value <= threshold


def alert_fingerprint(rule_id: str, severity: Severity, labels: Mapping[str, str]) -> str:
    """The fingerprint of an alert: 16 hex digits of rule, severity and labels, without values and texts."""
    parts = [rule_id, severity.value, *(part for key in sorted(labels) for part in (key, labels[key]))]
    # Each part carries its length, so that no two lists of parts result in the same text.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def parse_rule(values: Mapping[str, Any], where: str) -> Rule:
    """The rule that `values` describe. Raises ConfigurationError with one line: `where`, rule, field and what was
    expected, without the wrong value."""
    name = values.get("id")
    at = f"{where}: rule {name!r}" if isinstance(name, str) and _ID.match(name) else f"{where}: rule"
    try:
        rule = msgspec.convert(dict(values), Rule)
    except msgspec.ValidationError as exc:
        text = str(exc)
        field = text.rpartition("`$.")[2].rstrip("`")
        if text.startswith("Invalid enum value") and field in _CHOICES:
            raise ConfigurationError(f"{at}: {field}: expected one of {', '.join(_CHOICES[field])}") from None
        raise ConfigurationError(f"{at}: {text[:1].lower()}{text[1:]}") from None
    problem = find_problem(rule)
    if problem:
        raise ConfigurationError(f"{at}: {problem}")
    return rule


def find_problem(rule: Rule) -> str | None:
    """What is wrong with the rule, as `field: expected …`; None when it is valid."""
    if not _ID.match(rule.id):
        return "id: expected 1 to 64 letters, digits, dots, dashes or underscores"
    if len(rule.name) > 120 or any(not character.isprintable() for character in rule.name):
        return "name: expected at most 120 printable characters"
    metric = METRICS.get(rule.metric)
    if metric is None:
        return f"metric: expected one of {', '.join(METRICS)}"
    if metric.unavailable:
        return f"metric: {rule.metric} is not available yet: {metric.unavailable}"
    return _number_problem(rule) or _threshold_problem(rule) or _scope_problem(rule, metric) or _text_problem(rule)


def _number_problem(rule: Rule) -> str | None:
    bounds: tuple[tuple[str, float, float, float], ...] = (
        ("window_s", rule.window_s, 0, MAX_WINDOW_S),
        ("for_s", rule.for_s, 0, 7 * DAY_S),
        ("min_samples", rule.min_samples, 1, 1000),
        ("recover_for_s", rule.recover_for_s, 0, 7 * DAY_S),
        ("min_events", rule.min_events or 0, 0, 1_000_000),
        ("repeat_every_s", rule.repeat_every_s, 0, 30 * DAY_S),
        ("group_wait_s", rule.group_wait_s, 0, 300),
        ("new_instance_grace_s", rule.new_instance_grace_s, 0, DAY_S),
    )
    for field, value, low, high in bounds:
        if not low <= value <= high:  # false for NaN too
            return f"{field}: expected a number from {low:g} to {high:g}"
    if rule.version < 1:
        return "version: expected 1 or more"
    if (rule.reducer != "last") != (rule.window_s > 0):
        return "window_s: expected seconds above 0 with a reducer other than last, and 0 with last"
    return None


def _threshold_problem(rule: Rule) -> str | None:
    if rule.warning is None and rule.critical is None:
        return "warning, critical: expected at least one threshold"
    for severity in ("warning", "critical"):
        threshold, recover = getattr(rule, severity), getattr(rule, f"{severity}_recover")
        for field, number in ((severity, threshold), (f"{severity}_recover", recover)):
            if number is not None and not math.isfinite(number):
                return f"{field}: expected a finite number"
        if recover is None:
            continue
        if threshold is None:
            return f"{severity}_recover: expected only together with {severity}"
        if recover != threshold and _is_beyond(rule.op, recover, threshold):
            return f"{severity}_recover: expected a value on the healthy side of {severity}"
    if rule.warning is not None and rule.critical is not None:
        worse = rule.critical > rule.warning if rule.worsens_upwards else rule.critical < rule.warning
        if not worse:
            return f"critical: expected a value {'above' if rule.worsens_upwards else 'below'} warning"
    return None


def _scope_problem(rule: Rule, metric: Metric) -> str | None:
    if rule.scope != "each" and metric.subject != "queue":
        return f"scope: expected each, because {rule.metric} is not a queue metric"
    if metric.subject not in ("queue", "class", "schedule") and (rule.queues or rule.queues_not):
        return f"queues: expected none, because {rule.metric} is not a queue metric"
    if metric.subject == "slo" and (rule.source, rule.backend) != ("*", "*"):
        return "source, backend: expected none, because each SLO names its own"
    for threshold in (rule.warning, rule.critical):
        if threshold is None:
            continue
        if metric.unit == "ratio" and metric.bounded and not 0 <= threshold <= 1:
            return f"warning, critical: expected a ratio from 0 to 1, such as 0.05 for 5%, because {rule.metric} is one"
    return None


def _text_problem(rule: Rule) -> str | None:
    for field in ("queues", "queues_not"):
        globs: Sequence[str] = getattr(rule, field)
        if len(globs) > MAX_GLOBS or not all(is_glob(glob) for glob in globs):
            return f"{field}: expected at most {MAX_GLOBS} globs of {GLOB_LIMIT} characters with * and ? only"
    for field, glob in (("source", rule.source), ("backend", rule.backend)):
        if not is_glob(glob):
            return f"{field}: expected a glob of at most {GLOB_LIMIT} characters with * and ? only"
    for field in ("channels", "channels_warning", "channels_critical", "inhibited_by"):
        if any(not _ID.match(name) for name in getattr(rule, field) or ()):
            return f"{field}: expected ids of letters, digits, dots, dashes or underscores"
    if rule.id in rule.inhibited_by:
        return "inhibited_by: expected ids of other rules; a rule that mutes itself would never notify anyone"
    if rule.fallback_channel is not None and not _ID.match(rule.fallback_channel):
        return "fallback_channel: expected the id of a channel"
    if rule.runbook_url is not None and not _RUNBOOK.match(rule.runbook_url):
        return "runbook_url: expected an http:// or https:// URL of plain characters"
    return None
