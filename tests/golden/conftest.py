"""One Redis and one app of everybody's settings for the files that need no jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from flask import Flask

from dashboard.demo.embedded import EmbeddedRedis
from tests.conftest import reset_server
from tests.golden.apps import running_app


@pytest.fixture(scope="module")
def bare_app(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The app on a Redis without jobs, in which nothing runs beside the requests."""
    with redis.Redis.from_url(server.url) as client:
        reset_server(client)
    with running_app(server.url, tmp_path_factory.mktemp("bare"), checker="off") as app:
        yield app
