"""Objectives counted from a history of known ratio in a real Redis, by one leader after another."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis
from msgspec.structs import replace

from dashboard.history.columns import QUEUE, SOURCE
from dashboard.history.recording import HistoryRecording
from dashboard.history.series_keys import IDS, SeriesKey, pack_key
from dashboard.history.tiers import HOUR_S
from dashboard.settings import SloSettings
from dashboard.slos import slo_watch
from dashboard.slos.slo_report import SloStatus
from dashboard.slos.slo_store import SLOS, SloReader, SloStore
from dashboard.slos.slo_watch import SloWatch
from dashboard.store.redis_store import LEAD, Store
from tests.history.leader import BUDGET_BYTES
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of

START_S = 1_700_000_100
SAMPLE_S = 60
MAIL = SloSettings(id="mail", queues=("mail",), target=0.99, waited_within_s=60)
RUNS = SloSettings(id="runs", queues=("ma*", "video"), target=0.9, ran_within_s=5)
SUCCEEDS = SloSettings(id="succeeds", target=0.95, succeeded=True)
WAITS_OF_VIDEO = SloSettings(id="video", queues=("video",), target=0.9, waited_within_s=60)
ALL = (MAIL, RUNS, SUCCEEDS, WAITS_OF_VIDEO)


class SloLeader:
    """A leader that counts objectives; its samples are SAMPLE_S apart, by a clock of their own."""

    def __init__(self, store: Store, name: str, slos: Sequence[SloSettings] = ALL) -> None:
        self.lead = f"{name}:1"
        store.source.execute("SET", LEAD, self.lead, "PX", 10_000_000)
        self.watch = SloWatch(slos, store)
        self.recording = HistoryRecording(store, BUDGET_BYTES, self.watch)
        self.recording.take_over(self.lead)

    def run(self, start_s: int, end_s: int, *, late: int = 0, slow: int = 0, failed: int = 0) -> None:
        """In each sample ten jobs of `mail` and ten of `video`. Of mail, so many waited five minutes, ran 20 s, failed;
        the library of video does not say how long jobs waited."""
        for second in range(start_s, end_s, SAMPLE_S):
            runtimes = [20.0] * slow + [1.0] * (10 - slow)
            mail = flow_of("mail", 10, failed, *runtimes, span_s=SAMPLE_S)
            mail = replace(mail, waits_s=(300.0,) * late + (2.0,) * (10 - late))
            video = flow_of("video", 10, 0, *[1.0] * 10, span_s=SAMPLE_S)
            sample = replace(snapshot_of(second, queue_row("mail"), queue_row("video")), interval_s=SAMPLE_S)
            assert self.recording.record(sample, flows_of(mail, video))

    def status(self, slo: SloSettings) -> SloStatus:
        return next(status for status in self.watch.statuses if status.slo == slo)


def test_what_is_counted_is_what_happened(store: Store) -> None:
    """An hour in which one of ten jobs was bad in each respect, after nine good ones."""
    leader = SloLeader(store, "one")
    begin_s, end_s = START_S, START_S + 10 * HOUR_S
    leader.run(begin_s, end_s - HOUR_S)
    leader.run(end_s - HOUR_S, end_s + SAMPLE_S, late=1, slow=1, failed=1)
    mail, runs, succeeds = (leader.status(slo) for slo in (MAIL, RUNS, SUCCEEDS))
    assert mail.counts is not None
    assert mail.counts.total == pytest.approx(10 * 10 * HOUR_S / SAMPLE_S, rel=0.01)
    assert mail.good_ratio == pytest.approx(0.99, abs=0.0005)
    assert (runs.good_ratio, succeeds.good_ratio) == (pytest.approx(0.995, abs=0.0005),) * 2
    assert (mail.burn_rate("1h"), mail.burn_rate("5m")) == (pytest.approx(10, rel=0.03), pytest.approx(10, rel=0.01))
    assert mail.burn_rate("6h") == pytest.approx(10 / 6, rel=0.05)
    assert succeeds.burn_rate("1h") == pytest.approx(1, rel=0.03)
    assert leader.status(WAITS_OF_VIDEO).is_unknown
    assert leader.status(WAITS_OF_VIDEO).burn_rate("1h") is None


def test_the_next_leader_counts_the_same_and_nothing_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, middle_s = SloLeader(store, "one"), START_S + 5 * HOUR_S + 500
    first.run(START_S, middle_s, late=1)
    first.recording.stop()
    before = first.status(MAIL)
    monkeypatch.setattr(slo_watch, "READ_FOR_S", -1.0)  # it reads no queue at once, one in each sample
    second = SloLeader(store, "two")
    # The past is read after new jobs were stored in the same quarter of an hour.
    second.run(middle_s, middle_s + 3 * SAMPLE_S)
    assert second.status(MAIL).report is None
    monkeypatch.setattr(slo_watch, "READ_FOR_S", 60.0)
    second.run(middle_s + 3 * SAMPLE_S, middle_s + 2000)
    after = second.status(MAIL)
    assert before.counts is not None
    assert after.counts is not None
    lasted_s = middle_s + 2000 - START_S
    assert after.counts.total == pytest.approx(10 * lasted_s / SAMPLE_S, abs=10 * 120 / SAMPLE_S)
    assert after.counts.bad == pytest.approx(before.counts.bad, abs=2 * 60 / SAMPLE_S)
    late_in_hour_s = HOUR_S - 2000
    assert after.burn_rate("1h") == pytest.approx(10 * late_in_hour_s / HOUR_S, rel=0.1)
    assert (after.burn_rate("30m"), after.burn_rate("5m")) == (0, 0)


def test_reports_are_published_by_the_leader_only_and_read_by_any_process(
    store: Store, redis_client: redis.Redis
) -> None:
    leader = SloLeader(store, "one")
    leader.run(START_S, START_S + 600, late=1)
    reader = SloReader(ALL, store)
    read = reader.list_statuses()
    assert read == leader.watch.statuses
    assert 0 < redis_client.pttl(SLOS) <= 86_400_000
    # The same id with another target: not its figures.
    other = SloReader([replace(MAIL, target=0.5), replace(RUNS, name="Fast")], store).list_statuses()
    assert [status.report is None for status in other] == [True, False]
    redis_client.set(LEAD, "two:1")
    assert not SloStore(store).publish(leader.lead, [])
    assert len(SloStore(store).read_reports()) == len(ALL)
    for raw in (b"no reports", b"\x80", b"\x81\xa7reports\x01"):
        redis_client.set(SLOS, raw)
        assert SloStore(store).read_reports() == ()


def test_a_history_that_lost_its_keys_costs_what_was_in_them(store: Store, redis_client: redis.Redis) -> None:
    first = SloLeader(store, "one")
    first.run(START_S, START_S + 2 * HOUR_S, late=1)
    first.recording.stop()
    redis_client.hdel(IDS, pack_key(SeriesKey(SOURCE, "main")))
    second = SloLeader(store, "two")
    second.run(START_S + 2 * HOUR_S, START_S + 2 * HOUR_S + 600)
    counts = second.status(MAIL).counts
    assert counts is not None
    assert (counts.total, counts.bad) == (pytest.approx(100, abs=20), 0)
    redis_client.delete(*redis_client.scan_iter("{queuedeck}:ts:*"))
    third = SloLeader(store, "three")
    third.run(START_S + 3 * HOUR_S, START_S + 3 * HOUR_S + 600)
    assert third.status(MAIL).good_ratio == 1


def test_reading_the_past_costs_four_round_trips_for_each_queue(store: Store, redis_client: redis.Redis) -> None:
    first = SloLeader(store, "one")
    first.run(START_S, START_S + HOUR_S)
    first.recording.stop()
    second = SloWatch(ALL, store)
    second.begin([SeriesKey(QUEUE, "main", "rq", name) for name in ("mail", "video", "")])
    second.add_slots([], START_S + HOUR_S)
    before = redis_client.info("commandstats")
    second.refresh("one:1", START_S + HOUR_S)
    after = redis_client.info("commandstats")
    calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert (calls["cmdstat_hmget"], calls["cmdstat_set"]) == (4, 1)
    assert calls["cmdstat_mget"] <= 4 * 4
