"""The history in a real Redis: written by one leader, read by any process."""

from __future__ import annotations

import pytest
import redis
from msgspec.structs import replace

from dashboard.history.columns import CLASS, QUEUE, SOURCE
from dashboard.history.history_reader import HistoryReader, choose_range
from dashboard.history.history_writer import LEAST_SERIES_BYTES
from dashboard.history.recording import HistoryRecording
from dashboard.history.series_keys import IDS, SeriesKey, tail_key
from dashboard.history.slots import figure_values
from dashboard.model import ClassFlow, Quality
from dashboard.store.redis_store import Store
from tests.history.leader import BUDGET_BYTES, CASH, MAIL, START_S, Leader, read
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of


def test_what_was_recorded_is_read_at_each_resolution(leader: Leader, store: Store) -> None:
    end_s = START_S + 3 * 3600
    assert leader.run(START_S, end_s)
    for length_s, step_s in ((1800, 10), (3 * 3600, 60), (10 * 86_400, 3600)):
        wanted = choose_range(QUEUE, end_s - length_s, end_s, end_s)
        assert wanted.step_s == step_s
        rates = read(store, MAIL, "throughput_per_min", end_s - length_s, end_s)
        known = [rate for rate in rates if rate is not None]
        assert len(known) * step_s == pytest.approx(min(length_s, 3 * 3600), abs=2 * step_s)
        assert known == pytest.approx([60.0] * len(known), rel=0.02)
        assert set(read(store, CASH, "depth", end_s - length_s, end_s)) <= {1, None}
        slowest_s = read(store, MAIL, "runtime_p95_s", end_s - length_s, end_s)
        assert [time_s for time_s in slowest_s if time_s is not None] == pytest.approx([0.5] * len(known), rel=0.05)
    assert set(read(store, SeriesKey(QUEUE), "depth", end_s - 600, end_s)) == {5, 6, 7, None}


def test_reading_writes_nothing_and_takes_two_round_trips(
    leader: Leader, store: Store, redis_client: redis.Redis
) -> None:
    leader.run(START_S, START_S + 3600)
    before = redis_client.info("commandstats")
    read(store, MAIL, "depth", START_S, START_S + 3600)
    after = redis_client.info("commandstats")
    changed = {name for name in after if after[name]["calls"] != before.get(name, {"calls": 0})["calls"]}
    assert changed - {"cmdstat_info"} == {"cmdstat_hmget", "cmdstat_mget"}


def test_a_second_leader_continues_and_doubles_nothing(store: Store) -> None:
    first = Leader(store, "one")
    first.run(START_S, START_S + 1000)
    assert first.stop()
    second = Leader(store, "two")
    second.run(START_S + 1000, START_S + 2000)
    assert second.stop()
    rates = read(store, MAIL, "throughput_per_min", START_S, START_S + 1990)
    assert {rate for rate in rates if rate is not None} == {60.0}
    assert len([rate for rate in rates if rate is not None]) >= 198


def test_a_leader_that_was_replaced_writes_nothing(store: Store, redis_client: redis.Redis) -> None:
    first = Leader(store, "one")
    first.run(START_S, START_S + 100)
    Leader(store, "two")
    before = {key: redis_client.dump(key) for key in redis_client.scan_iter("{queuedeck}:ts:*")}
    assert not first.run(START_S + 100, START_S + 1900)
    assert not first.stop()
    assert {key: redis_client.dump(key) for key in redis_client.scan_iter("{queuedeck}:ts:*")} == before


def test_an_emptied_store_costs_what_was_in_it_and_no_more(
    leader: Leader, store: Store, redis_client: redis.Redis
) -> None:
    leader.run(START_S, START_S + 1000)
    redis_client.delete(*redis_client.scan_iter("{queuedeck}:ts:*"))
    leader.run(START_S + 1000, START_S + 2000)
    rates = read(store, MAIL, "throughput_per_min", START_S, START_S + 1990)
    assert set(rates[:99]) == {None}
    assert set(rates[99:-2]) == {60.0}


def test_values_of_others_are_neither_read_nor_a_reason_to_stop(
    leader: Leader, store: Store, redis_client: redis.Redis
) -> None:
    leader.run(START_S, START_S + 1000)
    keys = [key for key in redis_client.scan_iter("{queuedeck}:ts:*") if key != IDS.encode()]
    for number, key in enumerate(keys):
        left = redis_client.pttl(key)
        redis_client.delete(key)
        if number % 2:
            redis_client.set(key, b"\xff\x00 of a later version" * 100, px=left)
        else:
            redis_client.rpush(key, "not a string")
    assert leader.run(START_S + 1000, START_S + 2000)
    rates = read(store, MAIL, "throughput_per_min", START_S, START_S + 1990)
    assert 60.0 in rates[-20:]
    redis_client.hset(
        IDS, mapping={b"\xff": b"x", b"\x93\x01": b"1 2", b"\x95\x01\xc4\x00\xc4\x00\xc4\x00\x01": b"9 9"}
    )
    leader.writer.load_series()
    assert leader.run(START_S + 2000, START_S + 2100)


def test_old_records_are_dropped(leader: Leader, redis_client: redis.Redis) -> None:
    leader.run(START_S, START_S + 3600)
    hour = redis_client.memory_usage("{queuedeck}:ts:10s:2") or 0
    leader.run(START_S + 3600, START_S + 4 * 3600)
    assert (redis_client.memory_usage("{queuedeck}:ts:10s:2") or 0) < 2 * hour
    assert redis_client.pttl("{queuedeck}:ts:10s:2") > 3600 * 1000


def test_idle_queues_write_nothing(leader: Leader, redis_client: redis.Redis) -> None:
    leader.run(START_S, START_S + 1000)
    series_id = leader.writer.id_of(CASH)
    tails = [tail_key(tier, series_id) for tier in ("10s", "1m", "15m")]
    before = [redis_client.get(tail) for tail in tails]
    leader.run(START_S + 1000, START_S + 3000)
    assert [redis_client.get(tail) for tail in tails] == before


def test_sources_are_read_by_the_same_way(leader: Leader, store: Store) -> None:
    leader.run(START_S, START_S + 600)
    wanted = choose_range(SOURCE, START_S, START_S + 600, START_S + 600)
    key = SeriesKey(SOURCE, "main")
    slots = HistoryReader(store).read_slots([key], wanted, START_S + 600)[key]
    assert [slot.sampled_ms for slot in slots[1:-2]] == [10_000] * (len(slots) - 3)


def test_the_values_of_idle_series_are_kept(leader: Leader, redis_client: redis.Redis) -> None:
    leader.run(START_S, START_S + 100)
    keys = [key for key in redis_client.scan_iter("{queuedeck}:ts:*") if redis_client.pttl(key) > 0]
    for key in keys:
        redis_client.pexpire(key, 60_000)
    leader.writer.visit_series(leader.lead, START_S + 100, leader.recorder.is_sampled)
    for hour in range(1, 9):
        leader.writer.visit_series(leader.lead, START_S + 100 + hour * 3600, leader.recorder.is_sampled)
    assert min(redis_client.pttl(key) for key in keys) > 3600 * 1000


def test_series_that_are_gone_are_forgotten_once_their_values_expired(
    leader: Leader, redis_client: redis.Redis
) -> None:
    leader.run(START_S, START_S + 100)
    known = redis_client.hlen(IDS)
    for hour in range(1, 9):
        leader.writer.visit_series(leader.lead, START_S + hour * 3600, lambda _: False)
    assert redis_client.hlen(IDS) == known
    redis_client.delete(*[key for key in redis_client.scan_iter("{queuedeck}:ts:*") if key != IDS.encode()])
    for hour in range(9, 60):
        leader.writer.visit_series(leader.lead, START_S + hour * 3600, lambda _: False)
    assert redis_client.hlen(IDS) == 0


def test_run_times_are_compared_with_those_of_the_last_days(store: Store) -> None:
    leader, now_s = Leader(store, "one"), START_S + 5 * 3600
    for second in range(START_S, now_s, 60):
        sample = replace(snapshot_of(second, queue_row("mail", 1)), interval_s=60.0)
        flow = flow_of("mail", 20, 0, *([2.0] * 20), span_s=60.0)
        assert leader.writer.append_slots(leader.lead, leader.recorder.add_sample(sample, flows_of(flow)))
    assert leader.stop()
    recording = HistoryRecording(store, BUDGET_BYTES)
    recording.take_over(leader.lead)
    for second in range(now_s, now_s + 300, 10):
        flow = flow_of("mail", 5, 0, *([6.0] * 5), span_s=10.0)
        assert recording.record(snapshot_of(second, queue_row("mail", 1)), flows_of(flow))
    found = recording.run_times
    assert set(found) == {MAIL}, "sums over queues say nothing"
    assert found[MAIL].p95_s == pytest.approx(6.0, rel=0.06)
    assert found[MAIL].usual_p95_s == pytest.approx(2.0, rel=0.06)
    assert 100 <= found[MAIL].jobs <= 150


def class_key(job_class: str) -> SeriesKey:
    return SeriesKey(CLASS, "main", "rq", "mail", job_class)


def run_classes(leader: Leader, start_s: int, end_s: int, *names: str) -> None:
    """Samples that are 30 s apart, with three jobs of each class."""
    for second in range(start_s, end_s, 30):
        classes = tuple(ClassFlow(job_class=name, completed=2, dead=1, runtimes_s=(0.5,)) for name in names)
        jobs = flow_of("mail", 3 * len(names), len(names), span_s=30)
        flow = replace(jobs, classes=classes, classes_quality=Quality.EXACT)
        closed = leader.recorder.add_sample(snapshot_of(second, queue_row("mail")), flows_of(flow))
        assert leader.writer.append_slots(leader.lead, closed)
        leader.writer.visit_series(leader.lead, second, leader.recorder.is_sampled)


def test_classes_are_recorded_by_name_across_leaders(
    leader: Leader, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.history.class_counts.MOST_OF_QUEUE", 3)
    start_s, change_s, end_s = START_S - START_S % 7200, START_S - START_S % 7200 + 4000, START_S + 2 * 7200
    end_s -= end_s % 7200
    run_classes(leader, start_s, change_s, "a", "b\udcff")
    assert leader.stop()
    second = Leader(store, "two")
    # The second leader knows the names of the first: one more class has a place, and the next one has not.
    run_classes(second, change_s, end_s, "d", "e", "a")
    assert second.stop()
    ran = change_s - start_s
    for name, finished_s in {"a": end_s - start_s, "b\udcff": ran, "d": end_s - change_s, "e": None}.items():
        for length_s in (end_s - start_s, 20 * 86_400):
            slots = HistoryReader(store).read_slots(
                [class_key(name)], choose_range(CLASS, end_s - length_s, end_s, end_s), end_s
            )[class_key(name)]
            finished = [slot.cells[CLASS.index_of("finished")] for slot in slots if slot.cells is not None]
            jobs = sum(cell for cell in finished if isinstance(cell, int))
            assert jobs == (0 if finished_s is None else pytest.approx(finished_s / 10, abs=6))
    wanted = choose_range(CLASS, change_s + 900, end_s, end_s)
    slots = HistoryReader(store).read_slots([class_key("b\udcff")], wanted, end_s)[class_key("b\udcff")]
    assert set(figure_values(CLASS, "throughput_per_min", slots)) <= {0, None}
    assert 0 in figure_values(CLASS, "throughput_per_min", slots)


def test_a_process_that_takes_over_knows_the_stored_classes(leader: Leader, store: Store) -> None:
    run_classes(leader, START_S, START_S + 120, "a")
    assert leader.stop()
    recording = HistoryRecording(store, BUDGET_BYTES)
    assert recording.take_over(leader.lead)
    assert recording.record(snapshot_of(START_S + 200, queue_row("mail")), flows_of(flow_of("mail")))
    assert recording._recorder.is_sampled(class_key("a"))
    assert recording.record(snapshot_of(START_S + 202), {})  # the queue is gone
    assert not recording._recorder.is_sampled(class_key("a"))


def test_classes_leave_room_for_queues(store: Store) -> None:
    leader = Leader(store, "one", budget_bytes=10 * LEAST_SERIES_BYTES)
    run_classes(leader, START_S, START_S + 1000, *(f"job {number}" for number in range(20)))
    rows = [queue_row(name) for name in ("mail", "new")]
    leader.writer.append_slots(leader.lead, leader.recorder.add_sample(snapshot_of(START_S + 1000, *rows), {}))
    assert leader.stop()
    stored = leader.writer.stored_keys()
    assert len(stored) <= 10
    assert SeriesKey(QUEUE, "main", "rq", "new") in stored
    assert sum(key.kind is CLASS for key in stored) == 7 - 5  # three quarters, less the queue, the source and sums
