"""The last hour in at most 60 points."""

from __future__ import annotations

from dashboard.model import Counts, QueueRef, QueueStats, RedisHealth, Snapshot, SourceStats
from dashboard.sampling.recent_history import (
    LAST_STEP_S,
    POINTS,
    History,
    HistoryKeeper,
    QueueHistory,
    key_of,
    sum_histories,
)


def queue(name: str, depth: int | None, dead: int | None = 0, rate: float | None = 1.0) -> QueueStats:
    return QueueStats(
        source="main",
        backend="rq",
        name=name,
        key=name,
        depth=depth,
        counts=Counts(dead=dead),
        throughput_per_min=rate,
        failed_per_min=0.0,
    )


def snapshot(at: float, *queues: QueueStats) -> Snapshot:
    source = SourceStats(name="main", address="redis://h", reachable=True, health=RedisHealth(used_memory_bytes=5))
    return Snapshot(
        sampled_at=at, interval_s=2, sequence=1, sampler="t", epoch=1, sources=(source,), queues=tuple(queues)
    )


def test_a_young_history_draws_a_line_within_half_a_minute() -> None:
    keeper = HistoryKeeper()
    for second in range(0, 32, 2):
        history = keeper.add_snapshot(snapshot(1000.0 + second, queue("a", second)))
    assert history.step_s == 15
    assert history.history_of(queue("a", 0)).depth == (0, 16)


def test_a_peak_between_two_points_is_kept() -> None:
    keeper = HistoryKeeper()
    for second, depth in ((0, 1), (4, 99), (8, 2), (16, 3)):
        history = keeper.add_snapshot(snapshot(1000.0 + second, queue("a", depth)))
    assert history.history_of(queue("a", 0)).depth == (1, 99)


def test_the_version_rises_with_each_point_only() -> None:
    keeper = HistoryKeeper()
    versions = [keeper.add_snapshot(snapshot(1000.0 + second, queue("a", 1))).version for second in (0, 2, 4, 16, 18)]
    assert versions == [1, 1, 1, 2, 2]


def test_after_an_hour_there_are_sixty_points_a_minute_apart() -> None:
    keeper = HistoryKeeper()
    for second in range(0, 3 * 3600, 5):
        history = keeper.add_snapshot(snapshot(1000.0 + second, queue("a", 7)))
        assert len(history.totals.depth) <= POINTS
    assert history.step_s == LAST_STEP_S
    assert len(history.history_of(queue("a", 0)).depth) > POINTS / 2
    assert set(history.totals.depth) == {7}
    assert set(history.memory["main"]) == {5}


def test_a_queue_that_came_later_is_aligned_at_the_end_after_a_merge() -> None:
    keeper = HistoryKeeper()
    for index in range(POINTS + 1):
        queues = [queue("old", 1)] + ([queue("new", 2)] if index >= POINTS - 2 else [])
        history = keeper.add_snapshot(snapshot(1000.0 + 15 * index, *queues))
    assert history.step_s == 30
    assert history.history_of(queue("new", 0)).depth == (2, 2)
    assert len(history.totals.depth) == 31
    assert history.totals.depth[-1] == 3


def test_a_pause_leaves_a_gap() -> None:
    keeper = HistoryKeeper()
    keeper.add_snapshot(snapshot(1000.0, queue("a", 1)))
    history = keeper.add_snapshot(snapshot(1060.0, queue("a", 2)))
    assert history.history_of(queue("a", 0)).depth == (1, None, None, None, 2)


def test_unknown_stays_unknown() -> None:
    keeper = HistoryKeeper()
    history = keeper.add_snapshot(snapshot(1000.0, queue("a", None, None, None)))
    series = history.history_of(queue("a", 0))
    assert (series.depth, series.dead, series.finished_per_min) == ((None,), (None,), (None,))
    assert history.totals.depth == (None,)


def test_the_ratio_of_nothing_is_zero_only_where_all_is_known() -> None:
    for others, ratio in (((), 0.0), ((queue("b", 0, rate=None),), None)):
        history = HistoryKeeper().add_snapshot(snapshot(1000.0, queue("a", 0, rate=0.0), *others))
        assert history.totals.error_ratio == (ratio,)


def test_a_removed_queue_leaves_the_history() -> None:
    keeper = HistoryKeeper()
    keeper.add_snapshot(snapshot(1000.0, queue("a", 1), queue("b", 1)))
    history = keeper.add_snapshot(snapshot(1015.0, queue("a", 1)))
    assert history.history_of(queue("b", 0)) is None


def test_points_are_joined_for_a_longer_step() -> None:
    ref = QueueRef(source="main", backend="rq", name="mail", key="rq:queue:mail")
    past = QueueHistory(depth=(1, 5, None, 3, 2), finished_per_min=(9.0, None, None, 2.0, 4.0))
    history = History(step_s=15, last_at=1000.0, queues={key_of(ref): past})
    assert history.points_of(ref, "depth") == [(940.0, 1), (955.0, 5), (970.0, None), (985.0, 3), (1000.0, 2)]
    assert history.points_of(ref, "depth", 2) == [(940.0, 1), (970.0, 5), (1000.0, 3)]
    assert history.points_of(ref, "finished_per_min", 2) == [(940.0, 9.0), (970.0, None), (1000.0, 3.0)]
    assert History().points_of(ref, "depth") == []


def test_sums_of_some_queues_leave_out_what_is_unknown() -> None:
    young = QueueHistory(depth=(5,), dead=(None,), finished_per_min=(1.5,))
    old = QueueHistory(depth=(1, 2, None), dead=(0, None, None), finished_per_min=(1.0, 2.0, 3.0))
    total = sum_histories([young, old])
    assert total.depth == (1, 2, 5)
    assert total.dead == (0, None, None)
    assert total.finished_per_min == (1.0, 2.0, 4.5)
    assert total.error_ratio == ()
    assert sum_histories([]) == QueueHistory()
