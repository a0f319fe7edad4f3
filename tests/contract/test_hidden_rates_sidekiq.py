"""Rates of Sidekiq, which keeps nothing of jobs that succeeded, and of failed ones only where it is told to."""

from __future__ import annotations

import redis

from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.backends.sidekiq.rates import NO_METRICS
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.sample_series import SampleSeries, rates_of
from tests.contract.sidekiq_library import SidekiqLibrary

GOOD, BAD = 9, 3


def test_counters_reveal_jobs_that_left_the_sets(
    server: EmbeddedRedis, redis_client: redis.Redis, source: Source
) -> None:
    library, series = SidekiqLibrary(), SampleSeries(Sidekiq(source, SourceSettings(name="main", url=server.url)))
    library.run_jobs(server.url, "mail", good=1, bad=0)
    series.take_sample()
    series.take_sample()

    library.drive("run", server.url, "mail", str(GOOD), str(BAD), "hidden")
    rows = series.take_sample()

    assert rates_of(rows["*"]) == (GOOD + BAD, BAD, 0.25)
    # This release has no metrics of job classes.
    assert (series.flows["*"].classes, series.flows["*"].classes_reason) == (None, NO_METRICS)
    assert rows["*"].counts.dead == 0
    assert rates_of(rows["mail"]) == (None, None, None)  # the counters are those of all queues together
    assert "all queues" in (rows["mail"].flow_reason or "")
