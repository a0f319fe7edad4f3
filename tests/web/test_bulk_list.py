"""The list of bulk operations: what runs comes first, filters, pages, results, and the same in the API."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from msgspec.structs import replace

from dashboard.actions.audit_log import Actor
from dashboard.actions.bulk.keys import record_key
from dashboard.actions.bulk.operation import BulkPhase, BulkRequest, JobListRef
from dashboard.backends.actions import Action
from dashboard.model import QueueRef, State
from tests.waiting import wait_until
from tests.web.test_bulk_audit import bulk_of, start

MAIL = JobListRef(ref=QueueRef(source="main", backend="rq", name="mail", key="mail"), state=State.DEAD)
NOW = 1_790_000_000.0


def store(
    client: FlaskClient, redis_client: redis.Redis, who: str, phase: BulkPhase, number: int = 0, **fields: Any
) -> str:
    """Store an operation as a runner would have left it, and return its id; no runner knows it."""
    request = BulkRequest(
        action=Action.RETRY, actor=Actor(name=who, role="operator"), job_lists=(MAIL,), created_at=NOW + number
    )
    operations = bulk_of(client)
    bulk_id: str = operations.create(replace(request, reason=fields.pop("reason", None)))
    values = {"phase": phase.value, "matched": 40, "processed": 10, "outcomes:done": 7, "outcomes:gone": 2}
    key = operations._store.source.own_key(record_key(bulk_id))
    redis_client.hset(key, mapping={**values, "outcomes:refused": 1, **fields})
    redis_client.srem("{queuedeck}:bulks:open", bulk_id)
    return bulk_id


def shown(client: FlaskClient, query: str = "") -> list[str]:
    """The ids of the operations on the page, in order."""
    rows = client.get(f"/bulk{query}").text.partition("<tbody>")[2].split('<th scope="row"><a href="/bulk/')[1:]
    return [row.partition('"')[0] for row in rows]


@pytest.fixture
def operations(client: FlaskClient, redis_client: redis.Redis) -> list[str]:
    """Ids of four operations of two people, oldest first; the first and the third are not finished."""
    return [
        store(client, redis_client, "anna", BulkPhase.RUNNING, reason="upstream is back"),
        store(client, redis_client, "bob", BulkPhase.DONE, ended_at=NOW + 90),
        store(client, redis_client, "bob", BulkPhase.PAUSED, note="3 of the first 3 failed"),
        store(client, redis_client, "anna", BulkPhase.ABORTED),
    ]


def test_what_is_not_finished_comes_first(client: FlaskClient, operations: list[str]) -> None:
    running, done, paused, aborted = operations
    assert set(shown(client)[:2]) == {running, paused}
    assert set(shown(client)[2:]) == {done, aborted}
    assert "1–4 of 4, 2 unfinished" in " ".join(client.get("/bulk").text.split())


def test_a_row_says_who_why_from_where_and_with_what_result(client: FlaskClient, operations: list[str]) -> None:
    text = " ".join(client.get("/bulk").text.split())
    assert "Retry 40 jobs</a>" in text
    assert '<progress value="10" max="40"' in text
    assert '7 retried, 2 skipped, <span class="bad">1 failed</span>' in text
    assert "<small>upstream is back</small>" in text
    assert "3 of the first 3 failed</small>" in text
    assert "<small>after 1 m 30 s</small>" in text


def test_a_canary_that_runs_is_waited_for(client: FlaskClient, redis_client: redis.Redis) -> None:
    bulk_id = store(client, redis_client, "anna", BulkPhase.WATCHING)
    for page in (client.get("/bulk?state=watching").text, client.get(f"/bulk/{bulk_id}").text):
        assert '<span class="tag ">waiting for canary</span>' in page
    assert ">Waiting for canary</option>" in client.get("/bulk").text
    assert client.get(f"/api/v1/bulk/{bulk_id}").get_json()["state"] == "watching"


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("who=anna", {0, 3}),
        ("state=unfinished", {0, 2}),
        ("state=finished", {1, 3}),
        ("state=aborted", {3}),
        ("state=unfinished&who=bob", {2}),
        ("state=&who=", {0, 1, 2, 3}),
    ],
)
def test_page_and_api_have_the_same_filters(
    client: FlaskClient, operations: list[str], query: str, places: set[int]
) -> None:
    found = {operations[place] for place in places}
    assert set(shown(client, f"?{query}")) == found
    answer = client.get(f"/api/v1/bulk?{query}").get_json()
    assert {each["bulk_id"] for each in answer["bulk"]} == found
    assert (answer["matching"], answer["total"]) == (len(found), 4)


def test_pages_keep_the_filter(client: FlaskClient, operations: list[str]) -> None:
    first = client.get("/bulk?who=anna&per_page=1").text
    assert 'href="/bulk?page=2&amp;who=anna&amp;per_page=1" rel="next"' in first
    both = shown(client, "?who=anna&per_page=1") + shown(client, "?who=anna&per_page=1&page=2")
    assert set(both) == {operations[0], operations[3]}
    assert "No more operations" in client.get("/bulk?who=anna&page=9").text


def test_the_list_is_live_only_while_something_runs(client: FlaskClient, operations: list[str]) -> None:
    assert 'hx-get="/bulk/_list?page=1"' in client.get("/bulk").text
    assert "hx-get" not in client.get("/bulk?state=finished").text
    assert client.get("/bulk/_list").status_code == 200


def test_an_empty_list_says_why(client: FlaskClient, redis_client: redis.Redis) -> None:
    assert "No bulk operations yet" in client.get("/bulk").text
    store(client, redis_client, "anna", BulkPhase.DONE)
    assert "No operations match" in client.get("/bulk?who=eve").text
    answer = client.get("/api/v1/bulk?state=odd")
    assert answer.status_code == 422
    assert "expected one of unfinished, finished, collecting" in answer.get_json()["error"]["message"]


def test_the_api_says_why_and_from_where(client: FlaskClient, operations: list[str]) -> None:
    answer = client.get(f"/api/v1/bulk/{operations[0]}").get_json()
    assert answer["reason"] == "upstream is back"
    assert answer["lists"] == [{"source": "main", "backend": "rq", "queue": "mail", "state": "dead"}]
    assert (answer["skipped"], answer["failed"], answer["fingerprint"]) == (2, 1, None)


def test_what_was_deleted_is_linked(client: FlaskClient, dead: list[str]) -> None:
    client.application.extensions["queuedeck"].services.bulk_runner.start()
    bulk_id = start(client, action="delete", pace="0", limit="2").rpartition("/")[2]
    wait_until(lambda: bulk_of(client).get(bulk_id).phase is BulkPhase.DONE, what="the delete")
    text = client.get("/bulk").text.replace("\n", " ")
    assert f'href="/trash?bulk_id={bulk_id}">2 in the trash</a>' in text
