"""All rules over all queues: what fires, what is frozen, what mutes what; and what a thousand queues cost."""

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


class Watch:
    """An evaluator with its states, as the engine keeps them."""

    def __init__(self, *rules: Rule, channels: Sequence[str] = ("ops", "chief")) -> None:
        self.rules = rules
        self.evaluator = Evaluator(INTERVAL_S)
        self.states: dict[str, AlertState] = {}
        self.now = NOW
        self.channels = tuple(channels)
        self.told: list[tuple[str, str, str | None]] = []  # rule, kind, queue

    def see(
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
                self.told += [
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


def test_each_severity_of_each_queue_is_an_instance_and_the_critical_one_mutes_the_other() -> None:
    watch = Watch(rule(warning=5, critical=10, **AT_ONCE))
    watch.see(sample([queue("a", 7), queue("b", 20), queue("c", 1)]))
    assert watch.firing == {("deep", "warning", "a"), ("deep", "critical", "b"), ("deep", "warning", "b")}
    assert sorted(watch.told) == [("deep", "firing", "a"), ("deep", "firing", "b")]
    watch.see(sample([queue("a", 7), queue("b", 7), queue("c", 1)]))
    assert watch.told[2:] == [("deep", "resolved", "b"), ("deep", "firing", "b")]


def test_globs_choose_the_queues() -> None:
    watch = Watch(rule(queues=["mail-*"], queues_not=["mail-test*"], **AT_ONCE))
    names = ["mail-out", "mail-test-1", "video"]
    watch.see(sample([queue(name, 50) for name in names]))
    assert watch.firing == {("deep", "critical", "mail-out")}


@pytest.mark.parametrize(("scope", "fires"), [("sum", True), ("max", False)])
def test_a_rule_may_look_at_all_queues_together(scope: str, fires: bool) -> None:
    watch = Watch(rule(scope=scope, **AT_ONCE))
    watch.see(sample([queue(name, 4) for name in "abc"]))
    assert bool(watch.firing) is fires
    watch.see(sample([queue("a", 4), queue("b", None), queue("c", 90)]))
    assert bool(watch.firing)  # of a sum with an unknown part nothing is known, so it goes on


def test_an_unreachable_source_freezes_and_mutes_its_alerts() -> None:
    unreachable = next(each for each in default_rules() if each.id == "redis-unreachable")
    watch = Watch(replace(unreachable, critical=6.0), rule(for_s=10, new_instance_grace_s=0))
    watch.see(sample([queue("a", 50)]), times=3)
    (pending,) = watch.states.values()
    lost = sample([queue("a", None, error="gone")], [source(reachable=False)])
    watch.see(lost, times=100)
    assert {name for name, _, _ in watch.firing} == {"redis-unreachable"}
    assert watch.states[pending.fingerprint].held_s == pytest.approx(pending.held_s)
    assert watch.told == [("redis-unreachable", "firing", None)]
    watch.see(sample([queue("a", 50)]), times=20)
    assert ("deep", "firing", "a") in watch.told


FROZEN = {
    "a figure of Redis": rule(metric="redis.memory_ratio", critical=0.9, **AT_ONCE),
    "a queue": rule(**AT_ONCE),
    "all queues together": rule(scope="sum", **AT_ONCE),
    "the highest of all queues": rule(scope="max", **AT_ONCE),
    "the workers of a library": rule(metric="workers.count", op="lt", critical=1, **AT_ONCE),
}


def seen_from(*, reachable: bool, bad: bool) -> Snapshot:
    """A sample in which each rule of FROZEN is breached, healthy, or knows nothing because the Redis is gone."""
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
    """`no_data` is about figures that a Redis that answers does not have; what fires goes on, what is well stays so."""
    watch = Watch(replace(FROZEN[kind], no_data=no_data))
    watch.see(seen_from(reachable=True, bad=bad), times=3)
    before, told = watch.firing, list(watch.told)
    assert bool(before) is bad
    watch.see(seen_from(reachable=False, bad=bad), times=20)
    assert watch.firing == before
    assert watch.told == told


@pytest.mark.parametrize("kind", FROZEN)
def test_old_values_of_an_unreachable_source_are_not_evaluated(kind: str) -> None:
    """Whoever made the sample: an old figure beside "unreachable" neither fires nor resolves."""
    for bad in (True, False):
        watch = Watch(FROZEN[kind])
        watch.see(seen_from(reachable=True, bad=bad), times=3)
        before = watch.firing
        other = seen_from(reachable=True, bad=not bad)
        stale = replace(other, sources=tuple(replace(each, reachable=False) for each in other.sources))
        watch.see(stale, times=20)
        assert watch.firing == before


def test_a_new_queue_settles_first() -> None:
    watch = Watch(rule(for_s=0, min_samples=1, new_instance_grace_s=20))
    watch.see(sample([queue("a", 50)]), times=10)
    assert not watch.firing
    watch.see(sample([queue("a", 50), queue("b", 50)]), times=2)
    assert watch.firing == {("deep", "critical", "a")}
    fresh = Watch(rule(for_s=0, min_samples=1, new_instance_grace_s=20))
    fresh.evaluator.settle_queues(sample([queue("a", 1)]), 20)
    fresh.see(sample([queue("a", 50), queue("b", 50)]))
    assert fresh.firing == {("deep", "critical", "a")}


def test_one_rule_mutes_another_where_they_look_at_the_same() -> None:
    cause = rule(id="cause", metric="queue.consumers", op="lt", critical=1, **AT_ONCE)
    effect = rule(id="effect", inhibited_by=["cause"], **AT_ONCE)
    watch = Watch(effect, cause)
    watch.see(sample([queue("a", 50, workers=0), queue("b", 50, workers=2)]))
    assert watch.told == [("cause", "firing", "a"), ("effect", "firing", "b")]
    watch.see(sample([queue("a", 50, workers=1), queue("b", 50, workers=2)]))
    assert watch.told[2:] == [("cause", "resolved", "a"), ("effect", "firing", "a")]


def test_the_outage_of_a_source_mutes_what_fires_on_it() -> None:
    """Alerts that fired before have been sent; what a mute held back until then stays unsent while the Redis is gone,
    and alerts of another Redis are sent as ever."""
    unreachable = next(each for each in default_rules() if each.id == "redis-unreachable")
    watch = Watch(replace(unreachable, critical=2.0, **AT_ONCE), rule(**AT_ONCE))
    both = [queue("a", 50), queue("b", 50, source="other")]
    silence = Silence(id="s", until=NOW + 100, by="ann", rule="deep")
    watch.see(sample(both, [source(), source("other")]), active_silences=ActiveSilences(silences=(silence,)))
    assert watch.told == []
    assert watch.firing == {("deep", "critical", "a"), ("deep", "critical", "b")}
    lost = [queue("a", None, error="gone"), both[1]]
    watch.see(
        sample(lost, [source(reachable=False), source("other")]),
        times=5,
        active_silences=ActiveSilences(silences=(silence,)),
    )
    assert watch.told == [("redis-unreachable", "firing", None)]
    watch.see(sample(lost, [source(reachable=False), source("other")]), times=5)
    assert watch.told[1:] == [("deep", "firing", "b")]
    watch.see(sample(both, [source(), source("other")]), times=2)
    assert watch.told[2:] == [("redis-unreachable", "resolved", None), ("deep", "firing", "a")]


def test_a_silence_mutes_what_it_matches_and_nothing_else() -> None:
    silence = Silence(id="s", until=NOW + 100, by="ann", queue="a*")
    watch = Watch(rule(**AT_ONCE))
    watch.see(sample([queue("ab", 50), queue("b", 50)]), active_silences=ActiveSilences(silences=(silence,)))
    assert watch.told == [("deep", "firing", "b")]
    watch.see(sample([queue("ab", 50), queue("b", 50)]))
    assert watch.told[1:] == [("deep", "firing", "ab")]


@pytest.mark.parametrize("change", [{"enabled": False}, {"queues": ("other",)}])
def test_a_narrowed_rule_resolves_what_it_had_firing(change: dict[str, Any]) -> None:
    watch = Watch(rule(**AT_ONCE))
    watch.see(sample([queue("a", 50)]))
    watch.rules = (replace(watch.rules[0], **change),)
    watch.see(sample([queue("a", 50)]))
    assert not watch.firing
    assert watch.told[-1] == ("deep", "resolved", "a")


def test_a_failing_channel_is_reported_on_the_others() -> None:
    dead = next(each for each in default_rules() if each.id == "notify-dead")
    watch = Watch(dead)
    (transition,) = watch.see(sample(), dead_messages={"ops": 1})
    assert [due.to for due in transition.due_notifications] == [("chief",)]


def test_few_finished_jobs_are_no_ratio() -> None:
    errors = rule(id="e", metric="queue.error_ratio", critical=0.25, **AT_ONCE)
    watch = Watch(errors)
    watch.see(sample([queue("a", 0, finished_15min=19.0, failed_15min=19.0)]))
    assert not watch.firing
    watch.see(sample([queue("a", 0, finished_15min=20.0, failed_15min=19.0)]))
    assert watch.firing == {("e", "critical", "a")}


def test_dead_letters_that_fall_do_not_hide_those_that_rise() -> None:
    growth = rule(id="g", metric="queue.dead_growth_per_h", critical=10, **AT_ONCE)
    past = QueueHistory(dead=(0, 8, 0, 0))
    history = History(version=1, queues={"main\0lists\0a": past})
    watch = Watch(growth)
    watch.see(sample([queue("a", 0, counts=Counts(dead=2))]), history=history)
    assert not watch.firing
    watch.see(sample([queue("a", 0, counts=Counts(dead=3))]), history=history)
    assert watch.firing == {("g", "critical", "a")}
    assert next(iter(watch.states.values())).value == 11


def test_a_queue_is_stuck_only_while_jobs_wait_and_none_finishes() -> None:
    stuck = rule(id="s", metric="queue.no_progress_s", critical=20, **AT_ONCE)
    watch = Watch(stuck)
    idle = queue("a", 0, throughput_per_min=0.0)
    waits = queue("a", 3, throughput_per_min=0.0, latency_s=1.0)
    watch.see(sample([idle]), times=50)
    watch.see(sample([waits]), times=10)
    assert not watch.firing
    watch.see(sample([waits]), times=2)
    assert watch.firing == {("s", "critical", "a")}
    watch.see(sample([queue("a", 3, throughput_per_min=1.0, finished_ago_s=1.0, latency_s=90.0)]))
    assert not watch.firing


def test_a_queue_without_rates_is_stuck_only_if_its_progress_is_known() -> None:
    stuck = rule(id="s", metric="queue.no_progress_s", critical=20, **AT_ONCE)
    watch = Watch(stuck)
    hidden = queue("a", 300, throughput_per_min=None)
    watch.see(sample([hidden]), times=50)
    assert not watch.firing
    watch.see(sample([replace(hidden, progress_known=True, finished_ago_s=1.0)]), times=50)
    assert not watch.firing
    watch.see(sample([replace(hidden, progress_known=True, finished_ago_s=100.0)]), times=12)
    assert watch.firing == {("s", "critical", "a")}


def test_a_queue_processed_without_records_is_not_stuck_while_it_shrinks() -> None:
    watch = Watch(rule(id="s", metric="queue.no_progress_s", critical=30, **AT_ONCE))
    window = FlowWindow()
    both = (JobState.COMPLETED, JobState.DEAD)

    def tick(depth: int, progressed: bool | None) -> None:
        flow = QueueFlow(
            key="a", completed=0, dead=0, span_s=2.0, quality=Quality.EXACT, hidden=both, progressed=progressed
        )
        row = queue("a", depth)
        window.add(watch.now + 2.0, flow, row)
        watch.see(sample([with_rates(row, window.rates(watch.now + 2.0))]))

    for depth in range(382, 299, -1):  # workers run other queues as well, so that only the depth tells
        tick(depth, None)
    assert not watch.firing
    for _ in range(50):  # as many jobs come as are taken
        tick(300, None)
    assert not watch.firing
    for _ in range(50):  # the only queue of these workers
        tick(300, True)
    assert not watch.firing
    for _ in range(17):  # and they have stopped
        tick(300, False)
    assert watch.firing == {("s", "critical", "a")}


def test_a_paused_queue_is_not_stuck_and_restarts_when_resumed() -> None:
    stuck = rule(id="s", metric="queue.no_progress_s", critical=20, **AT_ONCE)
    watch = Watch(stuck)
    waits = queue("a", 3, throughput_per_min=0.0, latency_s=900.0)
    watch.see(sample([replace(waits, paused=True)]), times=50)
    assert not watch.firing
    watch.see(sample([waits]), times=10)
    assert not watch.firing
    watch.see(sample([waits]), times=2)
    assert watch.firing == {("s", "critical", "a")}
    watch.see(sample([replace(waits, paused=True)]))
    assert not watch.firing


def test_counters_are_compared_within_one_run_of_the_server() -> None:
    evicts = next(each for each in default_rules() if each.id == "redis-evictions")
    watch = Watch(replace(evicts, for_s=0.0, min_samples=1))
    watch.see(sample(sources=[source(run_id="a", evicted_keys=1000)]))
    watch.see(sample(sources=[source(run_id="b", evicted_keys=5)]))
    watch.see(sample(sources=[source(run_id="b", evicted_keys=5)]))
    assert not watch.firing
    watch.see(sample(sources=[source(run_id="b", evicted_keys=6)]))
    assert watch.firing


def test_a_clock_that_steps_does_not_make_a_source_unreachable_for_an_hour() -> None:
    unreachable = next(each for each in default_rules() if each.id == "redis-unreachable")
    watch = Watch(unreachable)
    down = sample(sources=[source(reachable=False)])
    watch.see(down, times=3)
    watch.now += 3600
    watch.see(down, times=2)
    assert not watch.firing
    watch.see(down, times=20)
    assert watch.firing


def full_rate(count: int) -> list[Snapshot]:
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
    watch = Watch(replace(full, for_s=10.0))
    for snapshot in full_rate(60):
        watch.see(snapshot)
    assert ("redis-memory-full", "critical", None) in watch.firing
    critical = next(state for state in watch.states.values() if state.severity is Severity.CRITICAL)
    assert critical.value == pytest.approx((1000 - 659) * INTERVAL_S, rel=0.05)


def test_every_shipped_rule_is_one_that_a_person_could_write_and_its_metric_is_there() -> None:
    from dashboard.alerts.rules.rule import parse_rule
    from dashboard.alerts.rules.ruleset import non_default_fields

    for each in default_rules():
        assert parse_rule(non_default_fields(each), "shipped") == each
        assert METRICS[each.metric].unavailable is None
    assert len({each.id for each in default_rules()}) == len(default_rules())


def test_the_name_of_an_instance_never_depends_on_how_labels_are_cut() -> None:
    one = alert_fingerprint("r", Severity.CRITICAL, {"queue": "a", "source": "bc"})
    two = alert_fingerprint("r", Severity.CRITICAL, {"queue": "ab", "source": "c"})
    assert one != two
    assert one == alert_fingerprint("r", Severity.CRITICAL, {"source": "bc", "queue": "a"})
    assert len(one) == 16
    assert alert_fingerprint("r", Severity.CRITICAL, {"queue": "\udcff"})


def many(count: int) -> list[QueueStats]:
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


def test_a_rule_costs_three_calls_for_a_queue_that_is_well() -> None:
    rules = [each for each in default_rules() if METRICS[each.metric].subject == "queue"]
    rules += [rule(id=f"own-{index}", critical=1000 + index) for index in range(30 - len(rules))]
    watch = Watch(*rules)
    snapshot = sample(many(1000))
    watch.see(snapshot, times=2)
    assert calls_of(lambda: watch.see(snapshot)) < 3 * 30 * 1000


def test_a_rule_that_fires_costs_fifty_calls_for_a_queue() -> None:
    watch = Watch(*(rule(id=f"own-{index}", critical=-1 if index % 2 else 1000, **AT_ONCE) for index in range(30)))
    snapshot = sample(many(200))
    watch.see(snapshot, times=2)
    assert len(watch.firing) == 15 * 200
    assert calls_of(lambda: watch.see(snapshot)) < 50 * 15 * 200


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
def test_a_message_shows_the_last_hour_of_the_figure_that_fired(metric: str, points: tuple[float, ...]) -> None:
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
def test_fragmentation_counts_where_it_wastes_much(wasted_mib: int, fires: bool) -> None:
    watch = Watch(rule(metric="redis.fragmentation_ratio", op="ge", critical=1.5, **AT_ONCE))
    watch.see(sample(sources=[source(allocator_frag_bytes=wasted_mib * 1024 * 1024, allocator_frag_ratio=3.0)]))
    assert bool(watch.firing) is fires


def due_of(transitions: Sequence[Transition]) -> list[tuple[str, str, int, tuple[str, ...]]]:
    return [
        (due.kind, due.episode, due.number, due.to)
        for transition in transitions
        for due in transition.due_notifications
    ]


def test_a_renamed_channel_is_notified_of_ongoing_incidents_and_their_end() -> None:
    watch = Watch(rule(**AT_ONCE), channels=("ops",))
    ((_, episode, _, _),) = due_of(watch.see(sample([queue("a", 50)])))
    watch.channels = ("ops-new",)
    assert due_of(watch.see(sample([queue("a", 50)]))) == [("firing", episode, 1, ("ops-new",))]
    assert due_of(watch.see(sample([queue("a", 50)]), times=3)) == []
    ((kind, ended, _, to),) = due_of(watch.see(sample([queue("a", 1)])))
    assert (kind, ended, to) == ("resolved", episode, ("ops", "ops-new"))


def test_a_new_channel_is_notified_of_ongoing_incidents() -> None:
    watch = Watch(rule(**AT_ONCE), channels=("ops", "chief"))
    ((_, episode, _, _),) = due_of(watch.see(sample([queue("a", 50)])))
    watch.channels = ("chief", "boss")
    assert due_of(watch.see(sample([queue("a", 50)]))) == [("firing", episode, 1, ("boss",))]
    ((kind, _, _, to),) = due_of(watch.see(sample([queue("a", 1)])))
    assert (kind, to) == ("resolved", ("ops", "chief", "boss"))


def test_a_rule_with_a_new_channel_notifies_it_now_and_both_at_the_end() -> None:
    watch = Watch(rule(channels=["ops"], **AT_ONCE))
    watch.see(sample([queue("a", 50)]))
    watch.rules = (replace(watch.rules[0], channels=("chief",)),)
    assert [due[3] for due in due_of(watch.see(sample([queue("a", 50)])))] == [("chief",)]
    assert [due[3] for due in due_of(watch.see(sample([queue("a", 1)])))] == [("ops", "chief")]


def test_a_leader_without_a_notified_channel_still_resolves_for_it() -> None:
    """A process without channels may lead while another one has them, and delivers."""
    watch = Watch(rule(**AT_ONCE), channels=("ops",))
    watch.see(sample([queue("a", 50)]))
    watch.channels = ()
    assert due_of(watch.see(sample([queue("a", 50)]), times=3)) == []
    assert [(due[0], due[3]) for due in due_of(watch.see(sample([queue("a", 1)])))] == [("resolved", ("ops",))]


def test_a_rule_with_another_metric_resolves_its_alerts_and_restarts() -> None:
    watch = Watch(rule(**AT_ONCE))
    watch.see(sample([queue("a", 50, latency_s=90.0)]))
    watch.rules = (rule(metric="queue.latency_s", **AT_ONCE),)
    (transition,) = watch.see(sample([queue("a", 50, latency_s=90.0)]))
    assert [(change.kind, change.reason) for change in transition.changes] == [("resolved", "rule changed")]
    assert transition.after.metric == "queue.depth"
    (transition,) = watch.see(sample([queue("a", 50, latency_s=90.0)]))
    assert [due.kind for due in transition.due_notifications] == ["firing"]
    assert (transition.after.metric, transition.after.value) == ("queue.latency_s", 90.0)


def test_a_pending_alert_restarts_when_the_metric_of_its_rule_changes() -> None:
    watch = Watch(rule(for_s=60, new_instance_grace_s=0))
    watch.see(sample([queue("a", 50, latency_s=90.0)]), times=25)
    watch.rules = (rule(metric="queue.latency_s", for_s=60, new_instance_grace_s=0),)
    watch.see(sample([queue("a", 50, latency_s=90.0)]), times=25)
    assert not watch.firing
    watch.see(sample([queue("a", 50, latency_s=90.0)]), times=10)
    assert watch.firing == {("deep", "critical", "a")}


@pytest.mark.parametrize("scope", ["sum", "max"])
def test_what_fires_of_all_queues_together_ends_when_there_is_none(scope: str) -> None:
    watch = Watch(rule(scope=scope, queues=["mail*"], **AT_ONCE))
    watch.see(sample([queue("mail", 50)]))
    watch.see(sample([queue("other", 50)], [source(), source("second", reachable=False)]), times=400)
    assert watch.firing  # the other Redis may have one
    watch.see(sample([queue("other", 50)]), times=301)
    assert not watch.firing
    assert watch.told[-1] == ("deep", "resolved", None)


@pytest.mark.parametrize("scope", ["sum", "max"])
@pytest.mark.parametrize("found", [{"reachable": False, "discovered": False}, {"discovered": False}])
def test_queues_of_a_redis_that_is_not_read_yet_are_no_end(scope: str, found: dict[str, bool]) -> None:
    """A process that starts while one Redis is down, or not searched yet, knows none of its queues."""
    watch = Watch(rule(scope=scope, **AT_ONCE))
    second = source("second")
    watch.see(sample([queue("a", 4), queue("b", 50, source="second")], [source(), second]))
    assert watch.firing
    watch.see(sample([queue("a", 4)], [source(), replace(second, **found)]), times=30)
    assert watch.firing
    watch.see(sample([queue("a", 4), queue("b", 1, source="second")], [source(), second]))
    assert not watch.firing


def test_what_is_known_of_a_sum_may_fire_alone() -> None:
    watch = Watch(rule(scope="sum", **AT_ONCE))
    watch.see(sample([queue("a", 4), queue("b", None)]))
    assert not watch.firing
    watch.see(sample([queue("a", 40), queue("b", None)]))
    assert watch.firing


@pytest.mark.parametrize(("reducer", "op"), [("max", "gt"), ("mean", "gt"), ("p95", "gt"), ("min", "lt")])
def test_a_figure_that_became_unknown_neither_fires_nor_ends_by_what_was_before(reducer: str, op: str) -> None:
    fields: dict[str, Any] = {**AT_ONCE, "for_s": 20, "op": op, "critical": 10 if op == "gt" else 5}
    watch = Watch(rule(reducer=reducer, window_s=600, **fields))
    bad, well = (50, 1) if op == "gt" else (1, 50)
    watch.see(sample([queue("a", bad)]), times=3)
    watch.see(sample([queue("a", None)]), times=100)
    assert not watch.firing
    watch.see(sample([queue("a", bad)]), times=12)
    assert watch.firing
    watch.see(sample([queue("a", well)]))
    watch.see(sample([queue("a", None)]), times=400)
    assert watch.firing


def test_an_alert_with_an_unknown_value_keeps_firing_without_an_old_value() -> None:
    watch = Watch(rule(repeat_every_s=100, **AT_ONCE))
    watch.see(sample([queue("a", 50)]))
    watch.see(sample([queue("a", None)]), times=30)
    (state,) = watch.states.values()
    assert (state.is_active, state.value, state.value_now, state.unknown_s) == (True, 50, None, 60.0)
    watch.see(sample(), times=30)  # it is not even there
    (state,) = watch.states.values()
    assert (state.is_active, state.value_now, state.unknown_s) == (True, None, 120.0)
    watch.see(sample([queue("a", 40)]))
    (state,) = watch.states.values()
    assert (state.value_now, state.unknown_s) == (40, 0.0)


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a"), ("b", "a", "c")])
def test_a_rule_is_muted_by_one_that_is_muted_itself(names: tuple[str, str, str]) -> None:
    cause, middle, effect = names
    rules = [
        rule(id=cause, **AT_ONCE),
        rule(id=middle, inhibited_by=[cause], **AT_ONCE),
        rule(id=effect, inhibited_by=[middle], **AT_ONCE),
    ]
    watch = Watch(*sorted(rules, key=lambda each: each.id))
    watch.see(sample([queue("mail", 50)]), times=3)
    assert watch.told == [(cause, "firing", "mail")]


def test_one_of_two_rules_that_inhibit_each_other_notifies() -> None:
    watch = Watch(rule(id="a", inhibited_by=["b"], **AT_ONCE), rule(id="b", inhibited_by=["a"], **AT_ONCE))
    watch.see(sample([queue("mail", 50)]), times=3)
    assert len(watch.told) == 1


def test_a_paused_queue_misses_no_worker_and_no_scheduler() -> None:
    """Somebody pauses a queue and stops its workers, to change what they work on."""
    watch = Watch(*default_rules())
    calm = queue("a", 50, latency_s=10.0, workers=2, throughput_per_min=9.0, finished_ago_s=1.0, paused=False)
    watch.see(sample([calm]), times=60)
    assert not watch.firing
    paused = replace(calm, paused=True, workers=0, latency_s=200.0, throughput_per_min=0.0, finished_ago_s=3000.0)
    watch.see(sample([paused]), times=1700)
    assert not watch.firing
    due = replace(paused, depth=0, counts=Counts(scheduled=5), latency_s=0.0, overdue_s=900.0)
    watch.see(sample([due]), times=300)
    assert watch.firing == {("queue-paused", "warning", "a")}


def test_jobs_that_wait_long_in_a_paused_queue_are_an_alert() -> None:
    watch = Watch(*default_rules())
    late = queue("a", 50, latency_s=400.0, workers=2, throughput_per_min=9.0, finished_ago_s=1.0, paused=True)
    watch.see(sample([late]), times=200)
    assert watch.firing == {("queue-latency", "warning", "a")}
