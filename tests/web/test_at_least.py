"""Lower bounds on pages, in the API, in bulk operations and in Prometheus metrics."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from dashboard.backends.celery.results import index
from dashboard.model import QueueStats, Snapshot, State, states_at_least
from dashboard.sampling.recent_history import History
from dashboard.web.context import EXTENSION
from dashboard.web.pages.overview import build_figures
from dashboard.web.views.overview.overview_data import OverviewData
from tests.contract.test_celery import declare_queues, store_result
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

QUEUE = "/queues/main/celery/*"


def test_a_lower_bound_is_marked_everywhere(
    make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(index.KEPT, State.DEAD, 10)
    declare_queues(redis_client, "mails")
    for n in range(25):
        store_result(redis_client, f"t{n}", queue="mails", date_done=f"2026-11-24T03:00:{n:02}+00:00")
    app = make_app(checker="auto", rules=[], sample_interval_s=0.5, metrics_public=True)
    app.extensions[EXTENSION].start()
    client = app.test_client()

    def api(path: str) -> dict[str, Any]:
        found: dict[str, Any] | None = client.get(f"/api/v1{path}").json
        assert found is not None
        return found

    wait_until(lambda: client.get(f"/api/v1{QUEUE}").status_code == 200, what="the queue")
    wait_until(lambda: api(QUEUE)["at_least"] == ["dead"], what="the look through the records")
    assert api(QUEUE)["counts"]["dead"] == 10
    assert api("/overview")["totals_at_least"] == ["dead"]
    page = api(f"{QUEUE}/jobs?state=dead")
    assert (page["total"], page["at_least"]) == (10, True)
    assert "10+" in client.get(f"{QUEUE}?state=dead").text
    assert "10+" in client.get("/").text
    told = client.get("/metrics").text
    assert 'queuedeck_queue_jobs_at_least{backend="celery",queue="*",source="main",state="dead"} 1.0' in told
    dead = api("/dead?group_by=error")
    assert (dead["total"], dead["at_least"], dead["truncated"]) == (10, True, True)
    assert "at least 10" in client.get("/dead").text
    assert api("/search?q=error:Boom")["at_least"] is True
    body = {"action": "delete", "source": "main", "backend": "celery", "queue": "*", "state": "dead", "preview": True}
    preview = client.post("/api/v1/bulk", json=body, headers={"Sec-Fetch-Site": "same-origin"}).json
    assert preview is not None
    assert (preview["matched"], preview["exact"]) == (10, False)
    new = client.get("/bulk/new?source=main&backend=celery&queue=*&state=dead&action=delete")
    assert "At least 10 now" in new.text, (new.status_code, new.text.partition("<main")[2][:3000])


def test_a_total_that_lacks_queues_is_a_lower_bound() -> None:
    known = QueueStats(source="main", backend="rq", name="a", key="a", throughput_per_min=12.0, failed_per_min=0.0)
    unknown = QueueStats(source="main", backend="rq", name="b", key="b")

    def finished(*queues: QueueStats) -> tuple[str, str]:
        snapshot = Snapshot(sampled_at=1.0, interval_s=2.0, sequence=1, sampler="", epoch=0, sources=(), queues=queues)
        figure = build_figures(OverviewData(snapshot, History()))[1]
        return figure.value, figure.title

    assert finished(known) == ("12", "12 succeeded and failed jobs per minute, 5-minute average")
    assert finished(known, unknown) == (
        "12+",
        "12 succeeded and failed jobs per minute, 5-minute average; 1 queue reports no rate, so there may be more",
    )
    assert finished(unknown)[0] == "\N{EN DASH}"


def test_totals_without_queues_that_cannot_be_read_are_lower_bounds(
    make_app: MakeApp, redis_client: redis.Redis
) -> None:
    for queue in ("alpha", "beta"):
        redis_client.hset(f"bull:{queue}:meta", "version", "bullmq:5.81.0")
    for n in range(12):
        redis_client.zadd("bull:alpha:failed", {f"d{n}": n})
    redis_client.lpush("bull:alpha:active", "a1")
    for native in ("failed", "active", "completed"):
        redis_client.set(f"bull:beta:{native}", "another type")
    client = make_app(metrics_public=True).test_client()
    wait_until(lambda: len(client.get("/api/v1/queues").get_json()["queues"]) == 2, what="all queues")
    overview = client.get("/api/v1/overview").get_json()
    assert overview["totals_at_least"] == ["active", "dead", "completed"]
    assert (overview["totals"]["active"], overview["totals"]["dead"]) == (1, 12)
    page = client.get("/?group=library").text
    assert ">12+<" in page
    assert "12+ dead" in page
    told = client.get("/metrics").text
    for state in ("active", "dead"):
        assert f'queue_jobs_at_least{{backend="bullmq",queue="beta",source="main",state="{state}"}} 1.0' in told
    assert 'queue_jobs_at_least{backend="bullmq",queue="alpha"' not in told
    dead = client.get("/api/v1/dead?group_by=error").get_json()
    assert (dead["at_least"], dead["truncated"]) == (True, True)
    assert "Based on all 12 dead letters" not in client.get("/dead").text


def test_totals_of_queues_with_unknown_figures_are_unknown() -> None:
    broken = QueueStats(source="main", backend="rq", name="a", key="a", error="the Redis is gone")
    shared = QueueStats(source="main", backend="rq", name="*", key="*", shared=True)
    assert states_at_least([broken]) == (State.WAITING, State.ACTIVE, State.DEAD)
    assert states_at_least([broken, shared]) == (State.WAITING, State.ACTIVE)
    assert states_at_least([shared]) == ()
