"""Jobs whose ids are too long for an address: listed, found, acted on by form and API, and linked nowhere."""

from __future__ import annotations

import html
import json
import re
import zlib
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.web.formatting import URL_LIMIT
from tests.contract.test_celery import declare_queues, message
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_hostile import packed

SAME = {"Sec-Fetch-Site": "same-origin"}
NAMES = ("formed", "undone", "retried", "bulked", "stays")
IDS = {name: name + "x" * 10_000 for name in NAMES}
# By library: queue, state, what puts a job back to work there, and where a job's link would lead.
PLACES = {
    "bullmq": ("mails", "dead", "retry"),
    "rq": ("cash", "dead", "retry"),
    "sidekiq": ("*", "dead", "retry"),
    "celery": ("alpha", "waiting", "duplicate"),
}
LINK = re.compile(r'(?:href|action|hx-get|hx-post)="([^"]*)"')
TOKEN = re.compile(r'name="pick" value="([^"]*)"')


def fill(client: redis.Redis, library: str) -> None:
    """One job per id."""
    now = 1_790_000_000
    for n, (name, job_id) in enumerate(IDS.items()):
        if library == "bullmq":
            client.hset("bull:mails:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
            client.zadd("bull:mails:failed", {job_id: now * 1000 + n})
            fields = {"name": name, "data": "{}", "opts": "{}", "failedReason": "needle", "timestamp": now * 1000}
            client.hset(f"bull:mails:{job_id}", mapping={**fields, "finishedOn": now * 1000 + n, "stacktrace": "[]"})
        elif library == "rq":
            client.sadd("rq:queues", "rq:queue:cash")
            client.zadd("rq:failed:cash", {job_id: 1_990_000_000})
            call = {"status": "failed", "origin": "cash", "description": "needle()", "data": packed("f")}
            ended = {"created_at": "2026-01-01T00:00:00.000000Z", "ended_at": f"2026-01-01T00:00:0{n}.000000Z"}
            client.hset(f"rq:job:{job_id}", mapping={**call, **ended, "exc_info": zlib.compress(b"E: needle")})
        elif library == "sidekiq":
            client.set("stat:processed", 1)
            entry: dict[str, Any] = {"class": "Needle", "args": [name], "jid": job_id, "queue": "work", "retry": True}
            client.zadd("dead", {json.dumps({**entry, "error_class": "E", "error_message": "needle"}): now + n})
        else:
            declare_queues(client, "alpha")
            client.lpush("alpha", message(job_id, argsrepr=f"('needle {name}',)"))


def links(text: str) -> list[str]:
    """Where a page leads."""
    return [html.unescape(link) for link in LINK.findall(text)]


@pytest.mark.parametrize("library", PLACES)
def test_a_job_with_a_long_id_can_be_found_and_acted_on(
    make_app: MakeApp, redis_client: redis.Redis, library: str
) -> None:
    fill(redis_client, library)
    queue, state, again = PLACES[library]
    client: FlaskClient = make_app(sample_interval_s=0.5, checker="auto").test_client()
    place = f"/queues/main/{library}/{queue}"
    wait_until(lambda: client.get(place).status_code == 200, what="the queue")

    def listed() -> dict[str, str]:
        """The ids that are listed, by name."""
        jobs = client.get(f"/api/v1{place}/jobs?state={state}").get_json()["jobs"]
        found = {name: job["id"] for job in jobs for name in NAMES if name + "x" * 9000 in job["id"]}
        assert len(found) == sum(len(job["id"]) > 900 for job in jobs)  # a copy has an id of its own
        return found

    def act(name: str, action: str) -> Any:
        """Tick the row of one job in the list, and send the form."""
        text = client.get(f"{place}?state={state}").text
        (row,) = [row for row in text.split("<tr ") if f">{name}x" in row or f"-{name}x" in row]
        assert "characters: too long for a URL" in row
        form = {"action": action, "state": state, "pick": TOKEN.findall(row)}
        answer = client.post(f"{place}/act", data=form, headers=SAME)
        assert answer.status_code == 303, answer.text
        assert len(answer.location) < URL_LIMIT
        told = client.get(answer.location)
        assert told.status_code == 200
        return answer

    before = listed()
    assert before.keys() == set(NAMES)
    for url in (
        f"{place}?state={state}",
        "/search?q=needle",
        f"/search?q=needle+state:{state}",
        f"/search?q={'stays' + 'x' * 400}",
        "/dead",
        "/",
        "/workers",
    ):
        page = client.get(url)
        assert page.status_code == 200, url
        assert max(map(len, links(page.text)), default=0) <= URL_LIMIT, url
        assert not [link for link in links(page.text) if "x" * 900 in link], url
    found = client.get("/search?q=needle").text
    assert found.count("characters: too long for a URL") == len(NAMES)
    assert set(before.values()) == {job["id"] for job in client.get("/api/v1/search?q=needle").get_json()["jobs"]}
    if state == "dead":
        wait_until(lambda: 'href="/dead/' in client.get("/dead").text, what="the groups")
        (group, *_) = [link for link in links(client.get("/dead").text) if re.match(r"/dead/[0-9a-f]{8}", link)]
        page = client.get(group)
        assert page.status_code == 200
        assert "characters: too long for a URL" in page.text
        assert not [link for link in links(page.text) if "x" * 900 in link]

    act("formed", "delete")
    assert listed().keys() == {"undone", "retried", "bulked", "stays"}
    batches = {each["batch"] for each in client.get("/api/v1/undo").get_json()["batches"]}
    act("undone", "delete")
    (batch,) = {each["batch"] for each in client.get("/api/v1/undo").get_json()["batches"]} - batches
    assert client.post(f"/api/v1/undo/{batch}", json={}, headers=SAME).status_code == 200
    assert listed().keys() == {"undone", "retried", "bulked", "stays"}
    act("retried", again)
    assert ("retried" in listed()) == (again == "duplicate")
    body = {"source": "main", "backend": library, "queue": queue, "state": state, "action": "delete"}
    body["ids"] = [before["bulked"]]
    seen = client.post("/api/v1/bulk", json={**body, "preview": True}, headers=SAME)
    assert seen.get_json()["matched"] == 1
    assert client.post("/api/v1/bulk", json=body, headers=SAME).status_code == 201
    wait_until(lambda: "bulked" not in listed(), what="the bulk work")
    assert "stays" in listed()
    for url in ("/audit", "/bulk", "/api/v1/audit", "/api/v1/bulk"):
        page = client.get(url)
        assert page.status_code == 200, url
        assert not [link for link in links(page.text) if "x" * 900 in link], url
