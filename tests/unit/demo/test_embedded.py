"""The private Redis of the demo and of the tests: its port is its own, and nobody is taken for it."""

from __future__ import annotations

import socket

import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import ConfigurationError


def test_its_port_is_reserved_before_the_start_and_while_it_is_stopped() -> None:
    def taken() -> None:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))

    server = EmbeddedRedis()
    port = server.port
    taken()
    with server, redis.Redis.from_url(server.url) as client:
        assert client.ping()
        server.stop()
        taken()
        assert server.start().port == port
        assert client.ping()


def test_another_redis_at_its_port_is_not_taken_for_it() -> None:
    with EmbeddedRedis() as first, pytest.raises(ConfigurationError, match="in use"):
        EmbeddedRedis(port=first.port).start()


def test_a_port_in_use_is_reported() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigurationError, match="in use"):
            EmbeddedRedis(port=other.getsockname()[1]).start()


def test_a_server_with_a_password_is_found() -> None:
    with EmbeddedRedis(options=("--requirepass", "secret")) as server:
        assert server.is_running
