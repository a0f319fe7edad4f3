"""Fixtures for the channels: real servers on loopback and a certificate authority."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.alerts.channels.fake_providers import Authority, HttpSink
from tests.alerts.channels.smtp import SmtpSink


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tls_sink(authority: Authority) -> Iterator[HttpSink]:
    server = HttpSink(authority.server_context(), "localhost")
    yield server
    server.close()


@pytest.fixture
def smtp_sink() -> Iterator[Callable[..., SmtpSink]]:
    started: list[SmtpSink] = []

    def start(**options: Any) -> SmtpSink:
        started.append(SmtpSink(**options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _server_sending(send: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """The port of a server that calls `send` for the first connection; its event is set when the test is over."""
    finished = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                send(connection, finished)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        finished.set()
        thread.join(10)


@pytest.fixture
def drip_port() -> Iterator[int]:
    """A mail server that sends its greeting a character at a time."""

    def drip(connection: socket.socket, finished: threading.Event) -> None:
        connection.sendall(b"220 ")
        while not finished.wait(0.05):
            connection.sendall(b"x")

    yield from _server_sending(drip)


@pytest.fixture
def flood_port() -> Iterator[int]:
    """A mail server whose greeting has no last line."""

    def flood(connection: socket.socket, finished: threading.Event) -> None:
        while not finished.is_set():
            connection.sendall(b"220-more\r\n" * 1000)

    yield from _server_sending(flood)
