"""How the value of each metric is described in a message."""

from __future__ import annotations

import pytest

from dashboard.alerts.rules.metrics import METRICS, describe_value


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("queue.depth", 1204.0, "1,204 waiting jobs"),
        ("queue.depth", 1.0, "1 waiting job"),
        ("queue.latency_s", 720.0, "oldest job waiting 12 m"),
        ("queue.no_progress_s", 900.0, "no progress for 15 m"),
        ("queue.throughput_per_min", 1.0, "1 job processed per minute"),
        ("queue.error_ratio", 0.12, "12% of jobs failed in 15 min"),
        ("queue.dead", 1.0, "1 dead letter"),
        ("queue.dead_growth_per_h", 80.0, "80 dead letters per hour"),
        ("queue.active_age_s", 7200.0, "a job running for 2 h"),
        ("queue.stalled", 3.0, "3 stalled jobs"),
        ("queue.overdue_s", 300.0, "a scheduled job overdue by 5 m"),
        ("queue.consumers", 0.0, "0 workers"),
        ("queue.paused_s", 3600.0, "paused for 1 h"),
        ("workers.count", 1.0, "1 worker"),
        ("redis.unreachable_s", 40.0, "no reply for 40 s"),
        ("redis.memory_ratio", 0.92, "memory 92% used"),
        ("redis.memory_full_in_s", 1200.0, "full in 20 m"),
        ("redis.evicted_per_min", 0.5, "0.5 keys evicted per minute"),
        ("redis.rejected_per_min", 12.0, "12 connections rejected per minute"),
        ("redis.clients_ratio", 0.97, "97% of connections in use"),
        ("redis.fragmentation_ratio", 1.5, "memory fragmentation 150%"),
        ("redis.replica_lag_bytes", 96 * 1024.0 * 1024.0, "slowest replica 96 MiB behind"),
        ("redis.replica_link_down_s", 75.0, "disconnected from the primary for 1 m 15 s"),
        ("source.no_data_s", 300.0, "no data for 5 m"),
        ("checker.heartbeat_age_s", 40.0, "40 s since the last evaluation"),
        ("notify.undelivered_s", 720.0, "oldest undelivered notification 12 m old"),
        ("notify.dead", 1.0, "1 failed notification"),
        ("redis.writes_refused", 1.0, None),
        ("queue.depth", None, None),
        ("of.a.newer.version", 2.5, "2.5"),
    ],
)
def test_a_value_is_described_in_the_words_of_its_metric(metric: str, value: float | None, text: str | None) -> None:
    assert describe_value(metric, value) == text


def test_every_metric_but_flags_has_a_placeholder_for_its_value() -> None:
    for metric in METRICS.values():
        assert metric.phrase.count("{}") == (metric.unit != "flag"), metric.name


def test_a_rate_is_described_as_a_change() -> None:
    assert describe_value("queue.depth", 80.0, "rate") == "queue.depth changes by 80 per minute"
    assert describe_value("queue.depth", 80.0, "mean") == "80 waiting jobs"
