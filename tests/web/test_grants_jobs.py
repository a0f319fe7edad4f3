"""People who may see only some queues: the jobs of the others, and what is written about them, stay out of reach."""

from __future__ import annotations

import base64
import json
from itertools import product
from typing import Any

import msgspec
import redis
from flask import Flask
from flask.testing import FlaskClient

from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.granted import GRANTS, NOW, as_user, fill, identify
from tests.web.test_grants import LIBRARIES, keys_of, post, post_open, traces

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


def test_a_missing_right_is_refused_as_such(make_app: MakeApp, redis_client: redis.Redis) -> None:
    """Not as something that the library does not support, and not after anything was changed."""
    app = build(make_app, redis_client, MIXED)
    client = app.test_client()
    jobs = "/queues/main/bullmq/mail-out/jobs/shown-word1"
    before = redis_client.dump("bull:mail-out:failed")
    bulk = {"source": "main", "backend": "bullmq", "queue": "mail-out", "state": "dead", "action": "delete"}
    for path, body in (
        (f"{jobs}/delete", {}),
        (f"{jobs}/delete", {"state": "dead"}),
        ("/queues/main/bullmq/mail-out/pause", {}),
        ("/queues/main/bullmq/mail-out/purge", {}),
        ("/bulk", bulk),
        ("/bulk", bulk | {"preview": True}),
    ):
        answer = post(app, "mona", path, **body)
        assert answer.status_code == 403, (path, answer.text)
        assert "You need the right" in answer.text
    form = {"action": "delete", "state": "dead", "pick": job_token(job_id="shown-word1")}
    assert client.post("/queues/main/bullmq/mail-out/act", data=form, headers=as_user("mona")).status_code == 403
    assert redis_client.dump("bull:mail-out:failed") == before


def job_token(*where: str, job_id: str) -> str:
    """The value of the checkbox of a job, in the list that `where` names, as anyone can write it."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode([*where, job_id, None])).decode()


def test_a_preview_counts_the_jobs_with_the_rights(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = build(make_app, redis_client, MIXED)
    client = app.test_client()
    shared = find_shared(client, "mia")
    assert shared["count"] == 2  # may be seen, both
    page = client.get(f"/dead/{shared['fingerprint']}", headers=as_user("mia")).text
    assert "Delete all 1…" in page
    bulk = {"action": "delete", "fingerprint": shared["fingerprint"]}
    assert post(app, "mia", "/bulk", **bulk, preview=True).get_json()["matched"] == 1
    asked = client.get("/bulk/new", query_string=bulk, headers=as_user("mia"))
    assert 'name="seen" value="1"' in asked.text
    before = keys_of(redis_client)
    started = post(app, "mia", "/bulk", **bulk)
    assert started.get_json()["matched"] == 1
    wait_until(lambda: not post_open(app), what="the end of the operation")
    assert keys_of(redis_client) == before
    assert redis_client.zscore("bull:mail-out:failed", "same") is None
    only_looked_at = next(group for group in groups_of(client, "mia") if "hiddenjob" in group["message"])
    shown = client.get(f"/dead/{only_looked_at['fingerprint']}", headers=as_user("mia")).text
    assert "You do not have the right for this on this queue." in shown
    bulk["fingerprint"] = only_looked_at["fingerprint"]
    assert post(app, "mia", "/bulk", **bulk, preview=True).status_code == 403


def test_restoring_everything_leaves_what_one_may_only_look_at(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = build(make_app, redis_client, MIXED)
    for queue in ("payroll-run", "mail-out"):
        deleted = post(app, "root", f"/queues/main/bullmq/{queue}/jobs/same/delete")
        assert deleted.get_json()["outcome"] == "done"
    answer = post(app, "mia", "/trash/restore").get_json()
    assert answer["restored"] == 1
    assert [each["outcome"] for each in answer["refused"]] == ["refused"]
    assert redis_client.zscore("bull:mail-out:failed", "same") is not None
    assert redis_client.zscore("bull:payroll-run:failed", "same") is None


def test_the_trash_of_sets_of_all_queues_is_for_those_who_see_them(
    make_app: MakeApp, redis_client: redis.Redis
) -> None:
    """Celery finds a dead job by its id, through whichever queue: the batch names that queue."""
    app = build(make_app, redis_client)
    client = app.test_client()
    deleted = post(app, "root", "/queues/main/celery/mail-out/jobs/hiddenjob-task-2/delete", state="dead").get_json()
    assert deleted["outcome"] == "done"
    assert post(app, "root", "/queues/main/bullmq/mail-out/jobs/same/delete").get_json()["outcome"] == "done"
    for user in ("mia", "mona", "den"):
        listed = client.get("/api/v1/trash", headers=as_user(user)).get_json()
        assert [batch["backend"] for batch in listed["batches"]] == ["bullmq"]
        assert listed["total_jobs"] == 1
        assert client.get(f"/api/v1/trash/{deleted['undo']}", headers=as_user(user)).status_code == 404
    for path in (f"/undo/{deleted['undo']}", f"/trash/{deleted['undo']}/restore"):
        assert post(app, "mona", path).status_code == 404


def test_an_id_of_a_hidden_queue_is_answered_as_one_of_no_job(make_app: MakeApp, redis_client: redis.Redis) -> None:
    """By acts on it through a visible queue, alone, selected or in bulk: no status, no other reason, no change."""
    app = build(make_app, redis_client)
    client = app.test_client()
    before = keys_of(redis_client)
    hidden = {"bullmq": ("hiddenjob1", "dead"), "rq": ("hiddenjob1", "waiting")}
    hidden |= {"celery": ("hiddenjob-task", "waiting"), "sidekiq": ("hiddenjob0123456789abcdef", "waiting")}
    for library in LIBRARIES:
        job_id, state = hidden[library]
        for verb in ("retry", "delete", "promote", "duplicate", "kill", "cancel", "stop", "move"):
            body = {"target": "mail-in"} if verb == "move" else {}
            for place in ({}, {"state": state}, {"state": "dead"}, {"state": "active"}):
                answers = [
                    post(app, "mona", f"/queues/main/{library}/mail-out/jobs/{each}/{verb}", **body, **place)
                    for each in (job_id, ABSENT)
                ]
                assert answers[0].text == answers[1].text, (library, verb, place)
                assert answers[0].status_code == answers[1].status_code
            bulk = {"source": "main", "backend": library, "queue": "mail-out", "state": state, "action": verb, **body}
            answers = [post(app, "mona", "/bulk", **bulk, ids=[each]) for each in (job_id, ABSENT)]
            assert answers[0].status_code == answers[1].status_code, (library, verb)
    wait_until(lambda: not post_open(app), what="the end of all operations")
    operations = client.get("/api/v1/bulk", headers=as_user("mona")).get_json()["bulk"]
    assert operations
    assert {outcome for each in operations for outcome in each["outcomes"]} <= {"gone", "refused"}
    for library, queue in product(LIBRARIES, ("payroll-run", "mail-out")):
        job_id, state = hidden[library]
        tokens = [job_token("main", library, queue, state, job_id=each) for each in (job_id, ABSENT)]
        for action in ("retry", "delete"):
            places = [
                client.post("/search/act", data={"action": action, "pick": token}, headers=as_user("mona"))
                for token in tokens
            ]
            assert places[0].status_code == places[1].status_code
            assert places[0].location == places[1].location
    assert keys_of(redis_client) == before


def test_a_hidden_queue_is_no_destination(make_app: MakeApp, redis_client: redis.Redis) -> None:
    """Of jobs that can move: as a queue that does not exist, and the job stays."""
    redis_client.hset("bull:mail-out:w1", mapping={"name": "x", "timestamp": NOW * 1000, "data": "{}", "opts": "{}"})
    redis_client.rpush("bull:mail-out:wait", "w1")
    redis_client.hset("bull:mail-in:meta", mapping={"version": "bullmq:5.1.0"})
    app = build(make_app, redis_client)
    before = keys_of(redis_client)
    path = "/queues/main/bullmq/mail-out/jobs/w1/move"
    hidden, absent = (post(app, "mona", path, target=name) for name in ("payroll-run", "payroll-none"))
    assert (hidden.status_code, absent.status_code) == (404, 404)
    assert hidden.text == absent.text
    bulk = {"source": "main", "backend": "bullmq", "queue": "mail-out", "state": "waiting", "action": "move"}
    hidden, absent = (post(app, "mona", "/bulk", **bulk, target=name) for name in ("payroll-run", "payroll-none"))
    assert (hidden.status_code, absent.status_code) == (403, 403)
    assert hidden.text == absent.text
    assert keys_of(redis_client) == before
    assert b"w1" in redis_client.lrange("bull:mail-out:wait", 0, -1)
    assert post(app, "mona", path, target="mail-in").get_json()["outcome"] == "done"


def test_some_rights_on_all_queues_are_not_all_rights(make_app: MakeApp, redis_client: redis.Redis) -> None:
    """A grant that names no queue, and a denial that does: neither is the role of an operator."""
    grants = [
        {"users": ["mia"], "allow": ["view", "retry"]},
        {"users": ["den"], "deny": ["delete", "pause"]},
        {"users": ["mona"], "allow": ["view", "delete"]},
    ]
    app = build(make_app, redis_client, grants)
    client = app.test_client()
    job = "/api/v1/queues/main/bullmq/mail-out/jobs/same"
    bulk = {"source": "main", "backend": "bullmq", "queue": "mail-out", "state": "dead"}
    for user, allowed in (("mia", "retry"), ("den", "retry bulk"), ("mona", "delete")):
        before = redis_client.dump("bull:mail-out:failed")
        for action, path, body in (
            ("delete", f"{job}/delete", {}),
            ("retry", f"{job}/retry", {}),
            ("pause", "/api/v1/queues/main/bullmq/mail-out/pause", {}),
            ("delete", "/api/v1/queues/main/bullmq/mail-out/obliterate", {"confirm": "mail-out"}),
            ("delete bulk", "/api/v1/bulk", {**bulk, "action": "delete"}),
            ("retry bulk", "/api/v1/bulk", {**bulk, "action": "retry"}),
        ):
            if set(action.split()) <= set(allowed.split()):
                continue
            answer = client.post(path, json=body, headers=as_user(user))
            assert answer.status_code == 403, (user, path, answer.text)
        assert redis_client.dump("bull:mail-out:failed") == before
        page = client.get("/queues/main/bullmq/mail-out?state=dead", headers=as_user(user)).text
        assert ('value="delete"' in page, 'value="retry"' in page) == ("delete" in allowed, "retry" in allowed)
        assert 'value="pause"' not in page
    assert client.post(f"{job}/retry", json={}, headers=as_user("mia")).status_code == 200
