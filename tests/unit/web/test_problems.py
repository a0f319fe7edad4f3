"""What counts as wrong, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.model import Counts, QueueStats, RedisHealth, Snapshot, SourceStats
from dashboard.sampling.recent_history import History, QueueHistory, key_of
from dashboard.web.views.problems import ProblemLevel, dead_growth, of_queue, of_snapshot, of_source

WARNING, CRITICAL = ProblemLevel.WARNING, ProblemLevel.CRITICAL


def queue(name: str = "mail", **fields: Any) -> QueueStats:
    return QueueStats(source="main", backend="rq", name=name, key=name, **fields)


def source(**fields: Any) -> SourceStats:
    return SourceStats(**{"name": "main", "address": "redis://127.0.0.1:6379/0", "reachable": True, **fields})


def snapshot(*queues: QueueStats, sources: tuple[SourceStats, ...] = ()) -> Snapshot:
    return Snapshot(
        sampled_at=1000.0, interval_s=2, sequence=1, sampler="", epoch=0, sources=sources or (source(),), queues=queues
    )


def kinds_of(found: list[Any]) -> list[tuple[ProblemLevel, str]]:
    return [(problem.level, problem.kind) for problem in found]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"depth": 0, "workers": 0, "paused": True, "latency_s": 0.0}, []),
        ({"depth": 5, "workers": None, "paused": None, "latency_s": None}, []),
        ({"depth": 5, "workers": 0}, [(CRITICAL, "no worker")]),
        ({"depth": 5, "workers": 0, "paused": True}, [(WARNING, "paused")]),
        ({"depth": 5, "latency_s": 59.9}, []),
        ({"depth": 5, "latency_s": 60.0}, [(WARNING, "high latency")]),
        ({"depth": 5, "latency_s": 900.0}, [(CRITICAL, "high latency")]),
        ({"depth": 5, "paused": True, "latency_s": 900.0}, [(WARNING, "paused")]),
        ({"overdue_s": 61.0}, [(WARNING, "overdue")]),
        ({"overdue_s": 61.0, "paused": True}, []),
        ({"throughput_per_min": 2.0, "error_ratio": 0.1}, [(WARNING, "failing")]),
        ({"throughput_per_min": 2.0, "error_ratio": 0.09}, []),
        ({"throughput_per_min": 1.8, "error_ratio": 1.0}, []),
        ({"throughput_per_min": 2.0, "error_ratio": 0.5}, [(CRITICAL, "failing")]),
        ({"error": "wrong type"}, [(CRITICAL, "unreadable")]),
        ({"error": "x", "overdue_s": 99.0}, [(CRITICAL, "unreadable"), (WARNING, "overdue")]),
    ],
)
def test_queues(fields: dict[str, Any], expected: list[tuple[ProblemLevel, str]]) -> None:
    assert kinds_of(of_queue(queue(**fields))) == expected


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({}, []),
        ({"memory_ratio": 0.74}, []),
        ({"memory_ratio": 0.75}, [(WARNING, "memory")]),
        ({"memory_ratio": 0.9}, [(CRITICAL, "memory")]),
        ({"memory_limited": True, "eviction_policy": "allkeys-lru"}, [(WARNING, "eviction")]),
        ({"memory_limited": True, "eviction_policy": "noeviction"}, []),
        ({"memory_limited": False, "eviction_policy": "allkeys-lru"}, []),
        ({"memory_limited": True, "eviction_policy": None}, []),
        ({"persistence_ok": False}, [(WARNING, "persistence")]),
        ({"persistence_ok": None}, []),
        ({"clients": 90, "max_clients": 100}, [(WARNING, "connections")]),
        ({"clients": 89, "max_clients": 100}, []),
    ],
)
def test_servers(health: dict[str, Any], expected: list[tuple[ProblemLevel, str]]) -> None:
    assert kinds_of(of_source(source(health=RedisHealth(**health)), 0.0)) == expected


def test_an_unreachable_server_hides_the_problems_of_its_queues() -> None:
    gone = source(reachable=False, error="Connection refused", unreachable_since=940.0)
    (problem,) = of_snapshot(snapshot(queue(depth=5, workers=0), sources=(gone,)), History())
    assert (problem.level, problem.kind, problem.source) == (CRITICAL, "unreachable", "main")
    assert problem.text.replace("\u202f", " ") == "Redis cannot be read for 1 m: Connection refused"


def test_the_worst_comes_first() -> None:
    found = of_snapshot(
        snapshot(
            queue("late", depth=1, latency_s=70.0),
            queue("later", depth=1, latency_s=80.0),
            queue("left", depth=1, workers=0),
            queue("broken", error="x"),
            queue("left more", depth=9, workers=0),
        ),
        History(),
    )
    assert [problem.queue.name for problem in found if problem.queue] == [
        "broken",
        "left more",
        "left",
        "later",
        "late",
    ]


@pytest.mark.parametrize(
    ("past", "now", "growth"),
    [
        ((), 5, 0),
        ((None, None), 5, 0),
        ((3, 4), 5, 2),
        ((None, 4), 5, 1),
        ((9,), 5, 0),
        ((3,), None, 0),
        ((0, *[5] * 15), 5, 0),
    ],
)
def test_dead_letters_grow_against_a_quarter_of_an_hour_ago(
    past: tuple[int | None, ...], now: int | None, growth: int
) -> None:
    one = queue(counts=Counts(dead=now))
    history = History(step_s=60, queues={key_of(one): QueueHistory(dead=past)})
    assert dead_growth(one, history) == growth
    assert kinds_of(of_queue(one, growth)) == ([(WARNING, "dead letters rising")] if growth else [])


def test_a_text_does_not_repeat_the_state_next_to_it() -> None:
    (rising,) = of_queue(queue(counts=Counts(dead=9)), 2)
    (paused,) = of_queue(queue(depth=15, paused=True))
    assert (rising.kind, rising.text) == ("dead letters rising", "+2 in 15 min")
    assert (paused.kind, paused.text) == ("paused", "15 jobs waiting")
