"""Forecasts on the pages and in the API, as a leader publishes them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from msgspec.structs import replace

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import Counts, ForecastState, QueueForecast, QueueStats, RedisHealth, Snapshot, SourceStats
from dashboard.sampling.recent_history import HistoryKeeper
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.sources.source import Source
from tests.web.conftest import MakeApp

DRAINING = QueueForecast(
    state=ForecastState.DRAINING,
    empty_in_s=840.0,
    arriving_per_min=600.0,
    finishing_per_min=2100.0,
    per_worker_per_min=525.0,
    window_s=120.0,
)
GROWING = QueueForecast(state=ForecastState.GROWING, growing_per_min=320.0, window_s=300.0)
PAUSED = QueueForecast(reason="the queue is paused")
API = "/api/v1/queues/main/rq"


def row(name: str, depth: int | None, forecast: QueueForecast | None = None, **fields: Any) -> QueueStats:
    known = {"source": "main", "backend": "rq", "name": name, "key": name, "workers": 4}
    counts = Counts(waiting=depth, active=0, scheduled=42)
    return QueueStats(**known | {"depth": depth, "counts": counts, "forecast": forecast} | fields)  # type: ignore[arg-type]


ROWS = (
    row("calm", 0, throughput_per_min=0.0),
    row("emails", 21_000, DRAINING),
    row("invoices", 900, GROWING),
    row("reports", 300, PAUSED, paused=True),
    row("torn", None, error="wrong type"),
)


@pytest.fixture
def client(make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis) -> FlaskClient:
    """A browser on a dashboard that shows ROWS, as a leader elsewhere has sampled them."""
    store = SnapshotStore(Source("main", server.url))
    epoch = store.acquire_lease("leader", 60).epoch or 0
    health = RedisHealth(used_memory_bytes=700 * 2**20, maxmemory_bytes=2**30, memory_ratio=0.68)
    source = SourceStats(name="main", address=store.source.address, reachable=True, discovered=True, health=health)
    snapshot = Snapshot(
        sampled_at=store.now_s(),
        interval_s=120.0,
        sequence=1,
        sampler="leader",
        epoch=epoch,
        sources=(replace(source, memory_full_in_s=18_100.0),),
        queues=ROWS,
    )
    assert store.publish_snapshot("leader", epoch, snapshot, HistoryKeeper().add_snapshot(snapshot))
    store.source.close()
    return make_app().test_client()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_overview_says_where_waiting_jobs_are_heading(client: FlaskClient) -> None:
    page = client.get("/_overview").text
    cells = {
        found[1]: text_of(found[2])
        for found in re.finditer(r'/queues/main/rq/(\w+)">.*?<td class="n wait">(.*?)</td>', page, re.DOTALL)
    }
    assert cells == {
        "calm": "0",
        "emails": "21k empty in 14 min",
        "invoices": "900 growing 320/min",
        "reports": "300",
        "torn": "–",
    }
    assert 'title="empty in 14 min, at the rates of the last 2 min; without the 42 jobs scheduled for later"' in page
    assert text_of(page).count("full in 5 h") == 2  # the figure, and the row of the Redis


def test_the_page_of_a_queue_says_what_more_workers_would_do(client: FlaskClient) -> None:
    def outlook(name: str) -> str:
        page = client.get(f"/queues/main/rq/{name}/_queue").text
        return text_of(re.findall(r'<p class="outlook">(.*?)</p>', page, re.DOTALL)[0])

    assert outlook("emails") == (
        "Empty in about 14 min: 600 jobs/min arrive, 2.1k/min finish. 6 more workers: empty in 5 min. "
        "at the rates of the last 2 min; without the 42 jobs scheduled for later"
    )
    assert outlook("reports") == "When it will be empty is not known: the queue is paused."
    assert outlook("calm") == outlook("torn") == ""


def test_the_api_has_forecasts_and_the_workers_that_a_queue_needs(client: FlaskClient) -> None:
    forecasts = {one["name"]: one["forecast"] for one in client.get("/api/v1/queues").get_json()["queues"]}
    assert [(one["state"], one["reason"]) for one in forecasts.values()] == [
        ("empty", None),
        ("draining", None),
        ("growing", None),
        ("unknown", "the queue is paused"),
        ("unknown", "the queue cannot be read"),
    ]
    assert forecasts["emails"]["empty_in_s"] == 840
    assert client.get("/api/v1/redis").get_json()["sources"][0]["memory_full_in_s"] == 18_100
    answer = client.get(f"{API}/emails/scaling?target_s=600")
    assert answer.get_json() == {
        "backlog": 21_000,
        "active": 0,
        "workers": 4,
        "wanted_workers": 6,  # (21,000 / 10 + 600) / 525
        "target_s": 600,
        "empty_in_s": 840.0,
        "arriving_per_min": 600.0,
        "finishing_per_min": 2100.0,
        "per_worker_per_min": 525.0,
    }
    wanted = {
        query: client.get(f"{API}/{query}").get_json().get("wanted_workers")
        for query in ("emails/scaling?max=5", "emails/scaling?min=9", "calm/scaling", "calm/scaling?min=2")
    }
    assert list(wanted.values()) == [5, 10, 0, 2]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("invoices/scaling", 503, "since finished jobs are not counted"),
        ("torn/scaling", 503, "the queue cannot be read"),
        ("none/scaling", 404, "Queue not found"),
        ("emails/scaling?target_s=0", 422, "target_s"),
        ("emails/scaling?target_s=1e9", 422, "target_s"),
        ("emails/scaling?min=-1", 422, "min"),
        ("emails/scaling?min=6&max=5", 422, "min"),
        ("emails/scaling?per_worker_per_min=nan", 422, "per_worker_per_min"),
    ],
)
def test_what_is_not_known_or_wrong_is_an_error_and_never_a_number(
    client: FlaskClient, path: str, status: int, says: str
) -> None:
    answer = client.get(f"{API}/{path}")
    assert (answer.status_code, says in answer.get_json()["error"]["message"]) == (status, True), answer.text
