"""Processes on an empty Redis of each version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from tests.alerts.rig import Process, Recorder


@pytest.fixture
def make_process(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[Callable[..., Process]]:
    """Makes processes by holder, channels and rules; closed at the end."""
    made: list[Process] = []

    def make(holder: str = "one", *channels: Recorder, **options: Any) -> Process:
        process = Process(any_server.url, holder, channels or (Recorder(),), **options)
        made.append(process)
        return process

    yield make
    for process in made:
        process.close()
