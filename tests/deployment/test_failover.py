"""A failover while the dashboard runs: bulk operations of each library continue, and alerts are still sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue

from dashboard.backends.celery.results.ended_tasks import MAX_RECENT
from tests.alerts.channels.fake_providers import HttpSink
from tests.contract.celery_live import Shop
from tests.deployment.sentinel_set import SERVICE, SentinelSet
from tests.e2e.on_call import LIBRARIES, CeleryNight, Night
from tests.serving import get_json, post_json, serving
from tests.waiting import wait_until

INTERVAL_S = 0.5
# Dead jobs, and how many of them are retried per second until the failover: all of them would take a minute or more.
LOADS = [(60, 1), pytest.param(10_000, 100, marks=pytest.mark.soak)]
WAITING_LIMIT = 10
CONFIG = """
sample_interval_s = {interval}
allow_private_webhooks = true
[[sources]]
name = "main"
sentinels = {sentinels}
service = "{service}"
[[channels]]
id = "ops"
kind = "webhook"
url = "{webhook}"
[[rules]]
id = "deep"
metric = "queue.depth"
queues = ["backlog"]
critical = {limit}
for_s = 0
min_samples = 1
group_wait_s = 0
recover_for_s = 0
new_instance_grace_s = 0
"""


@pytest.fixture
def dashboard(own_set: SentinelSet, sink: HttpSink, tmp_path: Path) -> Iterator[str]:
    """The URL of a dashboard that is given only the addresses of the Sentinels."""
    config = tmp_path / "queuedeck.toml"
    config.write_text(
        CONFIG.format(
            interval=INTERVAL_S,
            sentinels=json.dumps(own_set.hosts),
            service=SERVICE,
            webhook=sink.url,
            limit=WAITING_LIMIT,
        )
    )
    with serving("--config", config) as served:
        yield served.url


class LaterCeleryNight(CeleryNight):
    """Its worker starts after the failover, at the new primary."""

    most = MAX_RECENT - 500  # of the results that Queuedeck lists

    @contextmanager
    def working(self, url: str) -> Iterator[object]:
        self._shop = Shop(url)
        try:
            with self._shop.worker(self.queue):
                yield
        finally:
            self._shop.close()


def start_bulk(dashboard: str, order: dict[str, Any], **more: Any) -> str:
    """The URL of a new operation."""
    url = f"{dashboard}/api/v1/bulk"
    return f"{url}/{post_json(url, {**order, **more})['bulk_id']}"


def read_source(url: str) -> dict[str, Any]:
    [source] = get_json(f"{url}/api/v1/overview")["sources"]
    assert isinstance(source, dict)
    return source


def await_new_primary(dashboard: str, own_set: SentinelSet) -> None:
    """Kill the primary; return once the dashboard reads the new one."""
    former = own_set.primary()
    former.stop(kill=True)
    new = own_set.fail_over(former)
    wait_until(
        lambda: read_source(dashboard)["reachable"] and read_source(dashboard)["primary"] == f"127.0.0.1:{new.port}",
        what="the dashboard at the new primary",
    )


NIGHTS = [LaterCeleryNight() if isinstance(night, CeleryNight) else night for night in LIBRARIES]


@pytest.mark.parametrize(("dead", "per_second"), LOADS)
@pytest.mark.parametrize("night", NIGHTS, ids=repr)
def test_a_bulk_operation_continues_and_each_job_runs_once(
    dashboard: str, own_set: SentinelSet, night: Night, dead: int, per_second: int
) -> None:
    dead = min(dead, getattr(night, "most", dead))
    with night.dying(own_set.primary().url, dead):
        pass
    order = {"action": "retry", "source": "main", "backend": night.name, "queue": night.shelf, "state": "dead"}

    def are_all_listed() -> bool:
        found = get_json(f"{dashboard}/api/v1/queues/main/{night.name}/{night.queue}").get("name")
        return found and post_json(f"{dashboard}/api/v1/bulk", {**order, "preview": True})["matched"] == dead

    wait_until(are_all_listed, what="all dead jobs in the dashboard")
    operation = start_bulk(dashboard, order, pace_per_s=per_second)
    wait_until(lambda: get_json(operation)["done"] > per_second, what="a part of the jobs retried")
    await_new_primary(dashboard, own_set)
    known = get_json(operation)
    assert (known["state"], known["done"] < dead) == ("running", True)
    wait_until(lambda: get_json(operation)["done"] > known["done"], what="a job retried after the failover")
    post_json(f"{operation}/abort", {})
    wait_until(lambda: get_json(operation)["state"] == "aborted", what="the end of the slow operation")
    rest = start_bulk(dashboard, order, pace_per_s=0)
    wait_until(lambda: get_json(rest)["state"] == "done", what="the end of the quick one")
    assert get_json(operation)["done"] + get_json(rest)["done"] == dead
    primary = own_set.primary().url
    with redis.Redis.from_url(primary) as client, night.working(primary):
        wait_until(lambda: len(night.ran(client)) == dead, what="the run of each job")
        assert set(night.ran(client)) == {1}


def test_alerts_are_sent_before_and_after(dashboard: str, own_set: SentinelSet, sink: HttpSink) -> None:
    def fill(jobs: int) -> None:
        with redis.Redis.from_url(own_set.primary().url) as client:
            for _ in range(jobs):
                Queue("backlog", connection=client).enqueue("os.getpid")

    fill(WAITING_LIMIT + 1)
    wait_until(lambda: sink.kinds_received("deep") == ["firing"], what="the message about the backlog")
    own_set.wait_for_replica()
    await_new_primary(dashboard, own_set)
    with redis.Redis.from_url(own_set.primary().url) as client:
        assert client.llen("rq:queue:backlog") == WAITING_LIMIT + 1
        client.delete("rq:queue:backlog")
    wait_until(lambda: sink.kinds_received("deep") == ["firing", "resolved"], what="the message about its end")
    fill(WAITING_LIMIT + 1)
    wait_until(
        lambda: sink.kinds_received("deep") == ["firing", "resolved", "firing"], what="the message about the next"
    )
