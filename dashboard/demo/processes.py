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
from .incident import OUTAGE_FILE, OUTAGE_VARIABLE, PAYMENTS_QUEUE

SIDEKIQ_SCRIPT = Path(__file__).resolve().parent / "sidekiq_work.rb"
NODE_FOLDER = Path(__file__).resolve().parent / "node"
# Prefix of the settings of the user's own dashboard, which the demo ignores.
SETTINGS_PREFIX = "QUEUEDECK_"
LAST_LINE_LIMIT = 300
RQ_WORKERS: dict[str, tuple[str, ...]] = {
    "payments-1": (PAYMENTS_QUEUE,),
    "payments-2": (PAYMENTS_QUEUE,),
    "images-1": ("thumbnails", "newsletter"),
    "letters-1": ("newsletter", "thumbnails"),
    "reports-1": ("reports",),
}
# In the demo's folder: the sign-in token for the browser; empty = no sign-in.
TOKEN_FILE = "token"  # noqa: S105 - a name
# What a producer prints once each of its queues has a job and a worker.
READY_LINE = "ready"


@dataclass(slots=True)
class DemoProcess:
    """A process of the demo. `title` is its display name; its output goes to `log`; a `producer` prints READY_LINE."""

    title: str
    process: subprocess.Popen[bytes]
    log: Path
    producer: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the process has exited."""
        return self.process.poll() is not None

    @property
    def is_starting(self) -> bool:
        """Whether it is a producer that runs and has not printed READY_LINE yet."""
        return self.producer and not self.has_ended and READY_LINE not in self._read_lines()

    def last_output(self) -> str:
        """Return the last line it printed, else its exit status."""
        lines = [line for line in self._read_lines() if line != READY_LINE]
        return lines[-1][:LAST_LINE_LIMIT] if lines else f"exit status {self.process.returncode}"

    def _read_lines(self) -> list[str]:
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace").strip().splitlines()
        return []


def start_process(
    title: str, command: Sequence[str], folder: Path, *, cwd: Path | None = None, producer: bool = False
) -> DemoProcess:
    """Start a child in its own session: Ctrl-C in the terminal is for the demo, which stops its children in order.

    Its standard input is a pipe that closes when the demo dies; on Linux, the kernel also sends a signal then.
    """
    log = folder / f"{title.replace(' ', '-')}.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_PREFIX)}
    environ[OUTAGE_VARIABLE] = str(folder / OUTAGE_FILE)
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
    return DemoProcess(title, process, log, producer)


def start_python(title: str, module: str, *arguments: str, folder: Path, producer: bool = False) -> DemoProcess:
    """Start a child that runs a module of the demo with this Python interpreter."""
    command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
    return start_process(title, command, folder, producer=producer)


def start_workloads(redis_url: str, folder: Path) -> list[DemoProcess]:
    """Start all producers and workers; Node and Sidekiq only if they and their packages are installed."""
    rq = [
        start_python("RQ producer", "rq_work", redis_url, "produce", folder=folder, producer=True),
        *(
            start_python(f"RQ worker {name}", "rq_work", redis_url, "work", name, *queues, folder=folder)
            for name, queues in RQ_WORKERS.items()
        ),
    ]
    celery = [
        start_python("Celery producer", "celery_work", redis_url, "produce", folder=folder, producer=True),
        start_python("Celery worker", "celery_work", redis_url, "work", folder=folder),
    ]
    bullmq = start_python("BullMQ in Python", "bullmq_work", redis_url, folder=folder, producer=True)
    return [*rq, *celery, bullmq, *_start_node(redis_url, folder), *_start_sidekiq(redis_url, folder)]


def _start_sidekiq(redis_url: str, folder: Path) -> list[DemoProcess]:
    """Start Sidekiq, if it is installed."""
    ruby = shutil.which("ruby")
    if ruby is None:
        return []
    asked = subprocess.run([ruby, "-rsidekiq", "-e", "1"], capture_output=True, timeout=20, check=False)  # noqa: S603
    if asked.returncode:
        return []
    return [start_process("Sidekiq", [ruby, "-W0", str(SIDEKIQ_SCRIPT), redis_url], folder, producer=True)]


def _start_node(redis_url: str, folder: Path) -> list[DemoProcess]:
    node = shutil.which("node")
    if node is None or not (NODE_FOLDER / "node_modules" / "bullmq").is_dir():
        return []
    command = [node, "worker.mjs", redis_url]
    return [start_process("BullMQ in Node", command, folder, cwd=NODE_FOLDER, producer=True)]


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
