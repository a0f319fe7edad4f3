"""Servers that are not a complete single Redis are named in one clear message on every page; without a renamed command,
everything else works."""

from __future__ import annotations

import html
import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis, find_binary, reserved_port
from dashboard.doctor import main as doctor
from dashboard.settings import load
from dashboard.web.context import EXTENSION
from tests.conftest import start_server
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

PAGES = (
    *("/", "/workers", "/schedules", "/dead", "/alerts", "/alerts/rules", "/search?q=mail", "/audit", "/bulk"),
    *("/queues/main/rq/mail", "/metrics", "/api/v1/overview", "/api/v1/queues", "/api/v1/workers", "/api/v1/schedules"),
    *("/api/v1/dead", "/api/v1/redis", "/api/v1/bulk", "/api/v1/audit", "/api/v1/alerts", "/api/v1/rules"),
    *("/api/v1/silences", "/api/v1/deliveries", "/api/v1/search?q=mail", "/readyz", "/redis", "/api/v1/redis/main"),
)
SAME = {"Sec-Fetch-Site": "same-origin"}
CLUSTERED = ("--cluster-enabled", "yes")


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of the node of two that has not the slot of Queuedeck's own keys."""
    with start_server("redis-7", *CLUSTERED) as one, start_server("redis-7", *CLUSTERED) as two:
        first, second = (redis.Redis.from_url(server.url) for server in (one, two))
        first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port)
        for client in (first, second):
            wait_until(
                lambda client=client: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")),
                what="both nodes knowing each other",
            )
            client.close()
        yield one.url


@contextmanager
def broken_cluster() -> Iterator[str]:
    """The URL of a node that has no slots."""
    with start_server("redis-7", *CLUSTERED) as server:
        yield server.url


@contextmanager
def sentinel(folder: Path) -> Iterator[str]:
    """The URL of a Sentinel that watches nothing."""
    with reserved_port() as port:
        configuration = folder / "sentinel.conf"
        configuration.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
        process = subprocess.Popen([find_binary(), configuration, "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

            wait_until(answers, what="the Sentinel")
            client.close()
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


@contextmanager
def orphan() -> Iterator[str]:
    """The URL of a replica that has lost its primary and answers nothing until it is back."""
    with start_server("redis-7", "--replica-serve-stale-data", "no", "--replicaof", "127.0.0.1 1") as replica:
        yield replica.url


SERVERS = {
    "a node of a cluster": (cluster, "is one node of a Redis Cluster"),
    "a cluster that is down": (broken_cluster, "belongs to a Redis Cluster that is down"),
    "a Sentinel": (sentinel, "is a Sentinel"),
    "a replica without its primary": (orphan, "is a replica that lost its primary"),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_each_page_names_the_kind_of_server(
    kind: str, make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make, message = SERVERS[kind]
    with make(tmp_path) if make is sentinel else make() as url:
        client = make_app(redis_url=url).test_client()
        answers = {page: client.get(page) for page in PAGES}
        (source,) = answers["/api/v1/overview"].get_json()["sources"]

    assert {
        page: answer.status_code for page, answer in answers.items() if answer.status_code not in (200, 403, 503)
    } == {}
    assert not source["reachable"]
    assert message in source["error"]
    hints = ("Use redis+cluster://", "slots without a node", "Point the URL at the primary", "Use redis+sentinel://")
    assert any(hint in source["hint"] for hint in hints)
    for page in ("/", "/workers", "/dead", "/alerts", "/alerts/rules", "/bulk", "/audit", "/queues/main/rq/mail"):
        assert message in html.unescape(answers[page].text), page
    for name in ("alerts", "rules", "silences", "deliveries", "bulk", "audit"):
        answer = answers[f"/api/v1/{name}"]
        assert answer.status_code == 503
        assert message in answer.get_json()["error"]["message"], name
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_the_doctor_recognizes_a_sentinel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sentinel(tmp_path) as url:
        doctor(load(environ={}, keywords={"redis_url": url}))
    out = capsys.readouterr().out
    assert "is a Sentinel" in out
    assert "Grant" not in out


@pytest.mark.parametrize("name", ["SET", "XADD", "TYPE", "TIME"])
def test_a_renamed_command_that_scripts_need_is_reported(
    name: str, make_app: MakeApp, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is reported once, in words; the queues are read anyway."""
    with start_server("redis-7", "--rename-command", name, "") as server:
        with redis.Redis.from_url(server.url) as own:
            own.hset("bull:orders:meta", mapping={"version": "bullmq:5.1.0"})
            own.rpush("bull:orders:wait", "7")
        app = make_app(redis_url=server.url, checker="auto", sample_interval_s=0.5)
        extension = app.extensions[EXTENSION]
        client = app.test_client()
        services = extension.services
        problem = wait_until(lambda: (client.get("/"), services.checker_problem)[1], what="why it does not check")
        answers = [client.get(page).status_code for page in ("/", "/search?q=7", "/queues/main/bullmq/orders")]
        told = client.get("/api/v1/overview").get_json()
        extension.stop()
        doctor(load(environ={}, keywords={"redis_url": server.url}))
    assert answers == [200, 200, 200]
    assert [queue["depth"] for queue in told["queues"]] == [1]
    assert name in problem.message or "lacks a command that a script needs" in problem.message
    assert "acl_check_cmd" not in f"{problem.message} {caplog.text} {capsys.readouterr().out}"
    assert [record for record in caplog.records if record.exc_info] == []
    assert len([line for line in caplog.messages if line.startswith("could not take or renew the lease")]) == 1


@pytest.fixture
def without_scripts() -> Iterator[EmbeddedRedis]:
    """A server on which EVAL and EVAL_RO were renamed away, as some hosts of Redis do."""
    with start_server("redis-7", "--rename-command", "EVAL", "", "--rename-command", "EVAL_RO", "") as server:
        yield server


def test_reading_works_without_script_commands(
    without_scripts: EmbeddedRedis, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    own = redis.Redis.from_url(without_scripts.url)
    job = Queue("mail", connection=own).enqueue("app.mail.send", "ada")
    own.hset("bull:orders:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:5.1.0"})
    own.hset("bull:orders:7", mapping={"name": "charge", "data": "{}", "timestamp": 1})
    own.rpush("bull:orders:wait", "7")
    own.zadd("retry", {'{"class":"Mailer","args":[],"jid":"0123456789abcdef01234567","queue":"cash"}': 1})
    own.lpush("celery", "{}")
    own.sadd("_kombu.binding.celery", b"celery\x06\x16\x06\x16celery")
    own.close()
    client: FlaskClient = make_app(redis_url=without_scripts.url).test_client()

    def found() -> set[tuple[str, str]]:
        return {(queue["backend"], queue["name"]) for queue in client.get("/api/v1/queues").get_json()["queues"]}

    wait_until(lambda: len({backend for backend, _ in found()}) == 4, what="a queue of each library being found")
    pages = [f"/queues/main/{backend}/{name}" for backend, name in sorted(found())]
    jobs = [f"/queues/main/rq/mail/jobs/{job.id}", "/queues/main/bullmq/orders/jobs/7"]
    answers = {page: client.get(page).status_code for page in (*PAGES, *pages, *jobs)}

    assert {page: status for page, status in answers.items() if status != 200} == {}
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
    doing = client.post(f"/api/v1/queues/main/rq/mail/jobs/{job.id}/delete", json={"state": "waiting"}, headers=SAME)
    assert "unknown command 'EVAL': it was renamed or disabled" in str(doing.get_json())
