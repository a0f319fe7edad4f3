"""The overview without problems, and the wall board: what they say of the past, who may see them, and what it costs."""

from __future__ import annotations

import hashlib
import time

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.notification import HistoryEntry
from dashboard.alerts.rules.rule import Severity
from dashboard.alerts.store import AlertStore
from dashboard.services import Services
from dashboard.sources.metering import measure_cost
from dashboard.web.context import EXTENSION, AppContext
from dashboard.web.fragments import PTAG
from tests.caches import expire_values
from tests.web.conftest import MakeApp

CLOSED = "redis://127.0.0.1:1/0"


@pytest.fixture
def calm(redis_client: redis.Redis) -> redis.Redis:
    """A Redis with one empty queue, of which nothing is wrong."""
    redis_client.sadd("rq:queues", "rq:queue:mails")
    return redis_client


def context_of(client: FlaskClient) -> AppContext:
    found: AppContext = client.application.extensions[EXTENSION]
    return found


def services_of(client: FlaskClient) -> Services:
    return context_of(client).services


def add_incident(client: FlaskClient, *, ago_s: float, name: str = "Too <deep>") -> None:
    """Record that an incident of five minutes ended so long ago, as the checker does, and let the page notice."""
    entry = HistoryEntry(
        kind="resolved",
        episode=f"e{ago_s}",
        at=time.time() - ago_s,
        rule_id="deep",
        rule_name=name,
        metric="queue.depth",
        severity=Severity.CRITICAL,
        labels=AlertLabels(source="main", backend="rq", queue="mails"),
        lasted_s=300.0,
    )
    AlertStore(services_of(client).store).append_history(entry)
    expire_values(context_of(client).caches._incidents)
    context_of(client).caches.fragments.invalidate()


def test_what_was_resolved_last_is_told_where_nothing_is_wrong(client: FlaskClient, calm: redis.Redis) -> None:
    assert "No alert history yet." in client.get("/").text
    add_incident(client, ago_s=8 * 86_400)
    for path in ("/", "/?wall=1"):
        text = client.get(path).text
        assert "No problems in 1 queue." in text
        assert "No incidents in the last 7 days." in text
        assert "Current problems" not in text  # no region is named after what it does not hold
    for hours in range(6, 0, -1):
        add_incident(client, ago_s=hours * 3600, name=f"Too <deep {hours}>")
    text = client.get("/").text
    assert [hours for hours in range(1, 7) if f"Too &lt;deep {hours}&gt;" in text] == [1, 2, 3, 4]
    assert "lasted 5\u202fm" in text
    assert "Too &lt;deep 1&gt;</strong> (critical)" in text
    assert '<a href="/queues/main/rq/mails">mails</a>' in text
    assert "Too &lt;deep 1&gt;" in client.get("/_overview?wall=1").text


def test_an_empty_queue_has_no_oldest_job(client: FlaskClient, calm: redis.Redis) -> None:
    assert '<i class="hidden">oldest </i>' not in client.get("/?wall=1").text
    assert "oldest" not in client.get("/queues/main/rq/mails").text.partition("Figures")[2].partition("</section>")[0]
    row = client.get("/").text.partition('<td class="n wait">')[2].partition("</tr>")[0]
    assert row.split('<td class="n">')[1].startswith("</td>")


def test_the_history_is_unknown_while_the_store_is_down(make_app: MakeApp, calm: redis.Redis) -> None:
    client = make_app(store_url=CLOSED).test_client()
    for path in ("/", "/?wall=1"):
        text = client.get(path).text
        assert "No problems in 1 queue." in text
        assert "Alert history unknown: the store cannot be read." in text
        assert "No incidents" not in text
        assert "No alert history" not in text
        assert "Data from this server process only." in text


def test_the_history_is_read_again_only_when_an_alert_changed(
    client: FlaskClient, calm: redis.Redis, once_told: None
) -> None:
    client.get("/")
    caches = context_of(client).caches
    with client.application.test_request_context(), measure_cost() as meter:
        for _ in range(50):
            caches.recent_incidents(time.time())
    assert meter.commands == 0
    calm.set("{queuedeck}:changes", 7)
    expire_values(caches._status)
    with client.application.test_request_context(), measure_cost() as meter:
        caches.alert_status()
        told = meter.round_trips
        caches.recent_incidents(time.time())
        assert meter.round_trips == told + 1
        caches.recent_incidents(time.time())
        assert meter.round_trips == told + 1


def test_the_wall_board_has_no_controls_and_its_own_fragment(client: FlaskClient, calm: redis.Redis) -> None:
    text = client.get("/?wall=1&library=rq").text
    assert 'data-theme="dark"' in text
    assert '<nav class="rail"' not in text
    assert "<input" not in text
    assert '<a id="leave" href="/?library=rq">' in text
    assert "mails" in text
    board, overview = client.get("/_overview?wall=1"), client.get("/_overview")
    assert '<div id="board"' in board.text
    assert '<div id="overview"' in overview.text
    assert board.headers["Queuedeck-Sampled-At"]
    assert client.get("/_overview?wall=1", headers={PTAG: board.headers[PTAG]}).status_code == 304


def test_without_a_queue_the_board_does_not_claim_that_all_is_well(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    text = client.get("/?wall=1").text
    assert "No queues yet" in text
    assert "No problems" not in text


def test_a_kiosk_reads_the_board_with_a_token(make_app: MakeApp, calm: redis.Redis) -> None:
    digest = hashlib.sha256(b"of the wall").hexdigest()
    client = make_app(auth="auto", api_tokens=[f"wall:viewer:{digest}"]).test_client()
    shown = {"Authorization": "Bearer of the wall"}
    for path in ("/?wall=1", "/_overview?wall=1"):
        assert client.get(path, headers=shown).status_code == 200
        assert client.get(path).status_code == 403


def test_a_mounted_board_links_below_its_path(client: FlaskClient, calm: redis.Redis) -> None:
    text = client.get("/?view=heat", base_url="http://localhost/queues").text
    assert 'href="/queues/queues/main/rq/mails"' in text
    assert 'href="/queues/?wall=1"' in text
