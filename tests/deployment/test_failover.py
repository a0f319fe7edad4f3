"""A failover behind a running dashboard: bulk work of each library goes on, each job runs once, alerts arrive."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue

from dashboard.backends.celery.results.ended_tasks import MAX_RECENT
from tests.alerts.channels.fake_providers import HttpSink
from tests.contract.celery_live import Shop
from tests.deployment.sentinel_set import SERVICE, SentinelSet, sentinel_set
from tests.e2e.on_call import LIBRARIES, CeleryNight, Night
from tests.serving import get_json, serving
from tests.waiting import wait_until

INTERVAL_S = 0.5
# Dead jobs, and how many of them are retried per second until the failover: all of them would take a minute or more.
CROWDS = [(60, 1), pytest.param(10_000, 100, marks=pytest.mark.soak)]
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
def sentinels(tmp_path: Path) -> Iterator[SentinelSet]:
    with sentinel_set(tmp_path) as running:
        yield running


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    receiver = HttpSink()
    yield receiver
    receiver.close()


@pytest.fixture
def dashboard(sentinels: SentinelSet, sink: HttpSink, tmp_path: Path) -> Iterator[str]:
    """The URL of a dashboard that knows the Sentinels only."""
    config = tmp_path / "queuedeck.toml"
    config.write_text(
        CONFIG.format(
            interval=INTERVAL_S,
            sentinels=json.dumps(sentinels.hosts),
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


def post(url: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def start_bulk(dashboard: str, order: dict[str, Any], **more: Any) -> str:
    """The URL of a new operation."""
    return f"{dashboard}/api/v1/bulk/{post(dashboard, '/api/v1/bulk', {**order, **more})['bulk_id']}"


def read_source(url: str) -> dict[str, Any]:
    [source] = get_json(f"{url}/api/v1/overview")["sources"]
    assert isinstance(source, dict)
    return source


def await_new_primary(dashboard: str, sentinels: SentinelSet) -> None:
    """Kill the primary; return once the dashboard reads the new one."""
    former = sentinels.primary()
    former.stop(kill=True)
    new = sentinels.fail_over(former)
    wait_until(
        lambda: read_source(dashboard)["reachable"] and read_source(dashboard)["primary"] == f"127.0.0.1:{new.port}",
        what="the dashboard at the new primary",
    )


def received(sink: HttpSink, rule: str) -> Sequence[str]:
    """The kinds of messages about a rule, each id once."""
    kinds: dict[str, str] = {}
    for message in (request.json() for request in sink.requests):
        if message["rule_id"] == rule:
            kinds.setdefault(message["id"], message["kind"])
    return list(kinds.values())


NIGHTS = [LaterCeleryNight() if isinstance(night, CeleryNight) else night for night in LIBRARIES]


@pytest.mark.parametrize(("dead", "per_second"), CROWDS)
@pytest.mark.parametrize("night", NIGHTS, ids=repr)
def test_bulk_work_goes_on_and_each_job_runs_once(
    dashboard: str, sentinels: SentinelSet, night: Night, dead: int, per_second: int
) -> None:
    dead = min(dead, getattr(night, "most", dead))
    with night.dying(sentinels.primary().url, dead):
        pass
    order = {"action": "retry", "source": "main", "backend": night.name, "queue": night.shelf, "state": "dead"}

    def are_all_listed() -> bool:
        found = get_json(f"{dashboard}/api/v1/queues/main/{night.name}/{night.queue}").get("name")
        return found and post(dashboard, "/api/v1/bulk", {**order, "preview": True})["matched"] == dead

    wait_until(are_all_listed, what="all dead jobs in the dashboard")
    operation = start_bulk(dashboard, order, pace_per_s=per_second)
    wait_until(lambda: get_json(operation)["done"] > per_second, what="a part of the jobs retried")
    await_new_primary(dashboard, sentinels)
    known = get_json(operation)
    assert (known["state"], known["done"] < dead) == ("running", True)
    wait_until(lambda: get_json(operation)["done"] > known["done"], what="a job retried after the failover")
    post(operation, "/abort", {})
    wait_until(lambda: get_json(operation)["state"] == "aborted", what="the end of the slow operation")
    rest = start_bulk(dashboard, order, pace_per_s=0)
    wait_until(lambda: get_json(rest)["state"] == "done", what="the end of the quick one")
    assert get_json(operation)["done"] + get_json(rest)["done"] == dead
    primary = sentinels.primary().url
    with redis.Redis.from_url(primary) as client, night.working(primary):
        wait_until(lambda: len(night.ran(client)) == dead, what="the run of each job")
        assert set(night.ran(client)) == {1}


def test_alerts_are_sent_before_and_after(dashboard: str, sentinels: SentinelSet, sink: HttpSink) -> None:
    def fill(jobs: int) -> None:
        with redis.Redis.from_url(sentinels.primary().url) as client:
            for _ in range(jobs):
                Queue("backlog", connection=client).enqueue("os.getpid")

    fill(WAITING_LIMIT + 1)
    wait_until(lambda: received(sink, "deep") == ["firing"], what="the message about the backlog")
    sentinels.wait_for_replica()
    await_new_primary(dashboard, sentinels)
    with redis.Redis.from_url(sentinels.primary().url) as client:
        assert client.llen("rq:queue:backlog") == WAITING_LIMIT + 1
        client.delete("rq:queue:backlog")
    wait_until(lambda: received(sink, "deep") == ["firing", "resolved"], what="the message about its end")
    fill(WAITING_LIMIT + 1)
    wait_until(lambda: received(sink, "deep") == ["firing", "resolved", "firing"], what="the message about the next")
