"""The oldest packages that pyproject.toml allows: beside a Celery of 2023, in an environment of their own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dashboard.demo.embedded import EmbeddedRedis
from tests.processes import ROOT

# What people have in their environments already; the dashboard is to be added to it.
THEIRS = ["celery[redis]==5.3.6"]
_BOUND = re.compile(r"(?P<name>[a-z0-9-]+)(?P<extras>\[\w+\])?>=(?P<least>[\d.]+)(?:,<[\d.]+)?\Z")

pytestmark = pytest.mark.usefixtures("redis_client")

LOOK = """
import sys
from dashboard import create_app

app = create_app(redis_url=sys.argv[1], auth="none", checker="off")
client = app.test_client()
paths = ("/", "/workers", "/schedules", "/dead", "/alerts", "/search?q=mail", "/api/v1/overview", "/readyz", "/metrics")
for path in paths:
    answer = client.get(path, environ_base={"SERVER_PROTOCOL": "HTTP/1.1"})
    print(answer.status_code, path)
"""


@pytest.fixture(scope="module")
def oldest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the oldest of each package, and Celery; kept in the cache of pytest until a bound changes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [_BOUND.match(bound) for bound in project["dependencies"]]
    assert all(bounds), "a dependency without a lower bound, or of a form that this test does not know"
    packages = [f"{bound['name']}{bound['extras'] or ''}=={bound['least']}" for bound in bounds if bound] + THEIRS
    named = hashlib.sha256(repr((packages, sys.version)).encode()).hexdigest()[:16]
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    folder = (cache.mkdir("oldest-packages") if cache else tmp_path_factory.mktemp("packages")) / named
    if not folder.is_dir():
        made = tmp_path_factory.mktemp("oldest", numbered=True)
        options = ["-q", "--disable-pip-version-check", "--no-compile", "--target", made]
        command = [sys.executable, "-m", "pip", "install", *options, *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        partial = folder.with_suffix(f".{os.getpid()}")  # so that a run that is interrupted leaves no part of it
        shutil.move(made, partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return folder


def run(oldest: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with those packages and no others."""
    environ = {"PYTHONPATH": f"{oldest}:{ROOT}"}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environ)


def test_every_page_is_there(oldest: Path, server: EmbeddedRedis) -> None:
    done = run(oldest, "-W", "error", "-c", LOOK, server.url)

    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["200"] * 9, done.stdout


def test_the_doctor_finds_nothing_wrong(oldest: Path, server: EmbeddedRedis) -> None:
    done = run(oldest, "-m", "dashboard.cli", "doctor", "--redis", server.url)

    assert "0 problems" in done.stdout, done.stdout + done.stderr


def test_a_gunicorn_that_is_too_old_to_serve_is_named(oldest: Path, server: EmbeddedRedis) -> None:
    done = run(oldest, "-m", "dashboard.cli", "serve", "--redis", server.url, "--port", "0")

    assert done.returncode == 2
    assert done.stderr == (
        "queuedeck: the dashboard's own server needs gunicorn 26 or later; 21.2.0 is installed. "
        "Run pip install --upgrade gunicorn, or install the dashboard in a separate environment.\n"
    )
