"""Rules on run times: jobs that became slower than they usually are."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dashboard.alerts.evaluation.checker_context import CheckerContext
from dashboard.alerts.evaluation.evaluator import Evaluator
from dashboard.alerts.evaluation.state_machine import AlertLabels, AlertState
from dashboard.alerts.notification_builder import NotificationBuilder, no_errors
from dashboard.alerts.rules.figures import IDLE, compare_run_times
from dashboard.alerts.rules.rule import Rule
from dashboard.history.columns import CLASS, QUEUE
from dashboard.history.run_times import RunTimes
from dashboard.history.series_keys import SeriesKey
from dashboard.model import Mark
from dashboard.sampling.recent_history import History
from tests.unit.alerts.factories import queue, rule, sample, source

SEND = SeriesKey(CLASS, "main", "lists", "mail", "Send")
MAIL = SeriesKey(QUEUE, "main", "lists", "mail")
SLOWER = RunTimes(6.0, 100, 2.0)


def test_what_is_compared() -> None:
    assert compare_run_times(SLOWER, 50) == 3.0
    assert compare_run_times(SLOWER, 101) is None, "too few jobs"
    assert compare_run_times(RunTimes(6.0, 100, None), 50) is None, "the usual run time is not known"
    assert compare_run_times(RunTimes(0.9, 100, 0.3), 50) == pytest.approx(3.0), "short jobs, too"
    assert compare_run_times(RunTimes(0.19, 100, 0.1), 50) is IDLE, "less than 0.1 s longer"
    assert compare_run_times(RunTimes(1.0, 100, 2.0), 50) is IDLE, "faster"
    assert compare_run_times(None, 0) is None


def run(judged: Rule, samples: list[Mapping[SeriesKey, RunTimes]], *, reachable: bool = True) -> list[AlertState]:
    """The alerts after samples ten seconds apart, with the changes in `events`."""
    evaluator, states = Evaluator(10.0), dict[str, AlertState]()
    for number, run_times in enumerate(samples):
        context = CheckerContext(now=1000.0 + 10 * number, run_times=run_times)
        up = reachable or number < 2
        snapshot = sample([queue("mail", 1)], [source(reachable=up)])
        for transition in evaluator.evaluate_rules(snapshot, History(), [judged], states, context):
            states[transition.after.fingerprint] = transition.after
    return list(states.values())


@pytest.mark.parametrize(
    ("metric", "key", "labels"),
    [
        ("class.runtime_p95_ratio", SEND, AlertLabels(source="main", backend="lists", queue="mail", job_class="Send")),
        ("queue.runtime_p95_ratio", MAIL, AlertLabels(source="main", backend="lists", queue="mail")),
    ],
)
def test_slower_jobs_fire_until_they_are_as_fast_as_usual(metric: str, key: SeriesKey, labels: AlertLabels) -> None:
    judged = rule(metric=metric, warning=2, op="ge", for_s=20, recover_for_s=10, no_data="ok", new_instance_grace_s=0)
    (fired,) = run(judged, [{key: SLOWER}] * 5)
    assert (fired.labels, fired.phase, fired.value) == (labels, "firing", 3.0)
    (ended,) = run(judged, [{key: SLOWER}] * 5 + [{key: RunTimes(2.0, 100, 2.0)}] * 3)
    assert ended.phase == "ok"
    assert not run(judged, [{key: RunTimes(3.9, 100, 2.0)}] * 5)


def test_a_class_is_in_the_scope_of_its_queue() -> None:
    for fields, count in (({"queues": ["mail"]}, 1), ({"queues": ["files"]}, 0), ({"queues_not": ["m*"]}, 0)):
        judged = rule(metric="class.runtime_p95_ratio", warning=2, op="ge", for_s=0, min_samples=1, **fields)
        assert len(run(judged, [{SEND: SLOWER}] * 2)) == count, fields


def test_a_class_of_a_redis_that_is_down_stays_as_it_was() -> None:
    judged = rule(metric="class.runtime_p95_ratio", warning=2, op="ge", for_s=0, min_samples=1)
    (state,) = run(judged, [{SEND: SLOWER}] * 2 + [{}] * 100, reachable=False)
    assert state.phase == "firing"
    (state,) = run(judged, [{SEND: SLOWER}] * 2 + [{}] * 30)
    assert state.phase == "firing", "five minutes without jobs"
    (state,) = run(judged, [{SEND: SLOWER}] * 2 + [{}] * 100)
    assert state.phase == "ok", "it has not run for ten minutes"


@pytest.mark.parametrize(
    ("older_at", "since"),
    [
        (41.0, "40 s after v412"),
        (900.0, "40 s after v412 and 2 m 20 s after v411"),  # the run times are those of 15 minutes
    ],
)
def test_a_notification_says_how_much_slower_and_since_which_marks(older_at: float, since: str) -> None:
    judged = rule(metric="class.runtime_p95_ratio", warning=2, op="ge", for_s=20, name="Slower")
    marks = [
        Mark(at=1060.0, text="too late", version="v413"),
        Mark(at=1001.0, text="elsewhere", source="other"),
        Mark(at=1000.0, text="deploy", version="v412"),
        Mark(at=older_at, text="deploy", version="v411"),
    ]
    evaluator, states = Evaluator(10.0), dict[str, AlertState]()
    builder = NotificationBuilder(
        evaluator.history_recorder, no_errors, run_times=lambda: {SEND: SLOWER}, marks=lambda: marks
    )
    snapshot = sample([queue("mail", 1)])
    details = []
    for now in range(1040, 1100, 10):
        context = CheckerContext(now=float(now), run_times={SEND: SLOWER}, channels=("ops",))
        for transition in evaluator.evaluate_rules(snapshot, History(), [judged], states, context):
            states[transition.after.fingerprint] = transition.after
            details += [
                each.notification.detail for each in builder.build_notifications(transition, History(), snapshot)
            ]
    assert details == [f"95th percentile 6 s of 100 jobs, usually 2 s, since {since}"]
