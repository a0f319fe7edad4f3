"""A worker for gunicorn that gives no thread to a request before all of it has arrived.

gunicorn's own threaded worker parses a request in one of its threads and waits there for the rest: as many connections
as there are threads, each with one byte, and nobody is answered. Here the main loop collects head and body of each
request, within RECEIVE_S, and a thread gets what is complete. Sending has a limit too: who does not take an answer
loses it after SEND_S.
"""

from __future__ import annotations

import errno
import fcntl
import re
import resource
import selectors
import socket
import sys
import termios
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, NoReturn

from gunicorn import http, util
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import ThreadWorker

RECEIVE_S = 10.0  # for head and body together
SEND_S = 20.0  # for one part of an answer, and for the answers before the next request of a connection
LEAVE_S = 2.0  # that the other side has to close after the last answer
MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024 + 4096  # somewhat more than the application takes, which says so in its own words
MAX_CHUNKS = 4096  # of one body: each costs the main loop some microseconds
MAX_LINE = 8190  # as gunicorn's own limit
RECEIVE_BYTES = 64 * 1024
# What an answer may lie in while its reader is slow, so that no thread waits for it. Linux grants some 400 KiB.
SEND_BYTES = 1024 * 1024
# Connections that one worker has open, where it may have as many files. The oldest that wait are closed for newer ones
# before that is reached.
CONNECTIONS = 600
OTHER_FILES = 128
MAX_BUFFERED = 64 * 1024 * 1024  # of all requests that are not answered
UNSENT_LOOK_S = 0.05
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\d{1,18}\Z")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;|\Z)")
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect"})


class Refused(Exception):
    """The request is not taken; `status` says why."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class Incoming:
    """The bytes of one request so far. Once it is complete, `request` is what gunicorn gets, `rest` what came after it.

    A body in chunks is put together here: gunicorn's reader of chunks takes time that grows with the square of their
    number. Where the length of a body is not told in exactly one way, the request is refused, so that a thread never
    waits for more. Time: linear in the bytes.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_complete = False
        self.expects_continue = False
        self._place = 0  # what lies before it was looked at
        self._end = 0  # where the body ends, or the present chunk
        self._lines: list[bytes] = []  # of the head, without those that tell how the body is framed
        self._chunks: list[tuple[int, int]] = []  # where in the data they lie
        self._chunked = 0  # bytes in them
        self._framed = False  # whether the head told of a body
        self._step: Callable[[], bool] = self._read_head  # whether there is a next step with what has arrived

    def add(self, data: bytes) -> None:
        """Take what has arrived. Raises Refused."""
        self.data += data
        while not self.is_complete and self._step():
            pass

    @property
    def request(self) -> bytes:
        """Head and body, the length of a body in one header."""
        body = b"".join(bytes(self.data[start:end]) for start, end in self._chunks)
        lines = [*self._lines, *([b"Content-Length: %d" % len(body)] if self._chunks or self._framed else [])]
        return b"\r\n".join(lines) + _HEAD_END + body

    @property
    def rest(self) -> bytes:
        """The beginning of the next request."""
        return bytes(self.data[self._end :])

    def _read_head(self) -> bool:
        end = self.data.find(_HEAD_END, max(0, self._place - len(_HEAD_END) + 1))
        self._place = len(self.data)
        if (end if end >= 0 else self._place) > MAX_HEAD:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if end < 0:
            return False
        self._place = self._end = end + len(_HEAD_END)
        lengths, codings = self._read_lines(bytes(self.data[:end]))
        self._framed = bool(lengths or codings)
        if codings:
            if codings != [b"chunked"] or lengths or not self._lines[0].endswith(b" HTTP/1.1"):
                raise Refused(HTTPStatus.BAD_REQUEST)
            self._step = self._read_chunk_line
        elif lengths:
            self._read_length(lengths)
        else:
            self.is_complete = True
        return True

    def _read_lines(self, head: bytes) -> tuple[list[bytes], list[bytes]]:
        """(values of Content-Length, values of Transfer-Encoding); notes whether the client waits for a word."""
        first, *lines = head.split(b"\r\n")
        values: dict[bytes, list[bytes]] = {name: [] for name in _FRAMING}
        self._lines = [first]
        for line in lines:
            name, _, value = line.partition(b":")
            if (name := name.lower()) in _FRAMING:
                values[name].append(value.strip(b" \t").lower())
            else:
                self._lines.append(line)
        expected = values[b"expect"]
        if expected not in ([], [b"100-continue"]):
            raise Refused(HTTPStatus.EXPECTATION_FAILED)
        self.expects_continue = bool(expected) and first.endswith(b" HTTP/1.1")
        return values[b"content-length"], values[b"transfer-encoding"]

    def _read_length(self, lengths: list[bytes]) -> None:
        if len(lengths) != 1 or not _LENGTH.match(lengths[0]):
            raise Refused(HTTPStatus.BAD_REQUEST)
        self._end = self._place + int(lengths[0])
        if int(lengths[0]) > MAX_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._step = self._read_body

    def _read_body(self) -> bool:
        if len(self.data) >= self._end:
            self._chunks = [(self._place, self._end)]
            self.is_complete = True
        return False

    def _read_chunk_line(self) -> bool:
        end = self.data.find(b"\r\n", self._place, self._place + MAX_LINE)
        if end < 0:
            if len(self.data) - self._place >= MAX_LINE:
                raise Refused(HTTPStatus.BAD_REQUEST)
            return False
        found = _CHUNK_SIZE.match(bytes(self.data[self._place : end]))
        if found is None:
            raise Refused(HTTPStatus.BAD_REQUEST)
        size = int(found[1], 16)
        if size == 0:
            self._place, self._step = end, self._read_trailers
            return True
        self._chunked += size
        if self._chunked > MAX_BODY or len(self._chunks) >= MAX_CHUNKS:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._chunks.append((end + 2, end + 2 + size))
        self._end, self._step = end + 2 + size + 2, self._read_chunk
        return True

    def _read_chunk(self) -> bool:
        if len(self.data) < self._end:
            return False
        if self.data[self._end - 2 : self._end] != b"\r\n":
            raise Refused(HTTPStatus.BAD_REQUEST)
        self._place, self._step = self._end, self._read_chunk_line
        return True

    def _read_trailers(self) -> bool:
        """Nobody here reads trailers: they are left out."""
        end = self.data.find(_HEAD_END, self._place)
        if (end if end >= 0 else len(self.data)) - self._place > MAX_HEAD:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self.is_complete = end >= 0
        self._end = end + len(_HEAD_END)
        return False


class _Collected(Unreader):  # type: ignore[misc]
    """What gunicorn's parser reads from: what was collected, and no socket, so that it never waits for one."""

    def chunk(self, size_hint: int | None = None) -> bytes:  # noqa: ARG002
        """Nothing more: as at the end of a connection."""
        return b""


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
        self._unsent: dict[Any, float] = {}  # complete, but answers before it are under way; until when they may be
        self._leaving: dict[Any, float] = {}  # by connection, until when
        self._buffered = 0  # bytes of requests that are not answered
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._crowded = max(8, min(CONNECTIONS, files - OTHER_FILES)) * 9 // 10

    def accept(self, listener: Any) -> None:
        """Take a new connection; where it is crowded, at the cost of the one that has waited longest."""
        if self.nr_conns + len(self._leaving) >= self._crowded:
            self._make_room()
        try:
            super().accept(listener)
        except OSError as exc:
            if exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._make_room()
            time.sleep(UNSENT_LOOK_S)  # it asks again at once, and nothing here can help but time

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
        self._incoming[conn] = Incoming(), time.monotonic() + RECEIVE_S
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        if conn.rest:
            rest, conn.rest = conn.rest, b""
            self._take(conn, rest)
        else:
            self._receive(conn, conn.sock)

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Something comes on a connection that was kept open."""
        if conn in self.keepalived_conns:
            super().on_client_socket_readable(conn, client)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """A thread is done with a request."""
        self._count(conn, 0)
        super().finish_request(conn, fs)
        if getattr(conn, "rest", b"") and conn in self.keepalived_conns:  # the next request came with the last one
            self.on_client_socket_readable(conn, conn.sock)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """As gunicorn's, and soon again for connections whose last answer is under way."""
        super().wait_for_and_dispatch_events(min(timeout, UNSENT_LOOK_S) if self._unsent else timeout)
        now = time.monotonic()
        for conn, deadline in list(self._unsent.items()):
            if not _unsent_bytes(conn.sock):
                del self._unsent[conn]
                super().enqueue_req(conn)
            elif deadline <= now:
                del self._unsent[conn]
                self._abandon(conn)

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
        try:
            incoming.add(data)
        except Refused as exc:
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
        # Whoever asks for more while answers are under way, and reads none, must not keep a thread waiting.
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
        """A line that fits into the buffer of any socket; a connection that is gone is noticed when it is read."""
        try:
            conn.sock.send(data)
        except OSError:
            return

    def _count(self, conn: Any, size: int) -> None:
        """Note how many bytes of its request a connection has here."""
        self._buffered += size - getattr(conn, "bytes", 0)
        conn.bytes = size

    def _forget(self, conn: Any) -> Incoming:
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
    """How much of what was sent the other side has not received; 0 where the system does not tell."""
    size = bytearray(4)
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, size)
    except (OSError, ValueError):
        return 0
    return int.from_bytes(size, sys.byteorder)
