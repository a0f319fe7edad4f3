"""Rates of Sidekiq, which keeps nothing of jobs that succeeded, and of failed ones only where it is told to."""

from __future__ import annotations

import redis

from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.sampling_looks import Looks, told
from tests.contract.sidekiq_library import SidekiqLibrary

GOOD, BAD = 9, 3


def test_the_counters_tell_what_the_sets_do_not(
    server: EmbeddedRedis, redis_client: redis.Redis, source: Source
) -> None:
    library, looks = SidekiqLibrary(), Looks(Sidekiq(source, SourceSettings(name="main", url=server.url)))
    library.run_jobs(server.url, "mail", good=1, bad=0)
    looks.look()
    looks.look()

    library.drive("run", server.url, "mail", str(GOOD), str(BAD), "hidden")
    rows = looks.look()

    assert told(rows["*"]) == (GOOD + BAD, BAD, 0.25)
    assert rows["*"].counts.dead == 0
    assert told(rows["mail"]) == (None, None, None)  # the counters are those of all queues together
    assert "all queues" in (rows["mail"].flow_reason or "")
