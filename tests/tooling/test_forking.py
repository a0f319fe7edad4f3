"""Programs of the tests that are forked: to a test they are like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forking
from tests.processes import ROOT, child
from tests.waiting import CEILING_S, wait_until

PROGRAM = """
import os, sys
print(*sys.argv[1:], os.getcwd(), os.environ["GIVEN"], os.environ.get("TAKEN"), os.getsid(0) == os.getpid(), __name__)
print("noted", file=sys.stderr)
sys.stdout.flush()
sys.exit(int(sys.stdin.readline()))
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A program of its own in `tmp_path`, which a server with `json` starts."""
    (tmp_path / "program_of_a_fork.py").write_text(PROGRAM)
    monkeypatch.setitem(forking.PRELOADED, ("program_of_a_fork",), ("json",))
    monkeypatch.setenv("TAKEN", "before")
    command = [sys.executable, "-m", "program_of_a_fork", "one", "two words"]
    assert forking.preloaded_for(command, os.environ) == ("json",)
    return command


def test_a_fork_is_like_a_program_that_was_started(command: list[str], tmp_path: Path) -> None:
    for status in ("0", "7"):  # the second one is of the same server
        with child(command, name="fork", cwd=tmp_path, environ={"GIVEN": "ä"}, pipes=True) as process:
            assert isinstance(process.process, forking.Forked)
            assert process.read_line() == f"one two words {tmp_path} ä before True __main__"
            assert process.is_alive
            with pytest.raises(subprocess.TimeoutExpired):
                process.process.wait(0)
            process.write_line(status)
            assert process.process.wait(CEILING_S) == int(status)
            assert process.read_log() == "noted\n"
            assert not process.is_alive


def test_a_fork_is_stopped_and_killed(command: list[str], tmp_path: Path) -> None:
    for end, status in ((lambda p: p.stop(), -signal.SIGTERM), (lambda p: p.kill(), -signal.SIGKILL)):
        with child(command, name="fork", cwd=tmp_path, environ={"GIVEN": ""}, pipes=True) as process:
            process.read_line()
            assert end(process) == process.process.returncode == status


def test_a_fork_that_fails_says_why(command: list[str], tmp_path: Path) -> None:
    with child(command, name="fork", cwd=tmp_path) as process:
        assert process.process.wait(CEILING_S) == 1
        assert process.read_log().endswith("KeyError: 'GIVEN'\n")


def test_forks_end_with_tests_that_were_killed(tmp_path: Path) -> None:
    tests = (
        "import os, signal, sys; from tests import forking, processes\n"
        "forking.PRELOADED['program_of_a_fork',] = ('json',)\n"
        "command = [sys.executable, '-m', 'program_of_a_fork']\n"
        "process = processes.start(command, name='fork', cwd=sys.argv[1], environ={'GIVEN': ''}, pipes=True)\n"
        "process.read_line()\nprint(process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "program_of_a_fork.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-c", tests, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    status = Path(f"/proc/{int(done.stdout)}/status")
    wait_until(lambda: not status.exists() or "\nState:\tZ" in status.read_text(), what="the end of the fork")


def test_another_interpreter_is_started_as_usual(command: list[str]) -> None:
    assert forking.preloaded_for(command, {"PYTHONHASHSEED": "1"}) is None
    assert forking.preloaded_for(["node", *command[1:]], {}) is None
    assert forking.preloaded_for([sys.executable, "-m", "dashboard.cli", "demo"], {}) is None
    assert forking.preloaded_for([sys.executable, "-m", "dashboard.cli", "checker", "--redis", "x"], {})
