"""The private Redis of the demo and of the tests: where its port is another's by the time that it starts."""

from __future__ import annotations

import socket

import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import ConfigurationError


def test_a_port_that_another_program_took_is_changed() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = EmbeddedRedis()
        server.port = taken = other.getsockname()[1]
        with server, redis.Redis.from_url(server.url) as client:
            assert server.port != taken
            assert client.ping()


def test_another_redis_at_its_port_is_not_taken_for_it() -> None:
    with EmbeddedRedis() as first, redis.Redis.from_url(first.url) as theirs:
        theirs.set("mine", 1)
        second = EmbeddedRedis()
        second.port = first.port
        with second, redis.Redis.from_url(second.url) as client:
            assert second.port != first.port
            assert client.dbsize() == 0


def test_a_port_that_was_asked_for_is_kept_and_the_reason_told() -> None:
    with EmbeddedRedis() as first, pytest.raises(ConfigurationError, match="in use"):
        EmbeddedRedis(port=first.port).start()


def test_a_server_with_a_password_is_found() -> None:
    with EmbeddedRedis(options=("--requirepass", "secret")) as server:
        assert server.running


def test_the_port_stays_over_a_stop() -> None:
    with EmbeddedRedis() as server:
        port = server.port
        server.stop()
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            other.listen()
            with pytest.raises(ConfigurationError, match="in use"):
                server.start()
        assert server.start().port == port
