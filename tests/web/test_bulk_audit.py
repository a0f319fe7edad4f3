"""The audit log of bulk operations whose runner is faster than the request that started them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from dashboard.actions.bulk.operation import BulkPhase
from dashboard.web.context import EXTENSION
from tests.waiting import wait_until
from tests.web.test_dead_letters import SAME

FORM = {"source": "main", "backend": "rq", "queue": "mail", "state": "dead"}


def told(client: FlaskClient) -> list[str]:
    """The actions that the audit knows, oldest first."""
    return [event["action"] for event in client.get("/api/v1/audit").get_json()["events"][::-1]]


def bulk_of(client: FlaskClient) -> Any:
    return client.application.extensions[EXTENSION].services.bulk_store


def start(client: FlaskClient, **form: str) -> str:
    """The URL of a new bulk operation on the dead jobs of the queue `mail`."""
    answer = wait_until(
        lambda: (answer := client.post("/bulk", data=FORM | form, headers=SAME)).status_code == 303 and answer,
        what="the queue being known",
    )
    return str(answer.headers["Location"])


def then(method: Callable[..., Any], act: Callable[[Any], object]) -> Callable[..., Any]:
    """`method`, with `act` between its return and what its caller does next."""

    def slow(*arguments: Any, **more: Any) -> Any:
        answer = method(*arguments, **more)
        act(answer)
        return answer

    return slow


def test_an_abort_is_recorded_before_its_result(
    client: FlaskClient, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start(client, action="retry", pace="0.1")
    bulk = bulk_of(client)
    wait_until(lambda: bulk.get(url.rpartition("/")[2]).done, what="the first job")
    ended = then(bulk.change_phase, lambda _: wait_until(lambda: "retry" in told(client), what="the record of the end"))
    monkeypatch.setattr(bulk, "change_phase", ended)
    assert client.post(f"{url}/abort", headers=SAME).status_code == 303
    assert told(client) == ["start bulk operation", "abort bulk operation", "retry"]
    assert client.post(f"{url}/pause", headers=SAME).status_code == 409
    assert told(client) == ["start bulk operation", "abort bulk operation", "retry"]


def test_a_start_is_recorded_before_its_result(
    client: FlaskClient, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = bulk_of(client)
    ended = then(bulk.create, lambda _: wait_until(lambda: "retry" in told(client), what="the record of the end"))
    monkeypatch.setattr(bulk, "create", ended)
    client.application.extensions[EXTENSION].services.bulk_runner.start()
    start(client, action="retry", pace="0")
    assert told(client) == ["start bulk operation", "retry"]


def test_a_delete_is_recorded_before_its_undo(
    client: FlaskClient, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = bulk_of(client)
    urls: list[str] = []

    def undo_at_once(phase: BulkPhase | None) -> None:
        if phase is BulkPhase.DONE:
            monkeypatch.undo()
            wait_until(lambda: urls, what="the answer to the start")
            assert client.post(f"{urls[0]}/undo", headers=SAME).status_code == 303

    monkeypatch.setattr(bulk, "write_progress", then(bulk.write_progress, undo_at_once))
    urls.append(start(client, action="delete", pace="0"))
    wait_until(lambda: {"undo", "delete"} <= set(told(client)), what="both records")
    assert told(client) == ["start bulk operation", "delete", "undo"]


def test_a_second_request_for_a_running_undo_starts_none(
    client: FlaskClient, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users press the button at the same time; neither had seen the other's undo."""
    monkeypatch.setattr("dashboard.actions.trash.AT_ONCE_JOBS", 1)
    url = start(client, action="delete", pace="0")
    bulk_id = url.rpartition("/")[2]
    bulk = bulk_of(client)
    wait_until(lambda: bulk.get(bulk_id).phase is BulkPhase.DONE, what="the delete")
    monkeypatch.setattr("dashboard.actions.bulk.runner.BulkRunner.run_turn", lambda _: 1.0)
    monkeypatch.setattr("dashboard.web.pages.bulk.start.undo_under_way", lambda _: None)
    answers = [client.post(f"{url}/undo", headers=SAME).headers["Location"] for _ in range(2)]
    assert answers[0] == answers[1]
    assert told(client).count("start undo of bulk operation") == 1


def test_the_log_of_one_operation(client: FlaskClient, dead: list[str]) -> None:
    """The page of a finished operation links to what was recorded of it, and to its jobs."""
    client.application.extensions[EXTENSION].services.bulk_runner.start()
    first, second = (start(client, action="delete", pace="0", limit="1") for _ in range(2))
    for url in (first, second):
        bulk_id = url.rpartition("/")[2]
        wait_until(lambda found=bulk_id: bulk_of(client).get(found).phase is BulkPhase.DONE, what="the end")
    page = client.get(first).text
    bulk_id = first.rpartition("/")[2]
    assert f'href="/audit?bulk={bulk_id}"' in page
    assert 'href="/queues/main/rq/mail?state=dead"' in page
    listed = client.get(f"/audit?bulk={bulk_id}").text
    assert listed.count("<tr>") == 3  # the head, the start and the delete
    assert second.rpartition("/")[2] not in listed
    assert client.get("/audit").text.count("<tr>") == 5
    assert "No actions of this operation are stored" in client.get("/audit?bulk=a/%00%20..%F0").text
