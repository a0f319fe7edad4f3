"""During the first scan for queues, pages and the API show its progress."""

from __future__ import annotations

import html

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from tests.web.conftest import MakeApp

KEYS = 8000


@pytest.fixture
def searching(make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A dashboard whose only sample so far looked at a thousand of 8,000 keys, and found the queue of RQ."""
    monkeypatch.setattr("dashboard.sampling.queue_search.FIRST_BUDGET", (1, 1e9))
    redis_client.mset({f"key:{number}": "" for number in range(KEYS)})
    Queue("mail", connection=redis_client).enqueue("app.mail.send")
    return make_app(sample_interval_s=300).test_client()


def test_the_overview_shows_the_progress_of_the_scan(searching: FlaskClient) -> None:
    text = html.unescape(searching.get("/").text).replace("\u202f", " ")
    assert "still scanning, 10%" in text  # 1 of 8 for BullMQ and Celery, 1 of 16 for Sidekiq, about
    assert "mail" in text


def test_the_api_shows_the_progress_of_the_scan(searching: FlaskClient) -> None:
    (source,) = searching.get("/api/v1/overview").get_json()["sources"]
    assert source["discovered"] is False
    assert source["search_progress"] == pytest.approx(0.1, abs=0.01)


def test_a_missing_queue_is_reported_as_possibly_not_found_yet(searching: FlaskClient) -> None:
    answer = searching.get("/api/v1/queues/main/bullmq/orders")
    assert answer.status_code == 404
    assert answer.get_json()["error"]["hint"].replace("\u202f", " ") == (
        "Still scanning this Redis for queues, 10% done; reload in a moment."
    )


def test_progress_is_hidden_after_the_scan(client: FlaskClient) -> None:
    assert "searching" not in client.get("/").text
    assert client.get("/api/v1/overview").get_json()["sources"][0]["search_progress"] is None
