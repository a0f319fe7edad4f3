"""Slow clients: whoever sends or takes a byte now and then keeps nobody else waiting."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.web.buffering import CONNECTIONS, MAX_BODY, MAX_CHUNK_LINES, MAX_HEAD, Incoming, TooLarge
from tests.processes import child
from tests.serving import Served, get_json, running, serving
from tests.waiting import CEILING_S, wait_until

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"POST /login HTTP/1.1\r\nHost: localhost\r\n"
# With limits that a test can wait for.
HASTY = (
    "import sys; from dashboard.web import buffering; buffering.RECEIVE_S = buffering.LEAVE_S = 0.2; "
    "from dashboard.cli import main; sys.exit(main())"
)


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + b"content-length:  5 \r\n\r\nname=",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n1f\r\n" + b"\r\n0\r\n\r\n" * 4 + b"abc\r\n0\r\n\r\n",
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n3 ;a="b"\r\nabc\r\n000\r\nTrailer: x\r\n\r\n',
    ],
)
def test_a_request_is_complete_with_its_last_byte(request_: bytes) -> None:
    incoming = Incoming()
    for position in range(len(request_)):
        assert not incoming.is_complete, request_[:position]
        incoming.add(request_[position : position + 1])
    assert incoming.is_complete
    at_once = Incoming()
    at_once.add(request_ + GET)
    assert at_once.is_complete


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-3\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 9000,
    ],
)
def test_what_is_malformed_is_for_the_parser_to_refuse(request_: bytes) -> None:
    incoming = Incoming()
    incoming.add(request_)
    assert incoming.is_complete


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"%sContent-Length: %d\r\n\r\n" % (HEAD, MAX_BODY + 1), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (b"%sTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (HEAD, MAX_BODY + 1), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * (MAX_CHUNK_LINES // 5 + 1),
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * MAX_HEAD,
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        ),
    ],
)
def test_a_request_over_the_limits_is_not_read_to_its_end(request_: bytes, status: HTTPStatus) -> None:
    with pytest.raises(TooLarge) as caught:
        Incoming().add(request_)
    assert caught.value.status == status


@contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=CEILING_S) as sock:
        yield sock


def answer(sock: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with EmbeddedRedis() as redis, serving("--redis", redis.url, "--threads", "2") as found:
        yield found


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"G",
        GET[:-1],
        HEAD + b"Content-Length: 1000\r\n\r\nn",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nn",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
    ],
)
def test_who_sends_no_more_keeps_nobody_waiting(served: Served, beginning: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(served)).sendall(beginning)
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}


def test_more_connections_than_there_may_be_cost_the_oldest(served: Served) -> None:
    with ExitStack() as stack:
        crowd = [stack.enter_context(connected(served)) for _ in range(CONNECTIONS + 20)]
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}
        assert crowd[0].recv(1) == b""
        crowd[-1].sendall(GET)
        assert crowd[-1].recv(12) == b"HTTP/1.1 200"


def test_requests_of_one_connection_are_answered_in_their_order(served: Served) -> None:
    with connected(served) as sock:
        sock.sendall(GET + GET.replace(b"/healthz", b"/no-such-page"))
        sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer(sock)) == [b"200", b"404", b"200"]


def test_who_waits_for_a_word_before_the_body_gets_it(served: Served) -> None:
    body = b'{"a": 1}'
    with connected(served) as sock:
        sock.sendall(
            b"POST /api/v1/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert b"HTTP/1.1 403" in answer(sock)


def test_a_request_over_the_limits_is_answered(served: Served) -> None:
    with connected(served) as sock:
        sock.sendall(HEAD + b"Content-Length: 99999999\r\n\r\n" + b"a" * 100_000)
        assert answer(sock).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("beginning", [b"", b"G", HEAD + b"Content-Length: 1000\r\n\r\nn"])
def test_who_is_too_slow_is_told_so(server: EmbeddedRedis, beginning: bytes) -> None:
    with running(["-c", HASTY, "serve", "--redis", server.url, "--port", "0"]) as served, connected(served) as sock:
        sock.sendall(beginning)
        assert answer(sock)[:12] == (b"HTTP/1.1 408" if beginning else b"")
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}


def test_who_takes_no_answer_loses_it(server: EmbeddedRedis) -> None:
    """The threads that send are free again, and the log has no traceback."""
    hasty = HASTY.replace("LEAVE_S", "SEND_S")
    page = b"GET /static/js/htmx.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running(["-c", hasty, "serve", "--redis", server.url, "--port", "0", "--threads", "2"]) as served:
        with ExitStack() as stack:
            for _ in range(4):
                address = urlsplit(served.url)
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                sock.settimeout(CEILING_S)
                sock.connect((address.hostname, address.port))
                sock.sendall(page * 200)
            assert get_json(f"{served.url}/healthz") == {"status": "ok"}
        assert "Traceback" not in served.process.read_log()


def test_it_ends_at_once_beside_connections_that_say_nothing(server: EmbeddedRedis) -> None:
    with serving("--redis", server.url) as served, connected(served):
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}
        served.process.process.terminate()
        wait_until(lambda: served.process.process.poll() is not None, what="the end of the server")
        assert served.process.process.returncode == 0


def test_tls_of_ones_own_gunicorn_works(server: EmbeddedRedis, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = f"req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 1 -subj /CN=localhost"
    subprocess.run(["openssl", *made.split()], check=True, capture_output=True)
    command = ["-m", "gunicorn", "wsgi:app", "--threads", "2", "--bind", "127.0.0.1:0", "--no-control-socket"]
    command += ["-c", "python:dashboard.web.server", "--certfile", str(certificate), "--keyfile", str(key)]
    with (
        tls_server(command, server.url) as (port, context),
        socket.create_connection(("127.0.0.1", port), timeout=CEILING_S) as sock,
        context.wrap_socket(sock) as wrapped,
    ):
        wrapped.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert answer(wrapped).startswith(b"HTTP/1.1 200")


@contextmanager
def tls_server(command: list[str], redis_url: str) -> Iterator[tuple[int, ssl.SSLContext]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    environ = {"QUEUEDECK_REDIS_URL": redis_url, "QUEUEDECK_CHECKER": "off", "PYTHONUNBUFFERED": "1"}
    with child([sys.executable, *command], name="server", environ=environ) as process:
        found = wait_until(
            lambda: re.search(r"Listening at: https://127\.0\.0\.1:(\d+)", process.read_log()), what="the address"
        )
        yield int(found[1]), context
