"""Metrics of a snapshot that is made up, as the parser of Prometheus reads them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from dashboard.alerts.counters import AlertCounts
from dashboard.model import Counts, QueueStats, RedisHealth, Snapshot, SourceStats, State
from dashboard.sampling.recent_history import History
from dashboard.sampling.snapshot_reader import CurrentSnapshot
from dashboard.web.prometheus import SnapshotCollector, render_metrics, render_openmetrics

SOURCE = SourceStats(name="main", address="redis://localhost", reachable=True)


def queue(name: str, **fields: Any) -> QueueStats:
    return QueueStats(source="main", backend="rq", name=name, key=name, counts=Counts(waiting=1), **fields)


def current(*queues: QueueStats, source: SourceStats = SOURCE) -> CurrentSnapshot:
    snapshot = Snapshot(
        sampled_at=1.0, interval_s=2.0, sequence=1, sampler="", epoch=0, sources=(source,), queues=queues
    )
    return CurrentSnapshot(snapshot=snapshot, history=History(), age_s=1.5, stale=False)


def metrics_of(
    snapshot: CurrentSnapshot, firing: dict[str, int] | None = None, counts: AlertCounts | None = None
) -> dict[str, Metric]:
    """What both formats say, as their parsers read it."""
    collector = SnapshotCollector(snapshot, firing, counts)
    found = list(text_string_to_metric_families(render_metrics(collector).decode()))
    twin = list(parse_openmetrics(render_openmetrics(collector).decode()))
    # One format names a counter as its samples, the other without their ending; not a number differs from itself.
    assert repr([family.samples for family in twin]) == repr([family.samples for family in found])
    assert [family.name for family in twin] == [family.name for family in found]
    return {metric.name.removeprefix("queuedeck_"): metric for metric in found}


def test_metrics_come_in_one_order_and_only_with_samples() -> None:
    assert list(metrics_of(current(queue("mail", depth=1)), {"critical": 2})) == [
        *("snapshot_age_seconds", "source_up", "queue_jobs", "queue_depth", "alerting_up", "alerts_firing")
    ]


def test_before_the_first_sample_there_are_only_the_alerts() -> None:
    nothing = CurrentSnapshot(snapshot=None, history=History(), age_s=None, stale=False)
    assert {name: metric.samples[0].value for name, metric in metrics_of(nothing).items()} == {"alerting_up": 0}


def test_a_metric_has_its_type_help_and_labels() -> None:
    metric = metrics_of(current(queue("mail")))["queue_jobs"]
    labels = {"source": "main", "backend": "rq", "queue": "mail", "state": "waiting"}
    assert (metric.type, metric.documentation) == (
        "gauge",
        "Jobs by state; no sample where the library does not report it.",
    )
    assert [(sample.labels, sample.value) for sample in metric.samples] == [(labels, 1)]


def test_only_metrics_of_queuedeck_are_there() -> None:
    """Nothing of the process or of Python, and no series of creation times."""
    text = render_metrics(SnapshotCollector(current(queue("mail", finished_total=1)), {"critical": 1})).decode()
    assert {line.split()[3] for line in text.splitlines() if line.startswith("# TYPE ")} == {"gauge", "counter"}
    assert {line.removeprefix("# HELP ").removeprefix("# TYPE ")[:10] for line in text.splitlines()} == {"queuedeck_"}
    assert "_created" not in text


def test_zero_is_a_figure_and_unknown_is_none() -> None:
    depths = metrics_of(current(queue("empty", depth=0), queue("unknown", depth=None)))["queue_depth"].samples
    assert [(sample.labels["queue"], sample.value) for sample in depths] == [("empty", 0)]


@pytest.mark.parametrize("figure", [math.inf, -math.inf, 0.1, 1e300, 123456789.0])
def test_a_figure_is_read_back_as_it_is(figure: float) -> None:
    (sample,) = metrics_of(current(queue("mail", latency_s=figure)))["queue_latency_seconds"].samples
    assert sample.value == figure


def test_a_figure_too_large_for_a_float_costs_only_its_own_sample() -> None:
    depths = metrics_of(current(queue("huge", depth=10**400), queue("mail", depth=3)))["queue_depth"].samples
    assert [(sample.labels["queue"], sample.value) for sample in depths] == [("mail", 3)]


def test_no_number_is_a_figure_too() -> None:
    (sample,) = metrics_of(current(queue("mail", latency_s=math.nan)))["queue_latency_seconds"].samples
    assert math.isnan(sample.value)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bad\udcff", r"bad\xff"),  # a byte that is not UTF-8
        ("\ud800", r"\ud800"),  # half a character
        ("a\x00b\x1b[2J", r"a\x00b\x1b[2J"),
        ("\u2028\u202e", r"\u2028\u202e"),
        ('a"b\\n\n', 'a"b\\n\n'),
        ("x" * 600, "x" * 500 + "…"),
    ],
)
def test_a_hostile_name_costs_only_its_own_row(name: str, shown: str) -> None:
    metrics = metrics_of(current(queue("before"), queue(name), queue("after")))
    assert [sample.labels["queue"] for sample in metrics["queue_jobs"].samples] == ["before", shown, "after"]


@pytest.mark.parametrize("names", [("x" * 2**20 + "a", "x" * 2**20 + "b"), ("bad\udcff", r"bad\xff")])
def test_names_that_look_alike_stay_apart(names: tuple[str, str]) -> None:
    """A series of two queues would jump back and forth between them."""
    depths = metrics_of(current(queue("mail", depth=1), *(queue(name, depth=2) for name in names)))["queue_depth"]
    shown = [sample.labels["queue"] for sample in depths.samples]
    assert len(set(shown)) == 3
    assert max(map(len, shown)) < 520
    assert shown[0] == "mail"
    assert depths.samples[1:] == metrics_of(current(*(queue(name, depth=2) for name in names)))["queue_depth"].samples


def test_counters_are_named_and_typed_as_counters() -> None:
    health = RedisHealth(evicted_keys=3, rejected_connections=4)
    source = msgspec.structs.replace(SOURCE, health=health, together_total=9)
    taken = current(queue("mail", finished_total=7, failed_total=0), queue("silent"), source=source)
    taken = dataclasses.replace(taken, snapshot=msgspec.structs.replace(taken.snapshot, samples_total=5))
    counts = AlertCounts({"critical": 1}, {"ops": 2}, {'o"p\\s': 3}, {})
    found = metrics_of(taken, counts=counts)
    counters = {
        sample.name.removeprefix("queuedeck_"): (*(value for _, value in sorted(sample.labels.items())), sample.value)
        for metric in found.values()
        if metric.type == "counter"
        for sample in metric.samples
    }
    assert counters == {
        "checker_samples_total": (5,),
        "source_together_finished_total": ("main", 9),
        "queue_finished_total": ("rq", "mail", "main", 7),
        "queue_failed_total": ("rq", "mail", "main", 0),
        "redis_evictions_total": ("main", 3),
        "redis_refused_connections_total": ("main", 4),
        "alerts_fired_total": ("critical", 1),
        "notifications_sent_total": ("ops", 2),
        "notifications_failed_total": ('o"p\\s', 3),
    }


def test_a_state_that_is_not_counted_in_full_is_marked() -> None:
    (sample,) = metrics_of(current(queue("mail", at_least=(State.DEAD,))))["queue_jobs_at_least"].samples
    assert (sample.labels["state"], sample.value) == ("dead", 1)


def test_the_limit_of_memory_has_no_sample_where_there_is_none() -> None:
    health = RedisHealth(used_memory_bytes=5, persistence_ok=False)
    metrics = metrics_of(current(source=msgspec.structs.replace(SOURCE, health=health)))
    assert metrics["redis_used_memory_bytes"].samples[0].value == 5
    assert metrics["redis_persistence_ok"].samples[0].value == 0
    assert "redis_maxmemory_bytes" not in metrics
