"""What only Celery's jobs show on their pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from dashboard.demo.embedded import EmbeddedRedis
from tests.contract.celery_live import Shop


@pytest.fixture
def shop(client: FlaskClient, server: EmbeddedRedis) -> Iterator[Shop]:
    """A producer on an empty server."""
    del client
    shop = Shop(server.url)
    yield shop
    shop.close()


def test_a_job_in_line_that_is_not_due_yet_says_so(client: FlaskClient, shop: Shop) -> None:
    later, now = shop.send("later", countdown=3590), shop.send("now")
    page = client.get("/queues/main/celery/alpha?state=waiting").text
    rows = {task: row for row in page.split("<tr ")[1:] for task in (later, now) if task in row}
    assert "due <time" in rows[later]
    assert "due <time" not in rows[now]
    counts = client.get("/api/v1/queues/main/celery/alpha").json
    assert counts is not None
    assert counts["counts"]["waiting"] == 2
    assert "It is not to start for 59 m" in client.get(f"/queues/main/celery/alpha/jobs/{later}").text
    assert "It is not to start" not in client.get(f"/queues/main/celery/alpha/jobs/{now}").text
