"""The pages and the API of bulk operations that wait for a second person."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from dashboard.auth import Identity, Role
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import ConfigurationError
from dashboard.settings import Settings
from dashboard.web.app import create_app
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.granted import as_user

OVER, DEAD = 3, 5
TOKEN = "a-token-of-ada-long-enough"
PEOPLE = {
    "ada": Identity(name="ada", role=Role.OPERATOR),
    "ben": Identity(name="ben", role=Role.OPERATOR),
    "vic": Identity(name="vic", role=Role.VIEWER),
    "gus": Identity(name="gus", role=Role.OPERATOR),
    "root": Identity(name="root", role=Role.ADMIN),
}
# gus may delete, but not in bulk.
GRANTS = [{"users": ["gus"], "queues": ["*"], "allow": ["view", "delete"]}]
FORM = {"source": "main", "backend": "rq", "queue": "mail", "state": "dead", "action": "delete"}
QUEUE = "/queues/main/rq/mail"


@pytest.fixture
def app(make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis) -> Flask:
    fail_rq(server, "mail", *((failing_jobs.mail, f"user{n}@example.com", n) for n in range(DEAD)))
    tokens = (f"deploy:operator:{hashlib.sha256(TOKEN.encode()).hexdigest()}",)
    found = make_app(
        identify=lambda environ: PEOPLE.get(environ.get("HTTP_X_USER", "")),
        bulk_approval_over=OVER,
        grants=GRANTS,
        api_tokens=tokens,
        checker="auto",
    )
    wait_until(
        lambda: found.test_client().get(QUEUE, headers=as_user("root")).status_code == 200, what="the queue being known"
    )
    return found


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def start(client: FlaskClient, user: str = "ada") -> str:
    """The URL of a new deletion of all dead jobs, once it waits."""
    answer = client.post("/bulk", data=FORM, headers=as_user(user))
    assert answer.status_code == 303, answer.text
    url = str(answer.headers["Location"])
    wait_for(client, url, "approval")
    return url


def wait_for(client: FlaskClient, url: str, state: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        operation: dict[str, Any] = client.get(f"/api/v1{url}", headers=as_user("root")).get_json()
        return operation if operation["state"] == state else None

    return wait_until(found, what=state) or {}


def dead(redis_client: redis.Redis) -> int:
    return int(redis_client.zcard("rq:failed:mail"))


def test_the_second_person_sees_what_is_asked_and_approves_it(client: FlaskClient, redis_client: redis.Redis) -> None:
    preview = " ".join(client.get("/bulk/new", query_string=FORM, headers=as_user("ada")).text.split())
    assert "More than 3 jobs: someone else has to approve this" in preview
    url = start(client)
    own, others = (client.get(url, headers=as_user(user)).text for user in ("ada", "ben"))
    assert "someone else than ada has to approve this" in own
    assert "Withdraw" in own
    assert "Approve or reject" not in own
    assert f'href="{url}/approval"' in others
    assert "needs approval" in client.get("/bulk", headers=as_user("vic")).text
    assert "Approve: Delete 5 jobs" in client.get(f"{url}/approval", headers=as_user("ben")).text
    assert 'class="form"' not in client.get(f"{url}/approval", headers=as_user("ada")).text
    assert dead(redis_client) == DEAD
    assert client.post(f"{url}/approve", headers=as_user("ben")).status_code == 303
    ended = wait_for(client, url, "done")
    assert (ended["approved_by"], ended["done"], dead(redis_client)) == ("ben", DEAD, 0)
    assert "approved by ben" in client.get(url, headers=as_user("ada")).text
    assert client.get(f"{url}/approval", headers=as_user("ben")).status_code == 303
    events = client.get("/api/v1/audit", headers=as_user("root")).get_json()["events"][::-1]
    assert [(event["who"], event["action"]) for event in events] == [
        ("ada", "start bulk operation"),
        ("ada", "bulk operation waits for approval"),
        ("ben", "approve bulk operation"),
        ("ada", "delete"),
    ]


@pytest.mark.parametrize(
    ("user", "why"),
    [("ada", "someone else has to approve it"), ("vic", "operator role"), ("gus", "rights 'bulk' and 'delete'")],
)
def test_others_cannot_approve(client: FlaskClient, redis_client: redis.Redis, user: str, why: str) -> None:
    url = start(client)
    for command in ("approve", "reject"):
        for path in (url, f"/api/v1{url}"):
            answer = client.post(f"{path}/{command}", headers=as_user(user), **({"json": {}} if "api" in path else {}))
            assert (answer.status_code, why in answer.get_data(as_text=True).replace("&#39;", "'")) == (403, True)
    assert wait_for(client, url, "approval")["matched"] == DEAD
    assert dead(redis_client) == DEAD


def test_a_token_cannot_approve_but_start(client: FlaskClient, redis_client: redis.Redis) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = {name: FORM[name] for name in FORM}
    bulk_id = client.post("/api/v1/bulk", json=body, headers=headers).get_json()["bulk_id"]
    url = f"/bulk/{bulk_id}"
    waits = wait_for(client, url, "approval")
    assert waits["approval_until"] > waits["created_at"]
    answer = client.post(f"/api/v1{url}/approve", json={}, headers=headers)
    assert (answer.status_code, "A token cannot approve this" in answer.text) == (403, True)
    assert client.post(f"/api/v1{url}/reject", json={}, headers=as_user("ben")).get_json()["note"] == "Rejected by ben"
    assert dead(redis_client) == DEAD


def test_who_created_a_token_cannot_approve_what_it_starts(make_app: MakeApp, app: Flask) -> None:
    found = make_app(
        identify=lambda environ: PEOPLE.get(environ.get("HTTP_X_USER", "")),
        bulk_approval_over=OVER,
        secret_key="s" * 40,
    )
    client = found.test_client()
    wait_until(lambda: client.get(QUEUE, headers=as_user("root")).status_code == 200, what="the queue being known")
    made = client.post("/tokens", data={"name": "script", "role": "operator", "days": "30"}, headers=as_user("root"))
    token = re.search(r"qd_[\w-]+", made.text)
    assert token, made.text
    headers = {"Authorization": f"Bearer {token[0]}"}
    bulk_id = client.post("/api/v1/bulk", json=dict(FORM), headers=headers).get_json()["bulk_id"]
    wait_for(client, f"/bulk/{bulk_id}", "approval")
    assert "Approve or reject" not in client.get(f"/bulk/{bulk_id}", headers=as_user("root")).text
    assert client.post(f"/bulk/{bulk_id}/approve", headers=as_user("root")).status_code == 403
    assert client.post(f"/bulk/{bulk_id}/reject", headers=as_user("ben")).status_code == 303


def test_a_larger_selection_becomes_an_operation_that_waits(client: FlaskClient, redis_client: redis.Redis) -> None:
    from dashboard.web.forms.job_tokens import job_token

    listed = client.get("/api/v1/queues/main/rq/mail/jobs?state=dead", headers=as_user("ada")).get_json()["jobs"]
    app = client.application
    with app.test_request_context():
        services = app.extensions["queuedeck"].services
        queue = services.snapshots.current().snapshot.find("main", "rq", "mail")
        jobs = [services.job_reader.read_job(queue, job["id"]) for job in listed]
        picks = [job_token(job) for job in jobs]
    form = {"action": "delete", "state": "dead", "pick": picks}
    answer = client.post(f"{QUEUE}/act", data=form, headers=as_user("ada"))
    assert answer.headers["Location"].startswith("/bulk/")
    url = answer.headers["Location"]
    assert wait_for(client, url, "approval")["matched"] == DEAD
    few = client.post(f"{QUEUE}/act", data=form | {"pick": picks[:OVER]}, headers=as_user("ada"))
    assert few.headers["Location"].startswith(QUEUE)
    assert dead(redis_client) == DEAD - OVER
    client.post(f"{url}/approve", headers=as_user("ben"))
    assert wait_for(client, url, "done")["outcomes"] == {"done": DEAD - OVER, "gone": OVER}


def test_a_queue_with_many_jobs_is_not_deleted_as_a_whole(client: FlaskClient, redis_client: redis.Redis) -> None:
    answer = client.post(f"/api/v1{QUEUE}/obliterate", json={"confirm": "mail"}, headers=as_user("ada"))
    assert (answer.status_code, "without the approval of a second person" in answer.text) == (409, True)
    assert dead(redis_client) == DEAD


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"bulk_approval_over": 0}, "expected a number from 1 to 1,000,000"),
        ({"auth": "none"}, "there is no second person"),
        ({}, "expected only with users or another sign-in"),
        ({"users": [("ada", "operator")]}, "expected two users"),
        ({"users": [("ada", "operator"), ("vic", "viewer")]}, "expected two users"),
    ],
)
def test_without_a_second_person_it_is_refused(settings: dict[str, Any], why: str) -> None:
    users = settings.pop("users", ())
    if users:
        password = "scrypt:32768:8:1$salt$" + "0" * 128
        settings["users"] = [{"name": name, "role": role, "password_hash": password} for name, role in users]
        settings["secret_key"] = "s" * 40
    with pytest.raises(ConfigurationError, match=why):
        create_app(**{"bulk_approval_over": OVER, **settings})
    assert Settings().bulk_approval_over is None
