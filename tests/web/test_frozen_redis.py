"""A page about a Redis that does not respond waits for it once, so that it arrives before the browser gives up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import redis
from flask.testing import FlaskClient
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue

from dashboard.sources import connection
from dashboard.sources.connection import Connections, PackedCommands
from tests.conftest import start_server
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_confirmations import SAME

PAGES = (
    "/",
    "/queues/main/rq/mail",
    "/queues/main/rq/mail/_queue",
    "/dead",
    "/workers",
    "/schedules",
    "/redis",
    "/redis/main/memory",
    "/redis/main/leftovers",
    "/search?q=state:dead",
    "/alerts",
    "/bulk",
    "/audit",
    "/trash",
    "/api/v1/overview",
    "/api/v1/queues/main/rq/mail/jobs",
)


class TimedOut:
    """Counts the reads of one thread that timed out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        thread, exchange = threading.get_ident(), Connections.exchange

        def exchange_and_count(connections: Connections, pieces: list[PackedCommands]) -> object:
            try:
                return exchange(connections, pieces)
            except RedisTimeoutError:
                self.count += threading.get_ident() == thread
                raise

        monkeypatch.setattr(Connections, "exchange", exchange_and_count)


@pytest.fixture
def frozen(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    """A client of a dashboard whose Redis is frozen, after it was sampled."""
    server = start_server("redis-7")
    try:
        with redis.Redis.from_url(server.url) as client:
            Queue("mail", connection=client).enqueue("app.send")
        monkeypatch.setattr(connection, "READ_TIMEOUT_S", 0.2)
        asking = make_app(redis_url=server.url, sample_interval_s=0.5).test_client()
        wait_until(lambda: asking.get(PAGES[1]).status_code == 200, what="the queue")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            yield asking
        finally:
            os.kill(server.pid, signal.SIGCONT)
    finally:
        server.close()


def test_each_page_waits_once_for_a_frozen_redis(frozen: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_out = TimedOut(monkeypatch)
    highest = 0
    for page in PAGES:
        timed_out.count = 0
        answer = frozen.get(page)
        assert answer.status_code in (200, 204, 503), page
        assert timed_out.count <= 1, page
        highest = max(highest, timed_out.count)
    assert highest == 1


def test_an_action_asks_for_the_outcome_of_each_step(frozen: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_out = TimedOut(monkeypatch)
    assert frozen.post("/api/v1/queues/main/rq/mail/pause", json={}, headers=SAME).status_code == 503
    assert timed_out.count > 1
