"""A library that another package brings: found by the entry point group `queuedeck.backends`, shown like the others."""

from __future__ import annotations

import os
import sys
import tomllib
import urllib.request
from pathlib import Path

import listq
import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from tests.processes import ROOT, child
from tests.serving import get_json, serving
from tests.waiting import wait_until

EXAMPLE = ROOT / "docs" / "example_backend"
# Backends that lack something: a method, or one of the attributes that every page needs.
TOYS = """
from queuedeck_listq.backend import Backend, ListQ

class Unfinished(Backend):
    name, title, states, capabilities = "toy", "Toy", {}, frozenset()
    discover_queues = ListQ.discover_queues
    list_jobs = ListQ.list_jobs
    read_job = ListQ.read_job

def without(attribute):
    methods = {method: getattr(ListQ, method) for method in Backend.__abstractmethods__}
    named = {"name": "toy", "title": "Toy", "states": {}, "capabilities": frozenset()}
    del named[attribute]
    return type("Toy", (Backend,), methods | named)

NoName, NoTitle, NoStates, NoCapabilities = map(without, ("name", "title", "states", "capabilities"))
"""


def install(folder: Path, points: dict[str, str]) -> str:
    """What pip leaves of a package with these entry points, in `folder`; the PYTHONPATH with it and the example."""
    info = folder / "queuedeck_listq-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: queuedeck-listq\nVersion: 0.1.0\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[queuedeck.backends]", *lines, ""]))
    return os.pathsep.join([str(folder), str(EXAMPLE)])


def entry_points() -> dict[str, str]:
    """The entry points of the example, as its pyproject.toml has them."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    return dict(project["entry-points"]["queuedeck.backends"])


def test_an_installed_backend_is_shown_and_its_dead_jobs_are_retried(tmp_path: Path, any_server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(any_server.url) as client:
        client.flushall()
        for number in range(3):
            listq.enqueue(client, "mails", "send", number)
        assert listq.run_next(client, "mails", {})  # there is no function: the job is dead
        path = install(tmp_path, entry_points())
        with serving("--redis", any_server.url, PYTHONPATH=path) as served:
            queues = wait_until(lambda: get_json(f"{served.url}/api/v1/queues")["queues"], what="the queue")
            assert [(row["backend"], row["name"], row["depth"]) for row in queues] == [("listq", "mails", 2)]
            base = f"{served.url}/api/v1/queues/main/listq/mails"
            [dead] = get_json(f"{base}/jobs?state=dead")["jobs"]
            assert dead["error"]["class"] == "KeyError"
            with urllib.request.urlopen(f"{served.url}/queues/main/listq/mails?state=dead") as page:
                assert dead["id"] in page.read().decode()
            headers = {"Content-Type": "application/json", "Origin": served.url}
            retry = urllib.request.Request(f"{base}/jobs/{dead['id']}/retry", b"{}", headers)
            with urllib.request.urlopen(retry) as answer:
                assert answer.status == 200
            assert listq.counts(client, "mails") == {"wait": 3, "busy": 0, "dead": 0, "done": 0}


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (
            {"listq": "queuedeck_listq.backend:ListQ", "rq": "queuedeck_listq.backend:ListQ"},
            "two backends are named 'rq'",
        ),
        ({"listq": "queuedeck_listq.missing:ListQ"}, "cannot be imported: ModuleNotFoundError"),
        ({"listq": "queuedeck_listq.backend:LISTS"}, "is not a subclass of dashboard.backends.base.Backend"),
        ({"other": "queuedeck_listq.backend:ListQ"}, "calls itself 'listq'"),
        (
            {"base": "queuedeck_listq.backend:Backend"},
            "lacks name, title, states, capabilities, discover_queues",
        ),
        ({"toy": "toys:Unfinished"}, "the backend 'toy' (toys:Unfinished) lacks read_flow, read_stats\n"),
        ({"toy": "toys:NoName"}, "the backend 'toy' (toys:NoName) lacks name\n"),
        ({"toy": "toys:NoTitle"}, "the backend 'toy' (toys:NoTitle) lacks title\n"),
        ({"toy": "toys:NoStates"}, "the backend 'toy' (toys:NoStates) lacks states\n"),
        ({"toy": "toys:NoCapabilities"}, "the backend 'toy' (toys:NoCapabilities) lacks capabilities\n"),
    ],
)
def test_a_backend_that_cannot_be_used_is_a_clear_error(tmp_path: Path, points: dict[str, str], expected: str) -> None:
    path = install(tmp_path, points)
    (tmp_path / "toys.py").write_text(TOYS)
    command = [sys.executable, "-m", "dashboard.cli", "doctor"]
    with child(command, name="doctor", environ={"PYTHONPATH": path}) as process:
        wait_until(lambda: not process.is_alive, what="the end of the command")
        assert expected in process.read_log()
        assert "Traceback" not in process.read_log()
