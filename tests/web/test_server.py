"""The dashboard under gunicorn, as `queuedeck serve` and as one's own: one leader, no process left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request

import psutil
import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sampling import snapshot_store
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.sources.source import Source
from dashboard.store import redis_store
from tests.processes import ROOT
from tests.serving import get_json, running, serving
from tests.waiting import CEILING_S, wait_until

PER_SAMPLE = 2  # LLEN of a sample of one queue, at most


def test_serve_monitors_the_given_redis_and_stops_cleanly(
    server: EmbeddedRedis, redis_client: redis.Redis, jobs: list[str]
) -> None:
    with serving("--redis", server.url, port=0) as served:
        assert f"\nOpen {served.url}/\n" in served.process.read_log()
        assert not served.url.endswith(":0")
        with urllib.request.urlopen(f"{served.url}/healthz") as response:
            assert response.headers["Server"] == "queuedeck"
        url = f"{served.url}/api/v1/overview"
        answer = wait_until(lambda: (found := get_json(url))["queues"] and found, what="a queue")
        assert answer["queues"][0]["depth"] == 3
        wait_until(lambda: redis_client.exists(snapshot_store.SNAPSHOT), what="the first snapshot")
        children = psutil.Process(served.process.pid).children(recursive=True)
        assert children
        served.process.send(signal.SIGTERM)
        assert served.process.process.wait(CEILING_S) == 0
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not redis_client.exists(redis_store.LEAD)  # given back, so that another one goes on at once


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["plain", "preload"])
def test_two_workers_share_one_leader(
    server: EmbeddedRedis, redis_client: redis.Redis, source: Source, jobs: list[str], preload: list[str]
) -> None:
    command = ["-m", "gunicorn", "wsgi:app", "--workers", "2", "--threads", "4", "--bind", "127.0.0.1:0"]
    command += ["-c", "python:dashboard.web.server", "--no-control-socket", *preload]
    environ = {"QUEUEDECK_REDIS_URL": server.url, "QUEUEDECK_SAMPLE_INTERVAL_S": "0.5"}
    with running(command, **environ) as served:
        wait_until(lambda: redis_client.exists(snapshot_store.SNAPSHOT), what="the first snapshot")
        holder = (redis_client.get(redis_store.LEAD) or b"").rpartition(b":")[0]
        store = SnapshotStore(source)
        first = store.read_published(with_history=False)[0]
        before = redis_client.info("commandstats")["cmdstat_llen"]["calls"]
        url = f"{served.url}/api/v1/overview"
        sampled = get_json(url)["sampled_at"]
        wait_until(lambda: get_json(url)["sampled_at"] > sampled, what="a newer sample")
        for _ in range(100):
            assert get_json(url)["queues"][0]["depth"] == 3
        assert (redis_client.get(redis_store.LEAD) or b"").rpartition(b":")[0] == holder
        after = redis_client.info("commandstats")["cmdstat_llen"]["calls"]
        last = store.read_published(with_history=False)[0]
        assert first is not None
        assert last is not None
        # The leader's samples, as many as there was time for; the viewers' requests cost none.
        assert after - before < 50 + PER_SAMPLE * (last.sequence - first.sequence)


WRONG: list[tuple[list[str], str]] = [
    (["--redis", "http://127.0.0.1:1"], "queuedeck: --redis: expected redis://"),
    (["--config", "/nowhere/queuedeck.toml"], "/nowhere/queuedeck.toml: cannot be read"),
    (["--port", "99999999"], "cannot listen on 127.0.0.1:99999999"),
    (["--redis", "redis+sentinel://127.0.0.1:1/0"], "Redis Sentinel is not supported yet"),
    (["--host", "a" * 300], "cannot listen on aaa"),
    (["--host", "\udcff"], r"cannot listen on \udcff:"),
    (["--threads", "0"], "queuedeck: --threads: expected a number from 1 to 500"),
]
# Each command in a process of its own, all forked from one that has imported the package: that is most of the work.
EACH_COMMAND = """
import json, os, sys
from dashboard.cli import main
import dashboard.web.server
for arguments in json.load(sys.stdin):
    reads, writes = os.pipe()
    if not os.fork():
        os.dup2(writes, 2)
        os.close(writes)
        sys.exit(main(["serve", *arguments]))
    os.close(writes)
    with open(reads, encoding="utf-8") as said:
        text = said.read()
    print(json.dumps([os.waitstatus_to_exitcode(os.wait()[1]), text]), flush=True)
"""


def test_a_wrong_setting_stops_the_start_with_one_line() -> None:
    result = subprocess.run(
        [sys.executable, "-c", EACH_COMMAND],
        cwd=ROOT,
        input=json.dumps([arguments for arguments, _ in WRONG]),
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    for (arguments, expected), (status, said) in zip(WRONG, answers, strict=True):
        assert status == 2, (arguments, said)
        assert expected in said, arguments
        assert len(said.strip().splitlines()) == 1, arguments


def test_a_port_in_use_is_reported_in_one_line(server: EmbeddedRedis) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dashboard.cli", "serve", "--port", str(server.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    assert result.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}: Address already in use. Choose another" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_server_starts_without_redis_says_so_and_recovers(server: EmbeddedRedis) -> None:
    with EmbeddedRedis(server.binary) as own:
        own.stop()
        with serving("--redis", own.url) as served:
            url = f"{served.url}/api/v1/overview"
            (source,) = get_json(url)["sources"]
            assert source["error"].startswith("Connection refused by")
            own.start()
            wait_until(lambda: get_json(url)["sources"][0]["reachable"], what="the source to be reachable again")
