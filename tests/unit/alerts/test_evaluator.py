"""All rules over all queues: firing, frozen and muted alerts, and the cost of a thousand queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from dashboard.alerts.evaluation.checker_context import CheckerContext
from dashboard.alerts.evaluation.evaluation_run import Transition
from dashboard.alerts.evaluation.evaluator import Evaluator
from dashboard.alerts.evaluation.state_machine import AlertLabels, AlertState
from dashboard.alerts.notification_builder import last_hour_series
from dashboard.alerts.rules.default_rules import default_rules
from dashboard.alerts.rules.metrics import METRICS
from dashboard.alerts.rules.rule import Rule, Severity, alert_fingerprint
from dashboard.alerts.silences import ActiveSilences, Silence
from dashboard.model import Counts, Quality, QueueFlow, QueueStats, Snapshot
from dashboard.model import State as JobState
from dashboard.sampling.rates import FlowWindow, with_rates
from dashboard.sampling.recent_history import History, QueueHistory
from tests.counting import calls_of
from tests.unit.alerts.factories import queue, rule, sample, source

INTERVAL_S = 2.0
NOW = 1_700_000_000.0
AT_ONCE: dict[str, Any] = {"for_s": 0, "min_samples": 1, "new_instance_grace_s": 0, "recover_for_s": 0}


class Harness:
    """An evaluator with its states, as the engine keeps them."""

    def __init__(self, *rules: Rule, channels: Sequence[str] = ("ops", "chief")) -> None:
        self.rules = rules
        self.evaluator = Evaluator(INTERVAL_S)
        self.states: dict[str, AlertState] = {}
        self.now = NOW
        self.channels = tuple(channels)
        self.notified: list[tuple[str, str, str | None]] = []  # rule, kind, queue

    def evaluate(
        self, snapshot: Snapshot, *, times: int = 1, history: History | None = None, **checker_context: Any
    ) -> list[Transition]:
        for _ in range(times):
            self.now += INTERVAL_S
            transitions = self.evaluator.evaluate_rules(
                snapshot,
                history or History(),
                self.rules,
                self.states,
                CheckerContext(now=self.now, channels=self.channels, **checker_context),
            )
            for transition in transitions:
                if transition.after.is_worth_storing:
                    self.states[transition.after.fingerprint] = transition.after
                else:
                    self.states.pop(transition.after.fingerprint, None)
                self.notified += [
                    (transition.after.rule_id, due.kind, transition.after.labels.queue)
                    for due in transition.due_notifications
                ]
        return transitions

    @property
    def firing(self) -> set[tuple[str, str, str | None]]:
        return {
            (state.rule_id, state.severity.value, state.labels.queue)
            for state in self.states.values()
            if state.is_active
        }


def test_each_queue_has_one_alert_per_severity_and_critical_mutes_warning() -> None:
    harness = Harness(rule(warning=5, critical=10, **AT_ONCE))
    harness.evaluate(sample([queue("a", 7), queue("b", 20), queue("c", 1)]))
    assert harness.firing == {("deep", "warning", "a"), ("deep", "critical", "b"), ("deep", "warning", "b")}
    assert sorted(harness.notified) == [("deep", "firing", "a"), ("deep", "firing", "b")]
    harness.evaluate(sample([queue("a", 7), queue("b", 7), queue("c", 1)]))
    assert harness.notified[2:] == [("deep", "resolved", "b"), ("deep", "firing", "b")]


def test_globs_choose_the_queues() -> None:
    harness = Harness(rule(queues=["mail-*"], queues_not=["mail-test*"], **AT_ONCE))
    names = ["mail-out", "mail-test-1", "video"]
    harness.evaluate(sample([queue(name, 50) for name in names]))
    assert harness.firing == {("deep", "critical", "mail-out")}


@pytest.mark.parametrize(("scope", "fires"), [("sum", True), ("max", False)])
def test_a_rule_can_evaluate_all_queues_together(scope: str, fires: bool) -> None:
    harness = Harness(rule(scope=scope, **AT_ONCE))
    harness.evaluate(sample([queue(name, 4) for name in "abc"]))
    assert bool(harness.firing) is fires
    harness.evaluate(sample([queue("a", 4), queue("b", None), queue("c", 90)]))
    assert bool(harness.firing)  # a sum with an unknown part is unknown, so the alert continues


def test_an_unreachable_source_freezes_and_mutes_its_alerts() -> None:
    unreachable = next(each for each in default_rules() if each.id == "redis-unreachable")
    harness = Harness(replace(unreachable, critical=6.0), rule(for_s=10, new_instance_grace_s=0))
    harness.evaluate(sample([queue("a", 50)]), times=3)
    (pending,) = harness.states.values()
    lost = sample([queue("a", None, error="gone")], [source(reachable=False)])
    harness.evaluate(lost, times=100)
    assert {name for name, _, _ in harness.firing} == {"redis-unreachable"}
    assert harness.states[pending.fingerprint].held_s == pytest.approx(pending.held_s)
    assert harness.notified == [("redis-unreachable", "firing", None)]
    harness.evaluate(sample([queue("a", 50)]), times=20)
    assert ("deep", "firing", "a") in harness.notified


FROZEN = {
    "a figure of Redis": rule(metric="redis.memory_ratio", critical=0.9, **AT_ONCE),
    "a queue": rule(**AT_ONCE),
    "all queues together": rule(scope="sum", **AT_ONCE),
    "the highest of all queues": rule(scope="max", **AT_ONCE),
    "the workers of a library": rule(metric="workers.count", op="lt", critical=1, **AT_ONCE),
}


def frozen_rules_sample(*, reachable: bool, bad: bool) -> Snapshot:
    """A sample in which each rule of FROZEN is breached, healthy, or unknown because Redis is unreachable."""
    if not reachable:
        return sample([queue("a", None, error="gone")], [source(reachable=False)])
    return sample(
        [queue("a", 50 if bad else 1, workers=0 if bad else 1, latency_s=9.0)],
        [source(memory_ratio=0.95 if bad else 0.1, memory_limited=True)],
    )


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize("no_data", ["keep", "ok", "breach"])
@pytest.mark.parametrize("bad", [True, False])
def test_an_unreachable_source_is_not_evaluated_whatever_no_data_is(kind: str, no_data: str, bad: bool) -> None:
    """`no_data` applies to values missing from a reachable Redis; firing alerts continue, and no new alert fires."""
    harness = Harness(replace(FROZEN[kind], no_data=no_data))
    harness.evaluate(frozen_rules_sample(reachable=True, bad=bad), times=3)
    before, notified = harness.firing, list(harness.notified)
    assert bool(before) is bad
    harness.evaluate(frozen_rules_sample(reachable=False, bad=bad), times=20)
    assert harness.firing == before
    assert harness.notified == notified


@pytest.mark.parametrize("kind", FROZEN)
def test_old_values_of_an_unreachable_source_are_not_evaluated(kind: str) -> None:
    """Regardless of which process took the sample, an old value of an unreachable source neither fires nor resolves."""
    for bad in (True, False):
        harness = Harness(FROZEN[kind])
        harness.evaluate(frozen_rules_sample(reachable=True, bad=bad), times=3)
        before = harness.firing
        other = frozen_rules_sample(reachable=True, bad=not bad)
        stale = replace(other, sources=tuple(replace(each, reachable=False) for each in other.sources))
        harness.evaluate(stale, times=20)
        assert harness.firing == before


def test_a_new_queue_fires_only_after_its_grace_period() -> None:
    harness = Harness(rule(for_s=0, min_samples=1, new_instance_grace_s=20))
    harness.evaluate(sample([queue("a", 50)]), times=10)
    assert not harness.firing
    harness.evaluate(sample([queue("a", 50), queue("b", 50)]), times=2)
    assert harness.firing == {("deep", "critical", "a")}
    fresh = Harness(rule(for_s=0, min_samples=1, new_instance_grace_s=20))
    fresh.evaluator.settle_queues(sample([queue("a", 1)]), 20)
    fresh.evaluate(sample([queue("a", 50), queue("b", 50)]))
    assert fresh.firing == {("deep", "critical", "a")}


def test_an_inhibiting_rule_mutes_another_on_the_same_queue_only() -> None:
    cause = rule(id="cause", metric="queue.consumers", op="lt", critical=1, **AT_ONCE)
    effect = rule(id="effect", inhibited_by=["cause"], **AT_ONCE)
    harness = Harness(effect, cause)
    harness.evaluate(sample([queue("a", 50, workers=0), queue("b", 50, workers=2)]))
    assert harness.notified == [("cause", "firing", "a"), ("effect", "firing", "b")]
    harness.evaluate(sample([queue("a", 50, workers=1), queue("b", 50, workers=2)]))
    assert harness.notified[2:] == [("cause", "resolved", "a"), ("effect", "firing", "a")]


def test_an_unreachable_source_mutes_its_unsent_alerts() -> None:
    """Alerts held back by a silence stay unsent while their Redis is unreachable, and alerts of another Redis are
    sent as usual."""
    unreachable = next(each for each in default_rules() if each.id == "redis-unreachable")
    harness = Harness(replace(unreachable, critical=2.0, **AT_ONCE), rule(**AT_ONCE))
    both = [queue("a", 50), queue("b", 50, source="other")]
    silence = Silence(id="s", until=NOW + 100, by="ann", rule="deep")
    harness.evaluate(sample(both, [source(), source("other")]), active_silences=ActiveSilences(silences=(silence,)))
    assert harness.notified == []
    assert harness.firing == {("deep", "critical", "a"), ("deep", "critical", "b")}
    lost = [queue("a", None, error="gone"), both[1]]
    harness.evaluate(
        sample(lost, [source(reachable=False), source("other")]),
        times=5,
        active_silences=ActiveSilences(silences=(silence,)),
    )
    assert harness.notified == [("redis-unreachable", "firing", None)]
    harness.evaluate(sample(lost, [source(reachable=False), source("other")]), times=5)
    assert harness.notified[1:] == [("deep", "firing", "b")]
    harness.evaluate(sample(both, [source(), source("other")]), times=2)
    assert harness.notified[2:] == [("redis-unreachable", "resolved", None), ("deep", "firing", "a")]


def test_a_silence_mutes_only_matching_alerts() -> None:
    silence = Silence(id="s", until=NOW + 100, by="ann", queue="a*")
    harness = Harness(rule(**AT_ONCE))
    harness.evaluate(sample([queue("ab", 50), queue("b", 50)]), active_silences=ActiveSilences(silences=(silence,)))
    assert harness.notified == [("deep", "firing", "b")]
    harness.evaluate(sample([queue("ab", 50), queue("b", 50)]))
    assert harness.notified[1:] == [("deep", "firing", "ab")]


@pytest.mark.parametrize("change", [{"enabled": False}, {"queues": ("other",)}])
def test_a_disabled_or_narrowed_rule_resolves_its_firing_alerts(change: dict[str, Any]) -> None:
    harness = Harness(rule(**AT_ONCE))
    harness.evaluate(sample([queue("a", 50)]))
    harness.rules = (replace(harness.rules[0], **change),)
    harness.evaluate(sample([queue("a", 50)]))
    assert not harness.firing
    assert harness.notified[-1] == ("deep", "resolved", "a")


def test_a_failing_channel_is_reported_on_the_others() -> None:
    dead = next(each for each in default_rules() if each.id == "notify-dead")
    harness = Harness(dead)
    (transition,) = harness.evaluate(sample(), dead_messages={"ops": 1})
    assert [due.to for due in transition.due_notifications] == [("chief",)]


def test_an_error_ratio_needs_twenty_finished_jobs() -> None:
    errors = rule(id="e", metric="queue.error_ratio", critical=0.25, **AT_ONCE)
    harness = Harness(errors)
    harness.evaluate(sample([queue("a", 0, finished_15min=19.0, failed_15min=19.0)]))
    assert not harness.firing
    harness.evaluate(sample([queue("a", 0, finished_15min=20.0, failed_15min=19.0)]))
    assert harness.firing == {("e", "critical", "a")}


def test_dead_letter_growth_ignores_decreases() -> None:
    growth = rule(id="g", metric="queue.dead_growth_per_h", critical=10, **AT_ONCE)
    past = QueueHistory(dead=(0, 8, 0, 0))
    history = History(version=1, queues={"main\0lists\0a": past})
    harness = Harness(growth)
    harness.evaluate(sample([queue("a", 0, counts=Counts(dead=2))]), history=history)
    assert not harness.firing
    harness.evaluate(sample([queue("a", 0, counts=Counts(dead=3))]), history=history)
    assert harness.firing == {("g", "critical", "a")}
    assert next(iter(harness.states.values())).value == 11


def test_a_queue_is_stuck_only_while_jobs_wait_and_none_finishes() -> None:
    stuck = rule(id="s", metric="queue.no_progress_s", critical=20, **AT_ONCE)
    harness = Harness(stuck)
    idle = queue("a", 0, throughput_per_min=0.0)
    waits = queue("a", 3, throughput_per_min=0.0, latency_s=1.0)
    harness.evaluate(sample([idle]), times=50)
    harness.evaluate(sample([waits]), times=10)
    assert not harness.firing
    harness.evaluate(sample([waits]), times=2)
    assert harness.firing == {("s", "critical", "a")}
    harness.evaluate(sample([queue("a", 3, throughput_per_min=1.0, finished_ago_s=1.0, latency_s=90.0)]))
    assert not harness.firing


def test_a_queue_without_rates_is_stuck_only_if_its_progress_is_known() -> None:
    stuck = rule(id="s", metric="queue.no_progress_s", critical=20, **AT_ONCE)
    harness = Harness(stuck)
    hidden = queue("a", 300, throughput_per_min=None)
    harness.evaluate(sample([hidden]), times=50)
    assert not harness.firing
    harness.evaluate(sample([replace(hidden, progress_known=True, finished_ago_s=1.0)]), times=50)
    assert not harness.firing
    harness.evaluate(sample([replace(hidden, progress_known=True, finished_ago_s=100.0)]), times=12)
    assert harness.firing == {("s", "critical", "a")}


def test_a_queue_processed_without_records_is_not_stuck_while_it_shrinks() -> None:
    harness = Harness(rule(id="s", metric="queue.no_progress_s", critical=30, **AT_ONCE))
    window = FlowWindow()
    both = (JobState.COMPLETED, JobState.DEAD)

    def evaluate_depth(depth: int, progressed: bool | None) -> None:
        flow = QueueFlow(
            key="a", completed=0, dead=0, span_s=2.0, quality=Quality.EXACT, hidden=both, progressed=progressed
        )
        row = queue("a", depth)
        window.add(harness.now + 2.0, flow, row)
        harness.evaluate(sample([with_rates(row, window.rates(harness.now + 2.0))]))

    for depth in range(382, 299, -1):  # workers run other queues as well, so that only the depth shows progress
        evaluate_depth(depth, None)
    assert not harness.firing
    for _ in range(50):  # as many jobs come as are taken
        evaluate_depth(300, None)
    assert not harness.firing
    for _ in range(50):  # the only queue of these workers
        evaluate_depth(300, True)
    assert not harness.firing
    for _ in range(17):  # and they have stopped
        evaluate_depth(300, False)
    assert harness.firing == {("s", "critical", "a")}


def test_a_paused_queue_is_not_stuck_and_restarts_when_resumed() -> None:
    stuck = rule(id="s", metric="queue.no_progress_s", critical=20, **AT_ONCE)
    harness = Harness(stuck)
    waits = queue("a", 3, throughput_per_min=0.0, latency_s=900.0)
    harness.evaluate(sample([replace(waits, paused=True)]), times=50)
    assert not harness.firing
    harness.evaluate(sample([waits]), times=10)
    assert not harness.firing
    harness.evaluate(sample([waits]), times=2)
    assert harness.firing == {("s", "critical", "a")}
    harness.evaluate(sample([replace(waits, paused=True)]))
    assert not harness.firing


def test_counters_are_compared_within_one_run_of_the_server() -> None:
    evicts = next(each for each in default_rules() if each.id == "redis-evictions")
    harness = Harness(replace(evicts, for_s=0.0, min_samples=1))
    harness.evaluate(sample(sources=[source(run_id="a", evicted_keys=1000)]))
    harness.evaluate(sample(sources=[source(run_id="b", evicted_keys=5)]))
    harness.evaluate(sample(sources=[source(run_id="b", evicted_keys=5)]))
    assert not harness.firing
    harness.evaluate(sample(sources=[source(run_id="b", evicted_keys=6)]))
    assert harness.firing


def test_a_clock_step_does_not_count_as_unreachable_time() -> None:
    unreachable = next(each for each in default_rules() if each.id == "redis-unreachable")
    harness = Harness(unreachable)
    down = sample(sources=[source(reachable=False)])
    harness.evaluate(down, times=3)
    harness.now += 3600
    harness.evaluate(down, times=2)
    assert not harness.firing
    harness.evaluate(down, times=20)
    assert harness.firing


def filling_samples(count: int) -> list[Snapshot]:
    mib = 1024 * 1024
    return [
        sample(
            sources=[
                source(
                    run_id="a",
                    used_memory_bytes=(600 + step) * mib,
                    maxmemory_bytes=1000 * mib,
                    memory_limited=True,
                    memory_ratio=(600 + step) / 1000,
                )
            ]
        )
        for step in range(count)
    ]


def test_a_redis_that_fills_up_is_reported_before_it_is_full() -> None:
    full = next(each for each in default_rules() if each.id == "redis-memory-full")
    harness = Harness(replace(full, for_s=10.0))
    for snapshot in filling_samples(60):
        harness.evaluate(snapshot)
    assert ("redis-memory-full", "critical", None) in harness.firing
    critical = next(state for state in harness.states.values() if state.severity is Severity.CRITICAL)
    assert critical.value == pytest.approx((1000 - 659) * INTERVAL_S, rel=0.05)


def test_every_shipped_rule_is_valid_as_a_user_rule_and_has_an_available_metric() -> None:
    from dashboard.alerts.rules.rule import parse_rule
    from dashboard.alerts.rules.ruleset import non_default_fields

    for each in default_rules():
        assert parse_rule(non_default_fields(each), "shipped") == each
        assert METRICS[each.metric].unavailable is None
    assert len({each.id for each in default_rules()}) == len(default_rules())


def test_different_labels_have_different_fingerprints() -> None:
    one = alert_fingerprint("r", Severity.CRITICAL, {"queue": "a", "source": "bc"})
    two = alert_fingerprint("r", Severity.CRITICAL, {"queue": "ab", "source": "c"})
    assert one != two
    assert one == alert_fingerprint("r", Severity.CRITICAL, {"source": "bc", "queue": "a"})
    assert len(one) == 16
    assert alert_fingerprint("r", Severity.CRITICAL, {"queue": "\udcff"})


def healthy_queues(count: int) -> list[QueueStats]:
    return [
        queue(
            f"q{index:04}",
            index % 7,
            latency_s=1.0,
            workers=2,
            throughput_per_min=3.0,
            finished_15min=40.0,
            failed_15min=0.0,
            finished_ago_s=1.0,
            paused=False,
            counts=Counts(waiting=index % 7, active=1, dead=3),
        )
        for index in range(count)
    ]


def test_a_rule_costs_at_most_three_calls_per_healthy_queue() -> None:
    rules = [each for each in default_rules() if METRICS[each.metric].subject == "queue"]
    rules += [rule(id=f"own-{index}", critical=1000 + index) for index in range(30 - len(rules))]
    harness = Harness(*rules)
    snapshot = sample(healthy_queues(1000))
    harness.evaluate(snapshot, times=2)
    assert calls_of(lambda: harness.evaluate(snapshot)) < 3 * 30 * 1000


def test_a_firing_rule_costs_at_most_fifty_calls_per_queue() -> None:
    harness = Harness(*(rule(id=f"own-{index}", critical=-1 if index % 2 else 1000, **AT_ONCE) for index in range(30)))
    snapshot = sample(healthy_queues(200))
    harness.evaluate(snapshot, times=2)
    assert len(harness.firing) == 15 * 200
    assert calls_of(lambda: harness.evaluate(snapshot)) < 50 * 15 * 200


@pytest.mark.parametrize(
    ("metric", "points"),
    [
        ("queue.depth", (1, 2)),
        ("queue.dead", (5,)),
        ("queue.error_ratio", (0.25, None, None, None, 1.0)),
        ("queue.latency_s", (30.0, 40.0)),
        ("queue.dead_growth_per_h", (30.0, 40.0)),
        ("redis.memory_full_in_s", (7, 8)),
        ("redis.clients_ratio", (30.0, 40.0)),
    ],
)
def test_a_message_shows_the_last_hour_of_the_metric_that_fired(metric: str, points: tuple[float, ...]) -> None:
    labels = (
        AlertLabels(source="main") if metric.startswith("redis") else AlertLabels(source="main", backend="b", queue="q")
    )
    kept = QueueHistory(
        depth=(1, 2), dead=(5,), finished_per_min=(2, 0, None, 4, 0.5), failed_per_min=(0.5, 0, 1, None, 0.6)
    )
    history = History(queues={"main\0b\0q": kept}, memory={"main": (7, 8)})
    state = AlertState(
        fingerprint="f",
        rule_id="r",
        rule_name="R",
        metric=metric,
        severity=Severity.WARNING,
        threshold=1.0,
        labels=labels,
    )
    assert last_hour_series(state, history, (30.0, 40.0)) == points


def test_an_error_ratio_unknown_to_the_history_is_shown_as_the_rule_evaluated_it() -> None:
    labels = AlertLabels(source="main", backend="b", queue="q")
    state = AlertState(
        fingerprint="f",
        rule_id="r",
        rule_name="R",
        metric="queue.error_ratio",
        severity=Severity.WARNING,
        threshold=0.1,
        labels=labels,
    )
    failures_alone = QueueHistory(finished_per_min=(None, None), failed_per_min=(3, 3))
    history = History(queues={"main\0b\0q": failures_alone})
    assert last_hour_series(state, history, (0.1, 0.12)) == (0.1, 0.12)


@pytest.mark.parametrize(("wasted_mib", "fires"), [(255, False), (256, True)])
def test_fragmentation_fires_only_from_256_mib_wasted(wasted_mib: int, fires: bool) -> None:
    harness = Harness(rule(metric="redis.fragmentation_ratio", op="ge", critical=1.5, **AT_ONCE))
    harness.evaluate(sample(sources=[source(allocator_frag_bytes=wasted_mib * 1024 * 1024, allocator_frag_ratio=3.0)]))
    assert bool(harness.firing) is fires


def due_of(transitions: Sequence[Transition]) -> list[tuple[str, str, int, tuple[str, ...]]]:
    return [
        (due.kind, due.episode, due.number, due.to)
        for transition in transitions
        for due in transition.due_notifications
    ]


def test_a_renamed_channel_is_notified_of_ongoing_incidents_and_their_end() -> None:
    harness = Harness(rule(**AT_ONCE), channels=("ops",))
    ((_, episode, _, _),) = due_of(harness.evaluate(sample([queue("a", 50)])))
    harness.channels = ("ops-new",)
    assert due_of(harness.evaluate(sample([queue("a", 50)]))) == [("firing", episode, 1, ("ops-new",))]
    assert due_of(harness.evaluate(sample([queue("a", 50)]), times=3)) == []
    ((kind, ended, _, to),) = due_of(harness.evaluate(sample([queue("a", 1)])))
    assert (kind, ended, to) == ("resolved", episode, ("ops", "ops-new"))


def test_a_new_channel_is_notified_of_ongoing_incidents() -> None:
    harness = Harness(rule(**AT_ONCE), channels=("ops", "chief"))
    ((_, episode, _, _),) = due_of(harness.evaluate(sample([queue("a", 50)])))
    harness.channels = ("chief", "boss")
    assert due_of(harness.evaluate(sample([queue("a", 50)]))) == [("firing", episode, 1, ("boss",))]
    ((kind, _, _, to),) = due_of(harness.evaluate(sample([queue("a", 1)])))
    assert (kind, to) == ("resolved", ("ops", "chief", "boss"))


def test_a_rule_with_a_new_channel_notifies_it_now_and_both_at_the_end() -> None:
    harness = Harness(rule(channels=["ops"], **AT_ONCE))
    harness.evaluate(sample([queue("a", 50)]))
    harness.rules = (replace(harness.rules[0], channels=("chief",)),)
    assert [due[3] for due in due_of(harness.evaluate(sample([queue("a", 50)])))] == [("chief",)]
    assert [due[3] for due in due_of(harness.evaluate(sample([queue("a", 1)])))] == [("ops", "chief")]


def test_a_leader_without_a_notified_channel_still_resolves_for_it() -> None:
    """A process without channels may lead while another one has them and delivers."""
    harness = Harness(rule(**AT_ONCE), channels=("ops",))
    harness.evaluate(sample([queue("a", 50)]))
    harness.channels = ()
    assert due_of(harness.evaluate(sample([queue("a", 50)]), times=3)) == []
    assert [(due[0], due[3]) for due in due_of(harness.evaluate(sample([queue("a", 1)])))] == [("resolved", ("ops",))]


def test_a_rule_with_another_metric_resolves_its_alerts_and_restarts() -> None:
    harness = Harness(rule(**AT_ONCE))
    harness.evaluate(sample([queue("a", 50, latency_s=90.0)]))
    harness.rules = (rule(metric="queue.latency_s", **AT_ONCE),)
    (transition,) = harness.evaluate(sample([queue("a", 50, latency_s=90.0)]))
    assert [(change.kind, change.reason) for change in transition.changes] == [("resolved", "rule changed")]
    assert transition.after.metric == "queue.depth"
    (transition,) = harness.evaluate(sample([queue("a", 50, latency_s=90.0)]))
    assert [due.kind for due in transition.due_notifications] == ["firing"]
    assert (transition.after.metric, transition.after.value) == ("queue.latency_s", 90.0)


def test_a_pending_alert_restarts_when_the_metric_of_its_rule_changes() -> None:
    harness = Harness(rule(for_s=60, new_instance_grace_s=0))
    harness.evaluate(sample([queue("a", 50, latency_s=90.0)]), times=25)
    harness.rules = (rule(metric="queue.latency_s", for_s=60, new_instance_grace_s=0),)
    harness.evaluate(sample([queue("a", 50, latency_s=90.0)]), times=25)
    assert not harness.firing
    harness.evaluate(sample([queue("a", 50, latency_s=90.0)]), times=10)
    assert harness.firing == {("deep", "critical", "a")}


@pytest.mark.parametrize("scope", ["sum", "max"])
def test_an_alert_on_all_queues_together_resolves_when_no_queue_matches(scope: str) -> None:
    harness = Harness(rule(scope=scope, queues=["mail*"], **AT_ONCE))
    harness.evaluate(sample([queue("mail", 50)]))
    harness.evaluate(sample([queue("other", 50)], [source(), source("second", reachable=False)]), times=400)
    assert harness.firing  # the other Redis may have a matching queue
    harness.evaluate(sample([queue("other", 50)]), times=301)
    assert not harness.firing
    assert harness.notified[-1] == ("deep", "resolved", None)


@pytest.mark.parametrize("scope", ["sum", "max"])
@pytest.mark.parametrize("found", [{"reachable": False, "discovered": False}, {"discovered": False}])
def test_an_alert_on_all_queues_together_continues_while_a_source_is_not_read(
    scope: str, found: dict[str, bool]
) -> None:
    """A process that starts while one Redis is down, or not searched yet, knows none of its queues."""
    harness = Harness(rule(scope=scope, **AT_ONCE))
    second = source("second")
    harness.evaluate(sample([queue("a", 4), queue("b", 50, source="second")], [source(), second]))
    assert harness.firing
    harness.evaluate(sample([queue("a", 4)], [source(), replace(second, **found)]), times=30)
    assert harness.firing
    harness.evaluate(sample([queue("a", 4), queue("b", 1, source="second")], [source(), second]))
    assert not harness.firing


def test_a_sum_with_an_unknown_part_can_fire() -> None:
    harness = Harness(rule(scope="sum", **AT_ONCE))
    harness.evaluate(sample([queue("a", 4), queue("b", None)]))
    assert not harness.firing
    harness.evaluate(sample([queue("a", 40), queue("b", None)]))
    assert harness.firing


@pytest.mark.parametrize(("reducer", "op"), [("max", "gt"), ("mean", "gt"), ("p95", "gt"), ("min", "lt")])
def test_a_value_that_becomes_unknown_neither_fires_nor_resolves_by_its_window(reducer: str, op: str) -> None:
    fields: dict[str, Any] = {**AT_ONCE, "for_s": 20, "op": op, "critical": 10 if op == "gt" else 5}
    harness = Harness(rule(reducer=reducer, window_s=600, **fields))
    bad, well = (50, 1) if op == "gt" else (1, 50)
    harness.evaluate(sample([queue("a", bad)]), times=3)
    harness.evaluate(sample([queue("a", None)]), times=100)
    assert not harness.firing
    harness.evaluate(sample([queue("a", bad)]), times=12)
    assert harness.firing
    harness.evaluate(sample([queue("a", well)]))
    harness.evaluate(sample([queue("a", None)]), times=400)
    assert harness.firing


def test_an_alert_with_an_unknown_value_keeps_firing_without_an_old_value() -> None:
    harness = Harness(rule(repeat_every_s=100, **AT_ONCE))
    harness.evaluate(sample([queue("a", 50)]))
    harness.evaluate(sample([queue("a", None)]), times=30)
    (state,) = harness.states.values()
    assert (state.is_active, state.value, state.value_now, state.unknown_s) == (True, 50, None, 60.0)
    harness.evaluate(sample(), times=30)  # the queue is absent
    (state,) = harness.states.values()
    assert (state.is_active, state.value_now, state.unknown_s) == (True, None, 120.0)
    harness.evaluate(sample([queue("a", 40)]))
    (state,) = harness.states.values()
    assert (state.value_now, state.unknown_s) == (40, 0.0)


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a"), ("b", "a", "c")])
def test_a_muted_rule_still_mutes_others(names: tuple[str, str, str]) -> None:
    cause, middle, effect = names
    rules = [
        rule(id=cause, **AT_ONCE),
        rule(id=middle, inhibited_by=[cause], **AT_ONCE),
        rule(id=effect, inhibited_by=[middle], **AT_ONCE),
    ]
    harness = Harness(*sorted(rules, key=lambda each: each.id))
    harness.evaluate(sample([queue("mail", 50)]), times=3)
    assert harness.notified == [(cause, "firing", "mail")]


def test_one_of_two_rules_that_inhibit_each_other_notifies() -> None:
    harness = Harness(rule(id="a", inhibited_by=["b"], **AT_ONCE), rule(id="b", inhibited_by=["a"], **AT_ONCE))
    harness.evaluate(sample([queue("mail", 50)]), times=3)
    assert len(harness.notified) == 1


def test_a_paused_queue_fires_no_worker_or_scheduler_alerts() -> None:
    """An operator pauses a queue and stops its workers."""
    harness = Harness(*default_rules())
    healthy = queue("a", 50, latency_s=10.0, workers=2, throughput_per_min=9.0, finished_ago_s=1.0, paused=False)
    harness.evaluate(sample([healthy]), times=60)
    assert not harness.firing
    paused = replace(healthy, paused=True, workers=0, latency_s=200.0, throughput_per_min=0.0, finished_ago_s=3000.0)
    harness.evaluate(sample([paused]), times=1700)
    assert not harness.firing
    due = replace(paused, depth=0, counts=Counts(scheduled=5), latency_s=0.0, overdue_s=900.0)
    harness.evaluate(sample([due]), times=300)
    assert harness.firing == {("queue-paused", "warning", "a")}


PAUSE_RULES = {
    "queue.latency_s": rule(id="r", metric="queue.latency_s", critical=300, **AT_ONCE),
    "queue.no_progress_s": rule(id="r", metric="queue.no_progress_s", critical=20, **AT_ONCE),
    "queue.consumers": rule(id="r", metric="queue.consumers", op="lt", critical=1, **AT_ONCE),
    "queue.overdue_s": rule(id="r", metric="queue.overdue_s", critical=300, **AT_ONCE),
    "queue.throughput_per_min": rule(id="r", metric="queue.throughput_per_min", op="lt", critical=1, **AT_ONCE),
    "all queues": rule(id="r", metric="queue.throughput_per_min", scope="sum", op="lt", critical=1, **AT_ONCE),
    "workers.count": rule(id="r", metric="workers.count", op="lt", critical=1, **AT_ONCE),
}
STUCK = queue(
    "a", 50, latency_s=900.0, workers=0, throughput_per_min=0.0, overdue_s=900.0, counts=Counts(active=0), paused=False
)


@pytest.mark.parametrize("name", PAUSE_RULES)
def test_a_pause_ends_alerts_about_late_or_stuck_jobs_with_its_reason(name: str) -> None:
    harness = Harness(PAUSE_RULES[name])
    harness.evaluate(sample([STUCK]), times=20)
    assert len(harness.firing) == 1
    (transition,) = harness.evaluate(sample([replace(STUCK, paused=True)]))
    (change,) = transition.changes
    assert (change.kind, change.reason) == ("resolved", "queue paused")
    harness.evaluate(sample([replace(STUCK, paused=True)]), times=200)
    assert not harness.firing
    harness.evaluate(sample([STUCK]), times=20)
    assert len(harness.firing) == 1


def test_a_sum_over_queues_of_which_only_one_is_paused_is_still_evaluated() -> None:
    harness = Harness(PAUSE_RULES["all queues"])
    harness.evaluate(sample([replace(STUCK, paused=True), replace(STUCK, name="b", key="b")]))
    assert len(harness.firing) == 1


def test_an_alert_that_recovers_during_a_pause_ends_with_its_reason_only_if_still_paused() -> None:
    harness = Harness(replace(PAUSE_RULES["queue.latency_s"], recover_for_s=10.0))
    harness.evaluate(sample([STUCK]))
    harness.evaluate(sample([replace(STUCK, paused=True)]), times=3)
    transitions = harness.evaluate(sample([replace(STUCK, latency_s=0.0)]), times=3)
    changes = [change for transition in transitions for change in transition.changes]
    assert [(change.kind, change.reason) for change in changes] == [("resolved", None)]


def test_jobs_that_aged_during_a_pause_have_time_to_be_taken_up() -> None:
    harness = Harness(*default_rules())
    late = queue("a", 50, latency_s=7200.0, workers=2, throughput_per_min=9.0, finished_ago_s=1.0, paused=True)
    harness.evaluate(sample([late]), times=200)
    assert not harness.firing
    harness.evaluate(sample([replace(late, paused=False)]), times=60)  # queue-latency has for_s=120
    assert not harness.firing
    harness.evaluate(sample([replace(late, paused=False)]), times=2)
    assert ("queue-latency", "critical", "a") in harness.firing
