"""Revealing the masked values of a job: who may, what is shown, and what the audit log has before."""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from dashboard.auth import Identity, Role
from dashboard.redact import MASK
from dashboard.web.access import refusals, sign_in_limits
from tests.redaction import any_redaction
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.granted import as_user
from tests.web.granted import fill as fill_granted
from tests.web.seeded_secrets import OWN_FUNCTION, REDACTION, WITH_HOOK, Seeds, fill

BUTTON = "Reveal masked values"
NAMES = {"ada": Role.ADMIN, "otto": Role.OPERATOR, "vera": Role.VIEWER, "root": Role.ADMIN, "pia": Role.VIEWER}
# A job of each library that has secrets everywhere, and parts of it that have some.
JOBS = {
    "bullmq": ("mails", "0", {"error", "stack trace", "payload", "options", "logs", "progress", "name"}),
    "rq": ("cash", "r0", {"error", "stack trace", "payload", "meta", "progress"}),
    "sidekiq": ("*", None, {"error", "stack trace", "payload", "name"}),
    "celery": ("*", "c1", {"error", "stack trace", "payload", "name"}),
}


def identify(environ: dict[str, Any]) -> Identity | None:
    name = environ.get("HTTP_X_USER", "ada")
    return Identity(name=name, role=NAMES[name]) if name in NAMES else None


@pytest.fixture
def seeds(redis_client: redis.Redis) -> Seeds:
    found = Seeds()
    fill(redis_client, found)
    return found


@pytest.fixture
def app(make_app: MakeApp, seeds: Seeds, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setattr(refusals, "_refusals", sign_in_limits.AttemptCounter())
    with any_redaction():
        yield make_app(identify=identify, redaction=REDACTION)


def find_url(client: FlaskClient, library: str, state: str = "dead", user: str = "ada") -> str:
    """The address of the job of JOBS."""
    queue, job_id, _ = JOBS[library]
    jobs = f"/queues/main/{library}/{queue}/jobs"
    answer = wait_until(
        lambda: (
            (found := client.get(f"/api/v1{jobs}?state={state}", headers=as_user(user))).status_code == 200 and found
        ),
        what="the queue",
    )
    (found,) = [job for job in answer.get_json()["jobs"] if job_id in (None, job["id"])]
    return f"{jobs}/{found['id']}"


def reveal(client: FlaskClient, url: str, user: str = "ada", **form: str) -> Any:
    return client.post(f"{url}/reveal", data=form, headers=as_user(user))


def events_of(client: FlaskClient, action: str = "reveal", user: str = "ada") -> list[dict[str, Any]]:
    events = client.get("/api/v1/audit", headers=as_user(user)).get_json()["events"]
    return [event for event in events if event["action"] == action]


@pytest.mark.parametrize("library", JOBS)
def test_an_admin_sees_what_is_masked_once(
    app: Flask, seeds: Seeds, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client, (queue, _, parts) = app.test_client(), JOBS[library]
    url = find_url(client, library)
    before = client.get(url)
    assert BUTTON in before.text
    assert seeds.leaked(before.text) == set()
    answer = reveal(client, url)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(seeds.leaked(answer.text)) > 40
    assert MASK not in answer.text
    assert "data-poll" not in answer.text
    assert "hx-get" not in answer.text.partition("<main")[2].partition("</main>")[0]
    (event,) = events_of(client)
    recorded = set(event["detail"].split(", "))
    assert parts <= recorded
    assert (event["who"], event["source"], event["backend"], event["queue"]) == ("ada", "main", library, queue)
    assert (event["ids"], event["outcomes"]) == ([url.rpartition("/")[2]], {"done": 1})
    for path in (url, f"{url}/_job", f"/api/v1{url}", "/audit", "/api/v1/audit", "/dead"):
        assert seeds.leaked(client.get(path).text) == set()
    assert "revealed the masked values of 1 dead job" in html.unescape(client.get("/audit").text)
    assert seeds.leaked(caplog.text) == set()


@pytest.mark.parametrize("library", JOBS)
def test_the_json_api_reveals_the_same_values(app: Flask, seeds: Seeds, library: str) -> None:
    client = app.test_client()
    url = find_url(client, library)
    masked = client.get(f"/api/v1{url}").get_json()
    answer = client.post(f"/api/v1{url}/reveal", json={"reason": "ticket 7"}, headers=as_user("ada"))
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    found = answer.get_json()
    assert found.keys() == masked.keys()
    assert len(seeds.leaked(json.dumps(found, ensure_ascii=False))) > 40
    assert MASK not in json.dumps(found, ensure_ascii=False)
    same = ("id", "state", "payload_kind", "payload_truncated", "capabilities", "stamp")
    assert {name: found[name] for name in same} == {name: masked[name] for name in same}
    (event,) = events_of(client)
    assert event["reason"] == "ticket 7"


@pytest.mark.parametrize("user", ["vera", "otto"])
def test_other_roles_get_no_button_and_no_values(app: Flask, seeds: Seeds, user: str) -> None:
    client = app.test_client()
    url = find_url(client, "bullmq")
    assert BUTTON not in client.get(url, headers=as_user(user)).text
    for answer in (reveal(client, url, user), client.post(f"/api/v1{url}/reveal", headers=as_user(user))):
        assert answer.status_code == 403
        assert seeds.leaked(answer.text) == set()
    assert events_of(client) == []
    refused = events_of(client, "refused action")
    assert [event["detail"] for event in refused] == [
        f"POST {path}{url}/reveal, which needs the admin role" for path in ("/api/v1", "")
    ]


def test_another_site_reveals_nothing(app: Flask, seeds: Seeds) -> None:
    client = app.test_client()
    url = find_url(client, "bullmq")
    for headers in ({"X-User": "ada"}, {"X-User": "ada", "Sec-Fetch-Site": "cross-site"}):
        for path in (url, f"/api/v1{url}"):
            assert client.post(f"{path}/reveal", headers=headers).status_code == 403
    assert client.get(f"{url}/reveal").status_code in (404, 405)
    assert events_of(client) == []


def test_nothing_is_revealed_without_a_record(app: Flask, seeds: Seeds, redis_client: redis.Redis) -> None:
    client = app.test_client()
    url = find_url(client, "bullmq")
    redis_client.execute_command("ACL", "SETUSER", "default", "-xadd")
    try:
        answers = reveal(client, url), client.post(f"/api/v1{url}/reveal", headers=as_user("ada"))
    finally:
        redis_client.execute_command("ACL", "SETUSER", "default", "+xadd")
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert "The audit log could not be written, so nothing was done." in answer.text
        assert seeds.leaked(answer.text) == set()
    assert events_of(client) == []


def test_a_reason_is_required_where_actions_require_one(make_app: MakeApp, seeds: Seeds) -> None:
    with any_redaction():
        client = make_app(identify=identify, redaction=REDACTION, require_reason=True).test_client()
        url = find_url(client, "rq")
        form = re.search(r'<form [^>]*/reveal"[^>]*>.*?</form>', client.get(url).text, re.DOTALL)
        assert form
        assert 'name="reason" maxlength="500" required' in form[0]
        refused = reveal(client, url)
        assert refused.status_code == 409
        assert seeds.leaked(refused.text) == set()
        assert reveal(client, url, reason="ticket 7").status_code == 200
        (event,) = events_of(client)
        assert event["reason"] == "ticket 7"


def test_read_only_mode_reveals_too(make_app: MakeApp, seeds: Seeds, redis_client: redis.Redis) -> None:
    with any_redaction():
        client = make_app(identify=identify, redaction=REDACTION, read_only=True).test_client()
        url = find_url(client, "rq")
        assert BUTTON in client.get(url).text
        assert len(seeds.leaked(reveal(client, url).text)) > 40
        assert len(events_of(client)) == 1


def test_what_the_hook_of_the_application_hides_stays_hidden(make_app: MakeApp, redis_client: redis.Redis) -> None:
    seeds = Seeds(with_hook=True)
    fill(redis_client, seeds)
    with any_redaction():
        client = make_app(identify=identify, redaction=WITH_HOOK).test_client()
        url = find_url(client, "rq")
        answer = reveal(client, url)
        assert answer.status_code == 200
        leaks = seeds.leaked(answer.text)
        assert OWN_FUNCTION not in leaks
        assert len(leaks) > 40
        assert MASK in answer.text


def test_a_job_without_masks_has_nothing_to_reveal(make_app: MakeApp, redis_client: redis.Redis) -> None:
    client = make_app(identify=identify).test_client()
    redis_client.hset("bull:mails:meta", mapping={"version": "bullmq:6.7.0"})
    redis_client.zadd("bull:mails:failed", {"0": 1_900_000_000_000})
    redis_client.hset("bull:mails:0", mapping={"name": "send", "data": '{"to": "ann"}', "opts": "{}"})
    url = find_url(client, "bullmq")
    assert BUTTON not in client.get(url).text
    answer = reveal(client, url)
    assert (answer.status_code, "Nothing in this job is masked" in answer.text) == (200, True)
    assert client.post(f"/api/v1{url}/reveal", headers=as_user("ada")).get_json()["payload"] == {"to": "ann"}
    assert events_of(client) == []
    assert reveal(client, url.replace("/0", "/absent")).status_code == 404


def test_a_long_value_is_revealed_as_far_as_it_is_read(make_app: MakeApp, redis_client: redis.Redis) -> None:
    client = make_app(identify=identify).test_client()
    redis_client.hset("bull:mails:meta", mapping={"version": "bullmq:6.7.0"})
    redis_client.zadd("bull:mails:failed", {"0": 1_900_000_000_000})
    data = json.dumps({"password": "opensesame", "long": "y" * 300_000, "token": "at-the-end"})
    redis_client.hset("bull:mails:0", mapping={"name": "send", "data": data, "opts": "{}"})
    url = find_url(client, "bullmq")
    assert "opensesame" not in client.get(url).text
    page = reveal(client, url).text
    assert "opensesame" in page
    assert "at-the-end" not in page
    assert "truncated" in page
    found = client.post(f"/api/v1{url}/reveal", headers=as_user("ada")).get_json()
    assert found["payload_truncated"] is True


GRANTS = [
    {"users": ["pia"], "queues": ["mail-*"], "allow": ["payload"]},
    {"users": ["vera"], "allow": ["view"]},
    {"users": ["vera"], "queues": ["mail-*"], "allow": ["payload"]},
    {"users": ["root"], "queues": ["payroll-*"], "deny": ["payload"]},
]
SECRET = {"visible": "opensesame-mail", "hidden": "opensesame-payroll"}


@pytest.fixture
def granted(make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr(refusals, "_refusals", sign_in_limits.AttemptCounter())
    fill_granted(redis_client)
    for queue, word, secret in (("mail-out", "shown-word", "visible"), ("payroll-run", "hiddenjob", "hidden")):
        redis_client.hset(f"bull:{queue}:{word}1", "data", json.dumps({"password": SECRET[secret]}))
        for raw in redis_client.zrange("dead", 0, -1):
            if queue.encode() in raw:
                redis_client.zrem("dead", raw)
                job = json.loads(raw) | {"args": [{"password": SECRET[secret]}]}
                redis_client.zadd("dead", {json.dumps(job): 1_900_000_000})
    client = make_app(identify=identify, grants=GRANTS).test_client()
    wait_until(
        lambda: client.get("/api/v1/queues/main/bullmq/payroll-run", headers=as_user("root")).status_code == 200,
        what="the queues",
    )
    return client


MAIL, PAYROLL = "/queues/main/bullmq/mail-out/jobs/shown-word1", "/queues/main/bullmq/payroll-run/jobs/hiddenjob1"


def test_the_right_payload_is_for_the_granted_queues(granted: FlaskClient) -> None:
    for user in ("pia", "vera", "root", "ada"):
        page = granted.get(MAIL, headers=as_user(user)).text
        assert SECRET["visible"] not in page
        assert BUTTON in page, user
        for answer in (reveal(granted, MAIL, user), granted.post(f"/api/v1{MAIL}/reveal", headers=as_user(user))):
            assert SECRET["visible"] in answer.text, (user, answer.text)
    for user, status in (("pia", 404), ("vera", 403), ("root", 403)):
        assert BUTTON not in granted.get(PAYROLL, headers=as_user(user)).text
        for path in (PAYROLL, f"/api/v1{PAYROLL}"):
            answer = granted.post(f"{path}/reveal", headers=as_user(user))
            assert answer.status_code == status, (user, answer.text)
            assert SECRET["hidden"] not in answer.text
    absent = granted.post(f"{PAYROLL.replace('payroll-run', 'no-such')}/reveal", headers=as_user("pia"))
    hidden = granted.post(f"{PAYROLL}/reveal", headers=as_user("pia"))
    assert (absent.status_code, re.sub(r'nonce="[^"]*"', "", absent.text).replace("no-such", "payroll-run")) == (
        404,
        re.sub(r'nonce="[^"]*"', "", hidden.text),
    )
    refused = [event["detail"] for event in events_of(granted, "refused action")]
    assert refused == [
        f"POST {path}{PAYROLL}/reveal, You need the right 'payload' on payroll-run for this."
        for _ in range(2)
        for path in ("/api/v1", "")
    ]
    assert {event["who"] for event in events_of(granted)} == {"pia", "vera", "root", "ada"}


def test_a_job_of_another_queue_is_not_revealed_through_a_granted_one(granted: FlaskClient) -> None:
    dead = granted.get("/api/v1/queues/main/sidekiq/*/jobs?state=dead", headers=as_user("ada")).get_json()["jobs"]
    assert {job["queue"] for job in dead} == {"mail-out", "payroll-run"}
    for job in dead:
        for queue in ("mail-out", "payroll-run", "*"):
            url = f"/queues/main/sidekiq/{queue}/jobs/{job['id']}"
            for user in ("vera", "root", "pia"):
                answer = reveal(granted, url, user)
                assert answer.status_code in (403, 404), (user, url)
                assert "opensesame" not in answer.text
    assert "opensesame" in reveal(granted, f"/queues/main/sidekiq/*/jobs/{dead[0]['id']}").text
