"""People who may see only some queues: what is about the others is not in any page, answer or message."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pytest
import redis
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from dashboard.auth import Identity
from dashboard.rights.grants import Grant
from dashboard.rights.right import Right
from dashboard.web.context import EXTENSION, MAX_VIEWS
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.granted import GRANTS, HIDDEN, NOW, VISIBLE, as_user, fill, identify
from tests.web.test_secrets import ARRANGED, STARTS

RULES = [
    {"id": f"deep-{word}", "metric": "queue.depth", "queues": [glob], "critical": 0, "op": "gt", "for_s": 0}
    | {"min_samples": 1, "new_instance_grace_s": 0}
    for word, glob in (("mail", "mail-*"), ("payroll", "payroll-*"))
]
LINK = re.compile(r'(?:href|action|hx-get|hx-post|data-[a-z-]*url)="(/[^"#]*)')


@pytest.fixture
def app(make_app: MakeApp, redis_client: redis.Redis) -> Flask:
    """An app with grants, whose checker has found all queues, fired and read the dead letters."""
    fill(redis_client)
    made = make_app(identify=identify, sample_interval_s=0.5, grants=GRANTS, rules=RULES, checker="auto")
    client = made.test_client()

    def is_ready() -> bool:
        queues = client.get("/api/v1/queues", headers=as_user("root")).get_json()["total"]
        dead = client.get("/api/v1/dead", headers=as_user("root")).get_json()["scanned"]
        firing = client.get("/api/v1/alerts", headers=as_user("root")).get_json()["alerts"]
        return bool(queues >= 10 and dead >= 6 and len(firing) >= 2)

    wait_until(is_ready, what="all queues, dead letters and alerts")
    return made


def traces(text: str) -> set[str]:
    """The words of hidden queues in a text."""
    shown = html.unescape(text)
    return {word for word in HIDDEN if word in shown}


def crawl(app: Flask, users: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """(user, address, status, body with headers) of what each gets, also at what only others or root find."""
    client, routes = app.test_client(), app.url_map.bind("x")
    starts = (*STARTS, "/search?q=hiddenjob", "/palette?q=payroll", "/palette?q=", "/complete?q=queue:pay")
    left, kinds, seen = [*starts], Counter[tuple[str, ...]](), set[str]()
    while left:
        url = left.pop(0)
        if url in seen:
            continue
        seen.add(url)
        bodies = []
        for person in (*users, "root"):
            answer = client.get(url, headers=as_user(person))
            assert answer.status_code < 500 or answer.status_code == 503, (url, person, answer.text[:500])
            bodies.append(answer.text)
            if person != "root":
                yield person, url, answer.status, f"{answer.text}\n{answer.headers}"
        for found in {each for body in bodies for each in LINK.findall(body)}:
            link = html.unescape(found)
            for path in (link, f"/api/v1{link}"):
                bare, _, _ = path.partition("?")
                try:
                    endpoint, values = routes.match(bare, method="GET")
                except HTTPException:
                    continue
                kind = (endpoint, str(sorted(values.items()))) if not ARRANGED.search(path) else (endpoint, "arranged")
                kinds[kind] += 1
                if path not in seen and kinds[kind] <= 2:
                    left.append(path)


def test_no_address_shows_what_is_about_other_queues(app: Flask) -> None:
    users = ("mia", "mona", "den")
    found, shown, addresses = {}, Counter[str](), Counter[str]()
    for user, url, status, text in crawl(app, users):
        addresses[user] += 1
        shown[user] += VISIBLE in text
        # What was asked for is repeated in answers.
        if words := traces(text) - traces(url):
            found[user, url] = (status, words)
    assert not found
    assert all(shown[user] > 20 for user in users), shown
    assert all(addresses[user] > 100 for user in users), addresses


LIBRARIES = ("bullmq", "celery", "rq", "sidekiq")


def post(app: Flask, user: str, path: str, **body: object) -> TestResponse:
    return app.test_client().post(f"/api/v1{path}", json=body, headers=as_user(user))


def keys_of(client: redis.Redis) -> dict[bytes, bytes | None]:
    """What the jobs of other queues are like now."""
    names = [name for name in client.scan_iter(count=1000) if b"payroll" in name or b"hiddenjob" in name]
    return {name: client.dump(name) for name in sorted(names)}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_queue_that_may_not_be_seen_does_not_exist(app: Flask, redis_client: redis.Redis, library: str) -> None:
    before = keys_of(redis_client)
    hidden, absent = f"/queues/main/{library}/payroll-run", f"/queues/main/{library}/no-such"
    client = app.test_client()
    # While queues are being searched for, both answers say so, and how far that is.
    wait_until(
        lambda: client.get("/api/v1/overview", headers=as_user("root")).get_json()["sources"][0]["discovered"],
        what="the end of the search for queues",
    )
    for user in ("mia", "mona", "den"):
        answers = [client.get(f"/api/v1{queue}", headers=as_user(user)) for queue in (hidden, absent)]
        assert [each.status_code for each in answers] == [404, 404]
        assert answers[0].text == answers[1].text
    for user in ("mona", "den"):
        for path in (
            "/jobs/hiddenjob1/retry",
            "/jobs/hiddenjob0/delete",
            "/jobs/hiddenjob2/duplicate",
            "/pause",
            "/purge",
        ):
            found, other = post(app, user, hidden + path), post(app, user, absent + path)
            assert found.status_code == 404, (user, path, found.text)
            assert found.text == other.text
        request = {"source": "main", "backend": library, "queue": "payroll-run", "action": "delete", "state": "waiting"}
        assert post(app, user, "/bulk", **request).status_code == 404
    assert keys_of(redis_client) == before


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_job_of_another_queue_is_not_reached_through_a_visible_one(
    app: Flask, redis_client: redis.Redis, library: str
) -> None:
    before = keys_of(redis_client)
    queue = f"/queues/main/{library}/mail-out"
    client = app.test_client()
    ids = ["hiddenjob0", "hiddenjob1", "hiddenjob2", "hiddenjob-task", "hiddenjob-task-2", "hiddenjob0123456789abcdef"]
    for job_id in ids:
        for path in (f"/api/v1{queue}/jobs/{job_id}", f"{queue}/jobs/{job_id}", f"{queue}/jobs/{job_id}/edit"):
            found = client.get(path, headers=as_user("mona"))
            assert found.status_code in (404, 422), (path, found.status_code)
            assert not traces(found.text.replace(job_id, ""))
        for verb in ("retry", "delete", "promote", "duplicate", "move", "kill", "cancel", "stop"):
            for state in ({}, {"state": "dead"}, {"state": "waiting"}):
                target = {"target": "mail-out"} if verb == "move" else {}
                found = post(app, "mona", f"{queue}/jobs/{job_id}/{verb}", **state, **target)
                assert found.status_code in (403, 404, 409, 422), (job_id, verb, state, found.text)
                assert not traces(found.text.replace(job_id, "")), (job_id, verb, state, found.text)
        picked = {"source": "main", "backend": library, "queue": "mail-out", "action": "delete", "state": "dead"}
        post(app, "mona", "/bulk", **picked, ids=[job_id])
    wait_until(lambda: not post_open(app), what="the end of all bulk operations")
    assert keys_of(redis_client) == before


def post_open(app: Flask) -> bool:
    """Whether a bulk operation is unfinished."""
    found = app.test_client().get("/api/v1/bulk?state=unfinished", headers=as_user("root")).get_json()["bulk"]
    return bool(found)


def test_jobs_do_not_move_into_a_queue_that_may_not_be_seen(app: Flask, redis_client: redis.Redis) -> None:
    before = keys_of(redis_client)
    path = "/queues/main/bullmq/mail-out/jobs/shown-word1/move"
    assert post(app, "mona", path, target="payroll-run").status_code in (404, 409)
    request = {"source": "main", "backend": "bullmq", "queue": "mail-out", "action": "move", "state": "dead"}
    assert post(app, "mona", "/bulk", **request, target="payroll-run").status_code in (403, 404, 409, 422)
    assert keys_of(redis_client) == before


def test_rights_are_needed_for_acts_on_a_visible_queue(app: Flask, redis_client: redis.Redis) -> None:
    path = "/queues/main/rq/mail-out/jobs/shown-word0/retry"
    assert post(app, "mia", path).status_code == 403
    assert redis_client.zscore("rq:failed:mail-out", "shown-word0") is not None
    assert post(app, "mona", path).get_json()["outcome"] == "done"
    assert redis_client.zscore("rq:failed:mail-out", "shown-word0") is None
    assert post(app, "mona", "/queues/main/bullmq/mail-out/pause").get_json()["outcome"] == "done"
    assert post(app, "mona", "/queues/main/sidekiq/mail-out/purge").get_json()["bulk_id"]
    wait_until(lambda: redis_client.llen("queue:mail-out") == 0, what="the end of the purge")
    assert redis_client.llen("queue:payroll-run") == 1


def test_dead_letters_are_grouped_and_counted_without_other_queues(app: Flask, redis_client: redis.Redis) -> None:
    client = app.test_client()
    mia, root = (client.get("/api/v1/dead", headers=as_user(user)).get_json() for user in ("mia", "root"))
    # Of Celery and Sidekiq, dead jobs of all queues are in one set, which only those see who see all queues.
    assert {place["backend"] for group in mia["groups"] for place in group["places"]} == {"bullmq", "rq"}
    assert mia["scanned"] == mia["total"] == 2
    assert root["scanned"] == 8
    hidden = next(group["fingerprint"] for group in root["groups"] if "hiddenjob" in group["message"])
    for user in ("mia", "mona"):
        assert client.get(f"/api/v1/dead/{hidden}", headers=as_user(user)).status_code == 404
        assert client.get(f"/dead/{hidden}", headers=as_user(user)).text.count("hiddenjob") == 0
    answer = post(app, "mona", "/bulk", action="delete", fingerprint=hidden)
    assert answer.status_code in (403, 404, 409), answer.text
    shown = next(group["fingerprint"] for group in mia["groups"])
    assert post(app, "mia", "/bulk", action="delete", fingerprint=shown).status_code == 403


def test_bulk_on_a_shared_error_stays_within_the_visible_lists(app: Flask, redis_client: redis.Redis) -> None:
    """The same error in a queue that may be seen and in another one: only jobs of the first are deleted."""
    client = app.test_client()
    for queue in ("mail-out", "payroll-run"):
        error: dict[Any, Any] = {"failedReason": "SharedError: same", "stacktrace": "[]"}
        job: dict[Any, Any] = {
            "name": "x",
            "timestamp": str(NOW * 1000),
            "data": "{}",
            "opts": "{}",
            "finishedOn": str(NOW * 1000),
        }
        redis_client.hset(f"bull:{queue}:same", mapping=error)
        redis_client.hset(f"bull:{queue}:same", mapping=job)
        redis_client.zadd(f"bull:{queue}:failed", {"same": NOW * 1000})

    def shared_groups() -> list[dict[str, Any]]:
        found = client.get("/api/v1/dead", headers=as_user("root")).get_json()["groups"]
        return [group for group in found if group["message"] == "SharedError: same" and group["count"] == 2]

    (group,) = wait_until(shared_groups, what="both jobs in one group")

    def seen() -> int:
        found = client.get(f"/api/v1/dead/{group['fingerprint']}", headers=as_user("mona"))
        return int(found.get_json().get("count", 0)) if found.status_code == 200 else 0

    wait_until(lambda: seen() == 1, what="the visible job of the group")
    preview = post(app, "mona", "/bulk", action="delete", fingerprint=group["fingerprint"], preview=True).get_json()
    assert preview["matched"] == 1
    started = post(app, "mona", "/bulk", action="delete", fingerprint=group["fingerprint"])
    assert started.status_code == 201, started.text
    wait_until(lambda: not post_open(app), what="the end of the operation")
    assert redis_client.zscore("bull:mail-out:failed", "same") is None
    assert redis_client.zscore("bull:payroll-run:failed", "same") is not None
    bulk_id = started.get_json()["bulk_id"]
    assert client.get(f"/api/v1/bulk/{bulk_id}", headers=as_user("mona")).get_json()["done"] == 1
    assert post(app, "mona", f"/bulk/{bulk_id}/undo").status_code == 200
    assert redis_client.zscore("bull:mail-out:failed", "same") is not None


def test_the_trash_and_operations_of_other_queues_are_not_found(app: Flask, redis_client: redis.Redis) -> None:
    client = app.test_client()
    deleted = post(app, "root", "/queues/main/bullmq/payroll-run/jobs/hiddenjob1/delete").get_json()
    assert deleted["outcome"] == "done"
    request = {"source": "main", "backend": "rq", "queue": "payroll-run", "action": "delete", "state": "dead"}
    bulk_id = post(app, "root", "/bulk", **request).get_json()["bulk_id"]
    wait_until(lambda: not post_open(app), what="the end of the operation")
    before = keys_of(redis_client)
    for user in ("mia", "mona", "den"):
        assert client.get("/api/v1/trash", headers=as_user(user)).get_json()["total"] == 0
        assert client.get("/api/v1/undo", headers=as_user(user)).get_json()["batches"] == []
        assert client.get("/api/v1/bulk", headers=as_user(user)).get_json()["bulk"] == []
        assert client.get(f"/api/v1/bulk/{bulk_id}", headers=as_user(user)).status_code == 404
        assert client.get(f"/api/v1/trash/{deleted['undo']}", headers=as_user(user)).status_code == 404
    for path in (f"/undo/{deleted['undo']}", f"/trash/{deleted['undo']}/restore", f"/bulk/{bulk_id}/undo"):
        assert post(app, "mona", path).status_code in (403, 404, 409), path
    assert keys_of(redis_client) == before


def test_alerts_of_other_queues_are_neither_seen_nor_handled(app: Flask) -> None:
    client = app.test_client()

    def alerts(user: str) -> list[dict[str, Any]]:
        return list(client.get("/api/v1/alerts", headers=as_user(user)).get_json()["alerts"])

    mail = {alert["rule"]: alert for alert in alerts("mona")}
    assert set(mail) == {"deep-mail"}
    assert {"deep-mail", "deep-payroll"} <= {alert["rule"] for alert in alerts("root")}
    hidden = next(alert["fingerprint"] for alert in alerts("root") if alert["rule"] == "deep-payroll")
    shown = mail["deep-mail"]["fingerprint"]
    assert post(app, "mona", f"/alerts/{hidden}/acknowledge").status_code == 404
    assert post(app, "mia", f"/alerts/{shown}/acknowledge").status_code == 403
    assert post(app, "mona", f"/alerts/{shown}/acknowledge").status_code == 200
    form = {"when": "now", "hours": "1", "source": "main", "backend": "bullmq", "comment": "x", "do": "store"}
    wide = client.post("/silences", data=form | {"queue": "*"}, headers=as_user("mona"))
    assert wide.status_code == 403, wide.text
    other = client.post("/silences", data=form | {"queue": "payroll-run"}, headers=as_user("mona"))
    assert other.status_code == 403
    assert client.post("/silences", data=form | {"queue": "mail-out"}, headers=as_user("mona")).status_code == 303
    assert client.get("/api/v1/deliveries", headers=as_user("mona")).status_code == 403
    events = client.get("/api/v1/audit", headers=as_user("root")).get_json()["events"]
    refused = [event["detail"] for event in events if event["action"] == "refused action"]
    assert any("POST /silences, You may silence alerts of single queues only" in detail for detail in refused)


def test_workers_show_only_what_they_do_for_visible_queues(app: Flask) -> None:
    found = app.test_client().get("/api/v1/workers", headers=as_user("mona")).get_json()["workers"]
    both = next(worker for worker in found if worker["id"] == "w-both")
    assert both["queues"] == ["mail-out"]
    assert both["work"] == []
    assert not any("hiddenjob" in worker["id"] for worker in found)


def test_what_is_about_all_queues_needs_to_see_all(app: Flask) -> None:
    client = app.test_client()
    for path in ("/redis", "/classes", "/slos", "/incident", "/alerts/rules", "/charts", "/?at=2026-11-30T00:00:00Z"):
        found = client.get(path, headers=as_user("mia"))
        assert found.status_code == 403, path
        assert "you may see only some of them" in found.text
    assert client.get("/audit", headers=as_user("mona")).status_code == 403


def test_rights_on_one_queue_do_not_hold_on_another(make_app: MakeApp, redis_client: redis.Redis) -> None:
    """May act on mail-out and only look at payroll-run: no act on the second one, alone, selected or in bulk."""
    fill(redis_client)
    grants = [
        {"users": ["mia"], "queues": ["mail-*"], "allow": ["retry", "delete", "pause", "bulk", "alerts"]},
        {"users": ["mia"], "queues": ["payroll-*"], "allow": ["view"]},
    ]
    app = make_app(identify=identify, grants=grants)
    before = keys_of(redis_client)
    for library, job_id in (("bullmq", "hiddenjob1"), ("rq", "hiddenjob0")):
        queue = f"/queues/main/{library}/payroll-run"
        for word in (f"jobs/{job_id}/retry", f"jobs/{job_id}/delete", "pause", "purge"):
            found = post(app, "mia", path := f"{queue}/{word}")
            assert found.status_code == 403, (path, found.text)
        bulk = {"source": "main", "backend": library, "queue": "payroll-run", "state": "dead"}
        for action in ("delete", "retry"):
            assert post(app, "mia", "/bulk", **bulk, action=action).status_code == 403
        page = app.test_client().get(f"{queue}?state=dead", headers=as_user("mia")).text
        assert job_id in page
        assert 'value="delete"' not in page
    assert keys_of(redis_client) == before
    events = app.test_client().get("/api/v1/audit", headers=as_user("root")).get_json()["events"]
    refused = [event for event in events if event["who"] == "mia" and "You need the right" in (event["detail"] or "")]
    assert {event["action"] for event in refused} >= {"retry", "delete", "pause", "refused action"}


def test_metrics_are_those_of_the_token(make_app: MakeApp, redis_client: redis.Redis) -> None:
    fill(redis_client)
    tokens = {name: f"the-token-of-{name}" for name in ("mia-token", "all")}
    made = [f"{name}:viewer:{hashlib.sha256(token.encode()).hexdigest()}" for name, token in tokens.items()]
    app = make_app(identify=identify, grants=GRANTS, api_tokens=made, metrics_public=True)
    client = app.test_client()
    bearer = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
    texts = {name: client.get("/metrics", headers=bearer[name]).text for name in tokens}
    assert 'queue="mail-out"' in texts["mia-token"]
    assert not traces(texts["mia-token"])
    assert traces(texts["all"]) == traces(client.get("/metrics").text) == {"payroll"}


def test_an_application_gives_each_tenant_its_queues(make_app: MakeApp, redis_client: redis.Redis) -> None:
    fill(redis_client)

    def tenant_of(environ: dict[str, Any]) -> Identity:
        glob = f"{environ['HTTP_X_TENANT']}-*"
        return Identity(name=environ["HTTP_X_TENANT"], grants=(Grant(queues=(glob,), allow=frozenset({Right.VIEW})),))

    client = make_app(identify=tenant_of).test_client()
    for tenant in ("mail", "payroll"):
        queues = client.get("/api/v1/queues", headers={"X-Tenant": tenant}).get_json()["queues"]
        assert {queue["name"] for queue in queues} == {"mail-out" if tenant == "mail" else "payroll-run"}
    assert client.get("/api/v1/queues", headers={"X-Tenant": "another"}).get_json()["queues"] == []
    stranger = make_app(identify=lambda _: Identity(name="t", grants=())).test_client().get("/")
    assert stranger.status_code == 403
    assert "t may not see any queue." in stranger.text


def test_views_of_rights_are_bounded(make_app: MakeApp, redis_client: redis.Redis) -> None:
    fill(redis_client)

    def tenant_of(environ: dict[str, Any]) -> Identity:
        glob = f"q{environ['HTTP_X_TENANT']}"
        return Identity(name="t", grants=(Grant(queues=(glob,), allow=frozenset({Right.VIEW})),))

    app = make_app(identify=tenant_of)
    for number in range(MAX_VIEWS + 5):
        assert app.test_client().get("/", headers={"X-Tenant": str(number)}).status_code == 200
    assert len(app.extensions[EXTENSION]._current_process().restricted) == MAX_VIEWS


def test_a_result_that_names_no_queue_is_not_shown_as_one_of_a_visible_queue(
    make_app: MakeApp, redis_client: redis.Redis
) -> None:
    """Celery stores the queue of a result only with result_extended."""
    fill(redis_client)
    record = {"status": "FAILURE", "result": "hiddenjob", "traceback": "hiddenjob", "task_id": "x1", "date_done": None}
    redis_client.set("celery-task-meta-x1", json.dumps(record))
    client = make_app(identify=identify, grants=GRANTS).test_client()
    together = "/api/v1/queues/main/celery/*/jobs/x1"
    assert client.get(together, headers=as_user("root")).status_code == 200
    for user in ("mia", "den"):
        for path in (together, "/api/v1/queues/main/celery/mail-out/jobs/x1"):
            assert client.get(path, headers=as_user(user)).status_code == 404


def test_an_id_does_not_reach_into_a_queue_whose_prefix_begins_alike(
    make_app: MakeApp, redis_client: redis.Redis
) -> None:
    for queue, job_id in (("bull:mail-out", "1"), ("bull:mail-out:payroll", "7")):
        redis_client.hset(f"{queue}:meta", mapping={"version": "bullmq:5.1.0"})
        redis_client.hset(f"{queue}:{job_id}", mapping={"name": queue, "timestamp": NOW * 1000, "data": "{}"})
        redis_client.zadd(f"{queue}:failed", {job_id: NOW})
    redis_client.zadd("bull:mail-out:failed", {"payroll:7": NOW})  # as another program could write it
    grants = [{"users": ["mia"], "queues": ["mail-out", "bull:mail-out"], "allow": ["retry", "delete", "bulk"]}]
    app = make_app(identify=identify, grants=grants)
    client = app.test_client()
    names = {queue["name"] for queue in client.get("/api/v1/queues", headers=as_user("root")).get_json()["queues"]}
    assert len(names) == 2, names
    path = "/queues/main/bullmq/mail-out/jobs/payroll:7"
    assert client.get(f"/api/v1{path}", headers=as_user("mia")).status_code == 404
    for verb in ("retry", "delete"):
        assert post(app, "mia", f"{path}/{verb}").status_code == 404
    bulk = {"source": "main", "backend": "bullmq", "queue": "mail-out", "state": "dead", "ids": ["payroll:7"]}
    assert post(app, "mia", "/bulk", **bulk, action="delete").status_code == 404
    assert redis_client.hget("bull:mail-out:payroll:7", "name") == b"bull:mail-out:payroll"


def test_the_right_to_change_rules_needs_no_role(make_app: MakeApp, redis_client: redis.Redis) -> None:
    fill(redis_client)
    grants = [{"users": ["mia"], "allow": ["view", "rules"]}, {"users": ["mona"], "allow": ["view"]}]
    client = make_app(identify=identify, grants=grants).test_client()
    assert client.get("/alerts/rules/new", headers=as_user("mia")).status_code == 200
    assert client.get("/alerts/rules/new", headers=as_user("mona")).status_code == 403
    assert client.get("/audit", headers=as_user("mia")).status_code == 403


def test_no_form_and_no_request_reaches_other_queues(app: Flask, redis_client: redis.Redis) -> None:
    """All routes that change something, with what is about other queues, by someone with rights on mail-* only."""
    client = app.test_client()
    found = client.get("/api/v1/alerts", headers=as_user("root")).get_json()["alerts"]
    alerts = [alert for alert in found if alert["rule"] == "deep-payroll"]
    dead = client.get("/api/v1/dead", headers=as_user("root")).get_json()["groups"]
    groups = [group["fingerprint"] for group in dead if "payroll" in str(group["places"])]
    places = {
        "source": ["main"],
        "backend": list(LIBRARIES),
        "name": ["payroll-run"],
        "job_id": ["hiddenjob0", "hiddenjob1"],
        "fingerprint": groups[:2] + [alert["fingerprint"] for alert in alerts[:2]],
        "fp": [alert["fingerprint"] for alert in alerts[:2]],
        "key": [alert["group"] for alert in alerts[:1]],
        "verb": ["retry", "delete", "pause", "purge", "again"],
        "word": ["undo", "pause", "ignore", "expire"],
    }
    target = {"source": "main", "backend": "rq", "queue": "payroll-run", "action": "delete", "state": "dead"}
    before, statuses = keys_of(redis_client), Counter[int]()
    for rule in app.url_map.iter_rules():
        if "POST" not in (rule.methods or ()):
            continue
        for values in product(*(places.get(name, ["abc"]) for name in sorted(rule.arguments))):
            try:
                url = app.url_map.bind("x").build(rule.endpoint, dict(zip(sorted(rule.arguments), values, strict=True)))
            except ValueError:  # a word that this route does not have
                continue
            for sent in ({"json": {}}, {"json": target}, {"data": {"action": "delete", "state": "dead"}}):
                answer = client.post(url, headers=as_user("mona"), **sent)
                statuses[answer.status_code] += 1
                assert answer.status_code < 500, (url, sent, answer.text[:300])
                assert not traces(f"{answer.text}{answer.headers}") - traces(f"{url}{sent}"), (url, sent)
    assert keys_of(redis_client) == before
    assert statuses[404] > 50
    assert statuses[403] > 20
