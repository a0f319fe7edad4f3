"""Export of the audit log as CSV and JSON lines, on the page and in the API."""

from __future__ import annotations

import csv
import io
import json
import re
import socket
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.actions import audit_chain, audit_log
from dashboard.errors import Forbidden
from tests.waiting import CEILING_S
from tests.web.conftest import MakeApp
from tests.web.test_audit import write

ODD = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"]


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def json_rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def newest(client: FlaskClient) -> dict[str, Any]:
    event: dict[str, Any] = client.get("/api/v1/audit").get_json()["events"][0]
    return event


@pytest.fixture
def log(client: FlaskClient) -> FlaskClient:
    """A log of three actions."""
    write(client, "anna", "retry", "job-1", 'job "2",\n3', outcomes={"done": 1, "gone": 1}, queue="mails")
    write(client, "bob", "delete", "job-4", outcomes={"done": 1}, reason='as "agreed",\r\ntwice')
    write(client, "anna", "edit rule", "deep")
    return client


@pytest.mark.parametrize("base", ["/audit", "/api/v1/audit"])
def test_what_matches_is_exported_oldest_first(log: FlaskClient, base: str) -> None:
    answer = log.get(f"{base}.csv?who=AN*")
    assert answer.mimetype == "text/csv"
    name = re.fullmatch(
        r'attachment; filename="queuedeck-audit-(\d{4}-\d\d-\d\d)\.csv"', answer.headers["Content-Disposition"]
    )
    assert name
    retried, edited = csv_rows(answer.text)
    assert (retried["action"], retried["queue"], edited["action"], edited["queue"]) == (
        "retry",
        "mails",
        "edit rule",
        "",
    )
    assert json.loads(retried["ids"]) == ["job-1", 'job "2",\n3']
    assert json.loads(retried["outcomes"]) == {"done": 1, "gone": 1}
    assert (edited["outcomes"], edited["address"]) == ("", "10.0.0.3")
    answer = log.get(f"{base}.jsonl?who=bob")
    assert answer.mimetype == "application/x-ndjson"
    (deleted,) = json_rows(answer.text)
    assert deleted == next(event for event in log.get("/api/v1/audit").get_json()["events"] if event["who"] == "bob")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", deleted["at"])
    assert deleted["reason"] == 'as "agreed",\r\ntwice'


def test_an_export_is_no_page_of_the_log(log: FlaskClient) -> None:
    for path in ("/audit.csv", "/api/v1/audit.jsonl"):
        assert log.get(f"{path}?before=1760000000000-0").status_code == 422


def test_an_export_is_recorded_with_its_filter(log: FlaskClient) -> None:
    assert log.get("/audit.csv?who=anna&outcome=").data
    event = newest(log)
    assert (event["action"], event["count"], event["detail"]) == ("export audit log", 2, "CSV: who=anna")
    assert "exported 2 events of the audit log" in log.get("/audit").text
    assert "CSV: who=anna" in log.get("/audit").text
    assert [row["action"] for row in json_rows(log.get("/audit.jsonl").text)][-1] == "export audit log"
    assert newest(log)["detail"] == "JSON lines: all actions"


def test_no_cell_is_a_formula(client: FlaskClient, redis_client: redis.Redis) -> None:
    for text in ODD:
        write(client, text, text, text, outcomes={text: -1}, reason=text, detail=text, queue=text)
    redis_client.xadd(audit_chain.AUDIT, {"event": "{"})
    text = client.get("/audit.csv").text
    rows = csv_rows(text)
    assert len(rows) == len(ODD)
    for row in rows:
        assert all(re.match(r"[A-Za-z0-9'\\\[{]|$", cell) for cell in row.values()), row
    # JSON lines are exact.
    assert [row["reason"] for row in json_rows(client.get("/audit.jsonl").text)][: len(ODD)] == ODD


def test_the_page_links_to_exports_of_its_filter(log: FlaskClient) -> None:
    page = log.get("/audit?who=anna&queue=&from=2001-01-01T00:00").text
    assert 'href="/audit.csv?who=anna&amp;from=2001-01-01T00:00"' in page
    assert 'href="/audit.jsonl?who=anna&amp;from=2001-01-01T00:00"' in page
    for path in ("/audit.csv", "/api/v1/audit.jsonl"):
        assert log.get(f"{path}?outcome=odd").status_code == 422
    assert log.get("/api/v1/audit.csv?before=1-1").status_code == 422


@pytest.mark.parametrize(("path", "last"), [("/audit.csv", "INCOMPLETE: "), ("/audit.jsonl", '{"error":')])
def test_a_file_that_ends_early_says_so(
    log: FlaskClient, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, path: str, last: str
) -> None:
    """Redis no longer permits the second read: the file has a last line about it, and its end is never sent."""
    monkeypatch.setattr(audit_log, "READ_AT_ONCE", 2)
    parts = iter(log.get(path, buffered=False).iter_encoded())
    received = [next(parts)]
    redis_client.execute_command("ACL", "SETUSER", "default", "-xrange")
    with pytest.raises(Forbidden):
        received.extend(parts)
    redis_client.execute_command("ACL", "SETUSER", "default", "+xrange")
    lines = b"".join(received).decode().splitlines()
    assert any("bob" in line for line in lines)
    assert not any("edit rule" in line for line in lines)
    assert lines[-1].startswith(last)
    event = newest(log)
    assert (event["count"], event["outcomes"]) == (2, {})
    assert "; incomplete: " in event["detail"]
    assert "tried to export 2 events" in log.get("/audit").text


def test_a_log_that_cannot_be_read_is_an_error_and_no_file(log: FlaskClient, redis_client: redis.Redis) -> None:
    redis_client.execute_command("ACL", "SETUSER", "default", "-xrange")
    assert log.get("/audit.csv").status_code == 403
    assert log.get("/api/v1/audit.jsonl").get_json()["error"]["code"]


def test_an_export_that_the_client_stops_is_recorded(log: FlaskClient) -> None:
    answer = log.get("/audit.csv", buffered=False)
    next(iter(answer.iter_encoded()))
    answer.close()
    assert newest(log)["detail"] == "CSV: all actions; incomplete: the client closed the connection"
    log.head("/audit.jsonl").close()
    assert newest(log)["detail"].startswith("CSV")


def test_an_empty_log_is_a_file_with_a_header(client: FlaskClient) -> None:
    assert csv_rows(client.get("/audit.csv").text) == []
    assert client.get("/audit.csv").text.startswith("at,who,role,address,action,")
    assert client.get("/audit.jsonl?who=eve").text == ""


def test_events_are_sent_to_the_syslog_of_the_settings(make_app: MakeApp, redis_client: redis.Redis) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(CEILING_S)
        app = make_app(audit_syslog=f"udp://127.0.0.1:{receiver.getsockname()[1]}")
        assert app.test_client().get("/audit.csv").data
        assert [receiver.recv(9_000).split(b" ")[5] for _ in range(2)] == [b"asked", b"done"]
