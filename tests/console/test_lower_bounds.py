"""The oldest packages that pyproject.toml allows: beside a Celery of 2023, in an environment of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.demo.embedded import EmbeddedRedis
from tests.oldest_packages import ROOT, install_oldest

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
def oldest() -> Path:
    """A folder with the oldest of each package, and Celery; kept until a bound changes."""
    return install_oldest(ROOT / ".pytest_cache" / "oldest-packages")


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
