"""The state machine: every row of its table, and properties that hold for all inputs."""

from __future__ import annotations

import itertools
import random

import pytest
from msgspec.structs import replace

from dashboard.alerts.evaluation import state_machine
from dashboard.alerts.evaluation.due_notifications import DueNotification, record_due_notifications
from dashboard.alerts.evaluation.durations import QueueFacts
from dashboard.alerts.evaluation.state_machine import (
    AlertLabels,
    AlertPhase,
    AlertState,
    FigureHealth,
    StateChange,
)
from dashboard.alerts.rules.figures import IDLE, AtLeast
from dashboard.alerts.rules.metrics import METRICS
from dashboard.alerts.rules.rule import Reducer, Rule, Severity
from dashboard.model import Counts
from dashboard.model import State as JobState
from tests.unit.alerts.factories import queue, rule

INTERVAL_S = 2.0
START = 1_700_000_000.0
B, M, H, U = FigureHealth.BREACH, FigureHealth.BETWEEN, FigureHealth.HEALTHY, FigureHealth.UNKNOWN
WORST = {B: 20.0, M: 9.0, H: 1.0, U: None}


class SimulatedAlert:
    """One alert, fed sample by sample."""

    def __init__(self, of: Rule) -> None:
        self.rule = of
        self.now = START
        self.state = state_machine.create_state(of, Severity.CRITICAL, AlertLabels(queue="mail"), self.now)
        self.changes: list[StateChange] = []
        self.due_notifications: list[tuple[float, DueNotification]] = []
        self.muted = self.acked = False

    def feed(self, health: FigureHealth, *, after_s: float = INTERVAL_S) -> AlertPhase:
        self.now += after_s
        self.state, change = state_machine.advance_state(
            self.rule, self.state, health, WORST[health], self.now, INTERVAL_S
        )
        return self._record(change)

    def _record(self, change: StateChange | None) -> AlertPhase:
        if change:
            self.changes.append(change)
        self.state, due_notifications = record_due_notifications(
            self.state, self.now, rule=self.rule, muted=self.muted, acked=self.acked, channels=("ops",)
        )
        self.due_notifications += [(self.now, due) for due in due_notifications]
        return self.state.phase

    def feed_absence(self) -> AlertPhase:
        self.now += INTERVAL_S
        self.state, change = state_machine.advance_absent(self.state, self.now, INTERVAL_S)
        return self._record(change)

    def until(self, phase: AlertPhase, health: FigureHealth, most: int = 10_000) -> int:
        for count in range(1, most):
            if self.feed(health) is phase:
                return count
        pytest.fail(f"never {phase}")

    @property
    def kinds(self) -> list[str]:
        return [due.kind for _, due in self.due_notifications]


def test_a_breach_fires_once_it_has_lasted_long_enough() -> None:
    alert = SimulatedAlert(rule(for_s=60))
    assert alert.until(AlertPhase.FIRING, B) == 31  # the first sample begins the wait, thirty more make 60 s
    assert alert.kinds == ["firing"]
    assert [change.kind for change in alert.changes] == ["firing"]


def test_a_breach_needs_enough_samples_to_fire() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=5))
    assert alert.until(AlertPhase.FIRING, B) == 5


def test_a_rule_without_a_duration_fires_at_the_first_sample() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1))
    assert alert.feed(B) is AlertPhase.FIRING


@pytest.mark.parametrize("health", [M, H])
def test_a_pending_breach_that_ends_is_discarded(health: FigureHealth) -> None:
    alert = SimulatedAlert(rule(for_s=10))
    alert.feed(B)
    alert.feed(B)
    assert alert.feed(health) is AlertPhase.OK
    assert alert.until(AlertPhase.FIRING, B) == 6  # from the start again
    assert alert.kinds == ["firing"]


def test_a_recovery_must_last_and_a_relapse_continues_the_incident() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1, recover_for_s=10))
    alert.feed(B)
    episode = alert.state.episode
    assert alert.feed(H) is AlertPhase.RECOVERING
    assert alert.feed(M) is AlertPhase.FIRING
    assert alert.state.episode == episode
    alert.feed(H)
    for _ in range(4):
        assert alert.feed(H) is AlertPhase.RECOVERING
    assert alert.feed(H) is AlertPhase.OK
    assert alert.kinds == ["firing", "resolved"]
    assert alert.changes[-1].peak == 20.0
    assert alert.changes[-1].lasted_s == pytest.approx(16)
    assert not replace(alert.state, events=()).is_worth_storing


@pytest.mark.parametrize(
    ("op", "figures", "peak"),
    [("lt", (4.0, 1.0, 3.0), 1.0), ("le", (4.0, 1.0, 3.0), 1.0), ("gt", (12.0, 19.0, 15.0), 19.0)],
)
def test_the_peak_is_the_worst_value_in_the_direction_of_the_rule(
    op: str, figures: tuple[float, ...], peak: float
) -> None:
    """While pending and while firing; a low value is the worse one for a rule that fires below its threshold."""
    watched = rule(op=op, critical=5 if op != "gt" else 10, for_s=INTERVAL_S, min_samples=1, recover_for_s=0)
    state = state_machine.create_state(watched, Severity.CRITICAL, AlertLabels(queue="mail"), START)
    fired = None
    for number, figure in enumerate((figures[0], *figures)):
        now = START + number * INTERVAL_S
        health, value = state_machine.judge_figure(watched, Severity.CRITICAL, figure)
        state, change = state_machine.advance_state(watched, state, health, value, now, INTERVAL_S)
        fired = fired or change
    assert fired is not None
    assert (fired.kind, fired.peak) == ("firing", figures[0])
    assert state.peak == peak
    healthy = 100.0 if op != "gt" else 0.0
    state, ended = state_machine.advance_state(watched, state, H, healthy, now + INTERVAL_S, INTERVAL_S)
    assert ended is not None
    assert (ended.kind, ended.peak) == ("resolved", peak)


@pytest.mark.parametrize(("op", "worst"), [("lt", 1.0), ("gt", 30.0)])
def test_the_peak_includes_the_time_before_the_alert_fired(op: str, worst: float) -> None:
    watched = rule(op=op, critical=5, for_s=2 * INTERVAL_S, min_samples=1)
    state = state_machine.create_state(watched, Severity.CRITICAL, AlertLabels(queue="mail"), START)
    mild = 4.0 if op == "lt" else 6.0
    for number, figure in enumerate((mild, worst, mild)):
        state, fired = state_machine.advance_state(watched, state, B, figure, START + number * INTERVAL_S, INTERVAL_S)
    assert fired is not None
    assert fired.peak == worst


def test_between_the_thresholds_an_alert_neither_fires_nor_resolves() -> None:
    hysteresis = rule(critical=10, critical_recover=8, for_s=0, min_samples=1)
    assert state_machine.judge_figure(hysteresis, Severity.CRITICAL, 9.0)[0] is M
    assert state_machine.judge_figure(hysteresis, Severity.CRITICAL, 8.0)[0] is H
    assert state_machine.judge_figure(hysteresis, Severity.CRITICAL, 10.0)[0] is M
    assert state_machine.judge_figure(hysteresis, Severity.CRITICAL, 10.1)[0] is B


@pytest.mark.parametrize(
    ("policy", "meaning"),
    [("keep", FigureHealth.UNKNOWN), ("ok", FigureHealth.HEALTHY), ("breach", FigureHealth.BREACH)],
)
def test_a_rule_decides_how_an_unknown_value_counts(policy: str, meaning: FigureHealth) -> None:
    assert state_machine.judge_figure(rule(no_data=policy), Severity.CRITICAL, None)[0] is meaning
    assert state_machine.judge_figure(rule(no_data=policy), Severity.CRITICAL, IDLE)[0] is FigureHealth.HEALTHY


def test_an_unknown_value_freezes_the_state_and_its_timers() -> None:
    alert = SimulatedAlert(rule(for_s=10))
    alert.feed(B)
    alert.feed(B)
    held = alert.state.held_s
    for _ in range(100):
        assert alert.feed(U) is AlertPhase.PENDING
    assert alert.state.held_s == held
    alert.until(AlertPhase.FIRING, B)
    for _ in range(1000):
        assert alert.feed(U) is AlertPhase.FIRING
    assert alert.kinds == ["firing"]


def test_reminders_are_sent_until_the_alert_is_acknowledged() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1, repeat_every_s=100))
    for _ in range(110):
        alert.feed(B)
    assert alert.kinds == ["firing", "reminder", "reminder"]
    alert.acked = True
    for _ in range(200):
        alert.feed(B)
    assert alert.kinds == ["firing", "reminder", "reminder"]
    alert.acked = False
    alert.until(AlertPhase.OK, H)
    assert alert.kinds[-1] == "resolved"


def test_each_notification_of_an_episode_has_its_own_number() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1, repeat_every_s=10))
    for _ in range(12):
        alert.feed(B)
    alert.until(AlertPhase.OK, H)
    assert [due.number for _, due in alert.due_notifications] == list(range(1, len(alert.due_notifications) + 1))
    assert len({due.episode for _, due in alert.due_notifications}) == 1


def test_a_muted_alert_is_notified_when_the_mute_ends() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1))
    alert.muted = True
    for _ in range(5):
        alert.feed(B)
    assert alert.kinds == []
    assert [change.kind for change in alert.changes] == ["firing"]
    alert.muted = False
    alert.feed(B)
    assert alert.kinds == ["firing"]


def test_an_incident_that_was_muted_throughout_is_not_notified() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1, recover_for_s=0))
    alert.muted = True
    alert.feed(B)
    alert.feed(H)
    alert.muted = False
    alert.feed(H)
    assert alert.kinds == []
    assert [change.kind for change in alert.changes] == ["firing", "resolved"]


def test_channels_that_received_the_start_receive_the_end_even_while_muted() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1, recover_for_s=0))
    alert.feed(B)
    alert.muted = True
    alert.feed(H)
    assert alert.kinds == ["firing", "resolved"]


def absent_once(alert: SimulatedAlert) -> AlertPhase:
    return alert.feed_absence()


def test_an_alert_of_a_missing_queue_resolves_after_ten_minutes() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1))
    alert.feed(B)
    count = 1 + sum(
        1 for _ in itertools.takewhile(lambda phase: phase is not AlertPhase.OK, map(absent_once, [alert] * 400))
    )
    assert count * INTERVAL_S == pytest.approx(600)
    assert (alert.changes[-1].kind, alert.changes[-1].reason) == ("resolved", "no longer exists")
    assert alert.kinds == ["firing", "resolved"]


def test_a_removed_rule_resolves_its_firing_alerts() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1))
    alert.feed(B)
    state, change = state_machine.resolve_removed(alert.state, alert.now, "rule deleted")
    assert change is not None
    assert (change.kind, change.reason) == ("resolved", "rule deleted")
    _, due_notifications = record_due_notifications(state, alert.now, rule=None, muted=False, acked=False, channels=())
    assert [(due.kind, due.to) for due in due_notifications] == [("resolved", ("ops",))]


def flap(alert: SimulatedAlert, seconds: float, half_s: float = 60.0) -> None:
    until = alert.now + seconds
    while alert.now < until:
        bad = (alert.now - START) % (2 * half_s) < half_s
        alert.feed(B if bad else H)


def test_an_alert_that_flaps_every_two_minutes_sends_six_messages_a_day() -> None:
    alert = SimulatedAlert(rule(for_s=10, recover_for_s=10))
    flap(alert, 86_400)
    assert len(alert.changes) > 1400
    assert alert.kinds == ["firing", "resolved", "firing", "resolved", "firing", "flapping"]


@pytest.mark.parametrize(("health", "end"), [(H, "resolved"), (B, "firing")])
def test_one_notification_reports_the_state_after_flapping(health: FigureHealth, end: str) -> None:
    alert = SimulatedAlert(rule(for_s=10, recover_for_s=10, repeat_every_s=0))
    flap(alert, 3600)
    before = len(alert.due_notifications)
    for _ in range(2000):
        alert.feed(health)
    assert alert.kinds[before:] == [end]
    assert not alert.state.flapping
    if health is B:
        alert.until(AlertPhase.OK, H)
        assert alert.kinds[-1] == "resolved"
    assert alert.state.announced == ""


def feed_random_values(seed: int, *, steps: bool) -> SimulatedAlert:
    """An alert fed two thousand random samples; `steps` adds clock steps of an hour either way."""
    dice = random.Random(seed)
    alert = SimulatedAlert(
        rule(
            for_s=dice.choice([0, 3, 10, 60]),
            min_samples=dice.choice([1, 2, 5]),
            recover_for_s=dice.choice([0, 4, 30]),
            repeat_every_s=dice.choice([0, 50, 14_400]),
        )
    )
    health = H
    held = breaches = 0.0
    last_breach_at: float | None = None
    for _ in range(2000):
        if dice.random() < 0.15:
            health = dice.choice([B, M, H, U])
        step_s = dice.choice([-3600.0, 3600.0]) if steps and dice.random() < 0.01 else dice.uniform(0.1, 5.0)
        alert.muted = dice.random() < 0.1
        before: AlertState = alert.state
        alert.feed(health, after_s=step_s)
        # Counted independently: how long a breach has lasted without a break, unknown time left out.
        if health is B:
            if last_breach_at is None:
                held, breaches = 0.0, 1
            else:
                held += min(max(alert.now - last_breach_at, 0.0), 2 * INTERVAL_S)
                breaches += 1
        elif health in (M, H):
            last_breach_at = None
        if before.phase in (AlertPhase.OK, AlertPhase.PENDING) and alert.state.phase is AlertPhase.FIRING:
            assert held >= alert.rule.for_s - 1e-6
            assert breaches >= alert.rule.min_samples
        if health is U:
            assert alert.state.phase is before.phase
        if health is B or (health is U and last_breach_at is not None):
            last_breach_at = alert.now
    return alert


@pytest.mark.parametrize("steps", [False, True])
def test_random_values_alternate_firing_and_resolved_and_never_fire_early(steps: bool) -> None:
    for seed in range(40):
        check_order(feed_random_values(seed, steps=steps), f"seed {seed}")


def check_order(alert: SimulatedAlert, seed: str) -> None:
    """Assert that changes alternate, and that each thread of notifications ends before the next begins."""
    kinds = [change.kind for change in alert.changes]
    assert kinds == list(itertools.islice(itertools.cycle(["firing", "resolved"]), len(kinds))), seed
    for began, ended in itertools.pairwise(alert.changes):
        if began.kind == "firing":
            assert began.episode == ended.episode, seed
    open_thread = ""
    for _, due in alert.due_notifications:
        if due.kind == "resolved":
            assert due.episode == open_thread, seed
            open_thread = ""
        elif open_thread:
            assert due.episode == open_thread, seed  # a reminder, or a flapping notification
        else:
            assert due.kind in ("firing", "flapping"), seed
            open_thread = due.episode
    numbered = {(due.episode, due.kind, due.number) for _, due in alert.due_notifications}
    assert len(numbered) == len(alert.due_notifications), seed


@pytest.mark.parametrize("hour", [3600.0, -3600.0])
def test_a_clock_step_of_an_hour_neither_fires_nor_loses_an_alert(hour: float) -> None:
    alert = SimulatedAlert(rule(for_s=60))
    for _ in range(10):
        alert.feed(B)
    held = alert.state.held_s
    assert alert.feed(B, after_s=hour) is AlertPhase.PENDING
    assert held <= alert.state.held_s <= held + 2 * INTERVAL_S
    alert.until(AlertPhase.FIRING, B, most=31)
    assert alert.feed(B, after_s=-hour) is AlertPhase.FIRING
    assert alert.kinds == ["firing"]


@pytest.mark.parametrize(
    ("op", "least", "health"),
    [("gt", 11.0, B), ("gt", 10.0, U), ("gt", 0.0, U), ("lt", 11.0, H), ("lt", 9.0, U)],
)
def test_a_lower_bound_breaches_above_a_threshold_and_is_unknown_below(
    op: str, least: float, health: FigureHealth
) -> None:
    watched = rule(op=op, critical=10)
    judged, value = state_machine.judge_figure(watched, Severity.CRITICAL, AtLeast(least))
    assert judged is health
    assert value == (None if health is U else least)
    assert type(value) in (float, type(None))


def test_incomplete_counts_are_lower_bounds() -> None:
    capped = queue(depth=3, counts=Counts(waiting=3, dead=5000), at_least=(JobState.DEAD,))
    take = METRICS["queue.dead"].take_queue
    depth = METRICS["queue.depth"].take_queue
    assert take is not None
    assert depth is not None
    assert isinstance(take(capped, QueueFacts(), 0), AtLeast)
    assert not isinstance(depth(capped, QueueFacts(), 0), AtLeast)
    assert take(queue(), QueueFacts(), 0) is None


def test_flapping_is_notified_when_the_mute_ends() -> None:
    alert = SimulatedAlert(rule(for_s=0, min_samples=1, recover_for_s=0, repeat_every_s=0))
    alert.feed(B)
    alert.muted = True
    for _ in range(10):
        alert.feed(H)
        alert.feed(B)
    assert alert.kinds == ["firing", "resolved"]
    alert.muted = False
    alert.feed(B)
    assert alert.kinds[2:] == ["flapping"]
    alert.muted = True
    for _ in range(2000):  # more than an hour: it no longer flaps
        alert.feed(B)
    assert alert.kinds[3:] == []
    alert.muted = False
    alert.feed(B)
    assert alert.kinds[3:] == ["firing"]


@pytest.mark.parametrize(
    ("metric", "reducer", "value", "text", "threshold"),
    [
        ("queue.depth", "last", 2.0, "2 waiting jobs", "1"),
        ("queue.depth", "rate", 2.0, "queue.depth changes by 2 per minute", "1 per minute"),
        ("queue.dead_growth_per_h", "last", 2.0, "2 dead letters per hour", "1 per hour"),
        ("redis.writes_refused", "last", 1.0, None, None),
    ],
)
def test_a_state_words_its_last_value_and_threshold(
    metric: str, reducer: Reducer, value: float, text: str | None, threshold: str | None
) -> None:
    state = state_machine.create_state(rule(), Severity.CRITICAL, AlertLabels(queue="mail"), START)
    state = replace(state, metric=metric, reducer=reducer, value=value, threshold=1.0, unknown_s=1800.0)
    assert (state.value_text, state.last_value_text, state.threshold_text) == (None, text, threshold)
