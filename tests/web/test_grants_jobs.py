"""People who may see only some queues: the jobs of the others, and what is written about them, stay out of reach."""

from __future__ import annotations

import json
from typing import Any

import redis
from flask import Flask
from flask.testing import FlaskClient

from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.granted import GRANTS, NOW, as_user, fill, identify
from tests.web.test_grants import traces

# May act on mail-out, and only look at payroll-run.
MIXED = [
    {"users": ["mia"], "queues": ["mail-*"], "allow": ["retry", "delete", "pause", "bulk", "alerts"]},
    {"users": ["mia"], "queues": ["payroll-*"], "allow": ["view"]},
    {"users": ["mona"], "queues": ["mail-*"], "allow": ["retry", "bulk"]},
]
SHARED = "SharedError: same"
ABSENT = "0123456789abcdef"


def build(make_app: MakeApp, client: redis.Redis, grants: list[dict[str, Any]] = GRANTS, **settings: Any) -> Flask:
    """An app with these grants, that knows the same error in mail-out and, a minute later, in payroll-run."""
    fill(client)
    for queue, at in (("mail-out", NOW), ("payroll-run", NOW + 60)):
        times = {"timestamp": str(at * 1000), "finishedOn": str(at * 1000)}
        job = {"failedReason": SHARED, "stacktrace": "[]", "name": "x", "data": "{}", "opts": "{}", **times}
        client.hset(f"bull:{queue}:same", mapping=job)
        client.zadd(f"bull:{queue}:failed", {"same": at * 1000})
    app = make_app(identify=identify, sample_interval_s=0.5, grants=grants, **settings)
    wait_until(lambda: find_shared(app.test_client(), "root").get("count") == 2, what="both jobs in one group")
    return app


def groups_of(client: FlaskClient, user: str) -> list[dict[str, Any]]:
    return list(client.get("/api/v1/dead", headers=as_user(user)).get_json()["groups"])


def find_shared(client: FlaskClient, user: str) -> dict[str, Any]:
    """The group of the shared error; {} while there is none."""
    return next((group for group in groups_of(client, user) if group["message"] == SHARED), {})


def test_what_is_written_about_a_hidden_error_is_not_shown(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = build(make_app, redis_client)
    client = app.test_client()
    hidden = next(group["fingerprint"] for group in groups_of(client, "root") if "hiddenjob" in group["message"])
    written = {"owner": "the-owner", "note": "the-note"}
    assert client.post(f"/dead/{hidden}/note", data=written, headers=as_user("root")).status_code == 303
    assert "the-note" in client.get(f"/dead/{hidden}", headers=as_user("root")).text
    for user in ("mia", "mona", "den"):
        for page in ("", "/_group"):
            found, absent = (client.get(f"/dead/{each}{page}", headers=as_user(user)) for each in (hidden, ABSENT))
            assert (found.status_code, absent.status_code) == (404, 404)
            assert "the-note" not in found.text
            assert "the-owner" not in found.text
    for word in ("note", "resolve"):
        found = client.post(f"/dead/{hidden}/{word}", data={}, headers=as_user("mona"))
        absent = client.post(f"/dead/{ABSENT}/{word}", data={}, headers=as_user("mona"))
        assert (found.status_code, absent.status_code) == (404, 404)


def test_the_status_of_a_shared_error_is_not_set_for_hidden_queues(
    make_app: MakeApp, redis_client: redis.Redis
) -> None:
    app = build(make_app, redis_client)
    client = app.test_client()
    shared = find_shared(client, "mona")
    page = f"/dead/{shared['fingerprint']}"
    assert shared["count"] == 1
    # The other job died later; and it was first seen when Queuedeck read it, years before both.
    assert shared["first_seen"] == shared["last_seen"] == "2030-03-17T17:46:40.000Z"
    assert client.post(f"{page}/ignore", data={"more": "5"}, headers=as_user("root")).status_code == 303
    assert find_shared(client, "root")["ignored_above"] == 7
    assert find_shared(client, "mona")["ignored_above"] is None
    assert client.post(f"{page}/notice", headers=as_user("root")).status_code == 303
    for word in ("acknowledge", "resolve", "ignore"):
        answer = client.post(f"{page}/{word}", data={"hours": "1"} if word == "ignore" else {}, headers=as_user("mona"))
        assert answer.status_code == 403
        assert not traces(answer.text)
    assert not {"acknowledged", "resolved", "ignored"} & set(find_shared(client, "root")["marks"])
    shown = client.get(page, headers=as_user("mona")).text
    assert f'{page}/note"' in shown
    assert f'{page}/resolve"' not in shown
    assert client.post(f"{page}/note", data={"note": "mine"}, headers=as_user("mona")).status_code == 303
    assert find_shared(client, "root")["note"] == "mine"
    own = next(
        group for group in groups_of(client, "mona") if "BrokenShown" in str(group) or "shown-word" in str(group)
    )
    path = f"/dead/{own['fingerprint']}/resolve"
    assert client.post(path, headers=as_user("mona")).status_code == 303


def test_the_name_of_a_hidden_origin_queue_is_not_a_field(make_app: MakeApp, redis_client: redis.Redis) -> None:
    redis_client.hset("bull:mail-dlq:meta", mapping={"version": "bullmq:5.1.0"})
    for job_id, origin in (("d1", "payroll-run"), ("d2", "mail-out")):
        data = json.dumps({"originalQueue": origin, "failedReason": "DlqError: y"})
        redis_client.hset(f"bull:mail-dlq:{job_id}", mapping={"name": "x", "timestamp": NOW * 1000, "data": data})
        redis_client.rpush("bull:mail-dlq:wait", job_id)
    client = build(make_app, redis_client, dlq_queues=["*-dlq"]).test_client()

    def origins(user: str) -> dict[str, str | None]:
        jobs = [job for group in groups_of(client, user) for job in group["samples"] if job["found_in"] == "mail-dlq"]
        return {job["id"]: job["came_from"] for job in jobs}

    wait_until(lambda: len(origins("root")) == 2, what="the jobs of the dead-letter queue")
    assert origins("root") == {"d1": "payroll-run", "d2": "mail-out"}
    for user in ("mona", "den"):
        assert origins(user) == {"d1": None, "d2": "mail-out"}
