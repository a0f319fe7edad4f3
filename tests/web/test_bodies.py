"""What changes something reads all of what it is sent: unknown fields, chunked bodies, no match, reasons, undo."""

from __future__ import annotations

import json
import socket
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from rq import Queue, SimpleWorker

from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable
from dashboard.web.app import MAX_REQUEST_BYTES
from dashboard.web.forms.request_input import SAFE_METHODS, body_of
from tests.cases import failures_of
from tests.serving import running
from tests.waiting import CEILING_S, wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME, groups

QUEUE = "/api/v1/queues/main/rq/mail"
LIST = {"source": "main", "backend": "rq", "queue": "mail", "state": "waiting"}
VALUES = {"source": "main", "backend": "rq", "name": "mail", "job_id": "x", "verb": "retry", "word": "undo"}


def written(app: Flask) -> list[tuple[str, str, str]]:
    """(method, endpoint, a path of it) of every route that changes something."""
    found = []
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - SAFE_METHODS:
            values = {name: VALUES.get(name, "0123456789abcdef") for name in rule.arguments}
            if "any(" in rule.rule:
                values["verb"] = rule.rule.partition("any(")[2].partition(",")[0]
            with app.test_request_context():
                path = app.url_map.bind("x").build(rule.endpoint, values)
            found.append((method, rule.endpoint, path))
    return found


def events(redis_client: redis.Redis) -> int:
    """The number of actions in the audit log."""
    return int(redis_client.xlen("{queuedeck}:audit"))


def test_unknown_fields_are_rejected_by_every_route(
    client: FlaskClient, dead: list[str], redis_client: redis.Redis
) -> None:
    app = client.application
    routes = written(app)
    assert len(routes) > 25
    for method, endpoint, path in routes:
        shape = body_of(app.view_functions[endpoint])
        assert (shape is None) == (not path.startswith("/api/")), path
        sent: dict[str, Any] = {"json": {"dry_run": True}} if shape else {"data": {"dry_run": "1"}}
        wrong: dict[str, Any] = {"data": {"reason": "x"}} if shape else {"json": {"reason": "x"}}
        answer = client.open(path, method=method, headers=SAME, **sent)
        assert (answer.status_code, "dry_run" in answer.text) == (422, True), (path, answer.text)
        assert client.open(path, method=method, headers=SAME, **wrong).status_code == 415, path
        answer = client.open(f"{path}?dry_run=1", method=method, headers=SAME)
        assert (answer.status_code, "dry_run" in answer.text) == (422, True), path
        if shape:
            for raw in (b"[" * 200_000, b'{"reason": NaN}', b'{"a": 1, "a": 1}', b"[]", b'{"reason": 1e999}'):
                answer = client.open(path, method=method, data=raw, content_type="application/json", headers=SAME)
                assert answer.status_code == 422, (path, raw[:20])
    assert events(redis_client) == 0


INVALID_BULK: list[tuple[dict[str, Any], str]] = [
    ({"dry_run": True}, "dry_run"),
    ({"filter": "x"}, "filter"),
    ({"previw": True}, "Did you mean preview"),
    ({"preview": "no"}, "preview"),
    ({"ids": []}, "ids"),
    ({"ids": [7]}, "ids"),
    ({"ids": ["x"], "q": "y"}, "q"),
    ({"q": ""}, "q"),
    ({"q": "x" * 501}, "q"),
    ({"fingerprint": "0123456789abcdef"}, "source"),
    ({"state": "deaf"}, "state"),
    ({"state": None}, "state"),
    ({"source": ""}, "source"),
    ({"pace_per_s": "10"}, "pace_per_s"),
    ({"pace_per_s": -1}, "pace_per_s"),
    ({"canary": 1001}, "canary"),
    ({"target": "news"}, "target"),
    ({"reset_attempts": True}, "reset_attempts"),
    ({"reason": "x" * 501}, "reason"),
    ({"action": "explode"}, "action"),
]


def test_an_invalid_bulk_operation_is_rejected_before_it_deletes(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    def check(body: dict[str, Any], name: str) -> None:
        answer = client.post("/api/v1/bulk", json={"action": "delete", **LIST, **body}, headers=SAME)
        assert answer.status_code == 422
        assert name in answer.get_json()["error"]["message"]
        assert redis_client.llen("rq:queue:mail") == 3
        assert client.get("/api/v1/bulk").get_json()["bulk"] == []
        assert events(redis_client) == 0

    assert failures_of(check, INVALID_BULK) == {}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("retry", {"for_good": True}),
        ("delete", {"reset_attempts": True}),
        ("delete", {"stamp": ""}),
        ("delete", {"stamp": 1}),
        ("delete", {"state": "deaf"}),
        ("delete", {"payload": "{}"}),
    ],
)
def test_a_field_of_another_action_is_rejected(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(f"{QUEUE}/jobs/{jobs[0]}/{path}", json=body, headers=SAME)
    assert answer.status_code == 422
    assert next(iter(body)) in answer.get_json()["error"]["message"]
    assert redis_client.llen("rq:queue:mail") == 3
    assert client.post(f"{QUEUE}/pause", json={"confirm": "mail"}, headers=SAME).status_code == 422


@pytest.mark.parametrize(
    "form",
    [
        {"dry_run": "1"},
        {"for_good": "no", "confirm": "mail"},
        {"q": "x" * 501},
        {"seen": "some"},
        {"fingerprint": "0123456789abcdef"},
        {"pace": "fast"},
        {"reset_attempts": "maybe"},
        {"queue": ["mail", "news"]},
    ],
    ids=str,
)
def test_the_form_of_a_bulk_operation_is_rejected_in_the_same_way(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis, form: dict[str, Any]
) -> None:
    answer = client.post("/bulk", data={"action": "delete", **LIST, **form}, headers=SAME)
    assert answer.status_code == 422
    assert redis_client.llen("rq:queue:mail") == 3
    assert events(redis_client) == 0


def test_misspelled_values_in_forms_are_rejected(client: FlaskClient) -> None:
    rule = {"id": "mine", "metric": "queue.depth", "op": "gt", "warning": "7"}
    for path, form in (
        ("/alerts/rules", rule | {"do": "previw"}),
        ("/alerts/rules", rule | {"enabled": "no"}),
        ("/silences", {"rule": "deep", "hours": "1", "do": "previw"}),
        ("/silences", {"rule": "deep", "hours": "1", "severity": "warn"}),
        ("/silences", {"rule": "deep", "hours": "1", "when": "tomorrow"}),
        ("/silences", {"rule": "deep", "hours": "1", "when": "weekly", "days": ["0", "7"], "from": "02:00"}),
        ("/silences", {"rule": "deep", "hours": "1", "when": "weekly", "days": "0", "from": "²:00"}),
        ("/dead/0123456789abcdef/note", {"hours": "1"}),
    ):
        assert client.post(path, data=form, headers=SAME).status_code == 422, form
    assert client.get("/api/v1/rules/mine").status_code == 404
    assert client.get("/api/v1/silences").get_json()["silences"] == []


def test_no_bulk_operation_starts_if_no_job_matches(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    before = events(redis_client)
    for body in (LIST | {"state": "dead"}, LIST | {"q": "nobody"}):
        answer = client.post("/api/v1/bulk", json={"action": "delete", **body}, headers=SAME)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (409, "conflict")
        assert answer.get_json()["error"]["message"].startswith("No jobs match.")
        preview = client.post("/api/v1/bulk", json={"action": "delete", "preview": True, **body}, headers=SAME)
        assert (preview.status_code, preview.get_json()["matched"]) == (200, 0)
        page = client.post("/bulk", data={"action": "delete", **body}, headers=SAME)
        assert (page.status_code, "No jobs match. Nothing was started." in page.text) == (409, True)
    redis_client.delete("rq:queue:mail")
    answer = client.post(f"{QUEUE}/purge", headers=SAME)
    assert (answer.status_code, answer.get_json()["bulk_id"]) == (200, None)
    assert client.get("/api/v1/bulk").get_json()["bulk"] == []
    assert events(redis_client) == before


# Undo and reasons


def deleted(client: FlaskClient, job_id: str, **body: Any) -> str:
    """The batch of a job that was deleted."""
    answer = client.post(f"{QUEUE}/jobs/{job_id}/delete", json=body, headers=SAME)
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["undo"])


def test_an_undo_that_restores_nothing_is_not_a_success(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    batch = deleted(client, jobs[0])
    redis_client.hset(f"rq:job:{jobs[0]}", "status", "queued")
    answer = client.post(f"/api/v1/undo/{batch}", headers=SAME)
    assert (answer.status_code, answer.get_json()["restored"]) == (409, 0)
    (refused,) = answer.get_json()["refused"]
    assert (refused["id"], refused["outcome"]) == (jobs[0], "changed")
    assert refused["detail"]
    assert refused["detail"] in answer.get_json()["error"]["hint"]
    page = client.post("/undo", data={"batch": batch}, headers=SAME)
    assert (page.status_code, "No jobs were restored." in page.text) == (409, True)
    redis_client.delete(f"rq:job:{jobs[0]}")
    answer = client.post(f"/api/v1/undo/{batch}", headers=SAME)
    assert (answer.status_code, answer.get_json()["restored"], answer.get_json()["refused"]) == (200, 1, [])


def test_an_undo_lists_what_it_did_not_restore(client: FlaskClient, dead: list[str], redis_client: redis.Redis) -> None:
    body = {"action": "delete", **LIST, "state": "dead", "pace_per_s": 0}
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    bulk_id = client.post("/api/v1/bulk", json=body, headers=SAME).get_json()["bulk_id"]
    wait_until(lambda: client.get(f"/api/v1/bulk/{bulk_id}").get_json()["state"] == "done", what="its end")
    redis_client.hset(f"rq:job:{dead[0]}", "status", "queued")
    answer = client.post(f"/api/v1/bulk/{bulk_id}/undo", headers=SAME)
    assert (answer.status_code, answer.get_json()["restored"]) == (200, 4)
    assert [each["id"] for each in answer.get_json()["refused"]] == [dead[0]]
    assert client.post(f"/api/v1/bulk/{bulk_id}/undo", headers=SAME).status_code == 409
    assert client.post(f"/bulk/{bulk_id}/undo", headers=SAME).status_code == 409


def test_an_undo_requires_a_reason_like_other_actions(
    make_app: MakeApp, jobs: list[str], dead: list[str], redis_client: redis.Redis
) -> None:
    client = make_app(require_reason=True).test_client()
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    for blank in (None, "", "   ", "\t\n"):
        for path in ("jobs/x/retry", "pause", "purge"):
            assert client.post(f"{QUEUE}/{path}", json={"reason": blank}, headers=SAME).status_code in (404, 409)
        answer = client.post(f"{QUEUE}/jobs/{jobs[0]}/delete", json={"reason": blank}, headers=SAME)
        assert (answer.status_code, answer.get_json()["error"]["hint"]) == (409, "Send it as `reason`.")
    batch = deleted(client, jobs[0], reason="  tidy ")
    body = {"action": "delete", **LIST, "state": "dead", "pace_per_s": 0}
    assert client.post("/api/v1/bulk", json=body | {"reason": " "}, headers=SAME).status_code == 409
    bulk_id = client.post("/api/v1/bulk", json=body | {"reason": "why"}, headers=SAME).get_json()["bulk_id"]
    wait_until(lambda: client.get(f"/api/v1/bulk/{bulk_id}").get_json()["state"] == "done", what="its end")
    before, dead_before = events(redis_client), redis_client.zcard("rq:failed:mail")
    for path, form in ((f"/undo/{batch}", {"batch": batch}), (f"/bulk/{bulk_id}/undo", {})):
        assert client.post(f"/api/v1{path}", json={"reason": "  "}, headers=SAME).status_code == 409
        page = path if not form else "/undo"
        assert client.post(page, data=form | {"reason": " "}, headers=SAME).status_code == 409
    assert events(redis_client) == before
    assert client.post(f"/api/v1/undo/{batch}", json={"reason": "my slip"}, headers=SAME).status_code == 200
    assert client.post(f"/bulk/{bulk_id}/undo", data={"reason": "my slip too"}, headers=SAME).status_code == 303
    reasons = [event["reason"] for event in client.get("/api/v1/audit").get_json()["events"]]
    assert reasons[:2] == ["my slip too", "my slip"]
    assert "tidy" in reasons
    assert redis_client.zcard("rq:failed:mail") > dead_before


def test_a_delete_whose_response_is_lost_can_be_found_and_undone(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = RQ.delete_jobs

    def cut(self: RQ, *args: Any) -> Any:
        delete(self, *args)
        raise BackendUnavailable("Redis main hung up.", source="main", reason="lost")

    monkeypatch.setattr(RQ, "delete_jobs", cut)
    path = f"{QUEUE}/jobs/{jobs[0]}/delete"
    answer = client.post(path, headers=SAME)
    assert (answer.status_code, redis_client.llen("rq:queue:mail")) == (503, 2)
    error = answer.get_json()["error"]
    assert (error["code"], error["message"]) == ("outcome_unknown", "Redis main hung up.")
    assert f"POST /api/v1/undo/{error['batch']}" in error["hint"]
    (event, *_) = client.get("/api/v1/audit").get_json()["events"]
    assert (event["batch"], event["outcomes"], event["ids"]) == (error["batch"], {"unknown": 1}, [jobs[0]])
    (listed,) = client.get("/api/v1/undo").get_json()["batches"]
    assert (listed["batch"], listed["queue"], listed["left"]) == (error["batch"], "mail", 1)
    form = {"action": "delete", "state": "waiting"}
    page = client.post(f"/queues/main/rq/mail/jobs/{jobs[1]}/act", data=form, headers=SAME)
    assert (page.status_code, "Outcome unknown" in page.text, "http-equiv" in page.text) == (503, True, False)
    ((_, names),) = [form for form in Forms(page.text).found if form[0] == "/undo"]
    assert names == {"batch"}
    batches = [each["batch"] for each in client.get("/api/v1/undo").get_json()["batches"]]
    assert any(batch in page.text for batch in batches)
    # Also once that page is closed.
    offered = [text for text in batches if f'name="batch" value="{text}"' in client.get("/audit").text]
    assert offered == batches
    assert client.post("/undo", data={"batch": batches[0]}, headers=SAME).status_code == 303
    assert f'value="{batches[0]}"' not in client.get("/audit").text
    assert client.post(f"/api/v1/undo/{batches[1]}", headers=SAME).get_json()["restored"] == 1
    assert redis_client.llen("rq:queue:mail") == 3
    assert client.get("/api/v1/undo").get_json()["batches"] == []


class Forms(HTMLParser):
    """The forms of a page: (action, names of their fields)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, set[str]]] = []
        self.within = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.within = given.get("method") == "post"
            if self.within:
                self.found.append((urlsplit(given["action"] or "").path, set()))
        elif tag in ("input", "button", "select", "textarea") and self.within and given.get("name"):
            self.found[-1][1].add(str(given["name"]))

    def handle_endtag(self, tag: str) -> None:
        self.within = self.within and tag != "form"


@pytest.mark.parametrize("wanted", [True, False])
def test_every_action_form_has_the_reason_field_when_required(
    make_app: MakeApp, jobs: list[str], dead: list[str], redis_client: redis.Redis, wanted: bool
) -> None:
    client = make_app(require_reason=wanted).test_client()
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    wait_until(lambda: groups(client), what="the groups")
    fingerprint = groups(client)[0]["fingerprint"]
    batch = deleted(client, jobs[0], reason="x")
    body = {"action": "delete", **LIST, "state": "dead", "q": "user1", "reason": "x", "pace_per_s": 0}
    bulk_id = client.post("/api/v1/bulk", json=body, headers=SAME).get_json()["bulk_id"]
    wait_until(lambda: client.get(f"/api/v1/bulk/{bulk_id}").get_json()["state"] == "done", what="its end")
    redis_client.zadd("rq:cron_schedulers", {"night": 1})
    worker = SimpleWorker([Queue("mail", connection=redis_client)], connection=redis_client, name="night-1")
    worker.register_birth()
    pages = (
        f"/queues/main/rq/mail?state=waiting&did=delete&done=1&batch={batch}",
        f"/queues/main/rq/mail/jobs/{jobs[1]}",
        f"/dead/{fingerprint}",
        f"/bulk/{bulk_id}",
        "/bulk/new?source=main&backend=rq&queue=mail&state=dead&action=delete",
        "/queues/main/rq/mail/obliterate",
        "/workers",
    )
    seen = set()
    try:
        for path in pages:
            for action, names in Forms(client.get(path).text).found:
                acts = action.endswith(("/act", "/queue", "/undo")) or action == "/bulk"
                if acts:
                    offered = action == "/bulk" or path.endswith("/obliterate")
                    assert ("reason" in names) == (wanted or offered), (path, action)
                    seen.add(action.rpartition("/")[2])
    finally:
        worker.register_death()
    assert seen >= {"act", "queue", "undo", "bulk"}


def test_the_fields_of_our_own_forms_are_known(client: FlaskClient, jobs: list[str], dead: list[str]) -> None:
    app = client.application
    wait_until(lambda: groups(client), what="the groups")
    fingerprint = groups(client)[0]["fingerprint"]
    lists = "/bulk/new?source=main&backend=rq&queue=mail"
    pages = (
        "/queues/main/rq/mail?state=dead",
        f"/queues/main/rq/mail/jobs/{dead[0]}",
        f"/dead/{fingerprint}",
        f"/dead/{fingerprint}?did=delete&done=1&batch=ab12",
        *(f"{lists}&state=dead&q=user&action={action}" for action in ("retry", "delete", "move")),
        f"/bulk/new?fingerprint={fingerprint}&action=retry",
        "/queues/main/rq/mail/obliterate",
        "/alerts/rules/new",
        "/alerts/rules/new?from=deep",
        "/alerts/rule/deep",
        "/silences/new",
        "/silences/new?when=weekly",
    )
    seen = set()
    for path in pages:
        for action, names in Forms(client.get(path).text).found:
            endpoint, _ = app.url_map.bind("x").match(action, method="POST")
            assert names <= set(vars(app.view_functions[endpoint])["queuedeck_input"]), (path, action)
            seen.add(endpoint)
    assert len(seen) >= 9


# Chunks, under the server that people run


def raw_request(url: str, head: str, *parts: bytes) -> tuple[int, bytes]:
    """(status, body) of the response to a request sent byte for byte."""
    place = urlsplit(url)
    assert place.hostname
    assert place.port
    with socket.create_connection((place.hostname, place.port), timeout=CEILING_S) as sock:
        sock.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        try:
            for part in parts:
                sock.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent
        answer = b""
        try:
            while more := sock.recv(65536):
                answer += more
        except ConnectionResetError:
            pass
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), rest.partition(b"\r\n\r\n")[2]


def chunk(raw: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%s\r\n" % (len(raw), raw)


def test_gunicorn_passes_on_bodies_in_chunks(server: EmbeddedRedis, redis_client: redis.Redis, jobs: list[str]) -> None:
    command = ["-m", "gunicorn", "wsgi:app", "--threads", "4", "--bind", "127.0.0.1:0", "--no-control-socket"]
    with running(command, QUEUEDECK_REDIS_URL=server.url, QUEUEDECK_CHECKER="off") as served:
        host = urlsplit(served.url).netloc

        def post(path: str, *parts: bytes, kind: str = "application/json") -> tuple[int, bytes]:
            head = f"POST {path} HTTP/1.1\nHost: {host}\nSec-Fetch-Site: same-origin\nConnection: close\n"
            return raw_request(served.url, head + f"Content-Type: {kind}\nTransfer-Encoding: chunked", *parts)

        path = f"{QUEUE}/jobs/{jobs[0]}/delete"
        body = json.dumps({"state": "completed", "stamp": "1"}).encode()
        status, answer = post(path, chunk(body[:9]), chunk(body[9:]), b"0\r\n\r\n")
        assert status in (409, 422), answer
        for parts, expected in (
            ((chunk(b'{"dry_run": true}'), b"0\r\n\r\n"), 422),
            ((b"xyz\r\nnothing\r\n", b"0\r\n\r\n"), 400),
        ):
            status, answer = post(path, *parts)
            assert status == expected, answer
        assert post(path, chunk(b"{}"), b"0\r\n\r\n", kind="text/plain")[0] == 415
        padded = chunk(b"{}" + b" " * (MAX_REQUEST_BYTES // 2)), chunk(b" " * MAX_REQUEST_BYTES)
        assert post(path, *padded, b"0\r\n\r\n")[0] == 413
        assert redis_client.llen("rq:queue:mail") == 3
        status, answer = post(path, chunk(b'{"state": "waiting"}'), b"0\r\n\r\n")
        assert (status, json.loads(answer)["outcome"]) == (200, "done")
        assert redis_client.llen("rq:queue:mail") == 2
        read = f"GET /api/v1/queues HTTP/1.1\nHost: {host}\nConnection: close\nTransfer-Encoding: chunked"
        assert raw_request(served.url, read, chunk(b"{}"), b"0\r\n\r\n")[0] == 400
