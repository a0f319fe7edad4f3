"""Queues as of a moment, in a real Redis: figures that are known, gaps, and queues that come and go."""

from __future__ import annotations

import redis

from dashboard.history.columns import QUEUE
from dashboard.history.past.past_reader import QUEUES_AT_ONCE, KnownNow, PastReader
from dashboard.history.series_keys import IDS, SeriesKey, pack_key
from dashboard.model import QueueStats, RedisHealth
from dashboard.store.redis_store import Store
from tests.history.leader import STEP_S, Leader
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of

START_S = 1_700_000_100 // 900 * 900
MINUTE_S = 60
LATE = "<b>late\udcff"
KNOWN = KnownNow({"main": "redis://h", "other": "redis://o"}, {("main", "rq")}, {})


def record(leader: Leader, first: int, end: int, depth: int, *names: str, failed: int = 0) -> None:
    """Samples of queues, from one minute until before another: ten jobs finish in each sample, `failed` of them
    fail."""
    for second in range(START_S + first * MINUTE_S, START_S + end * MINUTE_S, STEP_S):
        rows = [queue_row(name, depth, dead=2, latency_s=1.5) for name in names]
        flows = [flow_of(name, 10, failed, *([0.5] * 10), span_s=STEP_S) for name in names]
        snapshot = snapshot_of(second, *rows, health=RedisHealth(used_memory_bytes=depth * 1000, maxmemory_bytes=10**6))
        closed = leader.recorder.add_sample(snapshot, flows_of(*flows))
        assert leader.writer.append_slots(leader.lead, closed)


def queues_at(store: Store, minute: float, *, later_s: float = 300) -> dict[str, QueueStats]:
    at_s = START_S + minute * MINUTE_S
    view = PastReader(store).read_view(at_s, at_s + later_s, KNOWN)
    return {queue.name: queue for queue in view.snapshot.queues}


def test_figures_are_those_of_the_moment(leader: Leader, store: Store) -> None:
    record(leader, 0, 20, 4, "mail", "gone")
    record(leader, 20, 30, 40, "mail", failed=5)
    # From minute 30 to 40 nothing is recorded: no checker runs.
    record(leader, 40, 60, 7, "mail", LATE)
    for later_s in (300, 3 * 86_400):  # in slots of a minute, and of a quarter of an hour
        early = queues_at(store, 15, later_s=later_s)
        assert early.keys() == {"mail", "gone"}
        mail = early["mail"]
        assert (mail.depth, mail.counts.dead, mail.latency_s, mail.workers) == (4, 2, 1.5, 1)
        assert (round(mail.throughput_per_min or 0), mail.error_ratio) == (60, 0)
        assert 0.45 < (mail.runtime_p95_s or 0) < 0.55
        assert mail.paused is None
    during = queues_at(store, 29)
    assert during.keys() == {"mail"}  # the other one was deleted
    assert (during["mail"].depth, during["mail"].error_ratio) == (40, 0.5)
    assert queues_at(store, 59)[LATE].depth == 7
    # Not a figure of what came after the moment.
    assert queues_at(store, 20.5)["mail"].depth == 4


def test_a_gap_is_no_figure(leader: Leader, store: Store) -> None:
    record(leader, 0, 30, 4, "mail")
    record(leader, 40, 60, 7, "mail")
    reader, at_s = PastReader(store), START_S + 35 * MINUTE_S
    view = reader.read_view(at_s, at_s + 3600, KNOWN)
    assert not view.is_recorded
    assert (view.snapshot.queues, view.missing) == ((), ("main", "other"))
    assert view.last_sampled_s == START_S + 30 * MINUTE_S
    one = reader.read_queue(("main", "rq", "mail"), at_s, at_s + 3600, KNOWN)
    assert one.snapshot.queues == ()
    after = reader.read_queue(("main", "rq", "mail"), START_S + 45 * MINUTE_S, START_S + 7200, KNOWN)
    assert [queue.depth for queue in after.snapshot.queues] == [7]
    (trend,) = after.history.queues.values()
    assert trend.depth[-16:-4] == (4, *([None] * 10), 7)
    (source,) = after.snapshot.sources
    assert (source.health.used_memory_bytes, source.health.memory_ratio) == (7000, 0.007)
    assert after.missing == ()


def test_many_queues_take_few_round_trips(leader: Leader, store: Store, redis_client: redis.Redis) -> None:
    names = [f"queue-{number}" for number in range(QUEUES_AT_ONCE + 2)]
    record(leader, 0, 3, 1, *names)
    redis_client.hset(IDS, b"\xff", b"x")
    redis_client.hset(IDS, pack_key(SeriesKey(QUEUE, "main", "rq", names[0])), b"not ours")
    before = redis_client.info("commandstats")
    found = queues_at(store, 2)
    after = redis_client.info("commandstats")
    assert found.keys() == {*names[1:]}
    calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert {name for name, count in calls.items() if count} - {"cmdstat_info"} == {"cmdstat_hgetall", "cmdstat_mget"}
    assert calls["cmdstat_mget"] == len(names) + 2  # of the queues that are stored, of the source, and of both totals
