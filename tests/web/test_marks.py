"""Marks: added by deploy scripts and users, listed on chart pages, named by error groups."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.keys import EPISODES
from dashboard.alerts.notification import HistoryEntry
from dashboard.alerts.rules.rule import Severity
from dashboard.clock import instant, iso, now_s
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import HistoryRecorder
from dashboard.marks import mark_store
from dashboard.marks.mark_store import ID_LENGTH, MARKS
from dashboard.model import Mark
from dashboard.sources.source import Source
from dashboard.store.packing import pack
from dashboard.store.redis_store import LEAD, Store
from tests.unit.history.samples import queue_row, snapshot_of
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME

DIGEST = hashlib.sha256(b"right").hexdigest()
TOKEN = {"Authorization": "Bearer right"}
PAGE = "/queues/main/rq/mail/charts?range=1h"


def record_past(source: Source) -> None:
    """Record a few minutes of the queue `mail`, so that its page has charts."""
    source.execute("SET", LEAD, "past:1", "PX", 60_000)
    writer, recorder = HistoryWriter(Store(source), 64 * 2**20), HistoryRecorder()
    writer.load_series()
    for number in range(30, 0, -1):
        assert writer.append_slots(
            "past:1", recorder.add_sample(snapshot_of(now_s() - number * 10, queue_row("mail", 4)), {})
        )
    assert writer.append_slots("past:1", recorder.close())
    source.execute("DEL", LEAD)


def record_alert(client: redis.Redis, kind: str, at: float, queue: str) -> None:
    entry = HistoryEntry(
        kind=kind,
        episode=f"{queue}:1",
        at=at,
        rule_id="deep",
        rule_name="Queue is <b>deep</b>",
        metric="queue.depth",
        severity=Severity.CRITICAL,
        labels=AlertLabels(source="main", backend="rq", queue=queue),
        lasted_s=120.0,
    )
    client.xadd(EPISODES, {"e": pack(entry)}, id=f"{int(at * 1000)}-*")


def post(browser: FlaskClient, status: int, **body: Any) -> dict[str, Any]:
    response = browser.post("/api/v1/marks", json=body, headers=TOKEN)
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.get_json()
    return found


def list_labels(browser: FlaskClient, **query: Any) -> list[str]:
    response = browser.get("/api/v1/marks", query_string=query, headers=TOKEN)
    assert response.status_code == 200, response.text
    return [f"{mark['text']} {mark['version']}" for mark in response.get_json()["marks"]]


def test_a_script_adds_each_deployment_once(make_app: MakeApp, redis_client: redis.Redis) -> None:
    browser = make_app(auth="auto", api_tokens=[f"ci:admin:{DIGEST}"]).test_client()
    now = now_s()
    first = post(browser, 201, text="deploy", version="v412", link="https://ci.example/412")
    assert (first["added"], first["who"], first["source"], first["link"]) == (
        True,
        "ci",
        None,
        "https://ci.example/412",
    )
    assert abs(datetime.fromisoformat(first["at"]).timestamp() - now) < 10
    again = post(browser, 200, text="deploy", version="v412")
    assert again == first | {"added": False}
    assert post(browser, 201, text="deploy", version="v413")["id"] != first["id"]
    post(browser, 201, text="deploy", version="v412", at=iso(instant(now - 3600)))
    assert list_labels(browser) == ["deploy v413", "deploy v412", "deploy v412"]
    assert list_labels(browser, **{"from": now - 4000, "to": now - 3000}) == ["deploy v412"]
    assert 0 < redis_client.pttl(MARKS) <= 30 * 86_400_000
    for status in (200, 404):
        assert browser.delete(f"/api/v1/marks/{first['id']}", headers=TOKEN).status_code == status
    assert browser.delete("/api/v1/marks/*", headers=TOKEN).status_code == 404
    assert list_labels(browser) == ["deploy v413", "deploy v412"]
    events = browser.get("/api/v1/audit", headers=TOKEN).get_json()["events"]
    assert [event["action"] for event in events] == ["delete mark", *["add mark"] * 3]
    assert "deleted the mark deploy v412" in browser.get("/audit", headers=TOKEN).text


def test_what_is_no_mark_is_refused_in_one_line(make_app: MakeApp, redis_client: redis.Redis) -> None:
    browser = make_app(auth="auto", api_tokens=[f"ci:operator:{DIGEST}"]).test_client()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "text: required"),
        ({"text": ""}, "text"),
        ({"text": "x" * 1_000_000}, "200"),
        ({"text": "deploy", "sha": "1"}, "Unknown field 'sha'"),
        ({"text": "deploy", "link": "javascript:alert(1)"}, "begins with http://"),
        ({"text": "deploy", "at": "2026-11-30T03:12:00"}, "at: "),
        ({"text": "deploy", "at": iso(instant(now_s() + 3600))}, "in the future. Here it is"),
        ({"text": "deploy", "at": iso(instant(now_s() - 31 * 86_400))}, "30 days"),
    ]
    for body, words in wrong:
        message = post(browser, 422, **body)["error"]["message"]
        assert words in message
        assert len(message) < 200
    larger = browser.post("/api/v1/marks", json={"text": "x" * 1_100_000}, headers=TOKEN)
    assert (larger.status_code, list(larger.get_json())) == (413, ["error"])
    assert browser.get("/api/v1/marks?from=200&to=100", headers=TOKEN).status_code == 422
    assert redis_client.exists(MARKS) == 0
    viewer = make_app(auth="auto", api_tokens=[f"ci:viewer:{DIGEST}"]).test_client()
    assert "operator" in post(viewer, 403, text="deploy")["error"]["message"]
    assert viewer.delete("/api/v1/marks/x", headers=TOKEN).status_code == 403
    assert list_labels(viewer) == []


def test_marks_are_bounded_and_foreign_members_are_left_out(
    make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mark_store, "MAX_MARKS", 4)
    browser = make_app(auth="auto", api_tokens=[f"ci:operator:{DIGEST}"]).test_client()
    post(browser, 201, text="a", at=iso(instant(now_s() - 100)))
    linked = Mark(at=now_s() - 50, text="b", link="javascript:alert(1)", id="0" * ID_LENGTH)
    cut = redis_client.zrange(MARKS, 0, -1)[0][:-1]
    redis_client.zadd(MARKS, {b"\xff": now_s(), cut: now_s(), b"later": 1e300, b"earlier": 1.0})
    redis_client.zadd(MARKS, {b"0" * ID_LENGTH + pack(linked): linked.at})
    assert list_labels(browser) == ["b None", "a None"]
    assert browser.get("/api/v1/marks", headers=TOKEN).get_json()["marks"][0]["link"] is None
    for version in range(5):
        post(browser, 201, text="deploy", version=f"v{version}")
    assert redis_client.zcard(MARKS) == 4
    assert list_labels(browser) == [f"deploy v{version}" for version in (4, 3, 2, 1)]
    assert "newer marks" in post(browser, 409, text="old", at=iso(instant(now_s() - 5000)))["error"]["message"]


@pytest.fixture
def browser(make_app: MakeApp, source: Source, jobs: list[str]) -> FlaskClient:
    record_past(source)
    return make_app().test_client()


def marks_of(browser: FlaskClient, path: str, **query: Any) -> list[str]:
    data = browser.get(f"{path}/_data", query_string=query or {"range": "1h"}).get_json()
    return [f"{mark['kind']}: {mark['label']}" for mark in data.get("marks", [])]


def test_charts_have_deployments_and_alerts(browser: FlaskClient, redis_client: redis.Redis) -> None:
    now = now_s()
    minute = datetime.fromtimestamp(now - 240, UTC)
    redis_client.sadd("queues", "default")
    redis_client.lpush("queue:default", '{"class":"Mail","jid":"0123456789abcdef01234567","args":[]}')
    redis_client.hset(f"{minute:%Y%m%d}-marks", minute.strftime("%Y-%m-%dT%H:%M:00Z"), "4f2a1c3 Send mails")
    record_alert(redis_client, "firing", now - 200, "mail")
    record_alert(redis_client, "firing", now - 150, "cash")
    record_alert(redis_client, "resolved", now - 80, "mail")
    for number in range(3):
        redis_client.xadd(EPISODES, {"e": b"\xff garbage", "n": number})
    assert (
        browser.post("/api/v1/marks", json={"text": "<b>deploy</b>", "version": "v412"}, headers=SAME).status_code
        == 201
    )
    own, alert = "mark: <b>deploy</b> v412", "alert Queue is <b>deep</b>: mail"
    mail = [own, f"resolved: {alert} resolved after 2 m", f"firing: {alert} fired", "mark: 4f2a1c3 Send mails"]
    assert marks_of(browser, "/queues/main/rq/mail/charts") == mail
    assert marks_of(browser, "/sources/main/charts") == [mail[0], mail[3]]
    assert len(marks_of(browser, "/charts")) == 5
    before = {"from": now - 3000, "to": now - 110}
    assert marks_of(browser, "/queues/main/rq/mail/charts", **before) == mail[2:]
    text = browser.get(PAGE).text
    assert "&lt;b&gt;deploy&lt;/b&gt; v412" in text
    assert "mail resolved after 2 m" in text
    assert "Sidekiq on main" in text
    assert "<b>de" not in text

    # By its digest, the page knows whether its list is the one of newer data.
    data = f"{PAGE.split('?')[0]}/_data?range=1h"
    digest = browser.get(data).get_json()["marks_digest"]
    assert f'data-digest="{digest}"' in text
    assert browser.post("/api/v1/marks", json={"text": "deploy", "version": "v413"}, headers=SAME).status_code == 201
    newer = browser.get(f"{data}&since={int(now) - 20}").get_json()["marks_digest"]
    assert newer != digest
    assert f'data-digest="{newer}"' in browser.get(PAGE).text


def test_the_form_adds_and_the_question_deletes(browser: FlaskClient) -> None:
    page = browser.get(PAGE).text
    assert "No deployments or alerts in this range." in page
    back = re.search(r'name="back" value="([^"]+)"', page)
    assert back is not None
    form = {"text": "deploy", "version": "v412", "link": "https://ci.example/412", "at": "", "back": back[1]}
    wrong = browser.post("/marks", data=form | {"at": "2099-01-01T00:00"}, headers=SAME)
    assert wrong.status_code == 422
    assert "Mark not added." in wrong.text
    assert 'value="v412"' in wrong.text
    assert browser.post("/marks", data=form | {"color": "red"}, headers=SAME).status_code == 422
    assert browser.post("/marks", data=form).status_code == 403
    for result, odd in (("Mark added.", "&said=mark-deleted"), ("had been added already", "#depth")):
        answer = browser.post("/marks", data=form | {"back": form["back"] + odd}, headers=SAME)
        assert answer.location.endswith(
            "?range=1h&said=" + ("mark-added" if "Mark" in result else "mark-known") + "#marks"
        )
        assert (answer.status_code, urlsplit(answer.location).path) == (303, "/queues/main/rq/mail/charts")
        page = browser.get(answer.location).text
        assert result in page
    assert page.count(">deploy v412</a>") == 1
    question = re.search(r'href="(/marks/[^"]+)"', page)
    assert question is not None
    asked = browser.get(question[1].replace("&amp;", "&")).text
    assert "Delete the mark deploy v412?" in asked
    target = re.search(r'action="(/marks/[^"]+/delete)"', asked)
    assert target is not None
    gone = browser.post(target[1], data={"back": "//evil.example/", "reason": "wrong version"}, headers=SAME)
    assert (gone.status_code, gone.location) == (303, "/charts?said=mark-deleted#marks")
    assert "deploy v412" not in browser.get(PAGE).text
    assert browser.get(question[1]).status_code == 404
    event = browser.get("/api/v1/audit").get_json()["events"][0]
    assert (event["action"], event["reason"], event["detail"]) == ("delete mark", "wrong version", "deploy v412")


def test_an_error_group_names_the_mark_before_it(client: FlaskClient, dead: list[str]) -> None:
    group = max(client.get("/api/v1/dead").get_json()["groups"], key=lambda each: each["count"])
    assert group["first_seen_after"] is None
    first = datetime.fromisoformat(group["first_seen"]).timestamp()
    for version, at in (("v412", first - 240), ("v411", first - 3600), ("v413", first + 5)):
        body = {"text": "deploy", "version": version, "at": iso(instant(at)), "link": "https://ci.example/412"}
        assert client.post("/api/v1/marks", json=body, headers=SAME).status_code == 201
    for path in ("/api/v1/dead", f"/api/v1/dead/{group['fingerprint']}"):
        answer = client.get(path).get_json()
        found = next(each for each in answer.get("groups", [answer]) if each["fingerprint"] == group["fingerprint"])
        after = found["first_seen_after"]
        assert (after["text"], after["version"], after["source"]) == ("deploy", "v412", None)
        assert after["after_s"] == pytest.approx(240, abs=0.01)
    for path in ("/dead", f"/dead/{group['fingerprint']}"):
        page = client.get(path).text
        assert re.search(r'4.m after <a href="https://ci.example/412"[^>]*>v412</a>', page)
        assert "v411" not in page
    (newest,) = (mark for mark in client.get("/api/v1/marks").get_json()["marks"] if mark["version"] == "v412")
    assert client.delete(f"/api/v1/marks/{newest['id']}", headers=SAME).status_code == 200
    assert "after v411" in re.sub("<[^>]*>", "", client.get("/dead").text).replace("\n", "")
