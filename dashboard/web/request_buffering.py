"""A gunicorn worker that gives a request to a thread only when all of it has arrived.

gunicorn's own threaded worker parses a request in one of its threads and waits there for the rest: as many connections
as there are threads, with one byte each, block the server. Here the main loop collects head and body of each request,
within RECEIVE_S, and a thread gets only complete ones. Sending has a limit too: a client that does not receive its
response loses it after SEND_S.
"""

from __future__ import annotations

import errno
import fcntl
import resource
import selectors
import socket
import sys
import termios
import time
from functools import partial
from http import HTTPStatus
from typing import Any, NoReturn

from gunicorn import http, util
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import ThreadWorker

from .incoming_request import IncomingRequest, RequestRefused

RECEIVE_S = 10.0  # for head and body together
SEND_S = 20.0  # for one part of a response, and for the responses before the next request of a connection
LEAVE_S = 2.0  # for the other side to close after the last response
RECEIVE_BYTES = 64 * 1024
# The socket buffer that holds a response while its reader is slow, so that no thread waits. Linux grants some 400 KiB.
SEND_BYTES = 1024 * 1024
# Open connections of one worker, if its limit of files allows as many. Before this is reached, the connections that
# have waited longest are closed for newer ones.
CONNECTIONS = 600
OTHER_FILES = 128
MAX_BUFFERED = 64 * 1024 * 1024  # of all requests without a response
LOOK_S = 0.05  # between checks of what raises no event


class _Collected(Unreader):  # type: ignore[misc]
    """The input of gunicorn's parser: the collected bytes without a socket, so that it never waits for one."""

    def chunk(self, size_hint: int | None = None) -> bytes:  # noqa: ARG002
        """No more bytes, as at the end of a connection."""
        return b""


class _TimedSocket(socket.socket):
    """A socket that never blocks without a timeout, even if gunicorn sets it to.

    Raises ConnectionResetError, as if the other side had closed: gunicorn logs no traceback for that.
    """

    def setblocking(self, flag: bool) -> None:
        self.settimeout(SEND_S if flag else 0)

    def recv(self, *arguments: Any) -> bytes:
        try:
            return super().recv(*arguments)
        except TimeoutError:
            _gone()

    def send(self, *arguments: Any) -> int:
        try:
            return super().send(*arguments)
        except TimeoutError:
            _gone()

    def sendall(self, *arguments: Any) -> None:
        try:
            super().sendall(*arguments)
        except TimeoutError:
            _gone()

    def sendfile(self, *arguments: Any, **keywords: Any) -> int:
        try:
            return super().sendfile(*arguments, **keywords)
        except TimeoutError:
            _gone()


def _gone() -> NoReturn:
    raise ConnectionResetError(errno.ECONNRESET, "the other side is too slow") from None


class BufferingWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, whose threads get only complete requests. All methods run in the main loop.

    TLS and uwsgi, whose bytes only gunicorn can read, are left to gunicorn.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._incoming: dict[Any, tuple[IncomingRequest, float]] = {}  # by connection, oldest first
        self._unsent: dict[Any, float] = {}  # deadlines of complete requests that wait for earlier responses to be sent
        self._leaving: dict[Any, float] = {}  # deadlines by connection
        self._buffered = 0  # bytes of requests without a response
        self._accept_again = 0.0  # monotonic; when connections are accepted again
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._crowded = max(8, min(CONNECTIONS, files - OTHER_FILES)) * 9 // 10

    def accept(self, listener: Any) -> None:
        """Accept a new connection; near the limit, first close the one that has waited longest."""
        if self.nr_conns + len(self._leaving) >= self._crowded:
            self._make_room()
        try:
            super().accept(listener)
        except OSError as exc:
            if exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._make_room()
            self._accept_again = time.monotonic() + LOOK_S
            self.set_accept_enabled(False)

    def set_accept_enabled(self, enabled: bool) -> None:
        """As gunicorn's, which calls it in each round; stays disabled after no file was left for a connection."""
        super().set_accept_enabled(enabled and time.monotonic() >= self._accept_again)

    def enqueue_req(self, conn: Any) -> None:
        """Collect the next request of `conn`, then give it to a thread."""
        if self.cfg.is_ssl or getattr(self.cfg, "protocol", "http") != "http":
            super().enqueue_req(conn)
            return
        if not isinstance(conn.sock, _TimedSocket):
            conn.sock = _TimedSocket(fileno=conn.sock.detach())
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            conn.close = partial(self._close, conn)
            conn.rest = b""
        conn.sock.setblocking(False)
        conn.bytes = 0
        self._incoming[conn] = IncomingRequest(), time.monotonic() + RECEIVE_S
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        if conn.rest:
            rest, conn.rest = conn.rest, b""
            self._take(conn, rest)
        else:
            self._receive(conn, conn.sock)

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Data arrives on a keep-alive connection."""
        if conn in self.keepalived_conns:
            super().on_client_socket_readable(conn, client)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """A thread has finished a request."""
        self._count(conn, 0)
        super().finish_request(conn, fs)
        if getattr(conn, "rest", b"") and conn in self.keepalived_conns:  # the next request came with the last one
            self.on_client_socket_readable(conn, conn.sock)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """As gunicorn's, with a shorter timeout while responses are still being sent."""
        is_short = bool(self._unsent) or time.monotonic() < self._accept_again
        super().wait_for_and_dispatch_events(min(timeout, LOOK_S) if is_short else timeout)
        now = time.monotonic()
        for conn, deadline in list(self._unsent.items()):
            if not _unsent_bytes(conn.sock):
                del self._unsent[conn]
                super().enqueue_req(conn)
            elif deadline <= now:
                del self._unsent[conn]
                self._abandon(conn)

    def murder_pending(self) -> None:
        """Close connections that took too long, and at shutdown those without a request; called about once a second."""
        super().murder_pending()
        now = time.monotonic()
        for conn, (incoming, deadline) in list(self._incoming.items()):
            if deadline <= now and incoming.data:
                self._refuse(conn, HTTPStatus.REQUEST_TIMEOUT)
            elif deadline <= now or not (self.alive or incoming.data):
                self._drop(conn)
        for conn, deadline in list(self._leaving.items()):
            if deadline <= now:
                self._end(conn)

    def _receive(self, conn: Any, _sock: socket.socket) -> None:
        if conn not in self._incoming:  # closed after the poller reported it
            return
        try:
            data = conn.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(conn, data)
        else:
            self._drop(conn)

    def _take(self, conn: Any, data: bytes) -> None:
        incoming, _ = self._incoming[conn]
        waited = incoming.expects_continue
        try:
            incoming.add(data)
        except RequestRefused as exc:
            self._refuse(conn, exc.status)
            return
        self._count(conn, len(incoming.data))
        if self._buffered > MAX_BUFFERED:
            self._refuse(conn, HTTPStatus.SERVICE_UNAVAILABLE)
        elif incoming.is_complete:
            self._hand_over(conn)
        elif incoming.expects_continue and not waited:
            self._send(conn, b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hand_over(self, conn: Any) -> None:
        incoming = self._forget(conn)
        if conn.parser is None:
            conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = _Collected()
            conn.initialized = True
        conn.parser.unreader.unread(incoming.request)
        conn.rest = incoming.rest
        conn.data_ready = True
        # A client that sends more requests without reading the responses must not block a thread.
        if _unsent_bytes(conn.sock):
            self._unsent[conn] = time.monotonic() + SEND_S
        else:
            super().enqueue_req(conn)

    def _refuse(self, conn: Any, status: HTTPStatus) -> None:
        text = f"{status.phrase}\n"
        head = f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
        self._send(conn, f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())
        self._drop(conn, graceful=True)

    @staticmethod
    def _send(conn: Any, data: bytes) -> None:
        """Send a line that fits into the buffer of any socket; a closed connection is noticed when it is read."""
        try:
            conn.sock.send(data)
        except OSError:
            return

    def _count(self, conn: Any, size: int) -> None:
        """Record how many bytes of its request a connection has buffered."""
        self._buffered += size - getattr(conn, "bytes", 0)
        conn.bytes = size

    def _forget(self, conn: Any) -> IncomingRequest:
        self.poller.unregister(conn.sock)
        return self._incoming.pop(conn)[0]

    def _drop(self, conn: Any, *, graceful: bool = False) -> None:
        self._forget(conn)
        self._abandon(conn, graceful=graceful)

    def _abandon(self, conn: Any, *, graceful: bool = False) -> None:
        self._count(conn, 0)
        self.nr_conns -= 1
        conn.close(graceful=graceful)

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """As gunicorn does, but without blocking the main loop: what still arrives is read in small steps."""
        if not graceful:
            util.close(conn.sock)
            return
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._leave, conn))
        except (OSError, ValueError, KeyError, RuntimeError):
            util.close(conn.sock)
            return
        self._leaving[conn] = time.monotonic() + LEAVE_S
        if len(self._leaving) > CONNECTIONS // 4:
            self._end(next(iter(self._leaving)))

    def _leave(self, conn: Any, _sock: socket.socket) -> None:
        if conn not in self._leaving:
            return
        try:
            if conn.sock.recv(RECEIVE_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._end(conn)

    def _end(self, conn: Any) -> None:
        del self._leaving[conn]
        self.poller.unregister(conn.sock)
        util.close(conn.sock)

    def _make_room(self) -> None:
        if self._leaving:
            self._end(next(iter(self._leaving)))
        elif self._incoming:
            self._drop(next(iter(self._incoming)))
        elif self._unsent:
            conn = next(iter(self._unsent))
            del self._unsent[conn]
            self._abandon(conn)
        elif self.keepalived_conns:
            self.keepalived_conns[0].timeout = 0
            self.murder_keepalived()


def _unsent_bytes(sock: socket.socket) -> int:
    """Bytes sent that the other side has not received; 0 where the system does not report it."""
    size = bytearray(4)
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, size)
    except (OSError, ValueError):
        return 0
    return int.from_bytes(size, sys.byteorder)
