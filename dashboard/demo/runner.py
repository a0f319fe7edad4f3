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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import bullmq  # noqa: F401 - reports missing packages before anything is started
import celery  # noqa: F401
import rq  # noqa: F401

from ..errors import ConfigurationError, QueuedeckError
from .embedded import EmbeddedRedis, reserved_port
from .incident import Incident, describe_story
from .past.writing import write_past
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
# Of --incident-after and --incident-for, in seconds.
SHORTEST_INCIDENT_S = 1.0
LONGEST_S = 86_400.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How the demo runs. Times are in seconds; `token` is empty if the page requires no sign-in."""

    port: int
    token: str
    incident_after_s: float
    incident_for_s: float


def main(arguments: argparse.Namespace) -> int:
    """Run the demo until SIGINT, SIGTERM or SIGHUP; SIGUSR1 begins or ends the incident at once.

    Return 0, or 1 if the dashboard or Redis exited unexpectedly.

    Raises ConfigurationError if `arguments.port` is in use, a time of the incident is out of range, or no Redis server
    is installed.
    """
    after_s = _check_seconds("--incident-after", arguments.incident_after, least=0.0)
    for_s = _check_seconds("--incident-for", arguments.incident_for, least=SHORTEST_INCIDENT_S)
    no_auth = arguments.no_auth or os.environ.get("QUEUEDECK_AUTH") == "none"
    token = "" if no_auth else secrets.token_urlsafe(32)
    # Handle signals before the first line is printed: its reader may stop the demo immediately.
    with _Signals() as signals, _chosen_port(arguments.port) as port:
        return _start_demo(DemoOptions(port, token, after_s, for_s), signals)


def _check_seconds(option: str, value: float, *, least: float) -> float:
    """Return `value`; raises ConfigurationError if it is not from `least` to LONGEST_S."""
    if not least <= value <= LONGEST_S:  # also for NaN
        raise ConfigurationError(f"{option}: expected {least:g} to {LONGEST_S:g} seconds; got {value:g}")
    return value


def _start_demo(options: DemoOptions, signals: _Signals) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="queuedeck-demo-") as folder,
        EmbeddedRedis(options=REDIS_OPTIONS) as redis,
        _DemoProcesses() as crew,
    ):
        # In a file that only this user can read: every user of the machine can read command lines.
        Path(folder, TOKEN_FILE).write_text(options.token)
        if signals.stop_requested:
            return 0
        print("Starting Redis, the workers and the dashboard …", flush=True)
        crew.workloads.extend(start_workloads(redis.url, Path(folder)))
        _write_past(redis.url, crew.workloads)
        # The dashboard starts last: it then finds all queues in its first scan.
        if not _wait_for_producers(crew, signals):
            return 0
        crew.dashboards.append(
            start_python("dashboard", "serve", redis.url, str(options.port), folder, folder=Path(folder))
        )
        if not _wait_until_ready(f"http://{HOST}:{options.port}/healthz", crew.dashboards[0], signals):
            return 0 if signals.stop_requested else _report_end(crew.dashboards[0])
        _print_start(options, redis, crew)
        incident = Incident(Path(folder), options.incident_after_s, options.incident_for_s)
        return _run_demo(crew, redis, incident, signals)


def _write_past(redis_url: str, workloads: Sequence[DemoProcess]) -> None:
    """Give the charts a past, while the workers start."""
    try:
        write_past(redis_url, {child.title for child in workloads}, time.time())
    except QueuedeckError as exc:
        print(f"demo: the charts start empty: {exc.message}", flush=True)


def _wait_for_producers(crew: _DemoProcesses, signals: _Signals) -> bool:
    """Wait until all producers are ready, for at most START_TIMEOUT_S; return False if the demo should stop.

    A producer that exited is reported later.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and any(child.is_starting for child in crew.workloads):
        if signals.stop_requested:
            return False
        time.sleep(0.05)
    return not signals.stop_requested


def _print_start(options: DemoOptions, redis: EmbeddedRedis, crew: _DemoProcesses) -> None:
    names = ", ".join(dict.fromkeys(_library_title(child.title) for child in crew.workloads))
    print(f"Queuedeck demo: private Redis on {HOST}:{redis.port}; jobs from {names}.")
    query = f"?token={options.token}" if options.token else ""
    print(f"Open http://{HOST}:{options.port}/{query}   (Ctrl-C to stop)")
    print(*describe_story(options.incident_after_s, options.incident_for_s), sep="\n", flush=True)


def _run_demo(crew: _DemoProcesses, redis: EmbeddedRedis, incident: Incident, signals: _Signals) -> int:
    dashboard = crew.dashboards[0]
    reported: set[str] = set()
    while not signals.stop_requested:
        for child in crew.workloads:
            if child.has_ended and child.title not in reported:
                reported.add(child.title)
                print(f"demo: {child.title} exited: {child.last_output()}; everything else keeps running", flush=True)
        if (line := incident.advance(at_once=signals.take_advance())) is not None:
            print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
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
    """Records what the demo should do, instead of doing it in the middle of a step; a context manager.

    SIGUSR1 begins the incident without waiting for its time, and the next one ends it.
    """

    HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

    def __init__(self) -> None:
        self.stop_requested = False
        self._advance_requested = False
        self._previous_handlers: list[object] = []

    def __enter__(self) -> _Signals:
        self._previous_handlers = [signal.signal(number, self._record_signal) for number in self.HANDLED_SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self.HANDLED_SIGNALS, self._previous_handlers, strict=True):
            signal.signal(number, handler)  # type: ignore[arg-type]

    def take_advance(self) -> bool:
        """Return whether SIGUSR1 came since the last call."""
        requested, self._advance_requested = self._advance_requested, False
        return requested

    def _record_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self._advance_requested = True
        else:
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
