"""What rules see in one sample, and in the last hour."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.alerts.evaluate import Situation
from dashboard.alerts.machine import Labels
from dashboard.alerts.memory import Kept
from dashboard.alerts.preview import Preview, past, previews
from dashboard.alerts.rules import Severity, parse
from dashboard.collect.history import History, QueueHistory
from dashboard.model import Counts, QueueStats, Snapshot
from tests.unit.alerts.making import sample

NOW = 1_800_000_000.0


def queue(name: str, depth: int | None, **figures: Any) -> QueueStats:
    return QueueStats(source="main", backend="lists", name=name, key=name, depth=depth, **figures)


def see(snapshot: Snapshot, kept: Kept | None = None, situation: Situation | None = None, **rule: Any) -> Preview:
    made = parse({"id": "x", "metric": "queue.depth", **rule}, "test")
    found = dict(previews(snapshot, History(), [made], situation or Situation(now=NOW), kept, 2.0))
    return found[made]


def test_the_worst_come_first_and_are_counted_beyond_the_list() -> None:
    seen = see(sample([queue(f"q{n}", n) for n in range(100)]), warning=9, critical=89)
    assert (seen.criticals, seen.warnings, seen.looked_at) == (10, 80, 100)
    assert [(spot.labels.queue, spot.value) for spot in seen.beyond[:2]] == [("q99", 99), ("q98", 98)]
    assert len(seen.beyond) == 20
    assert seen.severity is Severity.CRITICAL


def test_unknown_is_counted_and_is_not_beyond() -> None:
    seen = see(sample([queue("a", None), queue("b", 1)]), warning=5)
    assert (seen.count, seen.unknown, seen.looked_at) == (0, 1, 2)
    assert seen.worst is not None
    assert (seen.worst.labels.queue, seen.worst.value) == ("b", 1)


def test_a_low_figure_is_the_worst_where_low_is_bad() -> None:
    snapshot = sample([queue("a", 3, throughput_per_min=7.0), queue("b", 3, throughput_per_min=2.0)])
    seen = see(snapshot, metric="queue.throughput_per_min", op="lt", warning=5)
    assert [(spot.labels.queue, spot.value) for spot in seen.beyond] == [("b", 2.0)]
    assert seen.worst == seen.beyond[0]


def test_what_the_checker_has_added_up_counts() -> None:
    snapshot = sample([queue("a", 3, paused=True)])
    kept = Kept(paused_s={"main\0lists\0a": 7200.0})
    assert see(snapshot, metric="queue.paused_s", warning=3600).count == 0
    assert see(snapshot, kept, metric="queue.paused_s", warning=3600).count == 1


def test_a_rule_over_a_window_is_not_judged_by_one_sample() -> None:
    seen = see(sample([queue("a", 30)]), warning=5, reducer="mean", window_s=300)
    assert (seen.judged, seen.count) == (False, 0)
    assert seen.worst is not None


def test_channels_in_trouble_are_seen() -> None:
    situation = Situation(now=NOW, channels=("ops", "mail"), dead_messages={"ops": 2})
    seen = see(sample([]), None, situation, metric="notify.dead", op="ge", warning=1)
    assert [(spot.labels.channel, spot.value) for spot in seen.beyond] == [("ops", 2)]


def history() -> History:
    def one(*depth: int | None) -> QueueHistory:
        return QueueHistory(
            depth=depth, dead=depth, finished_per_min=tuple(10.0 for _ in depth), failed_per_min=(None, 1.0, 20.0)
        )

    queues = {"main\0lists\0a": one(1, 2, None), "main\0lists\0b": one(5, 6)}
    return History(step_s=60, queues=queues, memory={"main": (50, None, 75)})


@pytest.mark.parametrize(
    ("rule", "labels", "points"),
    [
        ({}, Labels(source="main", backend="lists", queue="a"), (1, 2, None)),
        ({}, Labels(source="main", backend="lists", queue="gone"), ()),
        ({"scope": "sum"}, Labels(), (1, 7, 6)),
        ({"scope": "max"}, Labels(), (1, 5, 6)),
        ({"scope": "max", "queues": ["a"]}, Labels(), (1, 2, None)),
        (
            {"metric": "queue.error_ratio", "warning": 0.1},
            Labels(source="main", backend="lists", queue="a"),
            (None, 0.1, 1.0),
        ),
    ],
)
def test_the_last_hour_of_what_is_kept(rule: dict[str, Any], labels: Labels, points: tuple[float | None, ...]) -> None:
    made = parse({"id": "x", "metric": "queue.depth", "warning": 5, **rule}, "test")
    found = past(made, labels, sample([queue("a", 2), queue("b", 6)]), history())
    assert found is not None
    assert found.points == points


def test_there_is_no_history_of_other_metrics() -> None:
    made = parse({"id": "x", "metric": "queue.latency_s", "warning": 5}, "test")
    assert past(made, Labels(source="main", backend="lists", queue="a"), sample([queue("a", 2)]), history()) is None


def test_the_counts_of_a_preview_add_up_over_many_queues() -> None:
    dead = [queue(f"q{n}", 0, counts=Counts(dead=n)) for n in range(50)]
    seen = see(sample(dead), metric="queue.dead", op="ge", warning=40)
    assert (seen.count, seen.looked_at, seen.unknown) == (10, 50, 0)
