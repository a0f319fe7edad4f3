"""The rates of many queues together."""

from __future__ import annotations

from typing import Any

from dashboard.model import QueueStats, SourceStats
from dashboard.sampling.total_rates import TotalRates, total_rates


def row(**figures: Any) -> QueueStats:
    return QueueStats(source="s", backend="b", name="q", key="q", **figures)


def test_the_total_ratio_covers_queues_with_both_parts_known() -> None:
    queues = [
        row(throughput_per_min=100.0, failed_per_min=10.0),
        row(throughput_per_min=None, failed_per_min=50.0),
        row(throughput_per_min=700.0, failed_per_min=None),
    ]
    source = SourceStats(name="s", address="", reachable=True, together_per_min=33.0)
    assert total_rates(queues, [source]) == TotalRates(833.0, 60.0, 0.1, 0, 1)
    assert total_rates(queues[1:]) == TotalRates(700.0, 50.0, None, 1, 1)
    assert total_rates([]) == TotalRates(None, None, None)


def test_the_total_says_how_many_queues_it_lacks() -> None:
    def told(*queues: QueueStats) -> tuple[int, int]:
        sums = total_rates(queues)
        return sums.throughput_unknown, sums.failed_unknown

    everything = row(shared=True, throughput_per_min=9.0)
    assert told(row(), row()) == (2, 2)
    assert told(row(), everything) == (0, 1)
    assert told(row(prefix="other"), everything) == (1, 2)
    assert told(row(shared=True), row(throughput_per_min=1.0, failed_per_min=0.0)) == (0, 0)
