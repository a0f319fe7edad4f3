"""Polling something that no longer exists returns a response to show, not an error; the page itself is a 404."""

from __future__ import annotations

import html
from urllib.parse import quote, unquote

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from tests.waiting import wait_until

HTMX = {"HX-Request": "true"}
# The page, its fragment, and what is said of what it showed.
GONE = {
    "a job": ("/queues/main/rq/mail/jobs/{job}", "/_job", "there is no job"),
    "a queue": ("/queues/main/rq/nothing", "/_queue", "queue not found"),
    "bulk work": ("/bulk/000000000000", "/_work", "bulk operation not found"),
    "an error group": ("/dead/" + "0" * 16, "/_group", "error group"),
    "a rule": ("/alerts/rule/nothing", "/_one", "unknown rule"),
}


@pytest.fixture
def job_id(client: FlaskClient, redis_client: redis.Redis) -> str:
    """The id of a waiting job in the queue `mail`, which is known."""
    job = Queue("mail", connection=redis_client).enqueue("app.mail.send", "user@example.com")
    wait_until(lambda: client.get("/queues/main/rq/mail").status_code == 200, what="the queue being known")
    return str(job.id)


@pytest.mark.parametrize(("address", "fragment", "said"), GONE.values(), ids=GONE)
def test_polling_a_missing_job_or_queue_is_not_an_error(
    client: FlaskClient, redis_client: redis.Redis, job_id: str, address: str, fragment: str, said: str
) -> None:
    address = address.format(job=job_id)
    if "jobs" in address:
        tag = client.get(address + fragment, headers=HTMX).headers["HX-PTag"]
        redis_client.delete(f"rq:job:{job_id}", "rq:queue:mail")
        assert client.get(address + fragment, headers=HTMX | {"HX-PTag": tag}).status_code == 204
    answer = client.get(address + fragment, headers=HTMX)
    assert (answer.status_code, answer.data) == (204, b"")
    assert said in unquote(answer.headers["Queuedeck-Gone"]).lower()
    assert "HX-PTag" not in answer.headers
    page = client.get(address)
    assert page.status_code == 404
    assert said in html.unescape(page.text).lower()


def test_a_restored_job_is_shown_again(client: FlaskClient, redis_client: redis.Redis, job_id: str) -> None:
    address = f"/queues/main/rq/mail/jobs/{job_id}/_job"
    kept = {key: redis_client.dump(key) for key in (f"rq:job:{job_id}", "rq:queue:mail")}
    redis_client.delete(*kept)
    assert client.get(address, headers=HTMX).status_code == 204
    for key, value in kept.items():
        redis_client.restore(key, 0, value)
    answer = client.get(address, headers=HTMX)
    assert answer.status_code == 200
    assert "Queuedeck-Gone" not in answer.headers


@pytest.mark.parametrize("name", ["naïve", "a\r\nSet-Cookie: x=1", "%0d%0aX: y", "\u202e", "<b>"])
def test_names_are_not_copied_into_headers(client: FlaskClient, job_id: str, name: str) -> None:
    answer = client.get(f"/alerts/rule/{quote(name, safe='')}/_one", headers=HTMX)
    assert answer.status_code == 204
    header = answer.headers["Queuedeck-Gone"]
    assert header.isascii()
    assert header.isprintable()
    assert "Set-Cookie" not in answer.headers
    assert "X" not in answer.headers


def test_other_requests_for_missing_items_get_404(client: FlaskClient, job_id: str) -> None:
    assert client.get("/api/v1/queues/main/rq/mail/jobs/none", headers=HTMX).status_code == 404
    assert client.get("/no/such/page", headers=HTMX).status_code == 404
    assert client.get("/queues/main/rq/mail/jobs/none/_job").status_code == 404
    posted = client.post("/bulk/000000000000/abort", headers=HTMX | {"Sec-Fetch-Site": "same-origin"})
    assert posted.status_code == 404
