"""The rule about late schedules: each schedule once, nothing while it is unknown how late it is."""

from __future__ import annotations

from dataclasses import replace

from dashboard.alerts.delivery.message import PageLinks, alert_title
from dashboard.alerts.evaluation.state_machine import GONE_S, AlertLabels
from dashboard.alerts.rules.rule import Rule
from dashboard.schedules.schedule_watch import WatchedSchedule, WatchedSchedules
from tests.unit.alerts.factories import queue, rule, sample, source
from tests.unit.alerts.test_evaluator import INTERVAL_S, Harness

NIGHTLY = WatchedSchedule(
    source="main",
    backend="lists",
    queue="mail",
    id="n1",
    title="nightly",
    late_s=400.0,
    is_paused=False,
    detail="due 2026-11-30 03:00:00 UTC, 0 3 * * *",
)
ON_TIME = replace(NIGHTLY, late_s=0.0)
LABELS = AlertLabels(source="main", backend="lists", queue="mail", schedule="n1", title="nightly")


def late_rule(**fields: object) -> Rule:
    at_once = {"for_s": 0, "min_samples": 1, "recover_for_s": 0}
    return rule(id="late", metric="schedule.late_s", warning=300, **{**at_once, **fields})


def kinds(harness: Harness, *readings: WatchedSchedules | None, **given: object) -> list[str]:
    """The kinds of the notifications after these readings, one per evaluation."""
    for read in readings:
        harness.evaluate(sample([queue()]), schedules=read, **given)
    return [kind for _, kind, _ in harness.notified]


def read(*schedules: WatchedSchedule, unread: tuple[tuple[str, str], ...] = ()) -> WatchedSchedules:
    return WatchedSchedules(schedules, frozenset(unread))


def test_each_late_schedule_is_notified_once_until_it_runs() -> None:
    harness = Harness(late_rule())
    other = replace(NIGHTLY, id="n2", late_s=None)
    assert kinds(harness, read(ON_TIME, other), read(NIGHTLY, other), read(replace(NIGHTLY, late_s=500.0))) == [
        "firing"
    ]
    assert {state.labels for state in harness.states.values()} == {LABELS}
    assert kinds(harness, read(ON_TIME, other)) == ["firing", "resolved"]


def test_what_cannot_be_read_neither_fires_nor_resolves_and_what_is_gone_resolves() -> None:
    harness = Harness(late_rule())
    assert kinds(harness, None, read(NIGHTLY)) == ["firing"]
    times = int(GONE_S / INTERVAL_S) + 2
    unread = read(unread=(("main", "lists"),))
    assert kinds(harness, *[None] * times, *[unread] * times, read(replace(NIGHTLY, late_s=None))) == ["firing"]
    down = sample([], [source(reachable=False)])
    harness.evaluate(down, times=times, schedules=read(NIGHTLY))
    assert [kind for _, kind, _ in harness.notified] == ["firing"]
    assert kinds(harness, *[read()] * times) == ["firing", "resolved"]


def test_a_paused_schedule_or_queue_is_not_late() -> None:
    for schedule, mail in ((replace(NIGHTLY, is_paused=True), queue()), (NIGHTLY, queue(paused=True))):
        harness = Harness(late_rule())
        kinds(harness, read(NIGHTLY))
        (transition,) = harness.evaluate(sample([mail]), schedules=read(schedule))
        assert [change.reason for change in transition.changes] == ["paused"]


def test_a_late_schedule_mutes_no_other_one_of_its_queue() -> None:
    labels = AlertLabels(source="main", backend="lists", queue="mail", schedule="n2")
    assert not LABELS.is_compatible(labels)
    assert LABELS.is_compatible(AlertLabels(source="main", backend="lists", queue="mail"))
    assert not LABELS.is_compatible(AlertLabels(source="main", backend="lists", queue="cash"))


def test_a_rule_can_be_about_the_schedules_of_some_queues() -> None:
    harness = Harness(late_rule(queues=["cash*"]))
    assert kinds(harness, read(NIGHTLY, replace(NIGHTLY, id="n2", queue="cash"), replace(NIGHTLY, queue=None))) == [
        "firing"
    ]


def test_a_message_names_the_schedule_and_leads_to_it() -> None:
    assert alert_title("Schedule is late", LABELS) == "Schedule is late: nightly in mail (lists, main)"
    without = AlertLabels(source="main", backend="lists", schedule="n1", title="nightly")
    assert alert_title("Schedule is late", without) == "Schedule is late: nightly of lists on main"
    assert PageLinks("https://q.example").subject_url(LABELS) == "https://q.example/schedules?q=nightly"
    long = AlertLabels(source="main", backend="lists", schedule="n1", title="x" * 99 + "…")
    assert PageLinks("https://q.example").subject_url(long) == f"https://q.example/schedules?q={'x' * 99}"
