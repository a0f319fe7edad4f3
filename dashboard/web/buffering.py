"""A worker for gunicorn that gives no thread to a request before all of it has arrived.

gunicorn's own threaded worker parses a request in one of its threads and waits there for the rest: as many connections
as there are threads, each with one byte, and nobody is answered. Here the main loop collects head and body of each
request, within RECEIVE_S, and a thread gets what is complete. Sending has a limit too: who does not take an answer
loses it after SEND_S.
"""

from __future__ import annotations

import errno
import re
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, NoReturn

from gunicorn import http, util
from gunicorn.workers.gthread import ThreadWorker

RECEIVE_S = 10.0  # for head and body together
SEND_S = 20.0  # for one part of an answer
LEAVE_S = 2.0  # that the other side has to close after the last answer
MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024 + 4096  # somewhat more than the application takes, which says so in its own words
MAX_CHUNK_LINES = 256 * 1024  # of what stands between the chunks of one body
MAX_LINE = 8190  # as gunicorn's own limit
RECEIVE_BYTES = 64 * 1024
# Connections that one worker has open. The oldest that wait are closed for newer ones before that is reached, and it
# leaves room below the 1,024 files that a process may open by default.
CONNECTIONS = 600
CROWDED = CONNECTIONS * 9 // 10
MAX_BUFFERED = 64 * 1024 * 1024  # of all requests that are not complete
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\d{1,18}\Z")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}[ \t]*(?:;|\Z)")


class TooLarge(Exception):
    """The request is over a limit; `status` says which."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class Incoming:
    """The bytes of one request so far, and whether it is complete. What is malformed counts as complete.

    gunicorn's parser refuses it then. Time: linear in the bytes.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_complete = False
        self.expects_continue = False
        self._place = 0  # what lies before it was looked at
        self._end = 0  # where the body ends, of one whose length was told
        self._chunked = 0  # bytes in chunks, of one that comes in chunks
        self._lines = 0  # bytes between them
        self._step: Callable[[], bool] = self._read_head  # whether it may go on to the next one

    def add(self, data: bytes) -> None:
        """Take what has arrived. Raises TooLarge."""
        self.data += data
        while not self.is_complete and self._step():
            pass

    def _read_head(self) -> bool:
        end = self.data.find(_HEAD_END, max(0, self._place - len(_HEAD_END) + 1))
        self._place = len(self.data)
        if (end if end >= 0 else self._place) > MAX_HEAD:
            raise TooLarge(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if end < 0:
            return False
        self._place = end + len(_HEAD_END)
        lengths, codings = self._framing(bytes(self.data[:end]))
        if codings == [b"chunked"] and not lengths:
            self._step = self._read_chunks
        elif len(lengths) == 1 and not codings and _LENGTH.match(lengths[0]):
            self._end = self._place + int(lengths[0])
            if int(lengths[0]) > MAX_BODY:
                raise TooLarge(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            self._step = self._read_body
        else:
            self.is_complete = True
        return True

    def _framing(self, head: bytes) -> tuple[list[bytes], list[bytes]]:
        """(values of Content-Length, values of Transfer-Encoding); notes whether the client waits for a word."""
        lengths, codings = [], []
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            match name.lower():
                case b"content-length":
                    lengths.append(value.strip())
                case b"transfer-encoding":
                    codings.append(value.strip().lower())
                case b"expect":
                    self.expects_continue = value.strip().lower() == b"100-continue"
        return lengths, codings

    def _read_body(self) -> bool:
        self.is_complete = len(self.data) >= self._end
        return False

    def _read_chunks(self) -> bool:
        end = self.data.find(b"\r\n", self._place, self._place + MAX_LINE)
        if end < 0:
            self.is_complete = len(self.data) - self._place >= MAX_LINE
            return False
        found = _CHUNK_SIZE.match(bytes(self.data[self._place : end]))
        size = int(found[0].rstrip(b"; \t"), 16) if found else -1
        if size <= 0:
            self._place, self._step, self.is_complete = end, self._read_trailers, found is None
            return True
        self._chunked += size
        self._lines += end - self._place + 4
        if self._chunked > MAX_BODY or self._lines > MAX_CHUNK_LINES:
            raise TooLarge(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._end, self._step = end + 2 + size + 2, self._read_chunk
        return True

    def _read_chunk(self) -> bool:
        if len(self.data) < self._end:
            return False
        self._place, self._step = self._end, self._read_chunks
        return True

    def _read_trailers(self) -> bool:
        if len(self.data) - self._place > MAX_HEAD:
            raise TooLarge(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self.is_complete = self.data.find(_HEAD_END, self._place) >= 0
        return False


class _TimedSocket(socket.socket):
    """A socket that waits for nobody without end, also where gunicorn tells it to.

    Raises ConnectionResetError, as if the other side had gone: gunicorn logs no traceback for that.
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
    """gunicorn's threaded worker, but its threads see complete requests alone. All methods run in the main loop.

    TLS and uwsgi, whose bytes only gunicorn can read, are left to gunicorn's own way.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._incoming: dict[Any, tuple[Incoming, float]] = {}  # by connection, the oldest first
        self._buffered = 0  # bytes of them
        self._leaving: dict[Any, float] = {}  # by connection, until when

    def accept(self, listener: Any) -> None:
        """Take a new connection; where it is crowded, at the cost of the one that has waited longest."""
        if self.nr_conns >= CROWDED:
            self._make_room()
        super().accept(listener)

    def enqueue_req(self, conn: Any) -> None:
        """Collect the next request of `conn`, then give it to a thread."""
        if self.cfg.is_ssl or getattr(self.cfg, "protocol", "http") != "http":
            super().enqueue_req(conn)
            return
        if not isinstance(conn.sock, _TimedSocket):
            conn.sock = _TimedSocket(fileno=conn.sock.detach())
            conn.close = partial(self._close, conn)
        conn.sock.setblocking(False)
        incoming = Incoming()
        self._incoming[conn] = incoming, time.monotonic() + RECEIVE_S
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        if conn.parser and conn.parser.unreader.buf.getvalue():
            self._take(conn, conn.parser.unreader.read())
        else:
            self._receive(conn, conn.sock)

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Something comes on a connection that was kept open."""
        if conn in self.keepalived_conns:
            super().on_client_socket_readable(conn, client)

    def _receive(self, conn: Any, _sock: socket.socket) -> None:
        if conn not in self._incoming:  # closed since the poller told of it
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
        self._buffered += len(data)
        try:
            incoming.add(data)
        except TooLarge as exc:
            self._refuse(conn, exc.status)
            return
        if incoming.is_complete:
            self._hand_over(conn)
            return
        if incoming.expects_continue and not waited:
            self._send(conn, b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._buffered > MAX_BUFFERED:
            self._make_room()

    def _hand_over(self, conn: Any) -> None:
        incoming, _ = self._forget(conn)
        if conn.parser is None:
            conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
            conn.initialized = True
        conn.parser.unreader.unread(bytes(incoming.data))
        conn.data_ready = True
        super().enqueue_req(conn)

    def _refuse(self, conn: Any, status: HTTPStatus) -> None:
        text = f"{status.phrase}\n"
        head = f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
        self._send(conn, f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())
        self._drop(conn, graceful=True)

    @staticmethod
    def _send(conn: Any, data: bytes) -> None:
        """A line that fits into the buffer of any socket; a connection that is gone is noticed when it is read."""
        try:
            conn.sock.send(data)
        except OSError:
            return

    def _forget(self, conn: Any) -> tuple[Incoming, float]:
        self.poller.unregister(conn.sock)
        found = self._incoming.pop(conn)
        self._buffered -= len(found[0].data)
        return found

    def _drop(self, conn: Any, *, graceful: bool = False) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close(graceful=graceful)

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """As gunicorn does it, but the main loop waits for no other side: what comes after is taken bit by bit."""
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
        if self._incoming:
            self._drop(next(iter(self._incoming)))
        elif self.keepalived_conns:
            self.keepalived_conns[0].timeout = 0
            self.murder_keepalived()

    def murder_pending(self) -> None:
        """Close what took too long, and at the end of the process what has not begun; called about once a second."""
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
