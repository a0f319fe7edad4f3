"""The Alerts pages and their actions."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.metering import measure_cost
from dashboard.web.context import EXTENSION
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

SAME = {"Sec-Fetch-Site": "same-origin"}
ODD = "tests.dead_letters.failing_jobs.OddError"
RULE = {"id": "deep", "name": "Mail is <deep>", "metric": "queue.depth", "warning": 1, "for_s": 0, "min_samples": 1}
# On a busy machine the checker is late, and a message that is given up is an alert of its own.
OTHERS = ("checker-slow", "notify-undelivered", "notify-dead")
ALONE = [{**RULE, "new_instance_grace_s": 0, "group_wait_s": 0}, *({"id": name, "enabled": False} for name in OTHERS)]


@pytest.fixture
def app(make_app: MakeApp, jobs: list[str]) -> Flask:
    """An app whose checker finds three waiting jobs one too many."""
    app = make_app(checker="auto", rules=ALONE, sample_interval_s=0.5)
    app.extensions[EXTENSION].start()
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
    assert "3 waiting jobs" in page
    assert "No notification channels configured" in page
    path = f"/alerts/{alert['fingerprint']}/ack"
    assert client.get(f"{path}?episode={alert['episode']}").status_code == 200
    assert firing(client)[0]["acknowledged_by"] is None  # following a link changes nothing
    response = client.post(path, data={"episode": alert["episode"]}, headers=SAME)
    assert response.status_code == 303
    assert firing(client)[0]["acknowledged_by"] == "local"
    row = client.get("/alerts").text.partition("Mail is &lt;deep&gt;")[2].partition("</tr>")[0]
    assert "acknowledged by local" in row
    assert ">Silence</a>" in row  # the reminders have stopped, but not the message when it resolves
    assert ">Acknowledge</a>" not in row
    response = client.post("/silences", data={"rule": "deep", "hours": "1", "comment": "known"}, headers=SAME)
    assert response.status_code == 303
    (silence,) = client.get("/api/v1/silences").get_json()["silences"]
    assert (silence["rule"], silence["by"], silence["comment"]) == ("deep", "local", "known")
    assert client.post(f"/silences/{silence['id']}/expire", headers=SAME).status_code == 303
    assert client.get("/api/v1/silences").get_json()["silences"] == []
    acts = [event["action"] for event in client.get("/api/v1/audit").get_json()["events"]]
    assert acts == ["expire silence", "silence", "acknowledge"]
    named = [event["detail"] for event in client.get("/api/v1/audit").get_json()["events"]]
    assert named == ["rule deep", "rule deep", "Mail is <deep>: mail (rq, main)"]
    assert "acknowledged Mail is &lt;deep&gt;: mail (rq, main)</p>" in client.get("/audit").text
    assert client.get("/healthz/checker").status_code == 200


def test_the_api_marks_a_warning_that_its_critical_mutes(make_app: MakeApp, jobs: list[str]) -> None:
    rule = {**RULE, "critical": 2, "new_instance_grace_s": 0}
    app = make_app(checker="auto", rules=[rule], sample_interval_s=0.5)
    app.extensions[EXTENSION].start()
    client = app.test_client()
    wait_until(lambda: len(firing(client)) == 2, what="both severities")
    assert [(alert["severity"], alert["muted"]) for alert in firing(client)] == [("critical", False), ("warning", True)]


def test_one_form_can_acknowledge_all_alerts_of_a_rule(app: Flask, redis_client: redis.Redis) -> None:
    for name in ("second [x]", "third"):
        redis_client.sadd("rq:queues", f"rq:queue:{name}")
        redis_client.rpush(f"rq:queue:{name}", "a", "b", "c")
    client = app.test_client()
    alerts = wait_until(lambda: found if len(found := firing(client)) == 3 else None, what="three alerts")
    queues = {alert["labels"]["queue"]: alert for alert in alerts}
    path = f"/alerts/{queues['mail']['fingerprint']}/ack"
    page = client.get(path).text
    assert "second [x]" in page
    assert "Acknowledge all 3" in page
    beside = [unescape(text) for text in re.findall(r'name="beside" value="([^"]*)"', page)]
    assert len(beside) == 2
    begun_later = next(text for text in beside if text.startswith(queues["third"]["fingerprint"])) + "0"
    seen = next(text for text in beside if text.startswith(queues["second [x]"]["fingerprint"]))
    form = {"episode": queues["mail"]["episode"], "do": "all", "beside": [seen, begun_later, "no such"]}
    assert client.post(path, data=form | {"beside": [seen, "nothing"]}, headers=SAME).status_code == 422
    assert client.post(path, data=form, headers=SAME).status_code == 303
    sees = {alert["labels"]["queue"]: alert["acknowledged_by"] for alert in firing(client)}
    assert sees == {"mail": "local", "second [x]": "local", "third": None}  # what was not shown is not seen to
    (event, *_) = client.get("/api/v1/audit").get_json()["events"]
    assert (event["action"], len(event["ids"])) == ("acknowledge", 2)


def fill_queues(redis_client: redis.Redis, names: list[str]) -> None:
    for name in names:
        redis_client.sadd("rq:queues", f"rq:queue:{name}")
        redis_client.rpush(f"rq:queue:{name}", "a", "b", "c")


def test_many_alerts_of_a_rule_are_one_incident_that_is_acknowledged_at_once(
    app: Flask, redis_client: redis.Redis
) -> None:
    fill_queues(redis_client, [f"many-{n:02}" for n in range(59)])
    client = app.test_client()
    alerts = wait_until(lambda: found if len(found := firing(client)) == 60 else None, what="sixty alerts")
    (key,) = {alert["group"] for alert in alerts}
    page = " ".join(client.get("/alerts").text.split())
    assert "<b>60 queues</b> of RQ on main" in page
    assert "<summary>Worst 20 of 60 alerts" in page
    assert 19 <= len(re.findall(r">many-\d\d<", page)) <= 20
    assert page.count("Acknowledge 60…") == 1
    assert page.count("<strong>ongoing</strong>") == 0  # the history does not repeat what is firing
    listed = client.get(f"/alerts/firing?group={key}&page=2").text
    assert "51–60 of 60" in " ".join(listed.split())
    assert client.get(f"/alerts/firing?group={'0' * 16}").text.count("This incident is over.") == 1
    path = f"/alerts/groups/{key}"
    form = client.get(path).text
    assert "Acknowledge 60 alerts" in form
    (seen_at,) = re.findall(r'name="seen_at" value="([^"]+)"', form)
    one = alerts[0]
    client.post(f"/alerts/{one['fingerprint']}/ack", data={"episode": one["episode"]}, headers=SAME)
    fill_queues(redis_client, ["late"])
    wait_until(lambda: len(firing(client)) == 61, what="an alert that the form did not show")
    answer = client.post(path, data={"seen_at": seen_at, "do": "acknowledge", "comment": "deploy"}, headers=SAME)
    assert answer.status_code == 303
    text = client.get(answer.location).text
    assert "59 alerts acknowledged; 1 already was; 1 started since and is not acknowledged." in text
    assert [alert["labels"]["queue"] for alert in firing(client) if not alert["acknowledged_by"]] == ["late"]
    (event, *_) = client.get("/api/v1/audit").get_json()["events"]
    assert (event["action"], event["count"], event["reason"]) == ("acknowledge", 59, "deploy")
    assert event["detail"] == "Mail is <deep>"
    for wrong in ({"seen_at": "soon", "do": "acknowledge"}, {"seen_at": seen_at, "do": "delete"}):
        assert client.post(path, data=wrong, headers=SAME).status_code == 422
    assert (
        client.post("/alerts/groups/none", data={"seen_at": seen_at, "do": "silence"}, headers=SAME).status_code == 422
    )
    scopes = re.findall(r'name="scope" value="([^"]*)"', form)
    assert scopes == ["deep main rq"]
    answer = client.post(path, data={"do": "silence", "hours": "1", "scope": scopes}, headers=SAME)
    assert "61 alerts silenced." in client.get(answer.location).text
    assert all(alert["silenced_until"] for alert in firing(client))
    (silence,) = client.get("/api/v1/silences").get_json()["silences"]
    assert (silence["rule"], silence["source"], silence["backend"], silence["queue"]) == ("deep", "main", "rq", "*")


def test_an_incident_that_ended_on_many_queues_is_one_row_of_the_history(
    make_app: MakeApp, jobs: list[str], redis_client: redis.Redis
) -> None:
    names = [f"many-{n:02}" for n in range(30)]
    fill_queues(redis_client, names)
    app = make_app(checker="auto", rules=[{**ALONE[0], "recover_for_s": 0}, *ALONE[1:]], sample_interval_s=0.5)
    app.extensions[EXTENSION].start()
    client = app.test_client()
    wait_until(lambda: len(firing(client)) == 31, what="the alerts")
    redis_client.delete(*(f"rq:queue:{name}" for name in names))
    wait_until(lambda: len(firing(client)) == 1, what="their end")
    history = " ".join(client.get("/alerts").text.split()).partition('aria-label="Alert history"')[2]
    assert "30 queues" in history
    assert history.count("lasted up to") == 1
    assert "<td>resolved <time" in history


def test_the_api_says_that_an_alert_is_inhibited(make_app: MakeApp, jobs: list[str]) -> None:
    rules = [*ALONE, {**RULE, "id": "follows", "inhibited_by": ["deep"], "new_instance_grace_s": 0}]
    app = make_app(checker="auto", rules=rules, sample_interval_s=0.5)
    app.extensions[EXTENSION].start()
    client = app.test_client()

    def both() -> list[dict[str, Any]]:
        return [
            alert for alert in client.get("/api/v1/alerts").get_json()["alerts"] if alert["metric"] == RULE["metric"]
        ]

    wait_until(lambda: len(both()) == 2, what="both alerts")
    alerts = {alert["rule"]: alert for alert in both()}
    assert {name: alert["muted"] for name, alert in alerts.items()} == {"deep": False, "follows": True}
    assert alerts["deep"]["group"] == alerts["follows"]["group"]


def test_a_group_is_silenced_as_far_as_its_form_showed_it(make_app: MakeApp, redis_client: redis.Redis) -> None:
    """The form names the rules, and a rule that joins the incident later still notifies."""
    fill_queues(redis_client, ["mail"])
    follows = {**RULE, "id": "follows", "inhibited_by": ["deep"], "new_instance_grace_s": 0}
    app = make_app(checker="auto", rules=[*ALONE, {**follows, "warning": 4}], sample_interval_s=0.5)
    app.extensions[EXTENSION].start()
    client = app.test_client()
    (alert,) = wait_until(lambda: firing(client), what="the alert")
    path = f"/alerts/groups/{alert['group']}"
    form = " ".join(client.get(path).text.split())
    silence = form.partition("<h2>Silence</h2>")[2]
    assert "also of alerts that start later" in silence
    assert 'name="scope" value="deep main rq">Mail is &lt;deep&gt;, RQ on main</li>' in silence
    assert "Silence 1 rule<" in silence
    scopes = re.findall(r'name="scope" value="([^"]*)"', silence)
    redis_client.rpush("rq:queue:mail", "d", "e", "f")
    wait_until(lambda: len(all_firing(client)) == 2, what="the second rule")
    for wrong in ({}, {"scope": "deep main"}, {"scope": "*  rq"}, {"scope": " main rq"}):
        data = {"do": "silence", "hours": "1", **wrong}
        assert client.post(path, data=data, headers=SAME).status_code == 422
    answer = client.post(path, data={"do": "silence", "hours": "1", "scope": scopes}, headers=SAME)
    assert "1 alert silenced; 1 alert of rules that started firing since is not." in client.get(answer.location).text
    assert {alert["rule"]: bool(alert["silenced_until"]) for alert in all_firing(client)} == {
        "deep": True,
        "follows": False,
    }


def all_firing(client: FlaskClient) -> list[dict[str, Any]]:
    """The firing alerts of all rules."""
    return [alert for alert in client.get("/api/v1/alerts").get_json()["alerts"] if alert["metric"] == RULE["metric"]]


def test_the_api_acknowledges_an_alert_and_an_incident(app: Flask, redis_client: redis.Redis) -> None:
    fill_queues(redis_client, ["second", "third"])
    client = app.test_client()
    alerts = wait_until(lambda: found if len(found := firing(client)) == 3 else None, what="three alerts")
    one, path = alerts[0], f"/api/v1/alerts/{alerts[0]['fingerprint']}/acknowledge"
    assert client.post(path, json={"episode": "another"}, headers=SAME).status_code == 409
    assert client.post(path, json={"no_such": 1}, headers=SAME).status_code == 422
    assert client.post("/api/v1/alerts/none/acknowledge", json={}, headers=SAME).status_code == 404
    told = client.post(path, json={"comment": "on it"}, headers=SAME)
    assert (told.status_code, told.get_json()) == (200, {"outcome": "done", "episode": one["episode"]})
    seen_at = client.get("/api/v1/alerts").get_json()["at"]
    fill_queues(redis_client, ["late"])
    wait_until(lambda: len(firing(client)) == 4, what="an alert that was not seen")
    path = f"/api/v1/alerts/groups/{one['group']}/acknowledge"
    told = client.post(path, json={"seen_at": seen_at, "comment": "deploy"}, headers=SAME)
    assert told.get_json() == {"acknowledged": 2, "already": 1, "newer": 1}
    assert [alert["labels"]["queue"] for alert in firing(client) if not alert["acknowledged_by"]] == ["late"]
    assert client.post(path, json={}, headers=SAME).get_json() == {"acknowledged": 1, "already": 3, "newer": 0}
    assert client.post(path, json={"seen_at": "soon"}, headers=SAME).status_code == 422
    assert client.post("/api/v1/alerts/groups/none/acknowledge", json={}, headers=SAME).status_code == 404
    acts = [
        (event["action"], event["count"], event["reason"], event["detail"])
        for event in client.get("/api/v1/audit").get_json()["events"]
    ]
    title = f"Mail is <deep>: {one['labels']['queue']} (rq, main)"
    assert acts == [
        ("acknowledge", 1, None, "Mail is <deep>"),
        ("acknowledge", 2, "deploy", "Mail is <deep>"),
        ("acknowledge", 1, "on it", title),
    ]


def test_the_api_says_who_paused_the_queue_of_an_alert(app: Flask, jobs: list[str]) -> None:
    client = app.test_client()
    (alert,) = wait_until(lambda: firing(client), what="the alert")
    assert (alert["paused_by"], alert["paused_at"]) == (None, None)
    assert client.post("/api/v1/queues/main/rq/mail/pause", headers=SAME).status_code == 200
    (alert,) = wait_until(
        lambda: [alert for alert in firing(client) if alert["paused_by"]], what="the pause in the alert"
    )
    assert alert["paused_by"] == "local"
    queue = client.get("/api/v1/queues/main/rq/mail").get_json()
    assert alert["paused_at"] == queue["paused_at"] is not None


def test_the_silence_prefilled_for_an_alert_is_valid(app: Flask, redis_client: redis.Redis) -> None:
    name = "second [x] " + "y" * 80
    redis_client.sadd("rq:queues", f"rq:queue:{name}")
    redis_client.rpush(f"rq:queue:{name}", "a", "b", "c")
    client = app.test_client()
    wait_until(lambda: len(firing(client)) == 2, what="both alerts")
    links = [unescape(link) for link in re.findall(r'href="(/silences/new[^"]*)"', client.get("/alerts").text)]
    (link,) = [link for link in links if "second" in link]
    fields = dict(re.findall(r'name="(rule|source|backend|queue)" value="([^"]*)"', client.get(link).text))
    form = {name: unescape(value) for name, value in fields.items()} | {"hours": "1"}
    assert form["backend"] == "rq"
    assert client.post("/silences", data=form, headers=SAME).status_code == 303
    quiet = [alert["labels"]["queue"] for alert in firing(client) if alert["silenced_until"]]
    assert quiet == [name]


@pytest.mark.parametrize(
    ("form", "status"),
    [({"hours": "x", "rule": "a"}, 422), ({"hours": "-1", "rule": "a"}, 422), ({"hours": "1"}, 409)],
)
def test_an_invalid_silence_is_rejected(client: FlaskClient, form: dict[str, str], status: int) -> None:
    assert client.post("/silences", data=form, headers=SAME).status_code == status


def test_built_in_rules_are_listed_and_enabled(client: FlaskClient) -> None:
    rules = {rule["id"]: rule for rule in client.get("/api/v1/rules").get_json()["rules"]}
    assert sum(rule["enabled"] for rule in rules.values()) > 10
    assert all(rule["origin"] == "shipped" for rule in rules.values())


def test_the_page_says_when_alerting_is_not_running(client: FlaskClient) -> None:
    assert "Alerting is not running." in client.get("/alerts").text
    assert client.get("/healthz/checker").status_code == 503


def test_anonymous_health_checks_cost_redis_almost_nothing(client: FlaskClient, redis_client: redis.Redis) -> None:
    client.get("/alerts")
    here = client.application.extensions[EXTENSION]
    here.caches._health.keep_s = here.services.snapshots._readings.keep_s = float("inf")  # no time passes

    def asked() -> int:
        return int(redis_client.info("stats")["total_commands_processed"])

    before = asked()
    answers = [client.get(path).status_code for path in ("/readyz", "/healthz/checker", "/healthz") for _ in range(40)]
    assert (answers[0], answers[40], answers[80]) == (200, 503, 200)
    assert asked() - before < 10


def test_every_page_shows_firing_and_acknowledged_alerts(app: Flask) -> None:
    client = app.test_client()
    (alert,) = wait_until(lambda: firing(client), what="the alert")

    def banner(path: str) -> tuple[str, str]:
        page = client.get(path).text
        found = re.search(
            r'<div id="firing" class="banner firing ([\w ]+)".*?data-firing-text>(.*?)</a>', page, re.DOTALL
        )
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
    assert banner("/") == ("warning handled", "1 alert firing, all acknowledged or silenced")
    assert 'href="/static/img/mark.' in client.get("/").text


def test_there_is_no_banner_without_firing_alerts(client: FlaskClient) -> None:
    assert re.search(r'<div id="firing"[^>]* hidden>', client.get("/").text)
    assert client.get("/_overview").headers["Queuedeck-Firing"] == "none 0 0 -"


def test_firing_alerts_are_hidden_from_anonymous_users(make_app: MakeApp, redis_client: redis.Redis) -> None:
    stranger = make_app(api_tokens=["ci:viewer:" + "0" * 64]).test_client()
    answer = stranger.get("/", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert 'id="firing"' not in answer.text
    assert "Queuedeck-Firing" not in answer.headers


def test_pages_share_one_read_of_firing_alerts(once_told: None, app: Flask) -> None:
    client = app.test_client()
    wait_until(lambda: firing(client), what="the alert")
    client.get("/")
    app.extensions[EXTENSION].services.snapshots._readings.keep_s = float("inf")  # readings are counted elsewhere
    app.extensions[EXTENSION].caches.forget_firing()
    with measure_cost() as meter:
        for _ in range(5):
            client.get("/_overview")
    assert meter.round_trips == 1


def test_a_paused_queue_names_who_paused_it_and_offers_to_resume_it(
    make_app: MakeApp, jobs: list[str], redis_client: redis.Redis
) -> None:
    client = make_app().test_client()
    queue = "/queues/main/rq/mail"

    def seen(*, paused: bool) -> dict[str, Any]:
        row: dict[str, Any] = client.get(f"/api/v1{queue}").get_json()
        return row if row["paused"] is paused else {}

    before = wait_until(lambda: seen(paused=False), what="the queue")
    assert (before["paused_by"], before["paused_at"]) == (None, None)
    assert client.post(f"{queue}/queue", data={"action": "pause"}, headers=SAME).status_code == 303
    row = wait_until(lambda: seen(paused=True), what="the pause")
    assert row["paused_by"] == "local"
    assert row["paused_at"] is not None
    page = " ".join(client.get(queue).text.split())
    assert re.search(r"paused by local <time datetime=", page)
    assert "paused by local" not in page.partition('id="queue-actions"')[2]
    job = " ".join(client.get(f"{queue}/jobs/{jobs[0]}").text.split())
    assert "The queue was paused by local" in job
    assert f'<a href="{queue}#queue-actions">Resume on the queue page</a>' in job
    assert client.post(f"{queue}/queue", data={"action": "resume"}, headers=SAME).status_code == 303
    wait_until(lambda: seen(paused=False), what="the resume")
    redis_client.set("rq:suspended", 1)
    row = wait_until(lambda: seen(paused=True), what="a pause elsewhere")
    assert row["paused_by"] is None
    assert "paused outside Queuedeck" in client.get(queue).text


def test_an_alert_about_a_pause_says_what_waits_and_who_paused_it(make_app: MakeApp, jobs: list[str]) -> None:
    rule = {**RULE, "id": "paused", "metric": "queue.paused_s", "op": "ge", "warning": 0, "new_instance_grace_s": 0}
    app = make_app(checker="auto", rules=[rule, *ALONE[1:]], sample_interval_s=0.5)
    app.extensions[EXTENSION].start()
    client = app.test_client()
    wait_until(lambda: client.get("/queues/main/rq/mail").status_code == 200, what="the queue")
    assert client.post("/queues/main/rq/mail/queue", data={"action": "pause"}, headers=SAME).status_code == 303
    text = wait_until(
        lambda: "jobs waiting, paused by" in (page := client.get("/alerts").text) and page, what="the pause"
    )
    assert "3 jobs waiting, paused by local" in text


def posted(client: FlaskClient, **form: Any) -> Any:
    return client.post("/silences", data=form, headers=SAME)


def test_a_preview_shows_what_a_silence_would_match(app: Flask) -> None:
    client = app.test_client()
    wait_until(lambda: firing(client), what="the alert")
    answer = posted(client, rule="de*", queue="ma?l", hours="1", do="preview")
    assert answer.status_code == 200
    assert "1 rule, 1 of 1 queue, <strong>1 firing or pending alert</strong> match now." in " ".join(
        answer.text.split()
    )
    answer = posted(client, rule="deep", queue="nothing", hours="1", do="preview")
    assert "0 of 1 queue, no alerts match now." in " ".join(answer.text.split())
    assert "No queue matches right now." in answer.text
    assert re.search(r'<option value="deep" label="[^"]+">', answer.text)  # people know rules by their names
    assert client.get("/api/v1/silences").get_json()["silences"] == []


def test_a_maintenance_window_repeats_every_week(app: Flask) -> None:
    client = app.test_client()
    wait_until(lambda: firing(client), what="the alert")
    now = datetime.now(UTC)
    window = {"rule": "deep", "when": "weekly", "hours": "1.5", "from": "02:30", "weeks": "4"}
    other_day = (now.weekday() + 3) % 7
    assert posted(client, **window, days=[other_day, (other_day + 1) % 7], timezone="UTC").status_code == 303
    (kept,) = client.get("/api/v1/silences").get_json()["silences"]
    assert kept["weekly"]["from_min"] == 150
    assert kept["weekly"]["minutes"] == 90
    page = client.get("/alerts/silences").text
    assert "02:30 for 1\u202fh 30\u202fm" in page
    assert '<span class="tag">inactive</span> <small>1 alert</small>' in page
    assert firing(client)[0]["silenced_until"] is None
    client.post(f"/silences/{kept['id']}/expire", headers=SAME)
    days = [now.weekday(), (now.weekday() + 1) % 7]  # midnight may pass meanwhile
    assert posted(client, **window | {"hours": "24", "from": "00:00"}, days=days).status_code == 303
    assert '<span class="tag warning">active</span>' in client.get("/alerts/silences").text
    # Today's window and that of tomorrow behind it; the weeks to come are others.
    until = datetime.fromisoformat(firing(client)[0]["silenced_until"])
    assert now < until <= now + timedelta(days=3)
    assert f'silenced, ends <time datetime="{until:%Y-%m-%dT%H:%M}' in client.get("/alerts").text


def test_a_scheduled_window_silences_from_its_start(app: Flask) -> None:
    client = app.test_client()
    begin = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
    assert posted(client, queue="mail", when="later", starts=begin, hours="2").status_code == 303
    (kept,) = client.get("/api/v1/silences").get_json()["silences"]
    assert kept["starts_at"].startswith(begin)
    assert '<span class="tag">scheduled</span>' in client.get("/alerts/silences").text


@pytest.mark.parametrize(
    ("form", "field", "told"),
    [
        ({"hours": "soon"}, "hours", "a number above 0"),
        ({"queue": "[a]"}, "queue", "* and ?"),
        ({"when": "later", "starts": "soon"}, "starts", "a date and time"),
        ({"when": "later", "starts": "2001-01-01T00:00"}, "starts", "in the future"),
        ({"when": "weekly", "from": "25:00", "days": "1"}, "from", "a time of day"),
        ({"when": "weekly", "from": "02:00"}, "days", "at least one day"),
        ({"when": "weekly", "from": "02:00", "days": "1", "timezone": "../etc"}, "timezone", "Europe/Berlin"),
        ({"when": "weekly", "from": "02:00", "days": "1", "weeks": "99"}, "weeks", "at most 52"),
    ],
)
def test_errors_of_a_silence_are_shown_at_their_fields(
    client: FlaskClient, form: dict[str, str], field: str, told: str
) -> None:
    answer = posted(client, **{"rule": "deep", "hours": "1", "weeks": "4"} | form)
    assert answer.status_code == 422
    said = re.search(rf'<em class="wrong" id="wrong-{field}">(.*?)</em>', answer.text)
    assert said
    assert told in unescape(said[1])
    assert client.get("/api/v1/silences").get_json()["silences"] == []


def test_an_operator_can_silence_for_at_most_a_day(make_app: MakeApp, redis_client: redis.Redis) -> None:
    digest = hashlib.sha256(b"right").hexdigest()
    client = make_app(api_tokens=[f"ci:operator:{digest}"]).test_client()
    bearer = {"Authorization": "Bearer right"}
    for form, status in (
        ({"hours": "24"}, 303),
        ({"hours": "25"}, 403),
        ({"hours": "1", "when": "weekly", "from": "02:00", "days": "1", "weeks": "2"}, 403),
    ):
        answer = client.post("/silences", data={"rule": "deep", **form}, headers=bearer)
        assert answer.status_code == status


def test_a_failed_notification_can_be_resent_or_dismissed(make_app: MakeApp, jobs: list[str]) -> None:
    # A webhook into the own network is not permitted: no retry mends that.
    hook = {"id": "ops", "kind": "webhook", "url": "https://localhost:9/x"}
    app = make_app(checker="auto", rules=ALONE, channels=[hook], sample_interval_s=0.5)
    client = app.test_client()
    app.extensions[EXTENSION].start()
    page = wait_until(
        lambda: "could not be delivered" in (text := client.get("/alerts").text) and ">failed</span>" in text and text,
        what="giving up",
    )
    assert "1 notification could not be delivered" in page
    (message,) = re.findall(r'name="id" value="([^"]+)"', page)
    before = page.count(">failed</span>")
    assert client.post("/deliveries/again", data={"id": message}, headers=SAME).status_code == 303
    page = wait_until(
        lambda: (text := client.get("/alerts").text).count(">failed</span>") > before and text, what="giving up again"
    )
    assert client.post("/deliveries/dismiss", data={"id": message}, headers=SAME).status_code == 303
    assert "could not be delivered" not in client.get("/alerts").text
    assert client.post("/deliveries/again", data={"id": "none:firing:1:ops"}, headers=SAME).status_code == 404
    acts = [event["action"] for event in client.get("/api/v1/audit").get_json()["events"]]
    assert acts == ["dismiss notification", "resend notification"]


def test_every_page_and_the_api_say_why_alerting_is_not_running(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    """A Redis user without write access: an empty list of alerts must not look like good news."""
    redis_client.execute_command(
        "ACL",
        "SETUSER",
        "looker",
        "on",
        "nopass",
        "~*",
        "-@all",
        "+@read",
        "-@dangerous",
        "+@connection",
        "+info",
        "+time",
    )
    client = make_app(redis_url=server.url.replace("redis://", "redis://looker:x@"), checker="auto").test_client()
    client.get("/api/v1/overview")
    answer = wait_until(lambda: (found := client.get("/api/v1/alerts").get_json())["problem"] and found, what="why")
    assert answer["watched"] is False
    assert "not allowed" in answer["problem"]
    assert "not allowed" in client.get("/alerts").text
    metrics = client.get("/metrics").text
    assert "queuedeck_alerting_up 0.0\n" in metrics
    assert "alerts_firing" not in metrics


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"alerts": "off"}, "Alerts are disabled. Set alerts"), ({"checker": "off"}, "in this dashboard, and no other")],
)
def test_a_disabled_checker_is_reported_with_the_setting_to_change(
    make_app: MakeApp, settings: dict[str, str], why: str
) -> None:
    client = make_app(**{"checker": "auto", **settings}).test_client()
    answer = client.get("/api/v1/alerts").get_json()
    assert answer["watched"] is False
    assert why in answer["problem"]
    assert why in unescape(client.get("/alerts").text)
    assert client.get("/healthz/checker").status_code == 503


def test_a_notification_for_a_removed_channel_is_not_resent(
    make_app: MakeApp, redis_client: redis.Redis, jobs: list[str]
) -> None:
    client = make_app(checker="auto").test_client()
    answer = client.post("/deliveries/again", data={"id": "ep:firing:1:gone"}, headers=SAME)
    assert answer.status_code == 404
    assert "Channel 'gone' no longer exists. Dismiss" in unescape(answer.text)


def test_a_value_that_can_no_longer_be_read_is_shown_as_unknown(app: Flask, redis_client: redis.Redis) -> None:
    client = app.test_client()
    (alert,) = wait_until(lambda: firing(client), what="the alert")
    assert (alert["value"], alert["last_value"], alert["unknown_s"]) == (3, 3, 0)
    redis_client.delete("rq:queue:mail")
    redis_client.set("rq:queue:mail", "no list")

    def unknown() -> dict[str, Any] | None:
        found = firing(client)
        return found[0] if found and found[0]["unknown_s"] else None

    alert = wait_until(unknown, what="an unknown figure")
    assert (alert["state"], alert["value"], alert["last_value"]) == ("firing", None, 3)
    cell = re.sub(r"\s+", " ", client.get("/alerts").text)
    assert re.search(
        r"until the value is known\">unknown for [^<]+, last known: 3 waiting jobs</span> <small>/ \d", cell
    )


def test_an_alert_about_a_new_error_leads_to_its_group(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    enabled = [{"id": name, "enabled": name == "error-new"} for name in (*OTHERS, "error-new", "queue-errors")]
    app = make_app(checker="auto", rules=enabled, sample_interval_s=0.5)
    fail_rq(server, "mail", (failing_jobs.fail_with, "<script>boom"), (failing_jobs.fail_with, "other"))
    app.extensions[EXTENSION].start()
    client = app.test_client()

    def alerts() -> list[dict[str, Any]] | None:
        found = client.get("/api/v1/alerts").get_json()["alerts"]
        return found if len(found) == 2 else None

    labels = [alert["labels"] for alert in wait_until(alerts, what="two alerts")]
    assert {alert["title"] for alert in labels} == {f"{ODD}: <script>boom", f"{ODD}: other"}
    page, overview = client.get("/alerts").text, client.get("/").text
    rule_page, palette = client.get("/alerts/rule/error-new").text, client.get("/palette?q=odderror").text
    for alert in labels:
        assert set(alert) == {"error", "title"}
        assert client.get(f"/dead/{alert['error']}").status_code == 200
        for text in (page, overview, palette):
            assert f"/dead/{alert['error']}" in text
        for text in (page, overview, rule_page):
            assert escape(alert["title"]) in text
    assert "<script>boom" not in page + overview + rule_page  # the palette is JSON
    assert "Breaching: 2 of 2." in rule_page
    assert "every error group" in rule_page
    form = {"id": "mine", "name": "Mine", "metric": "error.regressed", "op": "gt", "warning": "0", "for_s": "1 min"}
    form |= {"reducer": "last", "scope": "each", "no_data": "keep", "min_samples": "2", "enabled": "1", "do": "preview"}
    assert "OK." in client.post("/alerts/rules", data=form, headers=SAME).text
    client.post("/silences", data={"rule": "error-new", "hours": "1"}, headers=SAME)
    assert "silenced" in client.get("/alerts").text
