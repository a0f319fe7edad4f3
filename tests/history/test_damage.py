"""The history after faults of the store, of clocks and of what others write: each costs its own part, and no more."""

from __future__ import annotations

import random
import struct

import msgspec
import pytest
import redis

from dashboard.errors import Forbidden
from dashboard.history import history_writer, recording
from dashboard.history.columns import QUEUE, SOURCE
from dashboard.history.recording import HistoryRecording
from dashboard.history.series_keys import IDS, SeriesKey, blocks_key
from dashboard.store.redis_store import LEAD, Store
from tests.history.leader import MAIL, START_S, STEP_S, Leader, read
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of

NEW = SeriesKey(QUEUE, "main", "rq", "new")


def record(history: HistoryRecording, start_s: int, end_s: int, *, step_s: int = STEP_S, seed: int = 1) -> None:
    """Record a queue with varied run times, as a checker does."""
    die = random.Random(seed)
    for second in range(start_s, end_s, step_s):
        times = [die.lognormvariate(0, 1) for _ in range(20)]
        flow = flow_of("mail", 20, 1, *times, span_s=step_s)
        snapshot = snapshot_of(second, queue_row("mail", die.randrange(50)))
        assert history.record(msgspec.structs.replace(snapshot, interval_s=float(step_s)), flows_of(flow))


@pytest.fixture
def history(store: Store) -> HistoryRecording:
    """A recording that leads, as a checker has it."""
    store.source.execute("SET", LEAD, "one:1")
    found = HistoryRecording(store, 64 * 2**20)
    assert found.take_over("one:1")
    return found


def test_numbers_that_were_lost_are_stored_again(leader: Leader, store: Store, redis_client: redis.Redis) -> None:
    leader.run(START_S, START_S + 1000)
    redis_client.delete(IDS)
    leader.run(START_S + 1000, START_S + 2000)
    second = Leader(store, "two")
    assert second.writer.id_of(MAIL) == leader.writer.id_of(MAIL)
    rates = read(store, MAIL, "throughput_per_min", START_S, START_S + 1990)
    assert set(rates[:-2]) == {60.0}


def test_a_new_series_never_has_the_past_of_another(leader: Leader, store: Store, redis_client: redis.Redis) -> None:
    leader.run(START_S, START_S + 1000)
    redis_client.delete(IDS)
    second = Leader(store, "two")
    names = ("a", "b", "c", "new")
    for second_s in range(START_S + 1000, START_S + 1100, STEP_S):
        second.sample(second_s, [queue_row(name, 7) for name in names], [])
    for name in names:
        key = SeriesKey(QUEUE, "main", "rq", name)
        assert set(read(store, key, "depth", START_S, START_S + 990)) == {None}
        assert 7 in read(store, key, "depth", START_S, START_S + 1100)


@pytest.mark.parametrize("refused", ["hgetall", "eval"])
def test_a_store_that_fails_while_series_are_numbered_costs_no_history(
    refused: str, leader: Leader, store: Store, redis_client: redis.Redis
) -> None:
    """When a leader begins, and when a queue is new."""
    leader.run(START_S, START_S + 1000)
    assert leader.stop()
    history = HistoryRecording(store, 64 * 2**20)
    redis_client.execute_command("ACL", "SETUSER", "default", f"-{refused}")
    failed = 0
    for step in (
        lambda: history.take_over(leader.lead),
        lambda: history.record(snapshot_of(START_S + 1000, queue_row("new", 3)), {}),
        lambda: history.record(snapshot_of(START_S + 1010, queue_row("new", 3)), {}),
    ):
        try:
            step()
        except Forbidden:
            failed += 1
    assert failed
    redis_client.execute_command("ACL", "SETUSER", "default", f"+{refused}")
    for second in range(START_S + 1020, START_S + 1200, STEP_S):
        assert history.record(snapshot_of(second, queue_row("mail", 3), queue_row("new", 3)), {})
    assert set(read(store, MAIL, "throughput_per_min", START_S, START_S + 990)[:-2]) == {60.0}
    assert read(store, NEW, "depth", START_S + 1100, START_S + 1190)[-2] == 3


def test_a_budget_that_became_too_small_has_room_again(
    history: HistoryRecording, store: Store, redis_client: redis.Redis
) -> None:
    """What is oldest loses detail, so that recording continues."""
    record(history, START_S, START_S + 4 * 3600, step_s=60)
    history = HistoryRecording(store, budget := int(used_bytes(redis_client) * 0.6))
    assert history.take_over("one:1")
    record(history, START_S + 4 * 3600, START_S + 4 * 3600 + 60, step_s=60)
    assert history.problem is not None
    assert "history_max_bytes" in history.problem.message
    record(history, START_S + 4 * 3600 + 60, START_S + 6 * 3600, step_s=60)
    assert used_bytes(redis_client) <= budget
    rates = read(store, MAIL, "throughput_per_min", START_S, START_S + 6 * 3600 - 60)
    newest = [rate for rate in rates[-60:] if rate is not None]
    assert newest == pytest.approx([20.0] * len(newest), rel=0.1)
    assert len(newest) > 30
    assert [rate for rate in rates[:60] if rate is not None] != []


def used_bytes(client: redis.Redis) -> int:
    """The memory that the history takes."""
    return sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter("{queuedeck}:ts:*"))


def test_of_too_many_series_the_totals_and_queues_are_recorded(
    store: Store, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_writer, "MAX_SERIES", 6)
    leader = Leader(store, "one")
    rows = [queue_row(name, 1) for name in ("a", "b", "c", "d", "x" * 1_000_000, "mail")]
    for second in range(START_S, START_S + 100, STEP_S):
        assert leader.sample(second, rows, [])
    assert redis_client.hlen(IDS) == 6
    assert redis_client.memory_usage(IDS) < 10_000
    for key in (SeriesKey(QUEUE), SeriesKey(QUEUE, "main"), SeriesKey(SOURCE), SeriesKey(SOURCE, "main")):
        assert leader.writer.id_of(key)


def test_what_a_smaller_budget_has_no_room_for_is_removed(store: Store, redis_client: redis.Redis) -> None:
    leader = Leader(store, "one")
    for second in range(START_S, START_S + 100, STEP_S):
        leader.sample(second, [queue_row(f"q{number}", 1) for number in range(60)], [])
    assert redis_client.hlen(IDS) == 64
    leader = Leader(store, "one", budget_bytes=30_000)
    for second in range(START_S + 100, START_S + 200, STEP_S):
        leader.sample(second, [queue_row(f"q{number}", 1) for number in range(60)], [])
    assert redis_client.hlen(IDS) == 10
    assert len(list(redis_client.scan_iter("{queuedeck}:ts:*"))) <= 1 + 3 * 10
    depths = read(store, SeriesKey(QUEUE), "depth", START_S, START_S + 180)
    assert depths == [60] * 9 + [None] + [60] * 9  # what the leader had not stored when it was replaced is a gap


def test_a_redis_that_is_nearly_full_is_left_to_the_jobs(
    history: HistoryRecording, store: Store, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MEMORY_CHECK_S", 0.0)
    record(history, START_S, START_S + 100)
    redis_client.config_set("maxmemory", int(redis_client.info("memory")["used_memory"] * 1.05))
    before = {key: redis_client.dump(key) for key in redis_client.scan_iter("{queuedeck}:ts:*")}
    record(history, START_S + 100, START_S + 300)
    assert history.problem is not None
    assert "memory limit" in history.problem.message
    history.stop()
    assert {key: redis_client.dump(key) for key in redis_client.scan_iter("{queuedeck}:ts:*")} == before
    redis_client.config_set("maxmemory", 0)
    assert history.take_over("one:1")
    record(history, START_S + 300, START_S + 400)
    assert history.problem is None
    rates = read(store, MAIL, "throughput_per_min", START_S, START_S + 390)
    assert [rate is None for rate in rates[:-2]] == [False] * 9 + [True] * 21 + [False] * (len(rates) - 32)


def test_numbers_that_no_queue_can_have_cost_that_queue_only(leader: Leader, store: Store) -> None:
    bad = [
        queue_row("new", 10**40, latency_s=float("inf"), dead=-(2**70)),
        queue_row("nan", 2**62, latency_s=float("nan")),
    ]
    flows = [flow_of("new", 2**70, 2**65, float("nan"), -5.0, span_s=STEP_S), flow_of("mail", 10, span_s=STEP_S)]
    for second in range(START_S, START_S + 600, STEP_S):
        assert leader.sample(second, [*bad, queue_row("mail", 1)], flows)
    assert set(read(store, MAIL, "throughput_per_min", START_S, START_S + 580)[2:-2]) == {60.0}
    for figure in ("depth", "latency_s", "throughput_per_min", "dead"):
        assert set(read(store, NEW, figure, START_S, START_S + 580)) <= {None, 0.0}


@pytest.mark.parametrize("hour_s", [3600, -3600])
def test_a_clock_that_is_an_hour_off_for_a_while_hides_no_more_than_that(
    leader: Leader, store: Store, hour_s: int
) -> None:
    leader.run(START_S, START_S + 1800)
    leader.run(START_S + 1800 + hour_s, START_S + 2000 + hour_s)
    leader.run(START_S + 2000, START_S + 3600)
    for length_s in (1800, 2 * 3600, 3 * 86_400):
        rates = read(store, MAIL, "throughput_per_min", START_S + 3590 - length_s, START_S + 3590)
        known = [rate for rate in rates if rate is not None]
        assert known == pytest.approx([60.0] * len(known), rel=0.1)
        assert len(known) >= min(length_s, 3600) / (1800 if length_s > 86_400 else 60) - 8


def test_damaged_heads_of_blocks_cost_what_they_say(leader: Leader, store: Store, redis_client: redis.Redis) -> None:
    """A span of a hundred years, a step of a second: such a block is left out, and replaced in time."""
    leader.run(START_S, START_S + 1500)
    key = blocks_key("10s", leader.writer.id_of(MAIL))
    raw = redis_client.get(key)
    assert raw is not None
    far = 2**32 - 1
    for place, *numbers in ((10, far, far), (10, 1), (14, far), (14, 1), (2, far), (6, far), (20, 2**31)):
        damage = struct.pack(f"<{len(numbers)}I", *numbers)
        redis_client.set(key, raw[:place] + damage + raw[place + len(damage) :], px=10_000_000)
        for length_s in (1500, 3 * 3600):
            rates = read(store, MAIL, "throughput_per_min", START_S + 1490 - length_s, START_S + 1490)
            assert {rate for rate in rates if rate is not None} <= {0.0, 60.0}
    leader.run(START_S + 1500, START_S + 3000)
    assert set(read(store, MAIL, "throughput_per_min", START_S + 2000, START_S + 2990)[:-2]) == {60.0}
