"""`queuedeck check`: one sample, all rules, one answer in the way of Nagios."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from dashboard.alerts.compose import OPS, subject, text_of
from dashboard.alerts.evaluate import Evaluator, Finding
from dashboard.alerts.machine import Labels
from dashboard.alerts.metrics import METRICS
from dashboard.alerts.rules import Rule, Severity
from dashboard.alerts.setup import check, make_rulebook
from dashboard.alerts.store import AlertStore
from dashboard.collect.leader import holder_name
from dashboard.collect.sampler import Sampler
from dashboard.collect.store import Store
from dashboard.collect.watch import watch
from dashboard.errors import QueuedeckError
from dashboard.model import Snapshot
from dashboard.settings import Settings

# How long the search for queues may take before what was found is judged.
SEARCH_S = 5.0


class Exit(IntEnum):
    """Exit status of a Nagios plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong now, or that the checker holds to be."""

    rule: Rule
    severity: Severity
    labels: Labels
    value: float | None
    since: str  # "now" = by this sample; "fires" = by the stored state


def main(settings: Settings, *, as_json: bool) -> int:
    """Print what is wrong and answer the exit status: 0 ok, 1 warning, 2 critical, 3 unknown."""
    check(settings)
    code, troubles, problems = judge(settings)
    if as_json:
        print(msgspec.json.encode(_document(code, troubles, problems)).decode("utf-8", "replace"))
    else:
        print(_line(code, troubles, problems))
        for trouble in troubles:
            print(f"{trouble.severity.value.upper()}: {wording(trouble)}")
        for problem in problems:
            print(f"UNKNOWN: {problem}")
    sys.stdout.flush()
    return int(code)


def judge(settings: Settings) -> tuple[Exit, list[Trouble], list[str]]:
    """(status, troubles worst first, what could not be found out).

    A rule that needs time is judged by its threshold alone here, and by the stored state of a checker that runs.
    """
    here = watch(settings)
    assert here.own is not None
    try:
        snapshot = _sample(Sampler(here, settings.sample_interval_s, holder_name()))
        store = AlertStore(Store(here.own))
        book = make_rulebook(settings)
        problems = [f"{source.name}: {source.error}" for source in snapshot.sources if not source.reachable]
        problems += [problem for source in snapshot.sources for problem in source.problems]
        rules = book.rules()
        troubles: dict[tuple[str, Severity, Labels], Trouble] = {}
        try:
            rules = book.rules(store.look().rules)
            by_id = {rule.id: rule for rule in rules}
            for state in store.load().states.values():
                if state.active and state.rule_id in by_id:
                    rule = by_id[state.rule_id]
                    key = (rule.id, state.severity, state.labels)
                    troubles[key] = Trouble(rule, state.severity, state.labels, state.value, "fires")
        except QueuedeckError as exc:
            problems.append(f"stored alerts: {exc.message}")
        for found in _breaches(snapshot, rules, settings.sample_interval_s):
            key = (found.rule.id, found.severity, found.labels)
            troubles.setdefault(key, Trouble(found.rule, found.severity, found.labels, found.value, "now"))
    finally:
        here.close()
    ordered = sorted(
        troubles.values(), key=lambda each: (each.severity is not Severity.CRITICAL, each.rule.id, str(each.labels))
    )
    problems = list(dict.fromkeys(problems))
    return _status(ordered, problems), ordered, problems


def _sample(sampler: Sampler) -> Snapshot:
    until = time.monotonic() + SEARCH_S
    snapshot = sampler.sample()
    while time.monotonic() < until and any(source.reachable and not source.discovered for source in snapshot.sources):
        snapshot = sampler.sample()
    return snapshot


def _breaches(snapshot: Snapshot, rules: tuple[Rule, ...], interval_s: float) -> list[Finding]:
    """What is beyond a threshold in this sample; of a subject only the worst severity of a rule."""
    return Evaluator(interval_s).beyond(snapshot, rules)


def _status(troubles: list[Trouble], problems: list[str]) -> Exit:
    if any(trouble.severity is Severity.CRITICAL for trouble in troubles):
        return Exit.CRITICAL
    if troubles:
        return Exit.WARNING
    return Exit.UNKNOWN if problems else Exit.OK


def _line(code: Exit, troubles: list[Trouble], problems: list[str]) -> str:
    if troubles:
        more = f" and {len(troubles) - 1} more" if len(troubles) > 1 else ""
        return f"QUEUEDECK {code.name} - {wording(troubles[0])}{more}"
    return f"QUEUEDECK {code.name} - {problems[0] if problems else 'nothing is wrong'}"


def wording(trouble: Trouble) -> str:
    """What is wrong in one line: which rule, where, how bad, the threshold."""
    unit = METRICS[trouble.rule.metric].unit
    value = text_of(trouble.value, unit)
    threshold = text_of(trouble.rule.threshold(trouble.severity), unit)
    figure = f": {value} (threshold {OPS[trouble.rule.op]} {threshold})" if value is not None and unit != "flag" else ""
    # What stands behind a bar is performance data to Nagios; names of queues may hold one.
    return f"{trouble.rule.title}: {subject(trouble.labels)}{figure}".replace("|", "¦")


def _document(code: Exit, troubles: list[Trouble], problems: list[str]) -> dict[str, object]:
    return {
        "status": code.name.lower(),
        "exit_code": int(code),
        "alerts": [
            {
                "rule": trouble.rule.id,
                "severity": trouble.severity.value,
                "metric": trouble.rule.metric,
                "value": trouble.value,
                "threshold": trouble.rule.threshold(trouble.severity),
                "labels": {
                    name: text.encode("utf-8", "replace").decode() for name, text in trouble.labels.items().items()
                },
                "state": "firing" if trouble.since == "fires" else "beyond",
                "text": wording(trouble),
            }
            for trouble in troubles
        ],
        "unknown": problems,
    }
