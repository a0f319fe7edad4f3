"""The page of alerts, and what people do there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from dashboard.sources import metered
from dashboard.web.deck import EXTENSION
from tests.serving import wait_until
from tests.web.conftest import MakeApp

SAME = {"Sec-Fetch-Site": "same-origin"}
RULE = {"id": "deep", "name": "Mail is <deep>", "metric": "queue.depth", "warning": 1, "for_s": 0, "min_samples": 1}


@pytest.fixture
def app(make_app: MakeApp, jobs: list[str]) -> Flask:
    """An app whose checker finds three waiting jobs one too many."""
    rule = {**RULE, "new_instance_grace_s": 0}
    app = make_app(checker="auto", rules=[rule], sample_interval_s=0.5)
    app.extensions[EXTENSION].start_checker()
    return app


def firing(client: FlaskClient) -> list[dict[str, Any]]:
    alerts: list[dict[str, Any]] = client.get("/api/v1/alerts").get_json()["alerts"]
    return [alert for alert in alerts if alert["rule"] == "deep"]


def test_an_alert_is_seen_acknowledged_and_silenced(app: Flask, redis_client: redis.Redis) -> None:
    client = app.test_client()
    (alert,) = wait_until(lambda: firing(client), what="the alert")
    assert (alert["severity"], alert["value"], alert["labels"]["queue"]) == ("warning", 3, "mail")
    assert [each["rule"] for each in client.get("/api/v1/overview").get_json()["alerts"]] == ["deep"]
    page = client.get("/alerts").text
    assert "Mail is &lt;deep&gt;" in page
    assert "No channel is set up" in page
    path = f"/alerts/{alert['fingerprint']}/ack"
    assert client.get(f"{path}?episode={alert['episode']}").status_code == 200
    assert firing(client)[0]["acknowledged_by"] is None  # following a link changes nothing
    response = client.post(path, data={"episode": alert["episode"]}, headers=SAME)
    assert response.status_code == 303
    assert firing(client)[0]["acknowledged_by"] == "local"
    response = client.post("/silences", data={"rule": "deep", "hours": "1", "comment": "known"}, headers=SAME)
    assert response.status_code == 303
    (silence,) = client.get("/api/v1/silences").get_json()["silences"]
    assert (silence["rule"], silence["by"], silence["comment"]) == ("deep", "local", "known")
    assert client.post(f"/silences/{silence['id']}/expire", headers=SAME).status_code == 303
    assert client.get("/api/v1/silences").get_json()["silences"] == []
    acts = [event["action"] for event in client.get("/api/v1/audit").get_json()["events"]]
    assert acts == ["end silence", "silence", "acknowledge"]
    assert client.get("/healthz/checker").status_code == 200


@pytest.mark.parametrize(
    ("form", "status"),
    [({"hours": "x", "rule": "a"}, 422), ({"hours": "-1", "rule": "a"}, 422), ({"hours": "1"}, 409)],
)
def test_a_silence_that_makes_no_sense_is_refused(client: FlaskClient, form: dict[str, str], status: int) -> None:
    assert client.post("/silences", data=form, headers=SAME).status_code == status


def test_the_rules_that_ship_are_listed_and_on(client: FlaskClient) -> None:
    rules = {rule["id"]: rule for rule in client.get("/api/v1/rules").get_json()["rules"]}
    assert sum(rule["enabled"] for rule in rules.values()) > 10
    assert all(rule["origin"] == "shipped" for rule in rules.values())


def test_nobody_watching_is_said(client: FlaskClient) -> None:
    assert "Nobody watches." in client.get("/alerts").text
    assert client.get("/healthz/checker").status_code == 503


def test_every_page_tells_what_fires_and_who_sees_to_it(app: Flask) -> None:
    client = app.test_client()
    (alert,) = wait_until(lambda: firing(client), what="the alert")

    def banner(path: str) -> tuple[str, str]:
        page = client.get(path).text
        found = re.search(r'<div id="firing" class="banner firing (\w+)".*?data-firing-text>(.*?)</a>', page, re.DOTALL)
        assert found, path
        return found[1], found[2]

    told = ("warning", "warning: Mail is &lt;deep&gt;: mail (rq, main)")
    wait_until(lambda: banner("/") == told, what="the banner")
    for path in ("/", "/workers", "/queues/main/rq/mail", "/alerts", "/alerts/rules", "/search", "/dead"):
        assert banner(path) == told, path
    assert 'href="/static/img/mark-warning.' in client.get("/").text
    for path in ("/_overview", "/workers/_workers", "/alerts/_firing", "/alerts/_now"):
        header = client.get(path, headers={"HX-Request": "true"}).headers.get("Queuedeck-Firing", "")
        assert re.fullmatch(r"warning 1 0 [0-9a-f]{12} Mail%20is%20%3Cdeep%3E%3A%20mail%20%28rq%2C%20main%29", header)
    client.post(f"/alerts/{alert['fingerprint']}/ack", data={"episode": alert["episode"]}, headers=SAME)
    assert banner("/") == ("handled", "1 alert fires, all seen to or silenced")
    assert 'href="/static/img/mark.' in client.get("/").text


def test_nothing_fires_no_banner(client: FlaskClient) -> None:
    assert re.search(r'<div id="firing"[^>]* hidden>', client.get("/").text)
    assert client.get("/_overview").headers["Queuedeck-Firing"] == "none 0 0 -"


def test_a_stranger_is_not_told_what_fires(make_app: MakeApp, redis_client: redis.Redis) -> None:
    stranger = make_app(api_tokens=["ci:viewer:" + "0" * 64]).test_client()
    answer = stranger.get("/", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert 'id="firing"' not in answer.text
    assert "Queuedeck-Firing" not in answer.headers


def test_pages_ask_the_store_once_for_what_fires(app: Flask) -> None:
    client = app.test_client()
    wait_until(lambda: firing(client), what="the alert")
    client.get("/")
    with metered() as meter:
        for _ in range(5):
            client.get("/_overview")
    assert meter.round_trips <= 6  # readings of two seconds, and one look at what fires
