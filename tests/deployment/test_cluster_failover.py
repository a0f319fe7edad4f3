"""A dashboard on a cluster: bulk operations and alerts through failovers and a moved slot, each job runs once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dashboard.sources.cluster.slot_map import slot_of
from tests.alerts.channels.fake_providers import HttpSink
from tests.contract.bullmq_library import BullMQLibrary
from tests.deployment.cluster_set import ClusterSet, cluster_set
from tests.serving import get_json, post_json, serving
from tests.waiting import wait_until

QUEUE = "mails"
SLOT = slot_of(b"{bull}:")
# Dead jobs, and how many of them are retried per second until the nodes change.
LOADS = [(100, 4), pytest.param(5_000, 100, marks=pytest.mark.soak)]
CONFIG = """
sample_interval_s = 0.5
allow_private_webhooks = true
[[sources]]
name = "main"
cluster = {hosts}
[[channels]]
id = "ops"
kind = "webhook"
url = "{webhook}"
[[rules]]
id = "dead"
metric = "queue.dead"
critical = 0
for_s = 0
min_samples = 1
group_wait_s = 0
recover_for_s = 0
new_instance_grace_s = 0
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    with cluster_set(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def dashboard(cluster: ClusterSet, sink: HttpSink, tmp_path: Path) -> Iterator[str]:
    """The URL of a dashboard that is given the addresses of two nodes."""
    for node in cluster.primaries():
        with cluster.client_of(node) as client:
            client.flushall()
    config = tmp_path / "queuedeck.toml"
    hosts = [f"127.0.0.1:{node.port}" for node in cluster.primaries()[:2]]
    config.write_text(CONFIG.format(hosts=json.dumps(hosts), webhook=sink.url))
    with serving("--config", config) as served:
        yield served.url


def drive(cluster: ClusterSet, command: str, **options: Any) -> Any:
    url = f"redis+cluster://127.0.0.1:{cluster.primaries()[0].port}"
    return BullMQLibrary().drive(command, url, QUEUE, prefix="{bull}", **options)


def start_bulk(dashboard: str, **more: Any) -> str:
    """The URL of a new operation that retries all dead jobs."""
    url = f"{dashboard}/api/v1/bulk"
    order = {"action": "retry", "source": "main", "backend": "bullmq", "queue": QUEUE, "state": "dead", **more}
    return f"{url}/{post_json(url, order)['bulk_id']}"


def kill_owner_of(cluster: ClusterSet, key: str) -> None:
    """Kill a primary, whose replica takes over; the former primary comes back as its replica."""
    former = cluster.owner(key)
    cluster.start_as_replica(former, cluster.kill_and_take_over(former))


@contextmanager
def slot_on_its_way(cluster: ClusterSet) -> Iterator[None]:
    """Some keys of the queue's slot are on another node inside the block; then all are."""
    old = cluster.owner("{bull}:")
    new = next(node for node in cluster.primaries() if node is not old)
    cluster.start_moving(SLOT, old, new)
    cluster.move_keys(SLOT, old, new, count=20)
    try:
        yield
    finally:
        cluster.finish_moving(SLOT, old, new)


@pytest.mark.parametrize(("dead", "per_second"), LOADS)
def test_a_bulk_operation_continues_and_each_job_runs_once(
    dashboard: str, cluster: ClusterSet, sink: HttpSink, dead: int, per_second: int
) -> None:
    drive(cluster, "many", count=dead, dead=True)
    queue = f"{dashboard}/api/v1/queues/main/bullmq/{QUEUE}"
    wait_until(lambda: get_json(queue).get("counts", {}).get("dead") == dead, what="all dead jobs in the dashboard")
    wait_until(lambda: sink.kinds_received("dead") == ["firing"], what="the alert")
    operation = start_bulk(dashboard, pace_per_s=per_second)

    def await_progress(what: str) -> None:
        known = get_json(operation)
        assert known["state"] == "running", known
        wait_until(lambda: get_json(operation)["done"] > known["done"], what=what)

    wait_until(lambda: get_json(operation)["done"] > per_second, what="a part of the jobs retried")
    kill_owner_of(cluster, "{bull}:")
    await_progress("a job retried after the failover of the queue")
    kill_owner_of(cluster, "{queuedeck}:")
    await_progress("a job retried after the failover of the store")
    with slot_on_its_way(cluster):
        job = get_json(f"{queue}/jobs?state=dead")["jobs"][0]["id"]
        assert get_json(f"{queue}/jobs/{job}")["state"] == "dead"
    await_progress("a job retried after its slot was moved")
    post_json(f"{operation}/abort", {})
    wait_until(lambda: get_json(operation)["state"] == "aborted", what="the end of the slow operation")
    rest = start_bulk(dashboard, pace_per_s=0)
    wait_until(lambda: get_json(rest)["state"] == "done", what="the end of the quick one")
    wait_until(lambda: sink.kinds_received("dead") == ["firing", "resolved"], what="the message about the end")
    worker = drive(cluster, "consume")["worker"]
    try:
        with cluster.client() as client:
            wait_until(lambda: client.hlen("marks") == dead, what="the run of each job")
            wait_until(lambda: client.zcard(f"{{bull}}:{QUEUE}:completed") == dead, what="the end of each job")
            assert set(client.hvals("marks")) == {b"1"}
    finally:
        drive(cluster, "stop", worker=worker)
