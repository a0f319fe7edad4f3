"""Compliance, error budget and burn rates of jobs whose true figures are known, and their words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from dashboard.history.columns import QUEUE, Record
from dashboard.history.histogram import add_durations
from dashboard.history.series_keys import SeriesKey
from dashboard.settings import SloSettings
from dashboard.slos.slo_report import QueueName, SloStatus, digest_of
from dashboard.slos.slo_tracker import SloTracker
from dashboard.slos.wording import describe_budget, describe_burn, describe_scope, explain_goal, format_good

NOW_S = 1_700_000_100 // 60 * 60
MAIL = SeriesKey(QUEUE, "main", "rq", "mail")
SLO = SloSettings(id="mail", queues=("mail*",), target=0.99, waited_within_s=60)


def record(start_s: int, good: int, bad: int, **known: Any) -> Record:
    waits: dict[int, int] = {}
    add_durations(waits, [1.0], good)
    add_durations(waits, [600.0], bad)
    known = {"quality": 2, "finished": good + bad, "failed": bad, "waits": waits or None} | known
    return Record(start_s, tuple(known.get(name) for name in QUEUE.names))


def status_of(slo: SloSettings, **bad_of_100: int) -> SloStatus:
    """An objective of which so many of a hundred jobs a minute were bad until so many minutes ago, in their order."""
    tracker = SloTracker(slo)
    for minute, bad in ((int(name[1:]), bad) for name, bad in bad_of_100.items()):
        tracker.add_minute(MAIL, record(NOW_S - minute * 60, 100 - bad, bad))
    return SloStatus(slo, tracker.report(NOW_S))


def test_burn_rates_are_those_of_their_windows() -> None:
    tracker = SloTracker(SLO)
    for minute in range(1, 3 * 24 * 60):
        bad = 30 if minute <= 5 else 3 if minute <= 360 else 0
        tracker.add_minute(MAIL, record(NOW_S - minute * 60, 100 - bad, bad))
    status = SloStatus(SLO, tracker.report(NOW_S))
    assert status.burn_rate("5m") == pytest.approx(30)
    assert status.burn_rate("30m") == pytest.approx((5 * 30 + 25 * 3) / 30)
    assert status.burn_rate("1h") == pytest.approx((5 * 30 + 55 * 3) / 60)
    assert status.burn_rate("6h") == pytest.approx((5 * 30 + 355 * 3) / 360, rel=0.05)  # whole quarters of an hour
    minutes = 3 * 24 * 60 - 1
    assert status.burn_rate("3d") == pytest.approx((5 * 30 + 355 * 3) / minutes)
    bad = 5 * 30 + 355 * 3
    assert status.good_ratio == pytest.approx(1 - bad / (minutes * 100))
    assert status.budget_left_ratio == pytest.approx(1 - bad / minutes)
    assert status.budget_left_jobs == pytest.approx(minutes - bad)
    assert status.used_up_in_s("1h") == pytest.approx((1 - bad / minutes) * 30 * 86_400 / 5.25)
    assert status.used_up_in_s("3d") is None
    assert describe_burn(status, "1h") == (
        "99% within 60 s: at this rate the error budget of 30 d is used up in 4 d; 72% left"
    )


def test_a_budget_that_is_used_up_says_so() -> None:
    status = status_of(SLO, m1=3)
    assert (status.budget_left_ratio, status.used_up_in_s("1h")) == (pytest.approx(-2), 0)
    assert (describe_budget(status), format_good(status.good_ratio, SLO.target)) == ("used up 3 times", "97.00%")
    assert describe_burn(status, "1h") == "99% within 60 s: the error budget of 30 d is used up 3 times"


def test_queues_that_are_long_gone_are_neither_counted_nor_unknown() -> None:
    tracker = SloTracker(SLO)
    tracker.add_minute(MAIL, record(NOW_S - 60, 100, 0))
    tracker.add_minute(MAIL._replace(name="mail-2"), record(NOW_S - 60, 100, 0, waits=None))
    found = tracker.report(NOW_S)
    assert (found.counted_queues, found.unknown_count) == (1, 1)
    later = tracker.report(NOW_S + int(SLO.window_s) + 3600)
    assert (later.counted_queues, later.unknown_count) == (0, 0)


def test_what_is_older_than_the_window_does_not_count() -> None:
    slo = replace(SLO, window_s=86_400.0)
    tracker = SloTracker(slo)
    tracker.add_minute(MAIL, record(NOW_S - 86_400 - 1800, 0, 100))
    tracker.add_minute(MAIL, record(NOW_S - 3600 * 20, 100, 0))
    status = SloStatus(slo, tracker.report(NOW_S))
    assert status.good_ratio == 1
    assert status.burn_rate("3d") == pytest.approx(50)


def test_queues_that_report_nothing_are_unknown_and_never_good() -> None:
    celery, shared = SeriesKey(QUEUE, "main", "celery", "mail"), MAIL._replace(backend="sidekiq", name="*")
    slo = SloSettings(id="all", target=0.99, waited_within_s=60)
    tracker = SloTracker(slo)
    tracker.add_minute(celery, record(NOW_S - 60, 5, 0, waits=None))
    unknown = SloStatus(slo, tracker.report(NOW_S))
    assert unknown.is_unknown
    assert (unknown.good_ratio, unknown.budget_left_ratio, unknown.burn_rate("1h")) == (None, None, None)
    # The jobs of a library that counts all queues together are in the row for all queues.
    tracker.add_minute(shared, record(NOW_S - 60, 5, 5))
    tracker.add_minute(shared._replace(name="low"), record(NOW_S - 60, 0, 0, quality=0, finished=None))
    known = SloStatus(slo, tracker.report(NOW_S))
    assert (known.good_ratio, known.is_unknown) == (0.5, False)
    assert known.report is not None
    assert known.report.unknown == (QueueName(source="main", backend="celery", name="mail"),)


def test_without_jobs_nothing_burns_and_nothing_is_known() -> None:
    status = SloStatus(SLO, SloTracker(SLO).report(NOW_S))
    assert (status.burn_rate("1h"), status.good_ratio, status.is_unknown) == (0, None, False)
    assert SloStatus(SLO).burn_rate("1h") is None


def test_a_name_changes_nothing_of_what_is_counted() -> None:
    assert digest_of(SLO) == digest_of(replace(SLO, name="Mail on time")) != digest_of(replace(SLO, target=0.999))


def test_an_objective_in_words() -> None:
    assert explain_goal(SLO) == "99% of jobs start within 60 s, over 30 d"
    runs = SloSettings(id="x", target=0.9995, ran_within_s=600, queues_not=("test*",), backend="rq", source="eu-*")
    assert explain_goal(runs) == "99.95% of jobs run for at most 10 m, over 30 d"
    assert describe_scope(runs) == "all queues, not test*, library rq, source eu-*"
    for ratio, target, text in (
        (0.98739, 0.99, "98.73%"),
        (0.99999, 0.99, "99.99%"),
        (1, 0.9, "100%"),
        (None, 0.9, "–"),
        (0.999949, 0.9995, "99.9949%"),
        (0, 0.5, "0.0%"),
    ):
        assert format_good(ratio, target) == text
