"""What each class of jobs did, on the page of a queue and in the API."""

from __future__ import annotations

from datetime import UTC, datetime

import redis
from flask.testing import FlaskClient

from tests.contract.test_sidekiq import enqueue, payload
from tests.web.conftest import MakeApp


def test_classes_are_on_the_page_and_in_the_api(make_app: MakeApp, redis_client: redis.Redis) -> None:
    enqueue(redis_client, payload())
    now = datetime.now(UTC)
    redis_client.hset(
        f"j|{now:%y%m%d}|{now.hour}:{now:%M}", mapping={"<b>Mailer|p": 4, "<b>Mailer|f": 1, "<b>Mailer|ms": 600}
    )
    client = make_app().test_client()
    text = client.get("/queues/main/sidekiq/mails").text
    assert "Classes, last 1" in text
    assert "Sidekiq counts attempts per class, not per queue" in text
    row = text[text.index("&lt;b&gt;Mailer") :].partition("</tr>")[0]
    assert "200" in row  # ms, of three that went well
    assert "no run times recorded" in row
    assert client.get("/api/v1/queues/main/sidekiq/*/classes").get_json() == {
        "classes": [
            {
                "name": "<b>Mailer",
                "runs": 4,
                "failed": 1,
                "runtime_mean_s": 0.2,
                "runtime_p50_below_s": None,
                "runtime_p95_below_s": None,
            }
        ],
        "total": 1,
        "span_s": 3600.0,
        "scope": "across all queues: Sidekiq counts attempts per class, not per queue, at each heartbeat",
        "truncated": False,
    }


def test_viewers_share_one_read(make_app: MakeApp, redis_client: redis.Redis) -> None:
    enqueue(redis_client, payload())
    client = make_app().test_client()
    client.get("/queues/main/sidekiq/mails")
    before = redis_client.info("commandstats")["cmdstat_hscan"]["calls"]
    for name in ("mails", "*", "mails"):
        assert "classes-title" not in client.get(f"/queues/main/sidekiq/{name}").text
    assert redis_client.info("commandstats")["cmdstat_hscan"]["calls"] == before


def test_a_library_without_class_metrics_returns_null(client: FlaskClient, jobs: list[str]) -> None:
    del jobs
    assert client.get("/api/v1/queues/main/rq/mail/classes").get_json()["classes"] is None
    assert "classes-title" not in client.get("/queues/main/rq/mail").text
