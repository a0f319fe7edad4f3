"""What destroys asks first: a page that names the object, whose form acts on exactly that object."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue, SimpleWorker

from dashboard.web.views.confirmation import CONFIRMED
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

SAME = {"Sec-Fetch-Site": "same-origin"}


class Buttons(HTMLParser):
    """The action buttons of a page: (action, where it goes)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._action = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._action = facts.get("action", "")
        if tag == "button" and facts.get("name") == "action":
            self.found.append((facts["value"], facts.get("formaction", self._action)))


def form_of(text: str) -> tuple[str, dict[str, Any]]:
    """Where the form of a question goes, and its fields."""
    question = text[text.index("data-question") :]
    target = re.search(r'<form class="form" action="([^"]+)"', question)
    assert target
    fields: dict[str, Any] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', question):
        fields.setdefault(name, []).append(unescape(value))
    return unescape(target[1]), fields


def schedule_fields(action: str = "remove_schedule") -> dict[str, str]:
    return {"action": action, "source": "main", "backend": "bullmq", "id": "night", "queue": "alpha"}


@pytest.fixture
def schedule(redis_client: redis.Redis) -> None:
    """A job scheduler of BullMQ, and another one beside it."""
    redis_client.hset("bull:alpha:meta", mapping={"version": "bullmq:5.81.0", "opts.maxLenEvents": 10000})
    for name in ("night", "other"):
        redis_client.zadd("bull:alpha:repeat", {name: 5})
        redis_client.hset(f"bull:alpha:repeat:{name}", mapping={"name": "report", "every": 5000, "ic": 1})


def wait_for_schedules(client: FlaskClient, count: int) -> None:
    wait_until(lambda: client.get("/api/v1/schedules").get_json()["total"] == count, what=f"{count} schedules")


def test_no_page_destroys_at_one_click(
    client: FlaskClient, redis_client: redis.Redis, schedule: None, jobs: list[str], dead: list[str]
) -> None:
    worker = SimpleWorker([Queue("mail", connection=redis_client)], connection=redis_client, name="night-1")
    worker.register_birth()
    try:
        wait_for_schedules(client, 2)
        wait_until(lambda: client.get("/api/v1/dead").get_json()["groups"], what="the groups")
        fingerprint = client.get("/api/v1/dead").get_json()["groups"][0]["fingerprint"]
        pages = (
            *("/workers", "/schedules", f"/dead/{fingerprint}"),
            *(f"/queues/main/rq/mail?state={state}" for state in ("waiting", "dead")),
            f"/queues/main/rq/mail/jobs/{jobs[0]}",
        )
        seen = set()
        for path in pages:
            for action, target in Buttons(client.get(path).text).found:
                if action in CONFIRMED and "/bulk/" not in target:
                    assert target.endswith("/confirm"), (path, action)
                    seen.add(action)
        assert seen >= {"delete", "remove_schedule", "stop_worker"}
    finally:
        worker.register_death()


def test_a_question_names_the_schedule_and_its_form_removes_that_one(
    client: FlaskClient, redis_client: redis.Redis, schedule: None
) -> None:
    wait_for_schedules(client, 2)
    page = client.post("/schedules/confirm", data=schedule_fields() | {"reason": "too old"}, headers=SAME)
    assert page.status_code == 200
    assert "Remove schedule report?" in page.text
    assert "<dt>ID</dt><dd>night</dd>" in page.text
    assert "Apps that set it up at startup recreate it." in page.text
    assert 'value="too old"' in page.text
    assert redis_client.zcard("bull:alpha:repeat") == 2  # nothing was done yet
    target, fields = form_of(page.text)
    answer = client.post(target, data=fields, headers=SAME)
    assert answer.status_code == 303
    assert redis_client.zrange("bull:alpha:repeat", 0, -1) == [b"other"]


def test_a_schedule_that_became_another_one_is_not_removed(
    client: FlaskClient, redis_client: redis.Redis, schedule: None
) -> None:
    wait_for_schedules(client, 2)
    target, fields = form_of(client.post("/schedules/confirm", data=schedule_fields(), headers=SAME).text)
    redis_client.hset("bull:alpha:repeat:night", mapping={"name": "billing", "every": 9000})

    def is_new() -> bool:
        rows = client.get("/api/v1/schedules").get_json()["schedules"]
        return any(row["name"] == "billing" for row in rows)

    wait_until(is_new, what="the new schedule")
    answer = client.post(target, data=fields, headers=SAME)
    assert answer.status_code == 409
    assert "has changed since you were asked. Nothing was done." in answer.text
    assert redis_client.zcard("bull:alpha:repeat") == 2


def test_a_worker_is_named_with_its_queues(client: FlaskClient, redis_client: redis.Redis, jobs: list[str]) -> None:
    worker = SimpleWorker([Queue("mail", connection=redis_client)], connection=redis_client, name="<b>night-1")
    worker.register_birth()
    try:
        wait_until(lambda: client.get("/api/v1/workers").get_json()["total"] == 1, what="the worker")
        fields = {"action": "stop_worker", "source": "main", "backend": "rq", "id": "<b>night-1"}
        text = client.post("/workers/confirm", data=fields, headers=SAME).text
        assert "Stop worker &lt;b&gt;night-1?" in text
        assert "<dt>Queues</dt><dd>mail</dd>" in text
        assert "finishes its running job, then stops" in text
        gone = client.post("/workers/confirm", data=fields | {"id": "gone"}, headers=SAME)
        assert gone.status_code == 404
    finally:
        worker.register_death()


def test_selected_jobs_are_named_and_only_they_are_deleted(
    client: FlaskClient, redis_client: redis.Redis, jobs: list[str]
) -> None:
    wait_until(lambda: client.get("/queues/main/rq/mail").status_code == 200, what="the queue")
    text = client.get("/queues/main/rq/mail?state=waiting").text
    picks = re.findall(r'name="pick" value="([^"]+)"', text)
    fields = {"action": "delete", "state": "waiting", "pick": picks[:2]}
    page = client.post("/queues/main/rq/mail/confirm", data=fields, headers=SAME).text
    assert "Delete 2 jobs?" in page
    assert "restored for 24 hours" in page
    target, hidden = form_of(page)
    assert hidden["pick"] == picks[:2]
    assert redis_client.llen("rq:queue:mail") == 3
    assert client.post(target, data=hidden, headers=SAME).status_code == 303
    assert redis_client.llen("rq:queue:mail") == 1


def test_a_viewer_is_not_asked(make_app: MakeApp, redis_client: redis.Redis, schedule: None) -> None:
    client = make_app(read_only=True).test_client()
    assert client.post("/schedules/confirm", data=schedule_fields(), headers=SAME).status_code == 404
