"""What a queue's page, its jobs, its alerts and the API say about its owner, rules, silences and error groups."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.metering import measure_cost
from dashboard.web.context import EXTENSION, app_context, read_context
from dashboard.web.pages.queues import find_queue
from tests.contract.test_sidekiq import enqueue, payload
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

SAME = {"Sec-Fetch-Site": "same-origin"}
RUNBOOK = "https://wiki.example.com/mail"
QUEUES = [
    {"match": "mail", "owner": "messaging", "runbook": RUNBOOK, "note": "Ask in <#messaging> first."},
    {"match": "*", "owner": "platform"},
]
AT_ONCE = {"for_s": 0, "min_samples": 1, "new_instance_grace_s": 0}
DEEP = {"id": "deep", "name": "Mail is deep", "metric": "queue.depth", "queues": ["mail"], "warning": 1, **AT_ONCE}
DEAD = {"id": "queue-dead", "warning": 2, "runbook_url": "https://wiki.example.com/rule", **AT_ONCE}
PAGE = "/queues/main/rq/mail"


@pytest.fixture
def failed(server: EmbeddedRedis, redis_client: redis.Redis) -> list[str]:
    """Ids of dead jobs of `mail`: three of one error, and one of another; one more is in `cash`."""
    ids = fail_rq(
        server,
        "mail",
        *((failing_jobs.mail, f"user{n}@example.com", n) for n in range(3)),
        (failing_jobs.fail_with, "502 Bad Gateway from https://api.example.com"),
    )
    fail_rq(server, "cash", (failing_jobs.fail_with, "502 Bad Gateway from https://bank.example.com"))
    mail = Queue("mail", connection=redis_client)
    for number in range(3):
        mail.enqueue("app.mail.send", number)
    return ids


@pytest.fixture
def app(make_app: MakeApp, failed: list[str]) -> Flask:
    """An app whose checker evaluates two rules that `mail` breaches."""
    app = make_app(checker="auto", rules=[DEEP, DEAD], queues=QUEUES, sample_interval_s=0.5)
    app.extensions[EXTENSION].start()
    return app


def context(client: FlaskClient, queue: str = "mail") -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/queues/main/rq/{queue}/context").get_json()
    return found


def wait_for_alerts(client: FlaskClient) -> dict[str, Any]:
    def both_fire() -> dict[str, Any] | None:
        found = context(client)
        firing = [each for each in found["alerts"] if each["state"] == "firing"]
        return found if found["evaluated"] and len(firing) == 2 else None

    return wait_until(both_fire, what="both alerts of mail, and the first heartbeat of the checker")


def section(page: str, css: str = "queue-context") -> str:
    """The text of one section, runs of whitespace as one space."""
    found = re.search(rf'<section class="[^"]*{css}.*?</section>', page, re.DOTALL)
    assert found is not None
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found[0])).split())


def test_the_page_of_a_queue_names_its_owner_runbook_and_note(app: Flask) -> None:
    client = app.test_client()
    page = client.get(PAGE).text
    assert section(page).startswith("Owner messaging Runbook Ask in <#messaging> first.")
    assert f'<a href="{RUNBOOK}" rel="noreferrer noopener">Runbook</a>' in page
    other = section(client.get("/queues/main/rq/cash").text)
    assert other.startswith("Owner platform")
    assert "Runbook" not in other


def test_the_api_has_owner_runbook_and_note_of_each_queue(app: Flask, make_app: MakeApp) -> None:
    client = app.test_client()
    queues = {each["name"]: each for each in client.get("/api/v1/queues").get_json()["queues"]}
    fields = ("owner", "runbook_url", "note")
    assert [queues["mail"][name] for name in fields] == ["messaging", RUNBOOK, "Ask in <#messaging> first."]
    assert [queues["cash"][name] for name in fields] == ["platform", None, None]
    one = client.get("/api/v1/queues/main/rq/mail").get_json()
    assert [one[name] for name in fields] == [queues["mail"][name] for name in fields]
    plain = make_app().test_client().get("/api/v1/queues/main/rq/mail").get_json()
    assert [plain[name] for name in fields] == [None, None, None]


def test_the_rules_that_watch_a_queue_have_its_figure_and_their_state(app: Flask) -> None:
    client = app.test_client()
    found = wait_for_alerts(client)
    assert found["evaluated"] is True
    rules = {each["id"]: each for each in found["rules"]}
    assert [each["id"] for each in found["rules"][:2]] == ["queue-dead", "deep"]  # what fires is first
    assert (rules["deep"]["state"], rules["deep"]["value"], rules["deep"]["severity"]) == ("firing", 3, "warning")
    assert rules["deep"]["alert"] in {each["fingerprint"] for each in found["alerts"]}
    assert (rules["queue-latency"]["state"], rules["queue-latency"]["alert"]) == ("OK", None)
    assert (rules["queue-no-progress"]["state"], rules["queue-no-progress"]["value"]) == ("not firing", None)
    assert "workers-gone" in rules  # about all queues of the library
    assert not {"queue-depth", "redis-memory"} & set(rules)  # disabled; not about queues
    assert "deep" not in {each["id"] for each in context(client, "cash")["rules"]}
    page = client.get(PAGE).text
    text = section(page)
    assert "Mail is deep 3 above 1 warning firing" in text
    assert re.search(r"Jobs are waiting too long .{3,9} above 5 m warning , 30 m critical OK", text)
    assert "Rules are not being evaluated" not in text
    anchors = re.findall(r'href="/alerts#(\w+)"\s+class="tag warning">firing', page)
    assert len(anchors) == 2
    alerts = client.get("/alerts").text
    assert all(f'id="{anchor}"' in alerts for anchor in anchors)


def test_without_a_checker_the_page_says_that_rules_are_not_evaluated(make_app: MakeApp, failed: list[str]) -> None:
    client = make_app(rules=[DEEP]).test_client()
    text = section(client.get(PAGE).text)
    assert "Rules are not being evaluated right now." in text
    assert "Mail is deep 3 above 1 warning breaching" in text


def test_silences_that_cover_the_queue_are_listed_with_until_and_by(app: Flask) -> None:
    client = app.test_client()
    wait_for_alerts(client)
    given = (
        {"rule": "deep", "queue": "mai?", "hours": "2", "comment": "known"},
        {"queue": "cash", "hours": "1"},
    )
    for each in given:
        assert client.post("/silences", data=each, headers=SAME).status_code == 303
    found = context(client)["silences"]
    assert [(each["rule"], each["by"], each["comment"], each["active"]) for each in found] == [
        ("deep", "local", "known", True)
    ]
    assert found[0]["ends_at"] == found[0]["until"]
    page = client.get(PAGE).text
    assert re.search(r"active Mail is deep , ends 20\S+ \S+ UTC , by local: known", section(page))
    assert "1 silence" in section(page)
    anchor = re.search(r'href="/alerts/silences#(\w+)"', page)
    assert anchor is not None
    listed = client.get("/alerts/silences").text
    assert f'id="{anchor[1]}"' in listed
    assert 'rule <span title="deep">Mail is deep</span>' in listed


def test_the_error_groups_of_a_queue_are_those_that_were_read_already(app: Flask, failed: list[str]) -> None:
    client = app.test_client()
    wait_for_alerts(client)
    assert context(client)["error_groups"] is None
    assert "Error groups of this queue" in section(client.get(PAGE).text)
    client.get("/dead")  # reads them
    found = context(client)
    assert found["error_groups_total"] == 2
    assert [(each["count"], each["at_least"]) for each in found["error_groups"]] == [(3, False), (1, False)]
    first, second = (each["error"] for each in found["error_groups"])
    assert re.fullmatch(r"ConnectionError: cannot send order \d to user\d@example.com: timed out after \d.5 s", first)
    assert second.endswith("502 Bad Gateway from https://api.example.com")  # of this queue, not of cash
    page = client.get(PAGE).text
    assert "2 error groups" in section(page)
    assert all(f'href="/dead/{each["fingerprint"]}"' in page for each in found["error_groups"])
    assert 'href="/dead?source=main&amp;library=rq&amp;queue=mail"' in page


def test_all_of_it_is_in_memory_already(app: Flask) -> None:
    wait_for_alerts(app.test_client())
    with app.test_request_context():
        current, queue = find_queue("main", "rq", "mail")
        facts = app_context().caches.alert_facts()
        with measure_cost() as meter:
            found = read_context(current, queue, facts)
    assert found.rules
    assert found.alerts
    assert meter.commands == 0


def test_a_job_names_the_owner_of_its_queue_its_alerts_and_its_error_group(app: Flask, failed: list[str]) -> None:
    client = app.test_client()
    wait_for_alerts(client)
    text = section(client.get(f"{PAGE}/jobs/{failed[0]}").text, "job-context")
    assert text.startswith("Queue Owner messaging Runbook Ask in <#messaging> first. Alerts 2 firing")
    assert text.endswith("Error group Error groups of this queue")
    client.get("/dead")
    page = client.get(f"{PAGE}/jobs/{failed[0]}").text
    assert section(page, "job-context").endswith("Error group 3 jobs with this error")
    (url,) = re.findall(r'href="(/dead/\w+)"', page)
    assert client.get(url).status_code == 200
    waiting = client.get("/api/v1/queues/main/rq/mail/jobs?state=waiting").get_json()["jobs"][0]["id"]
    assert "Error group" not in section(client.get(f"{PAGE}/jobs/{waiting}").text, "job-context")


@pytest.fixture
def calm_job(redis_client: redis.Redis) -> str:
    """The id of a job of a queue without alerts."""
    return Queue("calm", connection=redis_client).enqueue("app.calm.send").id


# The job first: a checker that has sampled already does not know its queue yet.
def test_a_job_without_alerts_has_the_owner_alone_and_no_empty_list(calm_job: str, app: Flask) -> None:
    page = app.test_client().get(f"/queues/main/rq/calm/jobs/{calm_job}").text
    (owner,) = re.findall(r'<section class="panel job-context">.*?</section>', page, re.DOTALL)
    assert section(page, "job-context") == "Queue Owner platform"
    assert "<dl>" not in owner


def test_an_alert_has_the_runbook_of_its_rule_or_else_of_its_queue(app: Flask) -> None:
    client = app.test_client()
    wait_for_alerts(client)
    alerts = {each["rule"]: each for each in client.get("/api/v1/alerts").get_json()["alerts"]}
    assert (alerts["deep"]["owner"], alerts["deep"]["runbook_url"]) == ("messaging", RUNBOOK)
    assert alerts["queue-dead"]["runbook_url"] == DEAD["runbook_url"]
    assert alerts["queue-dead"]["note"] == "Ask in <#messaging> first."
    for path in ("/alerts", "/alerts/firing", f"/alerts/{alerts['deep']['fingerprint']}/ack"):
        page = client.get(path).text
        assert f'href="{RUNBOOK}"' in page, path
        assert "messaging" in page
        assert "Ask in &lt;#messaging&gt; first." in page


def test_a_new_alert_for_the_queue_is_filled_in_with_its_figures(app: Flask) -> None:
    client = app.test_client()
    wait_for_alerts(client)
    page = wait_until(
        lambda: found if "warning=" in (found := client.get(PAGE).text) else None, what="figures of the last hour"
    )
    link = re.search(r'href="(/alerts/rules/new\?[^"]+)">Create alert for this queue', page)
    assert link is not None
    given = {name: values[0] for name, values in parse_qs(urlsplit(unescape(link[1])).query).items()}
    assert given | {"warning": "", "critical": ""} == {
        "metric": "queue.dead",  # it has too many of them now
        "name": "Too many dead letters in mail",
        "queues": "mail",
        "source": "main",
        "backend": "rq",
        "warning": "",
        "critical": "",
    }
    assert (given["warning"], given["critical"]) == ("10", "20")
    assert "Suggested warning: above 10 dead letters, the minimum; the 95th percentile" in section(page)
    form = client.get(unescape(link[1])).text
    assert '<option value="queue.dead" selected' in form
    for name, value in (("id", ""), ("source", "main"), ("warning", "10")):
        assert re.search(rf'name="{name}" value="{value}"', form), name
    assert 'placeholder="too-many-dead-letters-in-mail"' in form
    assert re.search(r'<textarea name="queues"[^>]*>\s*mail</textarea>', form)


@pytest.mark.parametrize(
    "query", ["metric=no.such&queues=%0Aa&id=x", "warning=x&critical=&source=%00", "name=" + "x" * 999]
)
def test_odd_arguments_of_a_new_rule_do_no_harm(client: FlaskClient, query: str) -> None:
    form = client.get(f"/alerts/rules/new?{query}")
    assert form.status_code == 200
    assert '<option value="queue.depth" selected' in form.text


def test_a_read_only_dashboard_does_not_offer_to_create_an_alert(make_app: MakeApp, failed: list[str]) -> None:
    client = make_app(read_only=True, queues=QUEUES).test_client()
    page = client.get(PAGE)
    assert page.status_code == 200
    assert "Create alert" not in page.text
    assert "Owner messaging" in section(page.text)


def test_a_link_to_dead_jobs_that_a_library_keeps_for_all_queues_leads_on(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    enqueue(redis_client, payload(jid="waits"))
    redis_client.zadd("dead", {payload(jid="died", error_class="E", error_message="no"): 2})
    page = client.get("/queues/main/sidekiq/mails?state=dead").text
    assert 'href="/queues/main/sidekiq/*?state=dead">Dead' in page
    assert 'href="/dead?source=main&amp;library=sidekiq&amp;queue=mails">error groups' in page
    client.get("/dead")
    found = client.get("/api/v1/queues/main/sidekiq/mails/context").get_json()
    assert [(each["error"], each["count"]) for each in found["error_groups"]] == [("E: no", 1)]
    shared = client.get("/queues/main/sidekiq/*").text
    assert "Too+many+dead+letters+in+all+Sidekiq+queues" in shared


@pytest.mark.parametrize("name", [b"two\nlines", b"<b>&\"'", b"a/b?c#d", "\u202eltr".encode(), b"x" * 900])
def test_a_queue_of_any_name_has_its_context(client: FlaskClient, redis_client: redis.Redis, name: bytes) -> None:
    redis_client.sadd("rq:queues", b"rq:queue:" + name)
    redis_client.rpush(b"rq:queue:" + name, "job")
    path = f"/queues/main/rq/{quote(name, safe='')}"
    page = client.get(path)
    assert page.status_code == 200
    link = re.search(r'href="(/alerts/rules/new\?[^"]+)"', page.text)
    assert link is not None
    assert client.get(unescape(link[1])).status_code == 200
    groups = re.search(r'href="(/dead\?[^"]+)">Error groups', page.text)
    assert groups is not None
    assert client.get(unescape(groups[1])).status_code == 200
    assert client.get(f"/api/v1{path}/context").status_code == 200
