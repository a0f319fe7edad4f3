"""Removing a queue by the API cannot be undone, so it wants the queue's name beside the address."""

from __future__ import annotations

import pytest
import redis
from flask.testing import FlaskClient

from tests.web.test_dead import SAME

URL = "/api/v1/queues/main/rq/mail/obliterate"


@pytest.mark.parametrize("body", [None, {}, {"confirm": ""}, {"confirm": "Mail"}, {"confirm": True}])
def test_without_the_name_nothing_is_removed(
    client: FlaskClient, redis_client: redis.Redis, jobs: list[str], body: object
) -> None:
    client.get("/api/v1/overview")
    answer = client.post(URL, json=body, headers=SAME) if body is not None else client.post(URL, headers=SAME)
    assert answer.status_code == 409
    assert "confirm" in answer.get_json()["error"]["message"]
    assert redis_client.llen("rq:queue:mail") == len(jobs)


def test_with_the_name_it_is_removed(client: FlaskClient, redis_client: redis.Redis, jobs: list[str]) -> None:
    client.get("/api/v1/overview")
    answer = client.post(URL, json={"confirm": "mail"}, headers=SAME)
    assert (answer.status_code, answer.get_json()["outcome"]) == (200, "done")
    assert not redis_client.exists("rq:queue:mail", *(f"rq:job:{job_id}" for job_id in jobs))
