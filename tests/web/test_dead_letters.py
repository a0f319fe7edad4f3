"""Dead letters by error: pages, forms and API, with real RQ and BullMQ jobs that failed in odd ways."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue
from rq.job import Job

from dashboard import Identity, Role
from dashboard.backends.rq.backend import RQ
from dashboard.dead_letters import annotations
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable
from dashboard.model import State
from dashboard.sources.metering import measure_cost
from dashboard.web.context import EXTENSION
from tests.cases import failures_of
from tests.contract.bullmq_library import BullMQLibrary
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import HOSTILE, fail_rq
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_pages import markup

SAME = {"Sec-Fetch-Site": "same-origin"}
NEWEST = "cannot send order 4 to user4@example.com: timed out after 4.5 s"
PATTERN = "cannot send order &lt;n&gt; to &lt;email&gt;: timed out after &lt;n&gt; s"
GROUP_FIELDS = {
    *("fingerprint", "error_class", "message", "count", "first_seen", "last_seen", "queues", "sample_ids"),
    *("trend", "marks", "owner", "note"),
}


@pytest.fixture
def client(make_app: MakeApp, redis_client: redis.Redis) -> FlaskClient:
    """A browser on this machine, on an empty Redis that is looked at twice a second."""
    return make_app(sample_interval_s=0.5).test_client()


def groups(client: FlaskClient, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/dead", query_string=query).get_json()["groups"]
    return found


def say(client: FlaskClient, fingerprint: str, word: str, **form: str) -> Any:
    return client.post(f"/dead/{fingerprint}/{word}", data=form, headers=SAME)


def group_when(client: FlaskClient, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first group for which `condition` holds, once there is one."""
    return dict(wait_until(lambda: next(filter(condition, groups(client)), None), what="the group"))


def test_without_dead_letters_the_page_says_so(client: FlaskClient) -> None:
    text = client.get("/dead").text
    assert "No dead letters" in text
    assert '<table class="grid' not in text
    answer = client.get("/api/v1/dead?group_by=error").get_json()
    assert (answer["groups"], answer["scanned"], answer["total"], answer["truncated"]) == ([], 0, 0, False)


def test_groups_are_listed_worst_first_with_their_window(client: FlaskClient, dead: list[str]) -> None:
    text = client.get("/dead").text
    assert text.count("ConnectionError</a>") == 2
    assert f">{NEWEST}<" in text
    assert f'title="Pattern: {PATTERN}"' in text
    assert PATTERN not in text.replace(f'title="Pattern: {PATTERN}"', "")
    assert text.index("failing_jobs.py:mail") < text.index("failing_jobs.py:_charge")
    assert "Based on all 7 dead letters, read <time" in text
    link = re.search(r'<a href="/dead"[^>]*>', text)
    assert link is not None
    assert 'aria-current="page"' in link[0]


def test_the_api_lists_groups_as_documented(client: FlaskClient, dead: list[str]) -> None:
    answer = client.get("/api/v1/dead?group_by=error").get_json()
    first, second = answer["groups"]
    assert set(first) >= GROUP_FIELDS
    assert (first["count"], second["count"], answer["scanned"], answer["total"]) == (5, 2, 7, 7)
    assert first["error_class"] == "ConnectionError"
    assert (first["message"], first["newest_message"]) == (html.unescape(PATTERN), NEWEST)
    assert (first["at_least"], answer["reading"]) == (False, False)
    assert first["samples"][0]["message"] == NEWEST
    assert first["samples"][0]["arguments"] == [
        {"name": "1", "value": "'user4@example.com'"},
        {"name": "2", "value": "4"},
    ]
    assert first["queues"] == ["mail"]
    assert set(first["sample_ids"]) <= set(dead)
    assert len(first["sample_ids"]) == 3
    assert sum(first["trend"]["counts"]) == 5
    assert first["first_seen"] <= first["last_seen"]
    assert first["marks"] == ["new"]
    one = client.get(f"/api/v1/dead/{first['fingerprint']}").get_json()
    assert {job["id"] for job in one["jobs"]} == set(dead)
    compared = one["compared"]
    assert (compared["jobs"], compared["same"], compared["hidden"]) == (5, [], [])
    assert [(each["name"], each["distinct"]) for each in compared["different"]] == [
        ("error message", 5),
        ("1", 5),
        ("2", 5),
    ]
    assert client.get("/api/v1/dead?group_by=queue").status_code == 422
    assert client.get("/api/v1/dead/0123456789abcdef").status_code == 404


FILTERS: list[tuple[dict[str, str], int]] = [
    ({"queue": "mail"}, 1),
    ({"q": "_charge"}, 1),
    ({"q": "CANNOT send"}, 2),
    ({"q": "to USER3@example.com"}, 1),  # the message of one of its jobs, not the newest
    ({"q": "<email>"}, 2),
    ({"backend": "rq", "source": "main"}, 2),
    ({"backend": "bullmq"}, 0),
    ({"q": "nowhere"}, 0),
]


def test_groups_are_filtered(client: FlaskClient, dead: list[str]) -> None:
    def check(query: dict[str, str], count: int) -> None:
        assert len(groups(client, **query)) == count
        page = {("library" if name == "backend" else name): value for name, value in query.items()}
        text = client.get("/dead", query_string=page).text
        assert text.count("ConnectionError</a>") == count
        assert ("No matching groups" in text) == (count == 0)

    assert failures_of(check, FILTERS) == {}


def test_any_order_and_page_is_answered(client: FlaskClient, dead: list[str]) -> None:
    for sort in ("worst", "jobs", "recent", "last", "first", "error", "nonsense"):
        for page in ("1", "9", "-1", "x", "9" * 30):
            response = client.get("/dead", query_string={"sort": sort, "page": page, "show": sort})
            assert response.status_code == 200
            assert response.text.count("ConnectionError</a>") == 2


def test_a_group_shows_its_jobs_message_and_stack(client: FlaskClient, dead: list[str]) -> None:
    found = groups(client)[0]
    text = client.get(f"/dead/{found['fingerprint']}").text
    for job_id in dead:
        assert f"/queues/main/rq/mail/jobs/{job_id}" in text
    assert "cannot send order 4 to user4@example.com" in text
    assert "failing_jobs.py&#34;, line" in text
    assert "Traceback" in text


def test_a_group_says_what_differs_between_its_jobs(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    calls = [(failing_jobs.mail, f"user{n % 2}@example.com", n) for n in range(4)]
    fail_rq(server, "mail", *calls)
    found = group_when(client, lambda each: each["count"] == 4)
    text = " ".join(client.get(f"/dead/{found['fingerprint']}").text.split())
    assert "What differs <small>all 4 jobs</small>" in text
    assert re.search(
        r"argument 1</th> <td[^>]*>2</td> <td[^>]*> ?<span><span class=\"argument\">&#39;user0@example.com&#39;", text
    )
    assert re.search(r"argument 2</th> <td[^>]*>4</td>", text)
    rows = text[text.index('<table class="grid list members') :]
    assert "timed out" not in re.sub(r'title="[^"]*"', "", rows)  # the same error is not repeated in each row
    assert rows.count('<span class="argument">') == 8
    one = fail_rq(server, "cash", (failing_jobs.charge, 1))
    found = group_when(client, lambda each: each["sample_ids"] == one)
    assert "What differs" not in client.get(f"/dead/{found['fingerprint']}").text


def test_hostile_arguments_are_text(client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    ids = BullMQLibrary().drive("many", server.url, "odd", count=4, dead=True)["ids"]
    payloads = ({HOSTILE: n, "1e999": n, "x": HOSTILE} for n in range(2))
    texts = [*map(json.dumps, payloads), '{"never": "ended' + "\\" * 999, "{" * 5000]
    for job_id, text in zip(ids, texts, strict=True):
        redis_client.hset(f"bull:odd:{job_id}", "data", text)
    found = group_when(client, lambda each: each["count"] == 4)
    answer = client.get(f"/dead/{found['fingerprint']}")
    assert answer.status_code == 200
    assert "1e999" in answer.text
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    one = client.get(f"/api/v1/dead/{found['fingerprint']}").get_json()
    assert {name["name"] for job in one["jobs"] for name in job["arguments"]} >= {"1e999", "x", "never"}


def test_a_group_without_an_error_message_says_so(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    Queue("mail-dlq", connection=redis_client).enqueue("shop.send", 1)
    found = group_when(client, lambda each: each["count"] == 1)
    assert (found["error_class"], found["newest_message"]) == (None, None)
    assert ">(no error message)</a>" in client.get("/dead").text
    text = client.get(f"/dead/{found['fingerprint']}").text
    assert "<h1><span>(no error message)</span></h1>" in text
    assert "shop.send" in text
    fail_rq(server, "odd", (failing_jobs.fail_with, ""))
    found = group_when(client, lambda each: "OddError" in str(each["error_class"]))
    assert "(no error message)" in client.get(f"/dead/{found['fingerprint']}").text


def test_pages_reached_from_a_group_name_its_error(client: FlaskClient, dead: list[str]) -> None:
    fingerprint = groups(client)[0]["fingerprint"]
    title = f"ConnectionError: {NEWEST}"
    crumbs = re.compile(r'<nav class="crumbs".*?</nav>', re.DOTALL)
    for path in (f"/dead/{fingerprint}", f"/bulk/new?action=retry&fingerprint={fingerprint}"):
        text = client.get(path).text
        found = crumbs.search(text)
        assert found is not None
        assert title[:50] in found[0]
        assert fingerprint not in re.sub(r'href="[^"]*"', "", found[0])
    say(client, fingerprint, "acknowledge")
    assert f'<a href="/dead/{fingerprint}">{title}</a>' in client.get("/audit").text
    started = client.post("/bulk", data={"action": "retry", "fingerprint": fingerprint}, headers=SAME)
    assert started.status_code == 303
    assert title in client.get(started.headers["Location"]).text
    events = client.get("/api/v1/audit").get_json()["events"]
    details = {event["action"]: event["detail"] for event in events}
    assert f"error {title}," in details["start bulk operation"]


def test_counts_of_dead_letters_that_are_still_read_are_not_final(
    client: FlaskClient, server: EmbeddedRedis, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = groups(client)[0]["fingerprint"]
    text = client.get(f"/dead/{fingerprint}").text
    assert ">Retry all 5…</a>" in text
    service = client.application.extensions[EXTENSION].services.dead_letter_service
    whole = service.current_groups()
    assert not whole.grouped.reading
    service._group_list = replace(whole, grouped=replace(whole.grouped, reading=True, scanned=7, total=4000))
    service._next_read = float("inf")
    answer = client.get("/api/v1/dead").get_json()
    assert (answer["reading"], answer["truncated"], answer["groups"][0]["at_least"]) == (True, True, True)
    text = " ".join(client.get("/dead").text.split())
    assert "Reading… 7 of 4,000 dead letters." in text
    assert ">5+</span>" in text
    assert ">Open <small>2+</small></a>" in text
    text = " ".join(client.get(f"/dead/{fingerprint}").text.split())
    assert ">Retry all of this error… <small>at least 5</small></a>" in text
    assert "Retry all 5" not in text
    assert "Reading… 7 of 4,000 dead letters." in text
    assert "5 so far, newest first" in text
    # A group of which nothing was read yet is not called empty.
    service._group_list = replace(
        service._group_list, grouped=replace(service._group_list.grouped, groups=(), scanned=0)
    )
    text = " ".join(client.get(f"/dead/{fingerprint}").text.split())
    assert "No jobs left" not in text
    assert "0 of 4,000 read, none with this error so far" in text
    assert "still being read" in client.get("/dead/0123456789abcdef").text


def test_polling_viewers_share_one_read_and_its_samples(make_app: MakeApp, dead: list[str], once_told: None) -> None:
    client = make_app(sample_interval_s=60).test_client()
    fingerprint = groups(client)[0]["fingerprint"]
    client.application.extensions[EXTENSION].services.dead_letter_service._next_read = float("inf")
    for path in ("/dead/_groups", f"/dead/{fingerprint}/_group"):
        first = client.get(path, headers={"HX-Request": "true"})
        assert first.status_code == 200
        assert "shared by all viewers" in first.headers["Queuedeck-Cost"]
        client.application.extensions[EXTENSION].services.snapshots.current()
        client.application.extensions[EXTENSION].services.snapshots._readings.keep_s = float("inf")
        with measure_cost() as meter:
            again = client.get(path, headers={"HX-Request": "true", "HX-PTag": first.headers["HX-PTag"]})
        assert meter.commands == 0
        assert again.status_code == 304


def test_samples_that_could_not_be_read_are_not_taken_for_gone(
    client: FlaskClient, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = groups(client)[0]["fingerprint"]

    def refuse(*_: object) -> Job:
        raise BackendUnavailable("Redis is not responding", source="main", reason="timeout")

    with monkeypatch.context() as patch:
        patch.setattr(RQ, "read_job", refuse)
        text = client.get(f"/dead/{fingerprint}").text
        assert "The newest jobs could not be read" in text
        assert 'id="samples"' not in text
    text = client.get(f"/dead/{fingerprint}").text
    assert 'id="samples"' in text
    assert "could not be read" not in text


def test_an_unknown_group_is_a_readable_error(client: FlaskClient, dead: list[str]) -> None:
    for path in ("/dead/x", "/dead/0123456789abcdef", "/dead/%3Cscript%3E", "/dead/0123456789ABCDEF", "/dead/a%2Fb"):
        response = client.get(path)
        assert response.status_code == 404
        assert "error group" in response.text
        assert "<script>" not in response.text


@pytest.mark.parametrize("text", [HOSTILE, "x" * 100_000, "{{ 7 * 7 }}", "\x1b[31m", "a\n" * 3000])
def test_hostile_errors_are_text_on_every_page(
    client: FlaskClient, server: EmbeddedRedis, dead: list[str], text: str
) -> None:
    fail_rq(server, "odd <b>", (failing_jobs.fail_with, "plain"))
    plain = groups(client)[0]["fingerprint"]
    known = {path: markup(client.get(path).text) for path in ("/dead", f"/dead/{plain}")}
    fail_rq(server, "odd <b>", (failing_jobs.fail_with, text))
    found = group_when(client, lambda each: "OddError" in str(each["error_class"]) and each["message"] != "plain")
    for path, other in (("/dead", "/dead"), (f"/dead/{found['fingerprint']}", f"/dead/{plain}")):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "OddError" in answer.text
        assert len(answer.data) < 120_000
        assert markup(answer.text) <= known[other]
        ours = r"<td[^>]*><b>| <b>–</b></button>"  # the number of jobs, and the legend of the chart
        assert "<b>" not in re.sub(ours, "", answer.text)  # the name of the queue


def test_failed_jobs_of_bullmq_and_rq_are_listed_together(
    client: FlaskClient, server: EmbeddedRedis, dead: list[str]
) -> None:
    BullMQLibrary().run_jobs(server.url, "mails", good=1, bad=6)
    first = groups(client)[0]
    assert (first["count"], first["error_class"], first["queues"]) == (6, "TypeError", ["mails"])
    assert first["places"][0]["backend"] == "bullmq"
    assert "drive.mjs" in client.get(f"/dead/{first['fingerprint']}").text


def test_a_key_of_the_wrong_type_is_one_error_line(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str]
) -> None:
    redis_client.delete(f"rq:job:{dead[0]}")
    redis_client.set(f"rq:job:{dead[0]}", "x")
    client.get("/")
    # What the snapshot counts cannot be read by the time it is looked at.
    client.application.extensions[EXTENSION].services.snapshots._readings.keep_s = float("inf")
    redis_client.delete("rq:failed:cash")
    redis_client.set("rq:failed:cash", "x")
    answer = client.get("/api/v1/dead").get_json()
    assert sorted(group["count"] for group in answer["groups"]) == [1, 4]
    assert [problem["queue"] for problem in answer["problems"]] == ["cash"]
    assert "not included" in client.get("/dead").text
    # Nor does anybody know how many there are, once that was sampled.
    client.application.extensions[EXTENSION].services.snapshots._readings.keep_s = 1.0
    wait_until(lambda: client.get("/api/v1/queues/main/rq/cash").get_json()["error"], what="a sample of it")
    answer = client.get("/api/v1/dead").get_json()
    assert [(problem["queue"], "wrong type" in problem["message"]) for problem in answer["problems"]] == [
        ("cash", True)
    ]
    assert "not included" in client.get("/dead").text


def test_groups_are_acknowledged_ignored_resolved_and_noted(client: FlaskClient, dead: list[str]) -> None:
    fingerprint = groups(client)[0]["fingerprint"]

    def now() -> dict[str, Any]:
        return next(group for group in groups(client) if group["fingerprint"] == fingerprint)

    response = say(client, fingerprint, "acknowledge")
    assert response.status_code == 303
    assert response.headers["Location"] == f"/dead/{fingerprint}?said=acknowledge"
    assert "Group acknowledged. The status is cleared" in client.get(response.headers["Location"]).text
    assert (now()["marks"], now()["acknowledged_by"]) == (["acknowledged"], "local")
    text = client.get("/dead").text
    assert text.index("failing_jobs.py:_charge") < text.index("failing_jobs.py:mail")  # what somebody saw stands below
    say(client, fingerprint, "note", owner="Anna <b>", note="back at noon\r\nask <i>Ben</i>")
    assert (now()["owner"], now()["note"]) == ("Anna <b>", "back at noon\nask <i>Ben</i>")
    text = client.get(f"/dead/{fingerprint}").text
    assert "Anna &lt;b&gt;" in text
    assert "ask &lt;i&gt;Ben" in text
    say(client, fingerprint, "ignore", more="2")
    assert now()["ignored_above"] == 7
    assert "failing_jobs.py:mail" not in client.get("/dead").text
    assert "failing_jobs.py:mail" in client.get("/dead?show=quiet").text
    say(client, fingerprint, "ignore", hours="8")
    assert now()["ignored_until"] is not None
    say(client, fingerprint, "notice")
    assert now()["marks"] == ["acknowledged"]
    say(client, fingerprint, "resolve")
    assert "resolved" in now()["marks"]
    say(client, fingerprint, "reopen")
    say(client, fingerprint, "unacknowledge")
    assert now()["marks"] == ["new"]
    audit = client.get("/api/v1/audit").get_json()["events"]
    assert [event["action"] for event in audit][-1] == "acknowledge error group"
    assert {tuple(event["ids"]) for event in audit} == {(fingerprint,)}


REFUSED: list[tuple[str, dict[str, str], int]] = [
    ("ignore", {}, 422),
    ("ignore", {"hours": "-1"}, 422),
    ("ignore", {"hours": "1e9"}, 422),
    ("ignore", {"more": "0"}, 422),
    ("ignore", {"more": "٣"}, 422),
    ("note", {"note": "x" * 1001}, 422),
    ("dance", {}, 404),
]


def test_invalid_annotations_are_rejected(client: FlaskClient, dead: list[str]) -> None:
    found = groups(client)[0]
    for word, form, status in REFUSED:
        assert say(client, found["fingerprint"], word, **form).status_code == status, (word, form)
    assert groups(client)[0]["marks"] == ["new"]


def test_an_unknown_group_cannot_be_annotated(client: FlaskClient, redis_client: redis.Redis) -> None:
    assert say(client, "0" * 16, "acknowledge").status_code == 404
    assert redis_client.exists(annotations.GROUPS) == 0


def test_a_group_regresses_when_its_retried_jobs_fail_again(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis, dead: list[str]
) -> None:
    fingerprint = groups(client)[0]["fingerprint"]
    say(client, fingerprint, "acknowledge")
    redis_client.zrem("rq:failed:mail", *dead[1:])
    Job.fetch(dead[0], connection=redis_client).requeue()
    fail_rq(server, "mail")
    found = group_when(client, lambda each: each["fingerprint"] == fingerprint and each["count"] == 1)
    assert found["marks"] == ["regressed"]


def test_a_resolved_group_that_returns_says_since_when_and_who_resolved_it(
    client: FlaskClient, server: EmbeddedRedis, dead: list[str]
) -> None:
    fingerprint = groups(client)[0]["fingerprint"]
    say(client, fingerprint, "resolve")
    found = group_when(client, lambda each: each["fingerprint"] == fingerprint and "resolved" in each["marks"])
    assert (found["resolved_by"], found["regressed_at"]) == ("local", None)
    fail_rq(server, "mail", (failing_jobs.mail, "user9@example.com", 9))
    found = group_when(client, lambda each: each["fingerprint"] == fingerprint and "regressed" in each["marks"])
    assert found["regressed_at"] == found["last_seen"]
    assert found["resolved_by"] == "local"
    assert found["regressed_at"] > found["resolved_at"]
    for path in ("/dead", f"/dead/{fingerprint}"):
        text = " ".join(client.get(path).text.split())
        assert re.search(
            r'regressed</span> <small class="regression"> ?<time[^>]*>[^<]* UTC</time> · was resolved by local', text
        ), path
    assert "Last resolved" in client.get(f"/dead/{fingerprint}").text


def test_a_group_without_jobs_keeps_its_annotation(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str]
) -> None:
    fingerprint = groups(client)[0]["fingerprint"]
    say(client, fingerprint, "note", note="the mail server moves")
    redis_client.delete("rq:failed:mail")
    wait_until(lambda: all(each["fingerprint"] != fingerprint for each in groups(client)), what="the group leaving")
    text = client.get(f"/dead/{fingerprint}").text
    assert "No jobs left in this group" in text
    assert "the mail server moves" in text


def test_a_viewer_cannot_change_annotations(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    client = make_app(identify=lambda _: Identity(name="vera", role=Role.VIEWER)).test_client()
    fingerprint = groups(client)[0]["fingerprint"]
    text = client.get(f"/dead/{fingerprint}").text
    assert "ConnectionError" in text
    assert 'method="post"' not in text
    assert say(client, fingerprint, "acknowledge").status_code == 403
    assert groups(client)[0]["marks"] == ["new"]


def test_a_request_from_another_site_changes_nothing(client: FlaskClient, dead: list[str]) -> None:
    fingerprint = groups(client)[0]["fingerprint"]
    response = client.post(f"/dead/{fingerprint}/acknowledge", headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 403
    assert groups(client)[0]["marks"] == ["new"]


def test_annotations_cannot_be_changed_in_read_only_mode(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    client = make_app(read_only=True).test_client()
    fingerprint = groups(client)[0]["fingerprint"]
    assert 'method="post"' not in client.get(f"/dead/{fingerprint}").text
    assert say(client, fingerprint, "acknowledge").status_code in (404, 405)


def test_statuses_are_unknown_to_a_redis_user_without_write_access(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    rights = ("-@all", "+@read", "-@dangerous", "+@connection", "+info", "+role", "+time", "+eval_ro")
    redis_client.acl_setuser("looker", enabled=True, nopass=True, keys=["*"], commands=list(rights))
    try:
        client = make_app(redis_url=server.url.replace("redis://", "redis://looker:x@")).test_client()
        answer = client.get("/api/v1/dead").get_json()
        assert [group["count"] for group in answer["groups"]] == [1]
        assert answer["groups"][0]["marks"] == []
        assert "is not allowed to write" in answer["marks_unknown"]
        assert "Group status unavailable" in client.get("/dead").text
    finally:
        redis_client.acl_deluser("looker")


def test_jobs_waiting_in_a_dead_letter_queue_are_listed(client: FlaskClient, redis_client: redis.Redis) -> None:
    for n in range(3):
        Queue("mail-dlq", connection=redis_client).enqueue("shop.send", n)
    (found,) = groups(client)
    assert (found["count"], found["places"][0]["state"]) == (3, "waiting")
    assert "dead-letter queue</span>" in " ".join(client.get("/dead").text.split())


def test_the_jobs_of_a_group_for_a_bulk_operation(client: FlaskClient, dead: list[str]) -> None:
    fingerprint = groups(client)[0]["fingerprint"]
    found = list(client.application.extensions[EXTENSION].services.dead_letter_jobs.members_of(fingerprint, (), 100))
    assert sorted(one.job_ref.id for one in found) == sorted(dead)
    assert {(one.job_list.ref.name, one.job_list.state) for one in found} == {("mail", State.DEAD)}
    assert all(one.job_ref.version and one.died_at for one in found)
    preview = client.post(
        "/api/v1/bulk", json={"action": "retry", "fingerprint": fingerprint, "preview": True}, headers=SAME
    ).get_json()
    assert (preview["matched"], preview["exact"]) == (5, True)
