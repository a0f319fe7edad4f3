"""Slow clients: a client that sends or reads a byte now and then delays no other client."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.web.incoming_request import MAX_BODY, MAX_CHUNKS, MAX_HEAD, IncomingRequest, RequestRefused
from dashboard.web.request_buffering import CONNECTIONS
from tests.processes import child
from tests.serving import Served, get_json, running, serving
from tests.waiting import CEILING_S, wait_until

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"POST /login HTTP/1.1\r\nHost: localhost\r\n"
PAGE = b"GET /static/htmx.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


def limited(limits: str, server: EmbeddedRedis, *options: str) -> AbstractContextManager[Served]:
    """`queuedeck serve` with other limits, such as `SEND_S=0.2`."""
    command = ["-m", "tests.workloads.limited_server", limits, "serve", "--redis", server.url, "--port", "0"]
    return running([*command, *options])


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
    incoming = IncomingRequest()
    for position in range(len(request_)):
        assert not incoming.is_complete, request_[:position]
        incoming.add(request_[position : position + 1])
    assert incoming.is_complete
    at_once = IncomingRequest()
    at_once.add(request_ + GET)
    assert at_once.is_complete


@pytest.mark.parametrize(
    ("received", "handed_over"),
    [
        (GET, GET),
        (HEAD + b"content-length: 005 \r\nX: a\r\n\r\nname=", HEAD + b"X: a\r\nContent-Length: 5\r\n\r\nname="),
        (HEAD + b"Content-Length: 0\r\n\r\n", HEAD + b"Content-Length: 0\r\n\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", HEAD + b"Content-Length: 0\r\n\r\n"),
        (
            HEAD + b"Transfer-Encoding: chunked\r\nX: a\r\n\r\n3;a\r\nabc\r\n0002\r\n\r\n\r\n0\r\nTrailer: x\r\n\r\n",
            HEAD + b"X: a\r\nContent-Length: 5\r\n\r\nabc\r\n",
        ),
        (HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na", HEAD + b"Content-Length: 1\r\n\r\na"),
    ],
)
def test_the_parser_gets_a_body_of_a_known_length(received: bytes, handed_over: bytes) -> None:
    incoming = IncomingRequest()
    incoming.add(received + GET)
    assert (incoming.request, incoming.rest) == (handed_over, GET)


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: \r\n\r\n",
        HEAD + b"Content-Length: 1, 1\r\n\r\n",
        HEAD + b"Content-Length: 0000000000000000000000100\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-3\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0000000000000000005\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0000000000000000005\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 9000,
    ],
)
def test_a_body_of_ambiguous_length_is_rejected(request_: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        IncomingRequest().add(request_)
    assert caught.value.status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"%sContent-Length: %d\r\n\r\n" % (HEAD, MAX_BODY + 1), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (b"%sTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (HEAD, MAX_BODY + 1), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * (MAX_CHUNKS + 1),
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * MAX_HEAD,
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        ),
        (HEAD + b"Expect: the-moon\r\n\r\n", HTTPStatus.EXPECTATION_FAILED),
    ],
)
def test_a_request_over_the_limits_is_not_read_to_its_end(request_: bytes, status: HTTPStatus) -> None:
    with pytest.raises(RequestRefused) as caught:
        IncomingRequest().add(request_)
    assert caught.value.status == status


def test_an_http_1_0_client_gets_no_100_continue() -> None:
    incoming = IncomingRequest()
    incoming.add(HEAD.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
    assert not incoming.expects_continue


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
def test_a_stalled_request_blocks_no_other_client(served: Served, beginning: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(served)).sendall(beginning)
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}


def test_the_oldest_connection_is_closed_at_the_limit(served: Served) -> None:
    with ExitStack() as stack:
        crowd = [stack.enter_context(connected(served)) for _ in range(CONNECTIONS + 20)]
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}
        assert crowd[0].recv(1) == b""
        crowd[-1].sendall(GET)
        assert crowd[-1].recv(12) == b"HTTP/1.1 200"


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    with connected(served) as sock:
        sock.sendall(GET + GET.replace(b"/healthz", b"/no-such-page"))
        sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer(sock)) == [b"200", b"404", b"200"]


def test_a_client_that_expects_100_continue_gets_it(served: Served) -> None:
    body = b'{"a": 1}'
    with connected(served) as sock:
        sock.sendall(
            b"POST /api/v1/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert b"HTTP/1.1 403" in answer(sock)


def test_a_request_over_the_limits_gets_an_error_response(served: Served) -> None:
    with connected(served) as sock:
        sock.sendall(HEAD + b"Content-Length: 99999999\r\n\r\n" + b"a" * 100_000)
        assert answer(sock).startswith(b"HTTP/1.1 413 ")


def test_a_slow_client_gets_a_timeout_response(server: EmbeddedRedis) -> None:
    with limited("RECEIVE_S=0.2,LEAVE_S=0.2", server) as served:
        for beginning in (b"", b"G", HEAD + b"Content-Length: 1000\r\n\r\nn"):
            with connected(served) as sock:
                sock.sendall(beginning)
                assert answer(sock)[:12] == (b"HTTP/1.1 408" if beginning else b""), beginning
                assert get_json(f"{served.url}/healthz") == {"status": "ok"}


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 0000000000000000000000100\r\n\r\nx",
        b"Transfer-Encoding: identity, chunked\r\n\r\n5\r\nx",
        b"Transfer-Encoding: chunked\r\n\r\n0000000000000000005\r\nx",
        b"\r\n\r\n",
    ],
)
def test_an_incomplete_request_occupies_no_thread(served: Served, framing: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(connected(served))
            sock.sendall(b"\r\n\r\n" if framing == b"\r\n\r\n" else HEAD + framing)
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}


def test_a_body_in_many_chunks_is_read(served: Served) -> None:
    body = b"1\r\n \r\n" * (MAX_CHUNKS - 2) + b"d0000\r\n" + b" " * 0xD0000 + b"\r\n2\r\n{}\r\n0\r\n\r\n"
    with connected(served) as sock:
        sock.sendall(
            b"POST /api/v1/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Sec-Fetch-Site: same-origin\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        )
        assert b"HTTP/1.1 422" in answer(sock)


def slow_reader(served: Served) -> socket.socket:
    address = urlsplit(served.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.settimeout(CEILING_S)
    sock.connect((address.hostname, address.port))
    return sock


def test_a_client_that_reads_no_responses_occupies_no_thread(server: EmbeddedRedis) -> None:
    with limited(f"SEND_S={10 * CEILING_S}", server, "--threads", "2") as served, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(slow_reader(served)).sendall(PAGE * 200)
        for _ in range(100):  # by then all that can be sent is sent
            assert get_json(f"{served.url}/healthz") == {"status": "ok"}


def test_the_response_to_a_client_that_does_not_read_is_dropped(server: EmbeddedRedis) -> None:
    """The log has no traceback."""
    with limited("SEND_S=0.2", server, "--threads", "2") as served:
        with slow_reader(served) as sock:
            sock.sendall(PAGE * 200)
            wait_until(lambda: _is_closed(sock), what="the end of the connection")
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}
        assert "Traceback" not in served.process.read_log()


def _is_closed(sock: socket.socket) -> bool:
    """Whether the other side has closed its end, without reading what it sent before."""
    there, here = (f"{name[1]:04X}" for name in (sock.getpeername(), sock.getsockname()))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if local.endswith(f":{there}") and remote.endswith(f":{here}"):
            return state != "01"
    return True


def test_running_out_of_file_descriptors_ends_no_process(server: EmbeddedRedis) -> None:
    with limited("FILES=160,OTHER_FILES=0", server) as served, ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(connected(served))
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}
        assert "worker" not in served.process.read_log()


def test_idle_connections_do_not_delay_the_shutdown(server: EmbeddedRedis) -> None:
    with serving("--redis", server.url) as served, connected(served):
        assert get_json(f"{served.url}/healthz") == {"status": "ok"}
        served.process.process.terminate()
        wait_until(lambda: served.process.process.poll() is not None, what="the end of the server")
        assert served.process.process.returncode == 0


def test_tls_of_a_separate_gunicorn_works(server: EmbeddedRedis, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    kind = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    made = f"req -x509 {kind} -keyout {key} -out {certificate} -days 1 -subj /CN=localhost"
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
