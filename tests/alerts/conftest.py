"""Processes on an empty Redis of each version, and incident scenarios on a Redis of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from tests.alerts.channels.fake_providers import HttpSink
from tests.alerts.harness import Process, Recorder
from tests.alerts.incident_scenario import IncidentScenario
from tests.conftest import start_server


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """A server that keeps what webhooks send."""
    server = HttpSink()
    yield server
    server.close()


@pytest.fixture
def make_process(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Callable[..., Process]]:
    """Makes processes with these channels (None: without any) and rules; closed at the end."""
    made: list[Process] = []

    def make(holder: str = "one", *channels: Recorder | None, **options: Any) -> Process:
        wanted = [channel for channel in channels if channel] if channels else [Recorder()]
        process = Process(any_server.url, holder, wanted, **options)
        made.append(process)
        return process

    yield make
    for process in made:
        process.close()


@pytest.fixture
def make_scenario(tmp_path: Path) -> Iterator[Callable[..., IncidentScenario]]:
    """Makes scenarios on a server of this name with these options."""
    with ExitStack() as stack:

        def make(name: str = "redis-7", *options: str) -> IncidentScenario:
            server = start_server(name, *options)
            stack.callback(server.close)
            sink = HttpSink()
            stack.callback(sink.close)
            return IncidentScenario(server, sink, tmp_path, stack)

        yield make
