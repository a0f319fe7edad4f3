"""One deadline for everything in a delivery attempt, however slowly the peer sends.

A socket timeout applies to each read, so a peer that sends a byte now and then can hold its client forever. Here a
timer shuts down the connection itself when time is up: a handshake, write or read that waits on it returns immediately.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
# Limit of calls that cannot be interrupted (a name lookup, a third-party library) and have outlived their deadline.
_STUCK_LIMIT = 16
_thread_slots = threading.BoundedSemaphore(_STUCK_LIMIT)


class Deadline:
    """A deadline after which watched sockets are shut down. Use it as a context manager, once."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._is_over = False
        self._timer = threading.Timer(max(seconds, 0.0), self._shut_down_sockets)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for twin in self._watched:
                twin.close()
            self._watched.clear()

    def remaining_s(self) -> float:
        """Seconds left, never below zero."""
        return max(self._end - time.monotonic(), 0.0)

    @property
    def is_expired(self) -> bool:
        return time.monotonic() >= self._end

    def watch_socket(self, sock: socket.socket) -> None:
        """Shut `sock` down when time is up, also after TLS has wrapped it: a duplicate of its descriptor is held."""
        with self._lock:
            self._watched.append(sock.dup())
            late = self._is_over
        if late:
            self._shut_down_sockets()

    def connect_socket(self, family: int, address: tuple[str | int, ...], *, within_s: float) -> socket.socket:
        """A watched connection to exactly this address. Raises OSError, and TimeoutError when it takes too long."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(max(min(within_s, self.remaining_s()), 0.001))
            sock.connect(address)
            sock.settimeout(max(self.remaining_s(), 0.001))
            self.watch_socket(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def run_bounded(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raises; TimeoutError when it takes too long, and its thread is abandoned.

        For work that cannot be interrupted. At most 16 such threads exist at a time; another one is a TimeoutError too.
        """
        if not _thread_slots.acquire(timeout=self.remaining_s()):
            raise TimeoutError
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run_work() -> None:
            try:
                answers.put((work(), None))
            except BaseException as exc:
                answers.put((None, exc))
            finally:
                _thread_slots.release()

        try:
            threading.Thread(target=run_work, name="queuedeck-bounded", daemon=True).start()
        except RuntimeError:  # no thread available
            _thread_slots.release()
            raise TimeoutError from None
        try:
            value, error = answers.get(timeout=max(self.remaining_s(), 0.001))
        except queue.Empty:
            raise TimeoutError from None
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def _shut_down_sockets(self) -> None:
        with self._lock:
            self._is_over = True
            for twin in self._watched:
                # The duplicate descriptor is the same connection, so this wakes its readers and writers.
                with contextlib.suppress(OSError):
                    twin.shutdown(socket.SHUT_RDWR)
