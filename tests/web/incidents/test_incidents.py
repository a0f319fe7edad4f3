"""Incident reports: one file with what is known of a range, for everyone who may read it."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.actions.audit_log import Actor, build_event
from dashboard.alerts.rules.rule import Severity
from dashboard.clock import instant, iso, now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.marks.mark_store import MarkStore
from dashboard.model import Mark
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from dashboard.web.context import EXTENSION
from tests.cases import failures_of
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.incidents.past import BAD_DEPTH, CALM_DEPTH, FAILED, StrictReader, record_alert, record_past

ROLES = ("viewer", "admin")
TOKENS = [f"of-{role}:{role}:{hashlib.sha256(role.encode()).hexdigest()}" for role in ROLES]
MOST_BYTES = 1_500_000
ALLOWED = {"href", "fill"}  # attributes that can name an address


def read(browser: FlaskClient, path: str = "/incident/download", role: str = "admin", **query: Any) -> StrictReader:
    """The file, of which nothing is loaded and nothing runs, whatever is in it."""
    response = browser.get(path, query_string=query or None, headers={"Authorization": f"Bearer {role}"})
    assert response.status_code == 200, response.text
    assert len(response.data) < MOST_BYTES
    if response.headers.get("Content-Disposition"):
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")
        assert response.headers["Content-Security-Policy"].endswith("sandbox")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        found = StrictReader(response.text)
        assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(found.tags)
        addresses = {value for _, name, value in found.attributes if name in ("src", "href", "fill")}
        assert {each for each in addresses if not each.startswith("#")} <= {"url(#gap)", "https://ci.example/412"}
        assert not [name for _, name, _ in found.attributes if name.startswith("on") or name == "style"]
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", response.text)
    else:
        found = StrictReader("")
        found.words.append(response.text)
    return found


def write(browser: FlaskClient, at: float, action: str, **fields: Any) -> None:
    """Record an action of anna in the audit log, as it was at a time."""
    log = browser.application.extensions[EXTENSION].services.action_service.audit_log
    event = build_event(Actor(name="anna", role="operator", address="10.0.0.3"), action, **fields)
    log.record_event(type(event)(**{name: getattr(event, name) for name in event.__struct_fields__} | {"at": at}))


@pytest.fixture
def browser(make_app: MakeApp, source: Source, redis_client: redis.Redis, jobs: list[str]) -> FlaskClient:
    """A browser on a dashboard with a bad quarter of an hour behind it: figures, an alert, a deploy, an action."""
    now = now_s()
    record_past(source, now)
    record_alert(redis_client, now - 1700, "firing", began=now - 1700)
    record_alert(redis_client, now - 1100, "resolved", began=now - 1700)
    mark = Mark(at=now - 1900, text="deploy", version="v412", link="https://ci.example/412", who="ci")
    MarkStore(Store(source)).add_mark(mark)
    found = make_app(auth="auto", api_tokens=TOKENS).test_client()
    write(found, now - 1500, "pause", count=1, outcomes={"done": 1}, source="main", backend="rq", queue="mail")
    write(found, now - 1000, "sign in")
    return found


def test_the_file_has_what_happened(browser: FlaskClient, server: EmbeddedRedis) -> None:
    fail_rq(server, "mail", *((failing_jobs.mail, f"user{number}@example.com", number) for number in range(3)))
    wait_until(
        lambda: browser.get("/api/v1/dead", headers={"Authorization": "Bearer admin"}).get_json()["scanned"] == 6,
        what="the dead letters, those of the fixture too",
    )
    found = read(browser, range="1h", title="Mails were late", note="The provider was slow.\n\nAnd we too.")
    for words in (
        "Mails were late",
        "The provider was slow. And we too.",
        "All times are in UTC. Generated",
        "by of-admin from Queuedeck",
        f"mail RQ on main {CALM_DEPTH} {BAD_DEPTH} +{BAD_DEPTH - CALM_DEPTH}",
        f"{FAILED:,}",
        "critical Queue is deep mail (RQ on main)",
        "10 m 44 waiting jobs threshold 20",
        "mark deploy v412 ci",
        "alert Queue is deep: mail (RQ on main) critical: 30 waiting jobs (threshold 20)",
        "resolved Queue is deep: mail (RQ on main) resolved after 10 m, at worst 44 waiting jobs",
        "action paused queue mail (RQ on main) anna",
        "ConnectionError new",
        "of the range, no figures were recorded: charts have a gap there.",
        "Jobs the highest number of waiting jobs",
        "Redis main",
    ):
        assert words in found.text, (words, found.section("Errors", "Timeline"))
    assert "signed in" not in found.text
    assert "user1@example.com" not in found.text or "arguments" in found.text
    assert found.tags.count("svg") == 1 + 6  # the pattern of gaps, and the charts that have figures
    timeline = found.section("Timeline", "Charts")
    order = [timeline.index(word) for word in ("deploy v412", "critical: 30", "paused queue", "resolved after")]
    assert order == sorted(order)


def test_the_name_of_the_file_is_its_beginning(browser: FlaskClient) -> None:
    begin_s = int(now_s()) - 3000
    query = {"from": begin_s, "to": begin_s + 2000}
    response = browser.get("/incident/download", query_string=query, headers={"Authorization": "Bearer viewer"})
    began = instant(begin_s)
    assert began is not None
    name = f"queuedeck-incident-{began:%Y-%m-%dT%H%M}Z.html"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert response.mimetype == "text/html"


def test_only_those_who_may_see_the_audit_log_get_it(browser: FlaskClient) -> None:
    of_viewer = read(browser, role="viewer", range="1h")
    assert "paused queue" not in of_viewer.text
    assert "The audit log is not included: it needs the admin role." in of_viewer.text
    assert "deploy v412" in of_viewer.text
    assert "paused queue" in read(browser, role="admin", range="1h").text
    page = read(browser, "/incident", "viewer", range="1h").text
    assert "The audit log is not included" in page
    assert browser.get("/incident").status_code in (302, 303, 401, 403)


def test_the_page_says_what_the_file_contains_and_leads_to_it(browser: FlaskClient) -> None:
    page = read(browser, "/incident", range="1h", queue="mail", title="A & B").text
    for words in (
        "mail (RQ on main)",
        "1 alert<",
        "1 affected queue<",
        "4 lines of timeline",
        "6 charts",
        " KiB</small>",
    ):
        assert words in page.replace("</li>", "<"), words
    link = re.search(r'href="(/incident/download\?[^"]+)"', page)
    assert link is not None
    address = link[1].replace("&amp;", "&")
    assert "source=main&backend=rq&queue=mail&from=" in address
    assert "title=A+%26+B" in address or "title=A+%26amp%3B+B" not in address
    assert "A & B" in read(browser, address).text


def test_pages_lead_to_the_report(browser: FlaskClient) -> None:
    admin = {"Authorization": "Bearer admin"}
    charts = browser.get("/queues/main/rq/mail/charts?range=1h", headers=admin).text
    assert re.search(r'href="/incident\?source=main&amp;backend=rq&amp;queue=mail&amp;from=\d+&amp;to=\d+"', charts)
    alerts = browser.get("/alerts", headers=admin).text
    link = re.search(r'href="/incident\?source=main&amp;backend=rq&amp;queue=mail&amp;from=(\d+)&amp;to=(\d+)"', alerts)
    assert link is not None
    assert int(link[2]) - int(link[1]) == pytest.approx(600 + 1800 + 900, abs=2)
    answer = browser.get("/palette?q=post-mortem", headers=admin).get_json()
    assert "/incident" in [entry.get("url") for group in answer["groups"] for entry in group["entries"]]


def test_the_api_has_the_same_figures(browser: FlaskClient) -> None:
    query = {"range": "1h", "source": "main"}
    found = browser.get("/api/v1/incident", query_string=query, headers={"Authorization": "Bearer viewer"}).get_json()
    [queue] = found["affected_queues"]
    assert (queue["name"], queue["depth_peak"], queue["failed"]) == ("mail", BAD_DEPTH, FAILED)
    assert queue["peak_at"] < queue["peak_until"]
    [alert] = found["alerts"]
    assert (alert["severity"], alert["lasted_s"], alert["firing"]) == ("critical", pytest.approx(600), False)
    assert [event["kind"] for event in found["timeline"]] == ["mark", "firing", "resolved"]
    figures = {figure["metric"]: figure for figure in found["figures"]}
    assert figures["depth"]["highest_at"] < figures["depth"]["highest_until"]
    assert figures["depth"]["highest"] == BAD_DEPTH
    assert figures["error_ratio"]["highest"] == 0.5
    assert figures["runtime_p95_s"]["highest"] == pytest.approx(2.0, rel=0.06)
    assert (found["audited"], found["scope"]) == (False, "Redis main")


def test_wrong_questions_are_refused_in_one_line(browser: FlaskClient) -> None:
    def ask(words: str, status: int, query: dict[str, Any]) -> None:
        in_api = () if {"title", "note"} & set(query) else ("/api/v1/incident",)  # which has neither
        for path in ("/incident", "/incident/download", *in_api):
            response = browser.get(path, query_string=query or None, headers={"Authorization": "Bearer viewer"})
            assert response.status_code == status, response.text
            assert words in response.text

    cases: list[tuple[str, int, dict[str, Any]]] = [
        ("at least a minute", 422, {"from": "2026-11-25T10:00", "to": "2026-11-25T09:00"}),
        ("30 days", 422, {"from": now_s() - 40 * 86_400, "to": now_s() - 39 * 86_400}),
        ("expected one of 15m", 422, {"range": "1y"}),
        ("expected a time", 422, {"from": "yesterday"}),
        ("There is no source", 404, {"source": "other"}),
        ("There is no queue", 422, {"queue": "no-such-queue"}),
        ("at most 80 characters", 422, {"title": "x" * 81}),
        ("at most 300 characters", 422, {"note": "x" * 301}),
    ]
    assert failures_of(ask, cases) == {}


def test_an_empty_range_says_so(make_app: MakeApp, redis_client: redis.Redis) -> None:
    browser = make_app().test_client()
    page = browser.get("/incident?range=15m").text
    assert "Nothing is known of this range" in page
    found = StrictReader(browser.get("/incident/download?range=15m").text)
    for words in ("No alerts were firing", "No dead letters of this range", "No figures were recorded in this range"):
        assert words in found.text, words


def test_a_deleted_queue_still_has_its_past(browser: FlaskClient, redis_client: redis.Redis) -> None:
    query = {"range": "1h", "source": "main", "backend": "rq"}
    assert "No figures were recorded in this range" in read(browser, queue="gone", **query).text
    assert f"{BAD_DEPTH} +" in read(browser, queue="mail", **query).text


def test_hostile_texts_are_shown_as_text_and_the_file_stays_small(
    browser: FlaskClient, redis_client: redis.Redis, source: Source
) -> None:
    evil, now = "<script>alert(1)</script>\"'><img src=x>\u202e\0\x07", now_s()
    for number in range(1000):
        name, severity = (evil, Severity.CRITICAL) if number < 5 else ("x" * 1000, Severity.WARNING)
        at, began = now - 900 + number / 2, now - 950
        record_alert(
            redis_client,
            at,
            "firing",
            began=began,
            queue=f"{evil}{'q' * 10_000}{number}"[:12_000],
            name=name,
            episode=f"many-{number}",
            severity=severity,
        )
    write(
        browser,
        now - 800,
        "delete",
        ids=[evil],
        count=1,
        outcomes={"gone": 1},
        source="main",
        backend="rq",
        queue=evil,
        reason=evil + "r" * 100_000,
    )
    redis_client.xadd("{queuedeck}:audit", {"event": evil})
    MarkStore(Store(source)).add_mark(Mark(at=now - 700, text=evil[:40], link="javascript:alert(1)", who=evil))
    fail_text = evil + "m" * 1_000_000
    redis_client.hset(
        "rq:job:evil",
        mapping={
            "status": "failed",
            "origin": "mail",
            "ended_at": iso(instant(now - 600)),
            "exc_info": fail_text,
            "data": b"\x80",
            "created_at": iso(instant(now - 700)),
        },
    )
    redis_client.zadd("rq:failed:mail", {"evil": 1_900_000_000})
    found = read(browser, range="1h", title=evil[:40], note=evil)
    assert found.text.count("<script>alert(1)</script>") >= 4
    assert found.tags.count("tr") < 700
    hidden = re.search(r"and (\d+) more: (\d+) alerts that fired", found.text)
    assert hidden is not None
    assert int(hidden[1]) >= 800
    assert "and 902 more, the least severe ones" in found.text or "more, the least severe ones" in found.text
    assert "deploy v412" in found.text  # of more importance than warnings
    assert "\\u202e" in found.text
    # Of the newest changes that are read, some are after the range: older ones within it are missing all the same.
    cut = read(browser, **{"from": int(now) - 3600, "to": int(now) - 450}).text
    assert "only the newest 1,000 changes in the range are included" in cut


def test_what_may_not_be_read_is_named(
    make_app: MakeApp, browser: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    rights = ("~*", "&*", "+@all", "-zrevrangebyscore", "-xrevrange")
    redis_client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", *rights)
    limited = make_app(redis_url=server.url.replace("redis://", "redis://reader:secret@")).test_client()
    path = f"/incident/download?from={int(now_s()) - 3600}"
    path += f"&to={int(now_s())}"
    text = StrictReader(limited.get(path).text).text
    for words in ("Alerts could not be read", "Marks could not be read", "The audit log could not be read"):
        assert words in text, words
    assert f"+{BAD_DEPTH - CALM_DEPTH}" in text
    assert "secret" not in text.replace("secrets in messages", "")
    for words in ("No alerts were firing", "No alerts, marks or actions"):
        assert words not in text, words
    redis_client.execute_command("ACL", "SETUSER", "reader", "+@all")
    assert "critical Queue is deep" in StrictReader(limited.get(path).text).text  # what was not read is not cached
    down = make_app(redis_url="redis://127.0.0.1:1/0").test_client().get("/incident")
    assert down.status_code in (200, 503)
    assert "127.0.0.1:1" in down.text
