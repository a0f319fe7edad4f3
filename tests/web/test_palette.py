"""The command palette and the completion of searches, as the scripts of the pages get them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from msgspec.structs import replace
from rq import Queue
from werkzeug.security import generate_password_hash

from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.auth import Identity, Role
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.search.query import FIELDS
from dashboard.web.context import EXTENSION
from dashboard.web.urls import quote_segment
from dashboard.web.views.palette.matching import Match, match_word, match_words
from dashboard.web.views.palette.palette import subject_url
from tests.contract.test_sidekiq import enqueue, payload
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_alerts import ALONE, SAME, firing

VIEWER = Identity(name="vera", role=Role.VIEWER)
ADMIN = Identity(name="ada", role=Role.ADMIN)
HOSTILE = "<script>alert(1)</script>\"' \udc80/a"


def groups(client: FlaskClient, text: str = "", recent: Sequence[str] = ()) -> dict[str, list[dict[str, Any]]]:
    answer = client.get("/palette", query_string={"q": text, "recent": recent})
    assert answer.status_code == 200
    return {group["title"]: group["entries"] for group in answer.get_json()["groups"]}


def labels(client: FlaskClient, text: str, title: str) -> list[str]:
    return [entry["label"] for entry in groups(client, text).get(title, [])]


def completions(client: FlaskClient, text: str, **query: Any) -> list[str]:
    answer = client.get("/complete", query_string={"q": text, **query})
    assert answer.status_code == 200
    return [line["label"] for line in answer.get_json()["offered"]]


@pytest.fixture
def queues(redis_client: redis.Redis) -> None:
    for name in ("mails", "late mails", "order-confirmations", "orderReports"):
        Queue(name, connection=redis_client).enqueue("app.mail.send")


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        ("mails", "mails", Match.WHOLE),
        ("mai", "mails", Match.BEGINNING),
        ("conf", "order-confirmations", Match.PART),
        ("rep", "orderReports", Match.PART),
        ("irm", "order-confirmations", Match.INSIDE),
        ("oc", "order-confirmations", Match.INITIALS),
        ("or", "orderReports", Match.BEGINNING),
        ("co", "order-confirmations", Match.PART),
        ("lm", "late mails", Match.INITIALS),
        ("x", "mails", None),
        ("slm", "late mails", None),
        ("l", "mails", Match.INSIDE),
    ],
)
def test_a_word_matches_by_its_place(word: str, text: str, expected: Match | None) -> None:
    assert match_word(word, text) == expected


def test_all_words_must_match() -> None:
    assert match_words(["late", "mails"], "late mails") == Match.BEGINNING + Match.PART
    assert match_words(["late", "x"], "late mails") is None


@pytest.mark.usefixtures("queues")
def test_without_words_there_are_pages_and_commands(client: FlaskClient) -> None:
    found = groups(client)
    assert list(found) == ["Pages", "Commands"]
    pages = [entry["label"] for entry in found["Pages"]]
    assert pages[:3] == ["Overview", "Dead letters", "Workers"]
    assert {"Bulk operations", "Audit log", "Trash"} <= set(pages)
    for entry in found["Pages"]:
        assert client.get(entry["url"]).status_code == 200
    assert found["Pages"][1]["keys"] == ["g", "d"]
    assert [entry["url"] for entry in found["Commands"][:2]] == ["/alerts/rules/new", "/silences/new"]
    assert "Sign out" not in [entry["label"] for entry in found["Commands"]]


@pytest.mark.usefixtures("queues")
def test_queues_are_found_by_part_initials_and_library(client: FlaskClient) -> None:
    assert labels(client, "mails", "Queues") == ["mails", "late mails"]
    assert labels(client, "oc", "Queues") == ["order-confirmations"]
    assert labels(client, "rq late", "Queues") == ["late mails"]
    assert labels(client, "nothing", "Queues") == []
    assert labels(client, "charts of late", "Charts") == ["Charts of late mails"]
    assert "Charts of order-confirmations" in labels(client, "chart", "Charts")
    assert labels(client, "oc", "Charts") == ["Charts of order-confirmations"]
    [charts] = groups(client, "late history")["Charts"]
    assert client.get(charts["url"]).status_code == 200
    assert labels(client, "all charts", "Pages") == ["Charts of all queues"]
    [entry] = groups(client, "late")["Queues"]
    assert entry["detail"] == "RQ · 1 waiting"
    assert client.get(entry["url"]).status_code == 200


@pytest.mark.usefixtures("queues")
def test_actions_lead_to_a_question(client: FlaskClient, redis_client: redis.Redis) -> None:
    assert labels(client, "pause mails", "Actions") == ["Pause queue mails…", "Pause queue late mails…"]
    [entry] = groups(client, "pause order-conf")["Actions"]
    assert entry["asks"] is True
    page = client.get(entry["url"])
    assert page.status_code == 200
    assert "Pause queue order-confirmations?" in page.text
    assert 'name="action" value="pause"' in page.text
    assert not redis_client.exists("rq:suspended")
    assert labels(client, "resume mails", "Actions") == []
    fields = dict(re.findall(r'name="(action|reason)" value="([^"]*)"', page.text))
    assert client.post("/queues/main/rq/order-confirmations/queue", data=fields, headers=SAME).status_code == 303
    assert redis_client.exists("rq:suspended")


@pytest.mark.usefixtures("queues")
def test_a_question_about_a_queue_in_that_state_already_is_refused(client: FlaskClient) -> None:
    answer = client.get("/queues/main/rq/mails/resume")
    assert answer.status_code == 409
    assert "not paused" in answer.text
    assert client.get("/queues/main/rq/mails/delete").status_code == 404


def test_dead_jobs_are_retried_after_a_preview(client: FlaskClient, dead: list[str]) -> None:
    [entry] = groups(client, "retry mail")["Actions"]
    assert entry["label"] == f"Retry all {len(dead)} dead jobs of mail…"
    assert not entry["asks"]
    page = client.get(entry["url"])
    assert page.status_code == 200
    assert f"{len(dead)} jobs" in page.text


def test_error_groups_are_found_once_they_were_read(client: FlaskClient, dead: list[str]) -> None:
    del dead
    assert labels(client, "connectionerror", "Error groups") == []
    assert completions(client, "error:conn") == []
    client.get("/dead")
    entry, other = groups(client, "connectionerror")["Error groups"]
    assert (entry["detail"], other["detail"]) == ("5 jobs", "2 jobs")
    assert client.get(entry["url"]).status_code == 200
    assert completions(client, "error:conn") == ["error:ConnectionError"]


@pytest.mark.usefixtures("queues")
def test_jobs_are_searched_for_by_id_and_as_text(client: FlaskClient) -> None:
    by_id, as_text = groups(client, "4711")["Jobs"]
    assert (by_id["label"], by_id["url"]) == ("Open job 4711", "/search?q=id:4711&open=1")
    assert (as_text["label"], as_text["url"]) == ("Search jobs for “4711”", "/search?q=4711")
    assert labels(client, "zzz", "Jobs") == ["Search jobs for “zzz”", "Open job zzz"]
    answer = client.get("/palette?q=no such thing").get_json()
    assert (answer["found"], [group["title"] for group in answer["groups"]]) == (0, ["Jobs"])
    assert labels(client, "no such thing", "Jobs") == ["Search jobs for “no such thing”"]


def test_a_job_opens_by_its_id(client: FlaskClient, redis_client: redis.Redis, jobs: list[str]) -> None:
    Queue("cash", connection=redis_client).enqueue("app.charge", job_id="twice")
    for name in ("cash", "mail"):
        enqueue(redis_client, payload(jid="twice", queue=name), queue=name)
    page = f"/queues/main/rq/mail/jobs/{jobs[1]}"
    wait_until(lambda: client.get(page).status_code == 200, what="the queue")
    (by_id, _) = groups(client, jobs[1])["Jobs"]
    answer = client.get(by_id["url"])
    assert (answer.status_code, answer.headers["Location"]) == (302, page)
    # Without the wish, for another job and for several of that ID, there is a list.
    assert client.get("/search", query_string={"q": f"id:{jobs[1]}"}).status_code == 200
    assert "No results" in client.get(groups(client, "nowhere1")["Jobs"][0]["url"]).text
    many = client.get(groups(client, "twice")["Jobs"][1]["url"])
    assert (many.status_code, many.text.count('name="pick"') >= 2) == (200, True)


def test_firing_alerts_and_rules_are_found(make_app: MakeApp, redis_client: redis.Redis) -> None:
    for number in range(6):
        for _ in range(2):
            Queue(f"deep-{number}", connection=redis_client).enqueue("app.run")
    app = make_app(checker="auto", rules=[{**ALONE[0], "name": "Too deep"}, *ALONE[1:]], sample_interval_s=0.5)
    app.extensions[EXTENSION].start()
    client = app.test_client()
    found = wait_until(
        lambda: lines if len(lines := groups(client).get("Firing alerts", [])) == 6 else None, what="six alerts"
    )
    assert found[5]["label"] == "Show all 6 firing alerts"
    assert client.get(found[5]["url"]).status_code == 200
    assert (found[0]["label"], found[0]["detail"]) == ("Too deep: deep-0 (rq, main)", "warning")
    assert found[0]["url"] == "/queues/main/rq/deep-0"
    [alert] = [each for each in firing(client) if each["labels"]["queue"] == "deep-0"]
    client.post(f"/alerts/{alert['fingerprint']}/ack", data={"episode": alert["episode"]}, headers=SAME)
    [line] = groups(client, "too deep deep-0")["Firing alerts"]
    assert line["detail"] == "warning, acknowledged by local"
    assert groups(client)["Firing alerts"][0]["label"] == "Too deep: deep-1 (rq, main)"
    [rule] = groups(client, "too deep")["Rules"]
    assert (rule["label"], rule["url"]) == ("Too deep", "/alerts/rule/deep")


@pytest.mark.usefixtures("queues")
def test_recent_choices_come_first_while_they_exist(client: FlaskClient) -> None:
    keys = ["queue/main/rq/late%20mails", "queue/main/rq/gone", "page/trash.index", "pause/main/rq/mails", "nonsense"]
    keys.append("charts/main/rq/mails")
    recent = groups(client, recent=keys)["Recent"]
    assert [entry["label"] for entry in recent] == ["late mails", "Trash", "Pause queue mails…", "Charts of mails"]
    assert [entry["key"] for entry in recent] == [keys[0], keys[2], keys[3], keys[5]]
    assert [entry["label"] for entry in groups(client, "mail", keys)["Queues"]] == ["late mails", "mails"]


def test_viewers_get_no_actions_but_the_reason(make_app: MakeApp, redis_client: redis.Redis) -> None:
    Queue("mails", connection=redis_client).enqueue("app.run")
    client = make_app(identify=lambda environ: VIEWER).test_client()
    found = client.get("/palette?q=pause mails").get_json()
    assert [group["title"] for group in found["groups"]] == ["Jobs"]
    assert (
        found["note"] == "View only: pausing, resuming and retrying need the operator role. Signed in as vera (viewer)."
    )
    assert "Audit log" not in [entry["label"] for entry in groups(client)["Pages"]]
    assert "Recent" not in groups(client, recent=["pause/main/rq/mails"])
    assert client.get("/queues/main/rq/mails/pause").status_code == 403
    read_only = make_app(identify=lambda environ: ADMIN, read_only=True).test_client()
    assert "read-only" in read_only.get("/palette?q=pause mails").get_json()["note"]
    assert client.get("/palette?q=mails").get_json()["note"] is None


def test_strangers_get_nothing(make_app: MakeApp) -> None:
    users = [{"name": "ada", "password_hash": generate_password_hash("x"), "role": "admin"}]
    signed_out = make_app(users=users, secret_key="k" * 40).test_client()
    unknown = make_app(identify=lambda environ: None).test_client()
    for path in ("/palette?q=a", "/complete?q=a"):
        assert signed_out.get(path).status_code == 303
        assert unknown.get(path).status_code == 403


def test_nothing_is_read_for_either(
    make_app: MakeApp, redis_client: redis.Redis, once_told: None, server: EmbeddedRedis
) -> None:
    del once_told
    fail_rq(server, "mail", (failing_jobs.charge, 1))
    client = make_app(sample_interval_s=300).test_client()
    client.get("/")
    before = redis_client.info("stats")["total_commands_processed"]
    for text in ("", "mail", "retry mail", "queue:mai"):
        client.get("/palette", query_string={"q": text})
        client.get("/complete", query_string={"q": text})
    after = redis_client.info("stats")["total_commands_processed"]
    assert after - before == 1  # INFO itself


@pytest.mark.usefixtures("queues")
def test_values_come_from_what_is_known(client: FlaskClient) -> None:
    client.get("/queues/main/rq/mails")
    assert completions(client, "queue:mai") == ["queue:mails", 'queue:"late mails"']
    assert completions(client, "library:") == ["library:rq"]
    assert completions(client, "source:") == ["source:main"]
    assert completions(client, "name:send") == ["name:app.mail.send"]
    assert completions(client, "sta state:dead", at=3) == ["state:"]
    assert completions(client, "sta", at="x") == ["state:"]
    assert set(completions(client, "")) <= {f"{field}:" for field in FIELDS}


def test_names_from_redis_stay_text(client: FlaskClient, redis_client: redis.Redis) -> None:
    Queue("plain", connection=redis_client).enqueue("app.run")
    redis_client.sadd("rq:queues", b"rq:queue:" + HOSTILE.encode("utf-8", "surrogateescape"))
    answer = client.get("/palette?q=script")
    [entry] = groups(client, "script")["Queues"]
    assert answer.mimetype == "application/json"
    assert entry["url"] == f"/queues/main/rq/{quote_segment(HOSTILE)}"
    assert "\\x80" in entry["label"]
    assert completions(client, "queue:script") == []


def test_an_alert_leads_to_the_page_of_its_subject(client: FlaskClient) -> None:
    queue = AlertLabels(source="main", backend="rq", queue="mail")
    with client.application.test_request_context():
        assert subject_url(queue) == "/queues/main/rq/mail"
        assert subject_url(replace(queue, job_class="app/send")) == "/classes/main/rq/mail/app%2Fsend"
        assert subject_url(AlertLabels(error="0" * 16)) == f"/dead/{'0' * 16}"
        assert subject_url(AlertLabels(source="main")) is None
