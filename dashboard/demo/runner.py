"""`queuedeck demo`: an embedded Redis, real workers with a realistic workload, and the dashboard, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import bullmq  # noqa: F401 - reports missing packages before anything is started
import celery  # noqa: F401
import rq  # noqa: F401

from ..errors import ConfigurationError
from .embedded import EmbeddedRedis, reserved_port
from .processes import TOKEN_FILE, DemoProcess, start_python, start_workloads, stop_processes

HOST = "127.0.0.1"
DEFAULT_PORT = 9181
PORTS_TRIED = 100
# The demo's own limits keep it far below this; it gives the page a memory limit to show.
REDIS_OPTIONS = ("--maxmemory", "256mb", "--maxmemory-policy", "noeviction")
START_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.2
# The dashboard finishes its open requests first. Workers may lose their jobs: Redis is stopped with them.
STOP_DASHBOARD_S = 4.0
STOP_WORKLOADS_S = 1.5
EXIT_ENDED = 1


def main(arguments: argparse.Namespace) -> int:
    """Run the demo until SIGINT, SIGTERM or SIGHUP; return 0, or 1 if the dashboard or Redis exited unexpectedly.

    Raises ConfigurationError if `arguments.port` is in use or no Redis server is installed.
    """
    # Handle signals before the first line is printed: its reader may stop the demo immediately.
    with _Signals() as signals, _chosen_port(arguments.port) as port:
        return _start_demo(port, signals, no_auth=arguments.no_auth or os.environ.get("QUEUEDECK_AUTH") == "none")


def _start_demo(port: int, signals: _Signals, *, no_auth: bool) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="queuedeck-demo-") as folder,
        EmbeddedRedis(options=REDIS_OPTIONS) as redis,
        _DemoProcesses() as crew,
    ):
        token = "" if no_auth else secrets.token_urlsafe(32)
        # In a file that only this user can read: every user of the machine can read command lines.
        Path(folder, TOKEN_FILE).write_text(token)
        if signals.stop_requested:
            return 0
        crew.dashboards.append(start_python("dashboard", "serve", redis.url, str(port), folder, folder=Path(folder)))
        crew.workloads.extend(start_workloads(redis.url, Path(folder)))
        return _run_demo(crew, redis, signals, port, token)


def _run_demo(crew: _DemoProcesses, redis: EmbeddedRedis, signals: _Signals, port: int, token: str) -> int:
    url = f"http://{HOST}:{port}/"
    dashboard = crew.dashboards[0]
    if not _wait_until_ready(f"{url}healthz", dashboard, signals):
        return 0 if signals.stop_requested else _report_end(dashboard)
    names = ", ".join(dict.fromkeys(_library_title(child.title) for child in crew.workloads))
    print(f"Queuedeck demo: private Redis on {HOST}:{redis.port}; jobs from {names}.")
    print(f"Open {url}{'?token=' if token else ''}{token}   (Ctrl-C to stop)", flush=True)
    reported: set[str] = set()
    while not signals.stop_requested:
        for child in crew.workloads:
            if child.has_ended and child.title not in reported:
                reported.add(child.title)
                print(f"demo: {child.title} exited: {child.last_output()}; everything else keeps running", flush=True)
        if dashboard.has_ended:
            return _report_end(dashboard)
        if not redis.is_running:
            print("demo: the embedded Redis exited", flush=True)
            return EXIT_ENDED
        time.sleep(LOOK_EVERY_S)
    print("\nStopping the demo …", flush=True)
    return 0


def _library_title(title: str) -> str:
    return title if title.startswith("BullMQ") else title.split()[0]


def _report_end(child: DemoProcess) -> int:
    print(f"demo: the {child.title} exited: {child.last_output()}", flush=True)
    return EXIT_ENDED


@dataclass(slots=True)
class _DemoProcesses:
    """The children; a context manager that stops them: the dashboard first, so that it never shows Redis going down."""

    dashboards: list[DemoProcess] = field(default_factory=list)
    workloads: list[DemoProcess] = field(default_factory=list)

    def __enter__(self) -> _DemoProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        stop_processes(self.dashboards, STOP_DASHBOARD_S)
        stop_processes(self.workloads, STOP_WORKLOADS_S)


class _Signals:
    """Records that the demo should stop, instead of stopping it in the middle of a step; a context manager."""

    HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.stop_requested = False
        self._previous_handlers: list[object] = []

    def __enter__(self) -> _Signals:
        self._previous_handlers = [signal.signal(number, self._record_signal) for number in self.HANDLED_SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self.HANDLED_SIGNALS, self._previous_handlers, strict=True):
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _record_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requested = True


def _wait_until_ready(url: str, dashboard: DemoProcess, signals: _Signals) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and not signals.stop_requested and not dashboard.has_ended:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own server
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


@contextlib.contextmanager
def _chosen_port(wanted: int | None) -> Iterator[int]:
    """Yield the dashboard's port; if `wanted` is 0, a free one, reserved until the block ends.

    Raises ConfigurationError.
    """
    if wanted == 0:
        with reserved_port() as port:
            yield port
    else:
        yield _choose_port(wanted)


def _choose_port(wanted: int | None) -> int:
    """Return `wanted` if it is free; if it is None, the default or the next free port, which a printed line reports.

    Raises ConfigurationError.
    """
    if wanted is not None:
        if not _is_free(wanted):
            raise ConfigurationError(f"port {wanted} is in use or not permitted.", hint="Choose another --port.")
        return wanted
    for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED):
        if _is_free(port):
            if port != DEFAULT_PORT:
                print(f"Port {DEFAULT_PORT} is in use; using {port}.", flush=True)
            return port
    raise ConfigurationError(f"no free port found from {DEFAULT_PORT} on.", hint="Choose one with --port.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True
