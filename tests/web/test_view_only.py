"""Why a page has no buttons: said once, in their place, to viewers, in read-only mode, and where a library has none."""

from __future__ import annotations

import re

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from rq import Queue, Worker

from dashboard.auth import Identity, Role
from dashboard.demo.embedded import EmbeddedRedis
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME

MARK = 'class="muted view-only"'


@pytest.fixture
def dead_ids(server: EmbeddedRedis, redis_client: redis.Redis) -> list[str]:
    """Jobs of the real RQ that failed in `mail`; one waits there, and a worker is registered."""
    ids = fail_rq(server, "mail", *((failing_jobs.mail, f"user{n}@example.com", n) for n in range(3)))
    Queue("mail", connection=redis_client).enqueue("app.mail.send")
    Worker(["mail"], connection=redis_client, name="w1").register_birth()
    return ids


def paths(client: FlaskClient, dead_ids: list[str]) -> dict[str, str]:
    """Each page with buttons for operators, and what it says needs the role."""
    group = wait_until(lambda: client.get("/api/v1/dead").get_json()["groups"], what="the error group")[0][
        "fingerprint"
    ]
    page = "/queues/main/rq/mail"
    wait_until(lambda: client.get(page).status_code == 200, what="the queue")
    wait_until(lambda: "w1" in client.get("/workers").text, what="the worker")
    return {
        f"{page}?state=dead": "retrying, deleting and pausing need the operator",
        f"{page}/jobs/{dead_ids[0]}": "retrying and deleting need the operator",
        f"/dead/{group}": "retrying, deleting and changing notes need the operator",
        "/workers": "stopping workers needs the operator",
        "/alerts": "acknowledging and silencing need the operator",
        "/alerts/silences": "silencing needs the operator",
        "/alerts/rules": "creating and editing rules need the admin",
        "/trash": "restoring needs the operator",
        f"/search?q={dead_ids[0]}": "retrying and deleting need the operator",
    }


def as_role(make_app: MakeApp, role: Role, **settings: object) -> Flask:
    return make_app(identify=lambda _environ: Identity(name="vera", role=role), **settings)


@pytest.fixture
def admin(make_app: MakeApp, dead_ids: list[str]) -> FlaskClient:
    """An admin, who has deleted one of the jobs, so that the trash has a row."""
    client = as_role(make_app, Role.ADMIN).test_client()
    page = "/queues/main/rq/mail"
    wait_until(lambda: client.get(page).status_code == 200, what="the queue")
    assert client.post(f"/api/v1{page}/jobs/{dead_ids[2]}/delete", json={}, headers=SAME).status_code == 200
    return client


def test_a_viewer_can_open_each_page_of_the_navigation(make_app: MakeApp) -> None:
    client = as_role(make_app, Role.VIEWER).test_client()
    navigation = client.get("/").text.partition('aria-label="Main"')[2].partition("</nav>")[0]
    pages = re.findall(r'<li[^>]*><a href="([^"]+)"', navigation)
    assert {"/bulk", "/trash", "/alerts"} <= set(pages)
    assert "/audit" not in pages
    assert [client.get(page).status_code for page in pages] == [200] * len(pages)


def test_a_viewer_is_told_once_on_each_page(make_app: MakeApp, admin: FlaskClient, dead_ids: list[str]) -> None:
    client = as_role(make_app, Role.VIEWER).test_client()
    for path, needed in paths(client, dead_ids).items():
        text = client.get(path).text
        assert text.count(f"View only: {needed} role. Signed in as vera (viewer).") == 1, path
        assert text.count(MARK) == 1, path
        assert "<form" not in text.partition("<main")[2] or 'method="post"' not in text.partition("<main")[2], path
        assert "View only" not in admin.get(path).text, path


def test_read_only_mode_is_named(make_app: MakeApp, admin: FlaskClient, dead_ids: list[str]) -> None:
    client = as_role(make_app, Role.ADMIN, read_only=True).test_client()
    for path in paths(client, dead_ids):
        text = client.get(path).text
        assert text.count("View only: this Queuedeck runs in read-only mode (read_only in its settings).") == 1, path
    answer = client.post(f"/api/v1/queues/main/rq/mail/jobs/{dead_ids[0]}/retry", json={}, headers=SAME)
    assert answer.status_code == 404
    assert "read-only mode" in answer.get_json()["error"]["hint"]
    answer = client.post("/api/v1/bulk", json={}, headers=SAME)
    assert answer.status_code == 405  # only its list is left
    assert "read-only mode" in answer.get_json()["error"]["hint"]
    assert client.get("/api/v1/nothing").get_json()["error"]["hint"] is None


def test_the_api_says_which_role_is_needed(make_app: MakeApp, dead_ids: list[str]) -> None:
    client = as_role(make_app, Role.VIEWER).test_client()
    answer = client.post(f"/api/v1/queues/main/rq/mail/jobs/{dead_ids[0]}/retry", json={}, headers=SAME)
    assert answer.status_code == 403
    assert answer.get_json()["error"]["message"] == "You need the operator role for this; vera has the viewer role."


def test_an_action_that_a_library_lacks_is_explained(make_app: MakeApp, redis_client: redis.Redis) -> None:
    """Sidekiq cannot pause a queue. A viewer sees only that the role is missing."""
    redis_client.sadd("queues", "mailers")
    redis_client.lpush("queue:mailers", '{"class":"Mail","jid":"a","args":[]}')
    for role, said in ((Role.OPERATOR, 1), (Role.VIEWER, 0)):
        client = as_role(make_app, role).test_client()
        wait_until(lambda asked=client: asked.get("/queues/main/sidekiq/mailers").status_code == 200, what="the queue")
        text = client.get("/queues/main/sidekiq/mailers").text
        assert (
            text.count("Pausing is not available: Pausing a queue needs Sidekiq Pro, whose protocol is not public.")
            == said
        )


def test_a_redis_user_who_may_not_write_is_named(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis, dead_ids: list[str]
) -> None:
    rights = ("~*", "+@read", "+eval", "+eval_ro", "+info")
    redis_client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", *rights)
    page = "/queues/main/rq/mail"
    for user, said in (("reader:secret@", 1), ("", 0)):
        url = server.url.replace("://", f"://{user}")
        sources = [{"name": "main", "url": url}]
        client = make_app(sources=sources, store_url=server.url).test_client()
        wait_until(lambda asked=client: asked.get(page).status_code == 200, what="the queue")
        for path in (f"{page}?state=dead", f"{page}/jobs/{dead_ids[0]}", f"{page}/_queue?state=dead"):
            text = client.get(path).text
            assert text.count("The Redis user of main cannot change this queue, so actions will be refused") == said, (
                path
            )
            assert text.count("Missing permissions: ") == said
    redis_client.execute_command("ACL", "DELUSER", "reader")
