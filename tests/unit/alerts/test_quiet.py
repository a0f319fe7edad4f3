"""Rules about unusual quiet: queues, classes and workers compared with what is usual at this hour of the week."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dashboard.alerts.activity_wording import describe_activity
from dashboard.alerts.evaluation.checker_context import CheckerContext
from dashboard.alerts.evaluation.durations import QueueFacts
from dashboard.alerts.evaluation.evaluator import Evaluator
from dashboard.alerts.evaluation.state_machine import AlertLabels, AlertState
from dashboard.alerts.notification_builder import NotificationBuilder, no_errors
from dashboard.alerts.rules.activity_figures import compare_activity, enqueue_idle, workers_ratio
from dashboard.alerts.rules.default_rules import example_rule
from dashboard.alerts.rules.figures import NOT_USUAL, PAUSED, AtLeast
from dashboard.alerts.rules.rule import Rule
from dashboard.history.activity.activities import Activities, Activity
from dashboard.history.activity.usual_activity import Usual, UsualJobs, UsualWorkers
from dashboard.history.columns import CLASS, QUEUE
from dashboard.history.series_keys import SeriesKey
from dashboard.model import QueueStats
from dashboard.sampling.recent_history import History
from tests.cases import failures_of
from tests.unit.alerts.factories import queue, rule, sample, source

MAIL = SeriesKey(QUEUE, "main", "lists", "mail")
SEND = SeriesKey(CLASS, "main", "lists", "mail", "Send")
AT = 1_700_475_900.0  # Monday, 2023-11-20 10:25 UTC
Step = tuple[Activity | None, QueueStats | None]
HOURLY = (900, 3600, 7200)


def activity(*recent: int | None, hourly: float = 120, lowest: float = 1.0, quiet_s: float | None = 1500) -> Activity:
    """The jobs of the last 15 minutes, hour and two hours, where so many per hour are usual."""
    usual = [UsualJobs(hourly * each / 3600, lowest * hourly * each / 3600, True) for each in HOURLY]
    return Activity(AT, HOURLY, recent, quiet_s, usual=Usual(tuple(usual), UsualWorkers(8, 8, True)))


QUIET = activity(0, 60, 180)


def test_what_is_compared() -> None:
    assert compare_activity(QUIET, 20) == 0
    assert compare_activity(QUIET, 31) == 0.5, "over an hour, as fewer than 31 are usual in 15 minutes"
    assert compare_activity(QUIET, 121) == 0.75
    assert compare_activity(QUIET, 241) is NOT_USUAL
    assert compare_activity(activity(0, 0, 0, lowest=0.2), 20) is NOT_USUAL, "not in each week"
    assert compare_activity(activity(None, 60, 180), 20) is None, "not watched for 15 minutes"
    assert compare_activity(QUIET._replace(usual=None), 20) is None, "not read yet"
    assert compare_activity(QUIET._replace(usual=Usual((None, None, None))), 20) is NOT_USUAL, "too little is stored"
    assert compare_activity(None, 20) is None
    assert compare_activity(activity(0, 0, 0, hourly=0), 0) is NOT_USUAL


def test_workers_and_arrivals() -> None:
    facts = QueueFacts(activity=QUIET)
    assert workers_ratio(queue(workers=2), facts, 0) == 0.25
    assert workers_ratio(queue(workers=2, paused=True), facts, 0) is PAUSED
    assert workers_ratio(queue(workers=None), facts, 0) is None
    assert workers_ratio(queue(workers=2), QueueFacts(), 0) is None
    for usual in (None, UsualWorkers(8, 3, True), UsualWorkers(0, 0, True)):
        facts = QueueFacts(activity=QUIET._replace(usual=Usual((), usual)))
        assert workers_ratio(queue(workers=2), facts, 0) is NOT_USUAL
    assert enqueue_idle(queue(), QueueFacts(activity=QUIET), 0) is None
    exact = enqueue_idle(queue(), QueueFacts(activity=QUIET._replace(idle_s=60.0)), 0)
    least = enqueue_idle(queue(), QueueFacts(activity=QUIET._replace(idle_s=60.0, idle_at_least=True)), 0)
    assert exact == least == 60
    assert (isinstance(exact, AtLeast), isinstance(least, AtLeast)) == (False, True)


def run(judged: Rule, steps: Sequence[Step], *, reachable: bool = True) -> AlertState:
    """The only alert after samples ten seconds apart."""
    evaluator, states = Evaluator(10.0), dict[str, AlertState]()
    for number, (found, row) in enumerate(steps):
        activities = Activities({MAIL: found}, {SEND: found}) if found is not None else Activities({}, {})
        context = CheckerContext(now=1000.0 + 10 * number, activities=activities)
        snapshot = sample([row] if row is not None else [], [source(reachable=reachable or number < 5)])
        for transition in evaluator.evaluate_rules(snapshot, History(), [judged], states, context):
            states[transition.after.fingerprint] = transition.after
    (state,) = states.values()
    return state


@pytest.mark.parametrize("metric", ["queue.activity_ratio", "class.activity_ratio"])
def test_a_quiet_queue_or_class_fires_until_it_is_not(metric: str) -> None:
    judged = rule(metric=metric, warning=0, op="le", for_s=20, recover_for_s=10, new_instance_grace_s=0)
    quiet, row = activity(0, 0, 0), queue()
    fired = run(judged, [(quiet, row)] * 5)
    job_class = "Send" if metric.startswith("class") else None
    assert (fired.phase, fired.value) == ("firing", 0)
    assert fired.labels == AlertLabels(source="main", backend="lists", queue="mail", job_class=job_class)

    def check(then: Activity | None, then_row: QueueStats | None, up: bool, phase: str) -> None:
        state = run(judged, [(quiet, row)] * 5 + [(then, then_row)] * 70, reachable=up)
        assert state.phase == phase

    failures = failures_of(
        check,
        [
            (activity(3, 3, 3), row, True, "ok"),
            (activity(0, 0, 0, hourly=0), row, True, "ok"),
            (quiet, queue(paused=True), True, "ok"),
            (activity(None, None, None), row, True, "firing"),
            (quiet, row, False, "firing"),
            (None, None, True, "ok"),
        ],
    )
    assert not failures


@pytest.mark.parametrize("scope", ["sum", "max"])
def test_all_queues_together_are_not_missed_at_an_hour_at_which_they_are_usually_quiet(scope: str) -> None:
    judged = rule(metric="queue.activity_ratio", scope=scope, warning=0, op="le", for_s=0, min_samples=1)
    rows = sample([queue("mail"), queue("cash")])
    at_night = activity(0, 0, 0, hourly=0)

    def fires(mail: Activity, cash: Activity | None) -> bool:
        evaluator = Evaluator(10.0)
        evaluator.settle_queues(rows, 60.0)
        found = {MAIL: mail} if cash is None else {MAIL: mail, MAIL._replace(name="cash"): cash}
        context = CheckerContext(now=1000.0, activities=Activities(found, {}))
        return any(each.after.is_active for each in evaluator.evaluate_rules(rows, History(), [judged], {}, context))

    assert not fires(at_night, at_night)
    assert not fires(at_night, None), "of one it is unknown"
    assert not fires(at_night, activity(9, 9, 9))
    assert fires(at_night, QUIET)


def test_the_end_of_an_alert_says_why_it_did_not_recover() -> None:
    judged = rule(metric="queue.activity_ratio", warning=0, op="le", for_s=0, min_samples=1, recover_for_s=0)
    evaluator, states, reasons = Evaluator(10.0), dict[str, AlertState](), []
    evaluator.settle_queues(sample([queue()]), 60.0)
    for number, hourly in enumerate((120, 120, 0)):
        context = CheckerContext(
            now=1000.0 + 10 * number, activities=Activities({MAIL: activity(0, 0, 0, hourly=hourly)}, {})
        )
        for transition in evaluator.evaluate_rules(sample([queue()]), History(), [judged], states, context):
            states[transition.after.fingerprint] = transition.after
            reasons += [(change.kind, change.reason) for change in transition.changes]
    assert reasons == [("firing", None), ("resolved", "no longer usual at this hour")]


def test_a_notification_says_what_is_usual_and_what_there_is_now() -> None:
    quiet, by_day = activity(0, 60, 180), UsualJobs(30, 30, False)
    jobs, workers = (example_rule(f"queue.{name}_ratio") for name in ("activity", "workers"))
    assert jobs is not None
    assert workers is not None

    def check(of: Rule, found: Activity | None, text: str | None) -> None:
        assert describe_activity(of, found, queue(workers=2)) == text

    failures = failures_of(
        check,
        [
            (jobs, quiet, "usually 120 jobs per hour on Mondays at 10:00 UTC, now 0 for 25 m"),
            (
                jobs,
                quiet._replace(quiet_at_least=True),
                "usually 120 jobs per hour on Mondays at 10:00 UTC, now 0 for at least 25 m",
            ),
            (jobs, activity(3, 60, 180), "usually 120 jobs per hour on Mondays at 10:00 UTC, now 3 jobs in 15 m"),
            (
                jobs,
                quiet._replace(usual=Usual((by_day, None, None))),
                "usually 120 jobs per hour at 10:00 UTC, now 0 for 25 m",
            ),
            (workers, quiet, "usually 8 workers on Mondays at 10:00 UTC, now 2"),
            (jobs, None, None),
            (jobs, quiet._replace(usual=None), None),
            (rule(), quiet, None),
        ],
    )
    assert not failures


def test_the_first_notification_has_these_details() -> None:
    judged = rule(metric="class.activity_ratio", warning=0, op="le", for_s=0, min_samples=1)
    send = Activity(AT, (7200,), (0,), 7800, usual=Usual((UsualJobs(240, 200, True),)))
    activities = Activities({}, {SEND: send})
    evaluator = Evaluator(10.0)
    builder = NotificationBuilder(evaluator.history_recorder, no_errors, activities=lambda: activities)
    context, snapshot = CheckerContext(now=AT, activities=activities, channels=("ops",)), sample([queue()])
    (transition,) = evaluator.evaluate_rules(snapshot, History(), [judged], {}, context)
    (queued,) = builder.build_notifications(transition, History(), snapshot)
    assert queued.notification.detail == "usually 120 jobs per hour on Mondays at 10:00 UTC, now 0 for 2 h 10 m"
