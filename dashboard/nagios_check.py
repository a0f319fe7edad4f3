"""`queuedeck check`: one sample, all rules, one result in the format of Nagios."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from enum import IntEnum

import msgspec

from .alerts.delivery.message import alert_title
from .alerts.delivery.store_outage import REFUSED, UNREACHABLE, find_rule
from .alerts.evaluation.durations import DurationTracker, PersistedDurations
from .alerts.evaluation.evaluator import Evaluator
from .alerts.evaluation.state_machine import AlertLabels
from .alerts.management.checker_health import health_from_beat
from .alerts.management.ownership import build_ownership_conflict
from .alerts.rules.metrics import describe_value, format_threshold
from .alerts.rules.rule import OPERATOR_WORDS, Rule, Severity
from .alerts.rules.ruleset import Ruleset
from .alerts.runtime import build_ruleset, check_alert_settings, store_source_name
from .alerts.store import AlertStore
from .alerts.stored_values import EvaluationInputs
from .backends.monitored_sources import MonitoredSources, open_sources
from .console import say
from .errors import BackendUnavailable, QueuedeckError
from .model import Snapshot
from .sampling.leadership import has_other_settings, holder_name
from .sampling.sampler import Sampler
from .sampling.snapshot_store import SnapshotStore
from .settings import Settings
from .units import format_duration

# How long the search for queues may take before the rules are evaluated.
SEARCH_S = 5.0
# During the search, samples follow each other immediately: rates over less time than this are meaningless.
LEAST_RATE_S = 10.0

# How long stored alerts count after the last completed evaluation, so that a restart of the checker is not a recovery.
MAX_STATE_AGE_S = 300.0


class ExitStatus(IntEnum):
    """Exit status of a Nagios plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """One alert: a rule that is breached now, or that the checker stored as firing."""

    rule: Rule
    severity: Severity
    labels: AlertLabels
    value: float | None
    since: str  # "now": according to this sample; "fires": according to the stored state
    detail: str | None = None  # what this sample found

    @property
    def key(self) -> tuple[str, Severity, AlertLabels]:
        """What identifies the alert."""
        return (self.rule.id, self.severity, self.labels)


@dataclass(slots=True)
class StoredAlerts:
    """What the store has for this command. A field that could not be read has the value of an empty store."""

    rules: tuple[Rule, ...]
    durations: PersistedDurations | None = None
    alerts: list[FiringAlert] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def main(settings: Settings, *, as_json: bool) -> int:
    """Print the alerts and return the exit status: 0 ok, 1 warning, 2 critical, 3 unknown."""
    check_alert_settings(settings)
    code, alerts, problems = evaluate_once(settings)
    if as_json:
        say(msgspec.json.encode(_build_document(code, alerts, problems)).decode("utf-8", "replace"))
    else:
        lines = [_status_line(code, alerts, problems)]
        lines += [f"{alert.severity.value.upper()}: {describe_alert(alert)}" for alert in alerts]
        lines += [f"UNKNOWN: {problem}" for problem in problems]
        say("\n".join(lines))
    return int(code)


def evaluate_once(settings: Settings) -> tuple[ExitStatus, list[FiringAlert], list[str]]:
    """(status, alerts with the worst first, what could not be determined).

    A rule with a duration is evaluated by its threshold alone here, and by the stored state of a running checker. A
    Redis that does not respond now has the severity of the rule about unreachable sources, without waiting for its
    duration: this command is called again and again.
    """
    sources = open_sources(settings)
    try:
        snapshot = _take_sample(
            Sampler(sources, settings.sample_interval_s, holder_name(), probe=True, least_rate_s=LEAST_RATE_S)
        )
        stored = _read_stored_alerts(settings, sources)
    finally:
        sources.close()
    rules = stored.rules
    alerts = {alert.key: alert for alert in stored.alerts}
    found = _find_sample_alerts(snapshot, rules, settings.sample_interval_s, stored.durations)
    for alert in (*found, *_find_unreachable(snapshot, rules)):
        alerts[alert.key] = replace(alerts.get(alert.key, alert), detail=alert.detail)
    refused = {alert.labels.source for alert in alerts.values() if alert.rule.metric == REFUSED}
    # State about a Redis counts only if it is stored in another one: in its own, it may be the state of the primary
    # that this replica copies.
    known = stored.durations is not None
    elsewhere = {name for name, source in sources.sources.items() if known and source is not sources.own}
    read_only = _find_read_only(snapshot, rules, refused | elsewhere)
    problems = list(dict.fromkeys((*_source_problems(snapshot), *stored.problems, *read_only)))
    # As everywhere: a critical alert mutes the warning of the same rule and labels.
    muted = {(rule, Severity.WARNING, labels) for rule, severity, labels in alerts if severity is Severity.CRITICAL}
    ordered = sorted((alert for key, alert in alerts.items() if key not in muted), key=_worst_first)
    return _exit_status(ordered, problems), ordered, problems


def _source_problems(snapshot: Snapshot) -> list[str]:
    problems = [f"{source.name}: {source.error}" for source in snapshot.sources if not source.reachable]
    return problems + [problem for source in snapshot.sources for problem in source.problems]


def _read_stored_alerts(settings: Settings, sources: MonitoredSources) -> StoredAlerts:
    """The stored rules, durations and firing alerts, and the rules of `settings` if there are no others.

    If the store fails, one of the problems says so; what was read before counts. Cost: at most 4 round trips.
    """
    ruleset = build_ruleset(settings)
    stored = StoredAlerts(ruleset.list_rules())
    try:
        _fill_stored_alerts(stored, settings, sources, ruleset)
    except QueuedeckError as exc:
        stored.problems.append(f"stored alerts: {exc.message}")
        stored.alerts += _find_store_outage(settings, sources, exc, stored.rules)
    return stored


def _fill_stored_alerts(stored: StoredAlerts, settings: Settings, sources: MonitoredSources, ruleset: Ruleset) -> None:
    """Read into `stored`, field by field. Raises BackendUnavailable, Forbidden."""
    assert sources.own is not None
    own_store = SnapshotStore(sources.own)
    store = AlertStore(own_store)
    inputs = store.read_inputs()
    beat = inputs.beat
    elsewhere = beat is not None and has_other_settings(beat.holder, sources.settings_digest)
    if not elsewhere:
        stored.rules = ruleset.list_rules(inputs.rules)
    elif health_from_beat(inputs.now, beat, settings.sample_interval_s).ok:
        conflict = build_ownership_conflict()
        stored.problems.append(f"stored alerts: {conflict.message} {conflict.hint}")
    if not elsewhere or _are_same_sources(own_store, sources):
        stored.durations, _ = store.load_last_evaluation()
    if elsewhere:
        return
    active = [state for state in store.load_states().states.values() if state.is_active]
    if active and (late := _lateness_problem(inputs, settings.sample_interval_s)):
        stored.problems.append(late)
    if not _is_outdated(inputs):
        by_id = {rule.id: rule for rule in stored.rules}
        stored.alerts += [
            FiringAlert(by_id[state.rule_id], state.severity, state.labels, state.value_now, "fires")
            for state in active
            if state.rule_id in by_id
        ]


def _is_outdated(inputs: EvaluationInputs) -> bool:
    """Whether the stored alerts are left over from a checker that stopped, so that nothing would ever resolve them."""
    return inputs.beat is None or inputs.now - inputs.beat.at > MAX_STATE_AGE_S


def _lateness_problem(inputs: EvaluationInputs, interval_s: float) -> str | None:
    """The problem to report if no checker is evaluating the stored alerts; None while one is."""
    if health_from_beat(inputs.now, inputs.beat, interval_s).ok:
        return None
    since = "within a day" if inputs.beat is None else f"for {format_duration(inputs.now - inputs.beat.at)}"
    left_out = "; alerts that were firing then are left out" if _is_outdated(inputs) else ""
    return f"stored alerts: the checker has not evaluated the rules {since}{left_out}. Start queuedeck checker."


def _are_same_sources(store: SnapshotStore, sources: MonitoredSources) -> bool:
    """Whether the last published snapshot is of the same servers under the same names. Cost: 1 round trip."""
    published, _ = store.read_published(with_history=False)
    addresses = {source.name: source.address for source in published.sources} if published else {}
    return addresses == {source.name: source.address for source in sources.sources.values()}


def _take_sample(sampler: Sampler) -> Snapshot:
    until = time.monotonic() + SEARCH_S
    snapshot = sampler.sample()
    while time.monotonic() < until and any(source.reachable and not source.discovered for source in snapshot.sources):
        snapshot = sampler.sample()
    return snapshot


def _find_sample_alerts(
    snapshot: Snapshot, rules: tuple[Rule, ...], interval_s: float, durations: PersistedDurations | None
) -> list[FiringAlert]:
    """What this sample alone breaches; for each rule and subject only the worst severity.

    Of the stored `durations`, only what distinguishes a Redis that stopped accepting writes from one that never did
    is used.
    """
    memory = DurationTracker()
    if durations is not None:
        memory.restore_durations(PersistedDurations(writable=durations.writable))
    return [
        FiringAlert(breach.rule, breach.severity, breach.labels, breach.value, "now")
        for breach in Evaluator(interval_s, memory).find_breaches(snapshot, rules)
    ]


def _find_unreachable(snapshot: Snapshot, rules: tuple[Rule, ...]) -> list[FiringAlert]:
    """The sources that do not respond, with the worst severity of the rule about that; empty if the rule is off."""
    found = []
    for source in snapshot.sources:
        rule = None if source.reachable else find_rule(rules, UNREACHABLE, source.name)
        if rule is not None:
            labels = AlertLabels(source=source.name)
            found.append(FiringAlert(rule, rule.severities[0], labels, None, "now", source.error))
    return found


def _find_store_outage(
    settings: Settings, sources: MonitoredSources, problem: QueuedeckError, rules: tuple[Rule, ...]
) -> list[FiringAlert]:
    """The alert that the store is unreachable, if it is not one of the sources: no rule can be evaluated then."""
    name = store_source_name(settings)
    rule = find_rule(rules, UNREACHABLE, name)
    if rule is None or name in sources.sources or not isinstance(problem, BackendUnavailable):
        return []
    return [FiringAlert(rule, rule.severities[0], AlertLabels(source=name), None, "now", problem.message)]


def _find_read_only(snapshot: Snapshot, rules: tuple[Rule, ...], settled: set[str | None]) -> list[str]:
    """A problem for each read-only replica, except those of which `settled` says whether they should accept writes."""
    return [
        f"{source.name}: {source.address} is a read-only replica; it is unknown whether it should accept writes"
        for source in snapshot.sources
        if source.health.write_probe == "READONLY"
        and source.name not in settled
        and find_rule(rules, REFUSED, source.name) is not None
    ]


def _worst_first(alert: FiringAlert) -> tuple[bool, bool, str, str]:
    """Sort key: an unreachable Redis comes before the alerts that are unknown because of it."""
    is_critical = alert.severity is Severity.CRITICAL
    return not is_critical, alert.rule.metric != UNREACHABLE, alert.rule.id, str(alert.labels)


def _exit_status(alerts: list[FiringAlert], problems: list[str]) -> ExitStatus:
    if any(alert.severity is Severity.CRITICAL for alert in alerts):
        return ExitStatus.CRITICAL
    if alerts:
        return ExitStatus.WARNING
    return ExitStatus.UNKNOWN if problems else ExitStatus.OK


def _status_line(code: ExitStatus, alerts: list[FiringAlert], problems: list[str]) -> str:
    if alerts:
        more = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
        return f"QUEUEDECK {code.name} - {describe_alert(alerts[0])}{more}"
    return f"QUEUEDECK {code.name} - {problems[0] if problems else 'no alerts'}"


def describe_alert(alert: FiringAlert) -> str:
    """An alert in one line: rule, labels, value, when it fires, and what the sample found."""
    value = describe_value(alert.rule.metric, alert.value, alert.rule.reducer)
    threshold = format_threshold(alert.rule.metric, alert.rule.threshold(alert.severity), alert.rule.reducer)
    figure = f": {value} (fires {OPERATOR_WORDS[alert.rule.op]} {threshold})" if value is not None else ""
    # Nagios reads what follows a bar as performance data, and queue names can contain one.
    detail = f": {alert.detail}" if alert.detail else ""
    return f"{alert_title(alert.rule.title, alert.labels)}{figure}{detail}".replace("|", "¦")


def _build_document(code: ExitStatus, alerts: list[FiringAlert], problems: list[str]) -> dict[str, object]:
    return {
        "status": code.name.lower(),
        "exit_code": int(code),
        "alerts": [
            {
                "rule": alert.rule.id,
                "severity": alert.severity.value,
                "metric": alert.rule.metric,
                "value": alert.value,
                "threshold": alert.rule.threshold(alert.severity),
                "labels": {
                    name: text.encode("utf-8", "replace").decode() for name, text in alert.labels.as_dict().items()
                },
                "state": "firing" if alert.since == "fires" else "beyond",
                "text": describe_alert(alert),
            }
            for alert in alerts
        ],
        "unknown": problems,
    }
