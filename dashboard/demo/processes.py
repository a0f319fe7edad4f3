"""The demo's processes: started so that they exit with it, monitored, and stopped in order."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .embedded import die_with_parent

SIDEKIQ_SCRIPT = Path(__file__).resolve().parent / "sidekiq_work.rb"
NODE_FOLDER = Path(__file__).resolve().parent / "node"
# Prefix of the settings of the user's own dashboard, which the demo ignores.
SETTINGS_PREFIX = "QUEUEDECK_"
LAST_LINE_LIMIT = 300
# In the demo's folder: the sign-in token for the browser; empty = no sign-in.
TOKEN_FILE = "token"  # noqa: S105 - a name


@dataclass(slots=True)
class DemoProcess:
    """A process of the demo. `title` is its display name; its output goes to `log`."""

    title: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def has_ended(self) -> bool:
        """Whether the process has exited."""
        return self.process.poll() is not None

    def last_output(self) -> str:
        """Return the last line it printed, else its exit status."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1][:LAST_LINE_LIMIT]
        return f"exit status {self.process.returncode}"


def start_process(title: str, command: Sequence[str], folder: Path, *, cwd: Path | None = None) -> DemoProcess:
    """Start a child in its own session: Ctrl-C in the terminal is for the demo, which stops its children in order.

    Its standard input is a pipe that closes when the demo dies; on Linux, the kernel also sends a signal then.
    """
    log = folder / f"{title.replace(' ', '-')}.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_PREFIX)}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            list(command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environ,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    return DemoProcess(title, process, log)


def start_python(title: str, module: str, *arguments: str, folder: Path) -> DemoProcess:
    """Start a child that runs a module of the demo with this Python interpreter."""
    return start_process(title, [sys.executable, "-m", f"{__package__}.{module}", *arguments], folder)


def start_workloads(redis_url: str, folder: Path) -> list[DemoProcess]:
    """Start all producers and workers; Node and Sidekiq only if they and their packages are installed."""
    rq = [
        start_python("RQ producer", "rq_work", redis_url, "produce", folder=folder),
        start_python("RQ worker 1", "rq_work", redis_url, "work", "images-1", "thumbnails", folder=folder),
        start_python(
            "RQ worker 2", "rq_work", redis_url, "work", "images-2", "thumbnails", "newsletter", folder=folder
        ),
        start_python("RQ worker 3", "rq_work", redis_url, "work", "letters-1", "newsletter", folder=folder),
        start_python("RQ worker 4", "rq_work", redis_url, "work", "reports-1", "reports", folder=folder),
    ]
    celery = [
        start_python("Celery producer", "celery_work", redis_url, "produce", folder=folder),
        start_python("Celery worker", "celery_work", redis_url, "work", folder=folder),
    ]
    bullmq = start_python("BullMQ in Python", "bullmq_work", redis_url, folder=folder)
    return [*rq, *celery, bullmq, *_start_node(redis_url, folder), *_start_sidekiq(redis_url, folder)]


def _start_sidekiq(redis_url: str, folder: Path) -> list[DemoProcess]:
    """Start Sidekiq, if it is installed."""
    ruby = shutil.which("ruby")
    if ruby is None:
        return []
    asked = subprocess.run([ruby, "-rsidekiq", "-e", "1"], capture_output=True, timeout=20, check=False)  # noqa: S603
    if asked.returncode:
        return []
    return [start_process("Sidekiq", [ruby, "-W0", str(SIDEKIQ_SCRIPT), redis_url], folder)]


def _start_node(redis_url: str, folder: Path) -> list[DemoProcess]:
    node = shutil.which("node")
    if node is None or not (NODE_FOLDER / "node_modules" / "bullmq").is_dir():
        return []
    return [start_process("BullMQ in Node", [node, "worker.mjs", redis_url], folder, cwd=NODE_FOLDER)]


def stop_processes(children: Sequence[DemoProcess], within_s: float) -> None:
    """Stop all `children` together: by SIGTERM; what is left of their process groups after `within_s`, by SIGKILL."""
    for child in children:
        if not child.has_ended:
            child.process.terminate()
    deadline = time.monotonic() + within_s
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.0, deadline - time.monotonic()))
    for child in children:
        # The group, not only its leader: a server's worker must not outlive it. The group may already be empty.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        if child.process.stdin is not None:
            child.process.stdin.close()
