"""The dashboard under gunicorn, as `queuedeck serve` and as one's own: one leader, no process left behind."""

from __future__ import annotations

import signal
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sampling import snapshot_store
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.sources.source import Source
from dashboard.store import redis_store
from tests.processes import child
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
    (["--redis", "redis+sentinel://127.0.0.1:1"], "expected redis+sentinel:// with the Sentinels"),
    (["--host", "a" * 300], "cannot listen on aaa"),
    (["--host", "\udcff"], r"cannot listen on \udcff:"),
    (["--threads", "0"], "queuedeck: --threads: expected a number from 1 to 500"),
]


def test_a_wrong_setting_stops_the_start_with_one_line() -> None:
    for arguments, expected in WRONG:
        status, said = run_serve(*arguments)
        assert status == 2, (arguments, said)
        assert expected in said, arguments
        assert len(said.strip().splitlines()) == 1, (arguments, said)


def test_serve_cannot_be_behind_a_unix_socket(tmp_path: Path) -> None:
    config = tmp_path / "queuedeck.toml"
    config.write_text('[proxy_sign_in]\npeers = ["unix"]\nuser_header = "X-User"\ndefault_role = "viewer"\n')
    status, said = run_serve("--config", str(config))
    assert (status, "proxy_sign_in: peers: serve listens on an address" in said) == (2, True)
    assert "gunicorn --bind unix:" in said


def run_serve(*arguments: str) -> tuple[int, str]:
    """The exit status of `queuedeck serve` that ends by itself, and what it printed."""
    with child([sys.executable, "-m", "dashboard.cli", "serve", *arguments], name="server") as process:
        return process.process.wait(CEILING_S), process.read_log()


def test_a_port_in_use_is_reported_in_one_line(server: EmbeddedRedis) -> None:
    status, said = run_serve("--port", str(server.port))
    assert status == 2
    assert f"cannot listen on 127.0.0.1:{server.port}: Address already in use. Choose another" in said
    assert len(said.strip().splitlines()) == 1


def test_the_server_starts_without_redis_says_so_and_recovers(server: EmbeddedRedis) -> None:
    with EmbeddedRedis(server.binary) as own:
        own.stop()
        with serving("--redis", own.url) as served:
            url = f"{served.url}/api/v1/overview"
            (source,) = get_json(url)["sources"]
            assert source["error"].startswith("Connection refused by")
            own.start()
            wait_until(lambda: get_json(url)["sources"][0]["reachable"], what="the source to be reachable again")
