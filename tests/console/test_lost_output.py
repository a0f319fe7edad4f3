"""Commands whose reader goes away: no traceback, and an exit status that says what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.demo.embedded import EmbeddedRedis, reserved_port
from tests.processes import ROOT
from tests.serving import running
from tests.waiting import CEILING_S

NO_READER = 141  # as of a command that SIGPIPE ended


def run(*arguments: str, given: str = "", errors_too: bool = False) -> tuple[int, str]:
    """(exit status, what it said as its errors) of `queuedeck` with a standard output that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "dashboard.cli", *arguments],
            cwd=ROOT,
            input=given,
            stdout=writes,
            stderr=writes if errors_too else subprocess.PIPE,
            text=True,
            check=False,
            timeout=CEILING_S,
        )
    finally:
        os.close(writes)
    return ended.returncode, ended.stderr or ""


@pytest.mark.usefixtures("redis_client")
def test_check_answers_by_its_status_alone(server: EmbeddedRedis, kept_port: int) -> None:
    nobody = f"redis://127.0.0.1:{kept_port}/0"
    assert run("check", "--redis", server.url) == run("check", "--redis", server.url, "--json") == (0, "")
    assert run("check", "--redis", nobody) == run("check", "--redis", nobody, "--json") == (2, "")
    assert run("check", "--redis", "nonsense") == (3, "")  # before it knows in which form it is to answer
    assert run("check", "--redis", server.url, errors_too=True) == (0, "")


def test_doctor_answers_by_its_status_alone(server: EmbeddedRedis, kept_port: int) -> None:
    status, said = run("doctor", "--redis", f"redis://127.0.0.1:{kept_port}/0")
    assert (status, said) == (2, "")
    status, said = run("doctor", "--redis", server.url)
    assert status in (0, 1)
    assert said == ""


def test_what_got_lost_is_no_success() -> None:
    assert run("hash-password", given="a long password\n") == (NO_READER, "")
    assert run("--help")[1] == run("--version")[1] == ""
    assert run("doctor", "--redis", "nonsense", errors_too=True) == (NO_READER, "")


def test_head_takes_the_first_line(server: EmbeddedRedis) -> None:
    command = f"{sys.executable} -m dashboard.cli doctor --redis {server.url} | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=CEILING_S
    )
    first, status = ended.stdout.split("\n")[:2]
    assert first.startswith("main · redis://")
    assert status in ("0", "1")
    assert ended.stderr == ""


def test_an_unread_banner_does_not_block_the_dashboard(server: EmbeddedRedis, tmp_path: Path) -> None:
    starts = tmp_path / "starts.py"
    starts.write_text(
        "import os, sys\n"
        "reads, writes = os.pipe(); os.close(reads); os.dup2(writes, 1); os.close(writes)\n"
        "from dashboard.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    with reserved_port() as port:
        command = [str(starts), "serve", "--redis", server.url, "--port", str(port)]
        with running(command, port, PYTHONPATH=str(ROOT)) as served:
            assert served.process.is_alive
