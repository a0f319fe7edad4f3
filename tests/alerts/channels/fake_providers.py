"""Real servers that behave well or badly, and messages to send to them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from dashboard.alerts.delivery.channels.base import Message, MessageLine

STARTED = datetime(2026, 3, 1, 3, 12, 7, 250_000, tzinfo=UTC)
# A sender with a far shorter deadline has disconnected by then from a server that hangs or drips for longer.
SOON_S = 60.0
HANGS_S = 2 * SOON_S
ENDED = datetime(2026, 3, 1, 3, 53, 8, tzinfo=UTC)
TOKEN = "s3cr3t-token-Zq81/x"  # part of every secret of the tests
HOSTILE = 'mail\r\nBcc: eve@evil.test <!channel> @everyone <b>"x"</b> [a](https://evil.test) *b* \u202e\ud800\x00'


def message(**changes: Any) -> Message:
    base = Message(
        id="ep1:firing:0:ops",
        kind="firing",
        severity="critical",
        episode="ep1",
        rule_id="mail-deep",
        rule_name="Mail is deep",
        title="mail: 12,004 jobs waiting",
        lines=(
            MessageLine(
                label="main / rq / mail",
                value_text="12,004 jobs",
                threshold_text="above 10,000 jobs",
                since_text="03:12",
                url="https://deck.example/queues/main/rq/mail",
            ),
        ),
        runbook_url="https://runbook.example/mail",
        ack_url="https://deck.example/ack/ep1",
        silence_url="https://deck.example/silence/ep1",
        where="main / mail",
        source="main",
        queue="mail",
        started_at=STARTED,
        spark=(0.0, 1.0, None, 5.0, 9.0),
        top_errors=("SMTPServerDisconnected: please run connect() first",),
    )
    return msgspec.structs.replace(base, **changes)


def hostile(**changes: Any) -> Message:
    line = MessageLine(
        label=HOSTILE, value_text=HOSTILE, threshold_text=HOSTILE, since_text="x" * 100_000, url="javascript:1"
    )
    return message(
        title=HOSTILE * 20, rule_name=HOSTILE, queue=HOSTILE, lines=(line,) * 500, top_errors=(HOSTILE,) * 50, **changes
    )


class Request(msgspec.Struct, kw_only=True):
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class HttpSink:
    """A server on loopback; `answers` are used in turn, the last one repeatedly."""

    def __init__(self, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.requests.append(Request(path=self.path, headers=dict(self.headers), body=body))
                answer = sink.answers.pop(0) if len(sink.answers) > 1 else sink.answers[0]
                with contextlib.suppress(OSError):
                    answer(self)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass

        self.requests: list[Request] = []
        self.answers: list[Callable[[Any], None]] = [status(200)]
        self.over = threading.Event()
        self.server = Server((host, port), Handler)
        self.server.sink = self  # type: ignore[attr-defined]
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if context else 'http'}://{host}:{self.port}/hook/{TOKEN}?sig={TOKEN}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def kinds_received(self, rule: str) -> list[str]:
        """The kinds of the notifications received for a rule, each id once, in the order of arrival."""
        kinds: dict[str, str] = {}
        for message in (request.json() for request in self.requests):
            if message["rule_id"] == rule:
                kinds.setdefault(message["id"], message["kind"])
        return list(kinds.values())

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def status(code: int, body: bytes = b"ok", **headers: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def reset(handler: Any) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def hang(handler: Any) -> None:
    handler.server.sink.over.wait(HANGS_S)


def drip_header(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(handler, b"x")


def drip_body(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    _drip(handler, b"x")


def drip_refusal(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
    _drip(handler, b"x")


def huge(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not handler.server.sink.over.is_set():
        handler.wfile.write(b"y" * 65_536)


def garbage(handler: Any) -> None:
    handler.wfile.write(b"\x00\x01 this is not HTTP\r\n\r\n")


def echo(code: int) -> Callable[[Any], None]:
    """Responds with the whole request in several spellings, as some servers do."""

    def answer(handler: Any) -> None:
        sent = handler.server.sink.requests[-1]
        lines = [sent.path, *sent.headers.values(), sent.body.decode(), TOKEN.replace("/", "\\/"), TOKEN.upper()]
        status(code, " ".join(lines).encode())(handler)

    return answer


def _drip(handler: Any, data: bytes) -> None:
    while not handler.server.sink.over.wait(0.05):
        handler.wfile.write(data)
        handler.wfile.flush()


class Authority:
    """A certificate authority of our own, and one server certificate for localhost and sink.test."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        key, request, self.cert, self.key = (folder / name for name in ("ca.key", "s.csr", "s.pem", "s.key"))
        extension = folder / "ext"
        extension.write_text("subjectAltName=DNS:localhost,DNS:sink.test\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _openssl("req", "-x509", *curve, "-keyout", key, "-out", self.ca, "-days", "2", "-subj", "/CN=Test CA")
        _openssl("req", *curve, "-keyout", self.key, "-out", request, "-subj", "/CN=sink")
        signed = ["-CA", self.ca, "-CAkey", key, "-CAcreateserial", "-days", "2", "-extfile", extension]
        _openssl("x509", "-req", "-in", request, "-out", self.cert, *signed)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=100)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"took {took:.2f} s"
