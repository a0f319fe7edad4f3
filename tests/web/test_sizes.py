"""Jobs of any size and depth in all four libraries: every page that shows them answers, with a row for each."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
import redis
from flask.testing import FlaskClient

from tests.contract import test_sizes_bullmq as bullmq
from tests.contract import test_sizes_rq as rq
from tests.contract.test_celery import declare_queues, message
from tests.contract.test_sidekiq import enqueue, payload

DEEP = "[" * 100_000 + "]" * 100_000
LONG = "x" * 3 * 1024 * 1024


def fill(client: redis.Redis) -> dict[str, str]:
    """Jobs of each library, and the queue that holds them."""
    for name, value in (("deep", DEEP), ("long", LONG)):
        entry = payload(jid=name)[:-1] + f',"odd":{value if name == "deep" else json.dumps(value)}' + "}"
        enqueue(client, entry)
        client.zadd("dead", {entry: 1})
        bullmq.add(client, name, data=value, stacktrace=value)
        rq.add(client, name, data=value, exc_info=value)
        declare_queues(client, "tasks")
        client.lpush("tasks", message(name, body=base64.b64encode(value.encode()).decode()))
    enqueue(client, payload(jid="plain"))
    client.zadd("dead", {payload(jid="plain", error_class="E", error_message="no"): 2})
    bullmq.add(client, "plain")
    rq.add(client, "plain")
    client.lpush("tasks", message("plain"))
    return {"sidekiq": "mails", "bullmq": "alpha", "rq": "alpha", "celery": "tasks"}


@pytest.mark.parametrize("library", ["sidekiq", "bullmq", "rq", "celery"])
def test_pages_handle_jobs_of_any_size(client: FlaskClient, redis_client: redis.Redis, library: str) -> None:
    queue = fill(redis_client)[library]
    path = f"main/{library}/{queue}"
    pages = [
        f"/queues/{path}",
        "/dead",
        "/workers",
        "/schedules",
        "/search?q=shop",
        f"/search?q=plain%20library:{library}",
    ]
    for page in pages:
        assert client.get(page).status_code == 200, page
    jobs = client.get(f"/api/v1/queues/{path}/jobs?state=waiting").json
    assert jobs is not None
    assert (jobs["total"], len(jobs["jobs"])) == (3, 3)
    for job in jobs["jobs"]:
        page = f"/queues/{path}/jobs/{quote(job['id'], safe='')}"
        assert client.get(page).status_code == 200, page
        assert client.get(f"/api/v1{page}").status_code == 200, page
