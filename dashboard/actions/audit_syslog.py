"""Sends audit events to a syslog receiver, as RFC 5424 describes, in a thread: no request waits for it.

The standard library's SysLogHandler writes no RFC 5424 header, connects in the thread that logs, and does not connect
again over TCP.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from ..clock import instant, iso, now_s
from ..lazy_thread import LazyThread
from ..redact import masked_logger
from ..settings.syslog_targets import SyslogTarget

MAX_WAITING = 1_000
TIMEOUT_S = 5.0
# Between attempts while the receiver cannot be reached.
RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# Receivers cut longer messages: job ids are left out until a message fits, so that it remains valid JSON. If that is
# not enough, texts are cut to MAX_TEXT characters, each of which is up to 12 bytes of JSON.
MAX_BYTES, MAX_TEXT = 8_000, 80
STOP_S = 2.0
# Facility 13 (log audit), severity 6 (informational).
_PRIORITY = 13 * 8 + 6
_NOT_A_NAME = re.compile(r"[^!-~]")

log = masked_logger(__name__)


class SyslogForwarder:
    """Sends to one receiver, in the order of the events. Thread-safe; opens no connection before the first event.

    While the receiver cannot be reached, MAX_WAITING events wait; further ones are lost, counted and logged. UDP does
    not show whether a message arrives.
    """

    def __init__(self, target: SyslogTarget) -> None:
        self._target = target
        self._host = _NOT_A_NAME.sub("", socket.gethostname())[:255] or "-"
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._lost = 0
        self._is_reported = False
        self._socket: socket.socket | None = None
        self._thread = LazyThread("queuedeck-syslog", self._run_loop)

    @property
    def lost(self) -> int:
        """How many events were not sent."""
        return self._lost

    def forward(self, word: str, event: Mapping[str, Any]) -> None:
        """Send an event soon; `word` becomes its MSGID. Never waits, never raises."""
        message = self._build_message(word, event)
        with self._changed:
            if self._stopping.is_set() or len(self._waiting) >= MAX_WAITING:
                self._lost += 1
                first = self._lost == 1
            else:
                self._waiting.append(message)
                self._changed.notify()
                first = False
        if first:
            log.warning("audit events are not forwarded to %s: too many are waiting", self._target)
        self._thread.start()

    def stop(self) -> None:
        """Send what is waiting, for at most STOP_S, and end the thread."""
        with self._changed:
            self._stopping.set()
            self._changed.notify()
        self._thread.join(STOP_S)
        if self._waiting or self._lost:
            lost = self._lost + len(self._waiting)
            log.warning("%d audit events were not forwarded to %s; the server log has them", lost, self._target)

    def _build_message(self, word: str, event: Mapping[str, Any]) -> bytes:
        at = iso(instant(now_s()))
        head = f"<{_PRIORITY}>1 {at} {self._host} queuedeck {os.getpid()} {word} - "
        sent = {**event, "ids": list(event.get("ids") or ())}
        while True:
            message = (head + json.dumps(sent, separators=(",", ":"))).encode()
            if len(message) <= MAX_BYTES:
                return message
            if not sent["ids"]:
                break
            sent["ids"] = sent["ids"][: len(sent["ids"]) // 2]
        cut = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in sent.items()}
        return (head + json.dumps(cut, separators=(",", ":"))).encode()

    def _run_loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
                if not self._waiting:
                    break
                message = self._waiting[0]
            if not self._send_until_stopped(message):
                break
            with self._changed:
                self._waiting.popleft()
        self._close()

    def _send_until_stopped(self, message: bytes) -> bool:
        """Send one message, with further attempts while it fails; False if this was stopped before."""
        attempt = 0
        while True:
            try:
                self._send(message)
            except OSError as exc:
                self._close()
                if exc.errno == errno.EMSGSIZE:
                    self._lost += 1
                    return True
                self._report(exc)
                if self._stopping.wait(RETRY_S[min(attempt, len(RETRY_S) - 1)]):
                    return False
                attempt += 1
            else:
                if self._is_reported:
                    log.warning("audit events are forwarded to %s again; %d were lost", self._target, self._lost)
                    self._is_reported = False
                return True

    def _report(self, exc: OSError) -> None:
        if not self._is_reported:
            why = exc.strerror or str(exc)
            log.warning("audit events cannot be forwarded to %s: %s; %d can wait", self._target, why, MAX_WAITING)
            self._is_reported = True

    def _send(self, message: bytes) -> None:
        if self._socket is not None and self._socket.type == socket.SOCK_STREAM and _is_closed(self._socket):
            self._close()
        if self._socket is None:
            self._socket = _connect(self._target)
        # Over a stream, a message ends with its line; JSON has no line breaks.
        is_stream = self._socket.type == socket.SOCK_STREAM
        self._socket.sendall(message + b"\n" if is_stream else message)

    def _close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def _connect(target: SyslogTarget) -> socket.socket:
    """A connected socket. Raises OSError."""
    if target.protocol == "tcp":
        return socket.create_connection((target.host, target.port), TIMEOUT_S)
    if target.protocol == "unix":
        try:
            return _connect_one(socket.AF_UNIX, socket.SOCK_DGRAM, target.path)
        except OSError as exc:
            if exc.errno != errno.EPROTOTYPE:
                raise
            return _connect_one(socket.AF_UNIX, socket.SOCK_STREAM, target.path)
    (family, kind, _, _, address), *_ = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
    return _connect_one(family, kind, address)


def _connect_one(family: int, kind: int, address: Any) -> socket.socket:
    opened = socket.socket(family, kind)
    try:
        opened.settimeout(TIMEOUT_S)
        opened.connect(address)
    except OSError:
        opened.close()
        raise
    return opened


def _is_closed(connected: socket.socket) -> bool:
    """Whether the receiver has closed the connection: a message sent now would be lost without an error."""
    connected.setblocking(False)  # with a timeout, recv would wait for it, whatever its flags
    try:
        return connected.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connected.settimeout(TIMEOUT_S)
