"""The audit log page and its API: filters, sentences, empty states."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.actions.audit_log import Actor, build_event
from dashboard.actions.bulk.operation import BulkPhase
from dashboard.web.context import EXTENSION
from tests.waiting import wait_until
from tests.web.test_bulk_audit import bulk_of, start


def write(client: FlaskClient, who: str, action: str, *ids: str, **fields: Any) -> None:
    """Record an action as a user of that name would."""
    log = client.application.extensions[EXTENSION].services.action_service.audit_log
    log.record_event(build_event(Actor(name=who, role="operator", address="10.0.0.3"), action, ids=ids, **fields))


def rows(client: FlaskClient, query: str = "") -> list[str]:
    """The rows of the page as text without markup, newest first."""
    body = client.get(f"/audit{query}").text.partition("<tbody")[2].partition("</tbody>")[0]
    return [" ".join(row.split()) for row in body.split("</tr>")[:-1]]


@pytest.fixture
def night(client: FlaskClient) -> FlaskClient:
    """A log of four actions of two people."""
    mails = {"source": "main", "backend": "rq", "queue": "mails", "state": "dead"}
    write(client, "anna", "retry", "job-1", "job-2", "job-3", outcomes={"done": 3}, **mails)
    write(client, "bob", "delete", "job-4", outcomes={"gone": 1}, **mails | {"queue": "cash"})
    write(client, "bob", "pause", count=1, outcomes={"done": 1}, **mails | {"state": None})
    write(client, "anna", "acknowledge", "f" * 16, detail="Too deep: mails (rq, main)")
    return client


def test_a_row_is_a_sentence_with_its_ids_folded(night: FlaskClient) -> None:
    acknowledged, paused, deleted, retried = rows(night)
    assert "<strong>anna</strong> retried 3 dead jobs in mails (RQ, main)</p>" in retried
    assert '<summary>3 IDs</summary><p class="id">job-1, job-2, job-3</p></details>' in retried
    assert "<strong>bob</strong> tried to delete 1 dead job in cash" in deleted
    assert '<span class="bad">1 no longer exists</span>' in deleted
    assert "<strong>bob</strong> paused queue mails" in paused
    assert "acknowledged Too deep: mails (rq, main)" in acknowledged
    assert "f" * 16 not in acknowledged


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("who=anna", ["acknowledge", "retry"]),
        ("who=AN*", ["acknowledge", "retry"]),
        ("action=retry", ["retry"]),
        ("queue=mail*", ["pause", "retry"]),
        ("outcome=not_done", ["delete"]),
        ("source=main&outcome=done", ["pause", "retry"]),
        ("from=2001-01-01T00:00&to=2001-01-02", []),
        ("from=2001-01-01T00:00Z", ["acknowledge", "pause", "delete", "retry"]),
        ("who=&action=&to=", ["acknowledge", "pause", "delete", "retry"]),
    ],
)
def test_page_and_api_have_the_same_filters(night: FlaskClient, query: str, found: list[str]) -> None:
    answer = night.get(f"/api/v1/audit?{query}").get_json()
    assert [event["action"] for event in answer["events"]] == found
    assert answer["next_before"] is None
    assert len(rows(night, f"?{query}")) == len(found)


def test_a_minute_of_the_form_is_included(client: FlaskClient, redis_client: redis.Redis) -> None:
    write(client, "anna", "retry", "job-1")
    at = client.get("/api/v1/audit").get_json()["events"][0]["at"]
    assert len(rows(client, f"?from={at[:16]}&to={at[:16]}")) == 1
    assert f'name="to" value="{at[:16]}"' in client.get(f"/audit?to={at[:16]}").text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("outcome=odd", "expected one of not_done, done, gone"),
        ("who=an[a-z]*", "expected a name, or globs"),
        ("queue=" + "q" * 201, "expected at most 200 characters"),
        ("from=yesterday", "expected a time"),
        ("before=nothing", "expected the id of an audit event"),
    ],
)
def test_a_wrong_filter_is_named(client: FlaskClient, query: str, message: str) -> None:
    answer = client.get(f"/api/v1/audit?{query}")
    assert answer.status_code == 422
    assert message in answer.get_json()["error"]["message"]
    assert client.get(f"/audit?{query}").status_code == 422


def test_the_api_refuses_an_unknown_filter(client: FlaskClient) -> None:
    answer = client.get("/api/v1/audit?user=anna")
    assert answer.status_code == 422
    assert "Known query parameters: who, action," in answer.get_json()["error"]["message"]


def test_pages_keep_the_filter(client: FlaskClient) -> None:
    for number in range(102):
        write(client, "anna & co", "retry", f"job-{number}", outcomes={"done": 1})
        write(client, "bob", "delete", f"job-{number}", outcomes={"done": 1})
    text = client.get("/audit?who=anna+%26+co").text
    older = text.partition('rel="next"')[0].rpartition('<a href="')[2].partition('"')[0].replace("&amp;", "&")
    assert len(rows(client, older.removeprefix("/audit"))) == 2
    last = client.get(older).text
    assert "No older" not in last
    assert ">Newest</a>" in last
    first = client.get("/api/v1/audit?who=anna+%26+co").get_json()
    assert len(first["events"]) == 100
    second = client.get(f"/api/v1/audit?who=anna+%26+co&before={first['next_before']}").get_json()
    assert [event["ids"] for event in second["events"]] == [["job-1"], ["job-0"]]


def test_an_empty_log_says_why(night: FlaskClient, redis_client: redis.Redis) -> None:
    assert "No actions match" in night.get("/audit?who=eve").text
    assert "4 actions searched." in night.get("/audit?who=eve").text
    redis_client.delete("{queuedeck}:audit")
    assert "No activity yet" in night.get("/audit").text
    assert 'role="search"' in night.get("/audit").text


def test_the_api_lists_one_operation(client: FlaskClient, dead: list[str]) -> None:
    client.application.extensions[EXTENSION].services.bulk_runner.start()
    first, second = (start(client, action="delete", pace="0", limit="1").rpartition("/")[2] for _ in range(2))
    for bulk_id in (first, second):
        wait_until(lambda found=bulk_id: bulk_of(client).get(found).phase is BulkPhase.DONE, what="the end")
    events = client.get(f"/api/v1/audit?bulk={first}").get_json()["events"]
    assert [event["action"] for event in events] == ["delete", "start bulk operation"]
    assert {event["bulk_id"] for event in events} == {first}
    assert len(client.get(f"/api/v1/audit?bulk={first}&action=delete").get_json()["events"]) == 1
