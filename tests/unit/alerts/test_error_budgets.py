"""Rules about error budgets: which of two windows counts, how many jobs they need, when nothing fires or resolves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from dashboard.alerts.evaluation.checker_context import CheckerContext
from dashboard.alerts.evaluation.evaluator import Evaluator
from dashboard.alerts.evaluation.state_machine import AlertState
from dashboard.alerts.rules.default_rules import default_rules
from dashboard.alerts.rules.figures import IDLE, compare_burn_rates
from dashboard.alerts.rules.rule import parse_rule
from dashboard.errors import ConfigurationError
from dashboard.sampling.recent_history import History
from dashboard.settings import SloSettings
from dashboard.slos.good_jobs import JobCounts
from dashboard.slos.slo_report import BURN_WINDOWS, SloReport, SloStatus
from tests.unit.history.samples import queue_row, snapshot_of

MAIL = SloSettings(id="mail", name="Mail on time", queues=("mail*",), target=0.99, waited_within_s=60)
NOW = 1_700_000_000.0


def status_of(slo: SloSettings = MAIL, *, jobs: float = 1000, **bad: float) -> SloStatus:
    """An objective with so many bad jobs, of `jobs`, in these windows: w1h=5."""
    recent = {name: JobCounts(total=jobs, good=jobs - bad.get(f"w{name}", 0)) for name in BURN_WINDOWS}
    return SloStatus(
        slo,
        SloReport(
            slo_id=slo.id,
            digest="",
            at=NOW,
            window=JobCounts(total=10 * jobs, good=10 * jobs),
            recent=recent,
            since_s=0,
            step_s=3600,
            steps=(),
            counted_queues=1,
            unknown_count=0,
            unknown=(),
        ),
    )


def test_the_lower_burn_rate_of_both_windows_counts() -> None:
    both, over, begun = status_of(w1h=200, w5m=500), status_of(w1h=200, w5m=10), status_of(w1h=10, w5m=500)
    rates = [compare_burn_rates(status, "slo.burn_rate_1h", 20) for status in (both, over, begun)]
    assert rates == [pytest.approx(20), pytest.approx(1), pytest.approx(1)]


def test_one_or_two_bad_jobs_of_a_quiet_night_do_not_count() -> None:
    quiet = [
        status_of(jobs=jobs, w3d=bad, w6h=bad)
        for jobs, bad in ((1, 1), (19, 19), (20, 2), (20, 2.4), (20, 2.6), (20, 3))
    ]
    rates = [compare_burn_rates(status, "slo.burn_rate_3d", 20) for status in quiet]
    assert rates[:4] == [IDLE] * 4
    assert rates[4:] == [pytest.approx(13), pytest.approx(15)]
    assert compare_burn_rates(SloStatus(MAIL), "slo.burn_rate_3d", 20) is None


class Night:
    """The built-in rules on objectives, evaluated sample by sample."""

    def __init__(self) -> None:
        self.states: dict[str, AlertState] = {}
        self.notified: list[str] = []
        self._evaluator, self._now = Evaluator(10.0), NOW
        self._rules = tuple(rule for rule in default_rules() if rule.metric.startswith("slo."))

    def evaluate(self, *slos: SloStatus, times: int = 12, reachable: bool = True, age_s: float = 0.0) -> None:
        """`age_s`: how long ago their jobs were counted last."""
        for _ in range(times):
            self._now += 10
            snapshot = snapshot_of(self._now, queue_row("mail"), reachable=reachable)
            now_s = self._now - age_s
            counted = tuple(
                replace(one, report=structs.replace(one.report, at=now_s)) if one.report is not None else one
                for one in slos
            )
            context = CheckerContext(now=self._now, channels=("ops",), slos=counted)
            for transition in self._evaluator.evaluate_rules(snapshot, History(), self._rules, self.states, context):
                after = transition.after
                self.states[after.fingerprint] = after
                self.notified += [f"{after.rule_id} {due.kind}" for due in transition.due_notifications]


def test_nothing_fires_or_resolves_while_the_history_is_read_or_a_redis_is_down() -> None:
    night, burning = Night(), status_of(w1h=200, w5m=500)
    night.evaluate(burning)
    assert night.notified == ["slo-burn-fast firing"]
    night.evaluate(SloStatus(MAIL), times=100)
    night.evaluate(status_of(), times=100, reachable=False)
    assert night.notified == ["slo-burn-fast firing"]
    (state,) = [state for state in night.states.values() if state.is_active]
    assert (state.labels.slo, state.labels.title) == ("mail", "Mail on time")
    night.evaluate(status_of())
    assert night.notified == ["slo-burn-fast firing", "slo-burn-fast resolved"]


def test_jobs_that_were_counted_long_ago_neither_fire_nor_resolve() -> None:
    night, burning = Night(), status_of(w1h=200, w5m=500)
    night.evaluate(burning, age_s=700)
    assert night.notified == []
    night.evaluate(burning, age_s=60)
    night.evaluate(status_of(), times=100, age_s=700)
    assert night.notified == ["slo-burn-fast firing"]


def test_a_redis_that_is_down_hides_no_burning_budget_of_another() -> None:
    night = Night()
    night.evaluate(status_of(w1h=200, w5m=500), reachable=False)
    assert night.notified == ["slo-burn-fast firing"]


def test_an_alert_ends_with_its_objective_and_one_objective_mutes_no_other() -> None:
    night = Night()
    cash = SloSettings(id="cash", target=0.99, succeeded=True)
    night.evaluate(status_of(w1h=200, w5m=500), status_of(cash, w6h=70, w30m=70))
    assert sorted(night.notified) == ["slo-burn firing", "slo-burn-fast firing"]
    night.evaluate(status_of(cash, w6h=70, w30m=70))
    assert sorted(night.notified) == ["slo-burn firing", "slo-burn-fast firing", "slo-burn-fast resolved"]


def test_a_rule_names_no_queues_or_sources_of_its_own() -> None:
    for field, value in (("queues", ["mail"]), ("source", "eu"), ("backend", "rq")):
        values = {"id": "x", "metric": "slo.burn_rate_1h", "critical": 10, field: value}
        with pytest.raises(ConfigurationError, match="expected none"):
            parse_rule(values, "rules")
