"""The one way in which tests start a process: with a log that a failure shows, and gone when the test is gone.

Each process leads a group of its own and ends with the process of the tests, even when that is killed. What it writes
goes to a file, so that it never stands still before a pipe that nobody reads.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dashboard.demo.embedded import die_with_parent
from tests import forking
from tests.waiting import CEILING_S

ROOT = Path(__file__).resolve().parent.parent
# A failure shows so much of the end of each log.
SHOWN_BYTES = 20_000

# Processes in the order of their start; the plugin of the tests shows the logs of those that lived during a failure.
STARTED: list[Child] = []


@dataclass(eq=False)
class Child:
    """A process of a test. With `pipes`, its stdin and stdout are the test's, and only stderr goes to the log."""

    name: str
    process: subprocess.Popen[bytes] | forking.Forked
    log: Path

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group, too."""
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def read_log(self) -> str:
        """The end of what it wrote, SHOWN_BYTES at most."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES))
            return file.read().decode("utf-8", "replace")

    def read_line(self) -> str:
        """The next line of its stdout, without the line end. Fails with its log when there is none within CEILING_S."""
        assert self.process.stdout is not None, f"{self.name} was started without pipes"
        line = b""
        deadline = time.monotonic() + CEILING_S
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready = select.select([self.process.stdout], [], [], max(0.0, left))[0]
            byte = os.read(self.process.stdout.fileno(), 1) if ready else b""
            assert byte, f"{self.name} wrote {line!r} and no line within {CEILING_S:.0f} s; its log:\n{self.read_log()}"
            line += byte
        return line.decode("utf-8", "replace").rstrip("\r\n")

    def write_line(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None, f"{self.name} was started without pipes"
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it has ended."""
        self.process.send_signal(number)

    def kill(self) -> int:
        """End it and its group at once; its exit status."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and end it by force after CEILING_S; its exit status."""
        self.send(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CEILING_S)
        return self.kill()


def start(
    command: Sequence[str | Path],
    *,
    name: str,
    cwd: Path = ROOT,
    environ: Mapping[str, str] | None = None,
    pipes: bool = False,
) -> Child:
    """A running process; `environ` is added to ours. `child` is the better choice where a block can hold it."""
    handle, path = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=_log_folder())
    with os.fdopen(handle, "wb") as log:
        process = _begun([str(part) for part in command], log.fileno(), cwd, {**os.environ, **(environ or {})}, pipes)
    started = Child(name, process, Path(path))
    STARTED.append(started)
    return started


def _begun(
    command: list[str], log: int, cwd: Path, environ: Mapping[str, str], pipes: bool
) -> subprocess.Popen[bytes] | forking.Forked:
    modules = forking.preloaded_for(command, environ)
    if modules is not None:
        return forking.fork(modules, command, cwd=cwd, environ=environ, stderr=log, pipes=pipes)
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
        stdout=subprocess.PIPE if pipes else log,
        stderr=log,
        start_new_session=True,
        bufsize=0,
        preexec_fn=die_with_parent(),
    )


@contextlib.contextmanager
def child(
    command: Sequence[str | Path],
    *,
    name: str,
    cwd: Path = ROOT,
    environ: Mapping[str, str] | None = None,
    pipes: bool = False,
    gently: bool = True,
) -> Iterator[Child]:
    """A process as long as the block: ended by SIGTERM, or at once with `gently` False, its group with it."""
    started = start(command, name=name, cwd=cwd, environ=environ, pipes=pipes)
    try:
        yield started
    finally:
        if gently and started.is_alive:
            started.stop()
        else:
            started.kill()
        for pipe in (started.process.stdin, started.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _log_folder() -> str:
    """The folder of this run's logs, made once per process of the tests and removed at its end."""
    global _folder
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix="queuedeck-tests-")
    return _folder.name


_folder: tempfile.TemporaryDirectory[str] | None = None
