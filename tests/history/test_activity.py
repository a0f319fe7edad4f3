"""Unusual quiet, found from weeks that are stored in a real Redis, by the leader that records and by the next one."""

from __future__ import annotations

import contextlib

import pytest
import redis
from msgspec.structs import replace

from dashboard.alerts.rules.activity_figures import compare_activity
from dashboard.alerts.rules.figures import NOT_USUAL
from dashboard.errors import BackendUnavailable
from dashboard.history.activity.activities import Activity
from dashboard.history.columns import CLASS
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recording import HistoryRecording
from dashboard.history.series_keys import SeriesKey
from dashboard.history.tiers import DAY_S, HOUR_S
from dashboard.model import ClassFlow
from dashboard.store.redis_store import LEAD, Store
from tests.history.leader import BUDGET_BYTES
from tests.history.weeks import MAIL, write_weeks
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of

NOW_S = 1_689_588_000  # Monday, 2023-07-17 10:00 UTC
SEND = SeriesKey(CLASS, "main", "rq", "mail", "send")
LEAST = 20


def start_leader(store: Store, lead: str) -> HistoryRecording:
    store.source.execute("SET", LEAD, lead, "PX", 10_000_000)
    recording = HistoryRecording(store, BUDGET_BYTES)
    recording.take_over(lead)
    return recording


def run(recording: HistoryRecording, start_s: int, end_s: int, jobs: int, step_s: int = 30) -> None:
    """Samples from `start_s` until before `end_s`, each with so many jobs of one class."""
    for at in range(start_s, end_s, step_s):
        done = ClassFlow(job_class="send", completed=jobs, dead=0)
        flow = replace(flow_of("mail", jobs, span_s=step_s), classes=(done,) if jobs else ())
        assert recording.record(replace(snapshot_of(at, queue_row("mail")), interval_s=float(step_s)), flows_of(flow))


def found(recording: HistoryRecording) -> Activity:
    return recording.activities.queues[MAIL]


def test_a_queue_and_a_class_are_compared_with_the_last_weeks(store: Store) -> None:
    write_weeks(store, "one:1", NOW_S, lambda _: 30)
    recording = start_leader(store, "one:1")
    run(recording, NOW_S, NOW_S + 1020, 1)
    assert compare_activity(found(recording), LEAST) == 1
    run(recording, NOW_S + 1020, NOW_S + 2580, 0)
    mail = found(recording)
    assert compare_activity(mail, LEAST) == 0
    assert (mail.recent[0], mail.quiet_at_least) == (0, False)
    assert mail.quiet_s == pytest.approx(1520, abs=40)
    assert mail.idle_s == mail.quiet_s
    assert mail.usual is not None
    assert [usual and usual[:] for usual in mail.usual.jobs] == [(n, n, True) for n in (30, 120, 240)]
    assert mail.usual.workers == (4, 4, True)
    send = recording.activities.classes[SEND]
    assert send.usual is not None
    assert send.usual.jobs == ((240, 240, True),)
    (recent,) = send.recent
    assert recent is not None, "what the leader before it stored counts, too"
    run(recording, NOW_S + 2580, NOW_S + 4 * HOUR_S, 0, step_s=60)
    assert compare_activity(recording.activities.classes[SEND], LEAST) == 0
    assert not any(key.job_class for key in recording.activities.queues)


def test_the_next_leader_continues_and_a_gap_makes_it_unknown(store: Store) -> None:
    write_weeks(store, "one:1", NOW_S, lambda ago_s: 30 if ago_s > 3 * HOUR_S else 0)
    recording = start_leader(store, "two:2")
    run(recording, NOW_S + 10, NOW_S + 150, 0)
    mail = found(recording)
    assert compare_activity(mail, LEAST) == 0, "known from the first minutes on"
    assert mail.quiet_at_least
    assert mail.idle_s == pytest.approx(3 * HOUR_S + 120, abs=60)
    run(recording, NOW_S + 600, NOW_S + 1500, 0)
    assert compare_activity(found(recording), LEAST) is None, "not watched for 15 minutes"
    assert found(recording).quiet_s == pytest.approx(880, abs=60)
    run(recording, NOW_S + 1500, NOW_S + 1680, 0)
    assert compare_activity(found(recording), LEAST) == 0


def test_a_new_store_and_one_that_was_emptied_compare_nothing(store: Store, redis_client: redis.Redis) -> None:
    recording = start_leader(store, "one:1")
    run(recording, NOW_S, NOW_S + 1200, 0)
    assert compare_activity(found(recording), LEAST) is NOT_USUAL
    assert found(recording).quiet_at_least
    redis_client.flushall()
    write_weeks(store, "two:2", NOW_S, lambda _: 30)
    recording = start_leader(store, "two:2")
    run(recording, NOW_S, NOW_S + 1200, 0)
    assert compare_activity(found(recording), LEAST) == 0
    redis_client.delete(*redis_client.scan_iter("{queuedeck}:ts:*"))
    run(recording, NOW_S + 1200, NOW_S + 1500, 0)
    assert compare_activity(found(recording), LEAST) == 0, "what was read holds for some hours"
    run(recording, NOW_S + 1500, NOW_S + 5 * HOUR_S, 0, step_s=60)
    assert compare_activity(found(recording), LEAST) is NOT_USUAL


def test_hours_that_are_usually_quiet_and_gaps_in_the_past(store: Store) -> None:
    def per_quarter(ago_s: int) -> int | None:
        week, rest_s = divmod(ago_s + HOUR_S, 7 * DAY_S)
        return None if week in (1, 3) else 0 if rest_s < 2 * HOUR_S else 30

    write_weeks(store, "one:1", NOW_S, per_quarter)
    recording = start_leader(store, "one:1")
    run(recording, NOW_S, NOW_S + 1200, 0)
    assert compare_activity(found(recording), LEAST) == 1, "as quiet at this hour as two weeks and four weeks ago"
    run(recording, NOW_S + 1200, NOW_S + 2 * HOUR_S, 0, step_s=60)
    assert compare_activity(found(recording), LEAST) == 0


def test_jobs_are_compared_also_while_nothing_can_be_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> bool:
        raise BackendUnavailable("out of memory", source="own", reason="oom")

    write_weeks(store, "one:1", NOW_S, lambda _: 30)
    recording = start_leader(store, "one:1")
    run(recording, NOW_S, NOW_S + 1200, 0)
    assert compare_activity(found(recording), LEAST) == 0
    monkeypatch.setattr(HistoryWriter, "append_slots", fail)
    for at in range(NOW_S + 1200, NOW_S + 1320, 30):
        with contextlib.suppress(BackendUnavailable):
            run(recording, at, at + 30, 15)
    assert compare_activity(found(recording), LEAST) == 1.5


def test_a_queue_that_is_gone_is_forgotten(store: Store) -> None:
    recording = start_leader(store, "one:1")
    run(recording, NOW_S, NOW_S + 120, 1)
    assert set(recording.activities.queues) == {MAIL}
    assert set(recording.activities.classes) == {SEND}
    for at in range(NOW_S + 120, NOW_S + 240, 20):
        assert recording.record(snapshot_of(at), {})
    assert recording.activities == ({}, {})
