"""The pages of service level objectives, their API and gauges, from a history of known ratio."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from dashboard.clock import now_s
from dashboard.history.columns import QUEUE, Record
from dashboard.history.histogram import add_durations
from dashboard.history.recorder import ClosedSlot
from dashboard.history.series_keys import SAMPLE_END, SeriesKey
from dashboard.history.tiers import DAY_S, FINE, HOUR_S, MINUTES, QUARTERS, slot_of
from dashboard.slos import slo_report
from dashboard.slos.slo_store import SLOS
from dashboard.slos.slo_watch import SloWatch
from dashboard.sources.source import Source
from dashboard.store.redis_store import LEAD, Store
from tests.unit.history.class_samples import record_classes, sampled_slots_of
from tests.web.conftest import MakeApp

MAIL = {"id": "mail", "name": "Mail <on> time", "queues": ["mail"], "target": 0.99, "waited_within_s": 60}
CASH = {"id": "cash", "backend": "rq", "queues": ["cash"], "target": 0.9, "ran_within_s": 5, "window_s": DAY_S}
CELERY = {"id": "celery", "backend": "celery", "target": 0.99, "waited_within_s": 60}
IDLE = {"id": "idle", "queues": ["no-such-*"], "target": 0.99, "succeeded": True}
SETTINGS = {"slos": [MAIL, CASH, CELERY, IDLE]}
PAST_S = 3 * DAY_S
BAD_S = 6 * HOUR_S  # since when one of twenty jobs of mail waited too long


def record_of(start_s: int, jobs: int, late: int, *, waits: bool = True) -> Record:
    known: dict[str, Any] = {"quality": 2, "uncounted_ms": 0, "finished": jobs, "failed": 0, "depth": 0}
    run_times: dict[int, int] = {}
    add_durations(run_times, [1.0], jobs)
    waited: dict[int, int] = {}
    add_durations(waited, [1.0], jobs - late)
    add_durations(waited, [600.0] * (late > 0), late)
    known |= {"runtimes": run_times, "waits": waited if waits else None}
    return Record(start_s, tuple(known.get(name) for name in QUEUE.names))


def past_until(end_s: int) -> list[ClosedSlot]:
    """Three days in which a job finished each second, in each queue; the last hour also by minute."""
    found = list(sampled_slots_of("main", end_s - PAST_S, end_s + 900))
    keys = [("rq", "mail"), ("rq", "cash"), ("celery", "payouts")]
    for tier, from_s in ((QUARTERS, end_s - PAST_S), (MINUTES, end_s - 2 * HOUR_S), (FINE, end_s - 300)):
        for start_s in range(slot_of(from_s, tier.step_s), end_s, tier.step_s):
            for backend, name in keys:
                jobs = tier.step_s
                late = jobs // 20 if name == "mail" and start_s >= end_s - BAD_S else 0
                record = record_of(start_s, jobs, late, waits=backend != "celery")
                found.append(ClosedSlot(SeriesKey(QUEUE, "main", backend, name), tier, record))
    return found


@pytest.fixture(scope="module")
def now() -> float:
    return now_s()


@pytest.fixture
def browser(
    make_app: MakeApp, source: Source, jobs: list[str], now: float, monkeypatch: pytest.MonkeyPatch
) -> FlaskClient:
    """A browser on a dashboard whose four objectives a leader has counted, until the last quarter of an hour."""
    del jobs
    monkeypatch.setattr(slo_report, "CURRENT_S", slo_report.CURRENT_S + 900)
    end_s = slot_of(now, 900)
    writer = record_classes(source, iter(past_until(end_s)), now)
    app = make_app(**SETTINGS)
    store = Store(source)
    source.execute("SET", LEAD, "past:1", "PX", 60_000)
    slos = app.extensions["queuedeck"].settings.slos
    watch = SloWatch(slos, store)
    watch.begin(writer.stored_keys())
    watch.add_slots([], end_s)
    while not all(status.report for status in watch.statuses):
        watch.refresh("past:1", end_s)
    source.execute("DEL", LEAD)
    return app.test_client()


def by_id(browser: FlaskClient) -> dict[str, dict[str, Any]]:
    response = browser.get("/api/v1/slos")
    assert response.status_code == 200, response.text
    return {slo["id"]: slo for slo in response.get_json()["slos"]}


def rows_of(page: str) -> list[str]:
    return [re.sub(r"<[^>]+>|\s+", " ", row) for row in page.split("<tr id=")[1:]]


def test_the_api_has_what_happened(browser: FlaskClient) -> None:
    slos = by_id(browser)
    assert list(slos) == ["mail", "cash", "celery", "idle"]
    mail = slos["mail"]
    bad = BAD_S / 20
    assert mail["jobs"] == pytest.approx(PAST_S, abs=900)
    assert mail["good_ratio"] == pytest.approx(1 - bad / PAST_S, abs=0.0005)
    assert mail["budget_left_ratio"] == pytest.approx(1 - bad / PAST_S / 0.01, abs=0.02)
    rates = {rate["window_s"]: rate["burn_rate"] for rate in mail["burn_rates"]}
    assert rates == {
        300: pytest.approx(5),
        1800: pytest.approx(5),
        3600: pytest.approx(5),
        21_600: pytest.approx(5, rel=0.05),
        259_200: pytest.approx(5 * BAD_S / PAST_S, rel=0.05),
    }
    assert (mail["state"], mail["queues_counted"], mail["queues_unknown"]) == ("at risk", 1, 0)
    assert mail["reason"] == "Counts 3 d so far."
    cash = slos["cash"]
    assert (cash["state"], cash["good_ratio"], cash["budget_left_ratio"], cash["reason"]) == ("met", 1, 1, None)
    celery, idle = slos["celery"], slos["idle"]
    assert (celery["state"], celery["good_ratio"], celery["burn_rates"][0]["burn_rate"]) == ("unknown", None, None)
    assert celery["reason"] == "Unknown for these queues: Celery does not report how long jobs waited."
    assert (idle["state"], idle["good_ratio"], idle["reason"]) == ("no figures", None, "No jobs in the last 30 d.")


def test_the_list_has_the_worst_first_and_dashes_for_what_is_unknown(browser: FlaskClient) -> None:
    page = browser.get("/slos").text
    first, *_ = rows = rows_of(page)
    assert "Mail &lt;on&gt; time" in first
    assert "at risk" in first
    assert "Mail <on>" not in page
    unknown = next(row for row in rows if "does not report how long jobs waited" in row)
    assert "100%" not in unknown
    assert unknown.count("–") == 5
    assert 'value="1.000"' in page  # the bar of the budget that is left
    assert rows_of(browser.get("/slos/_list").text)[:3] == rows[:3]
    rail = re.search(r'<a href="/slos" data-letter="l" aria-current="page">', page)
    assert rail
    assert "/slos" in browser.get("/palette?q=error+budget").text


def test_one_objective_has_its_budget_over_time_and_its_queues(browser: FlaskClient) -> None:
    page = browser.get("/slos/mail").text
    assert "99% of jobs start within 60 s, over 30 d" in page
    assert "at this rate used up in" in page
    assert "/queues/main/rq/mail/charts" in page
    assert "Error budget used: used" in page
    data = browser.get("/slos/mail/_data").get_json()
    used = data["values"]["used_ratio"]
    assert used[0] == 0
    assert used == sorted(used)
    assert used[-1] == pytest.approx(1 - (by_id(browser)["mail"]["budget_left_ratio"]), abs=0.001)
    assert data["start_s"] + len(used) * data["step_s"] == data["end_s"]
    assert max(ratio for ratio in data["values"]["bad_ratio"] if ratio is not None) == pytest.approx(0.05, rel=0.01)
    later = browser.get("/slos/mail/_data", query_string={"since": data["end_s"] - data["step_s"]}).get_json()
    assert later["values"]["used_ratio"] == used[-1:]
    middle = data["start_s"] + len(used) // 2 * data["step_s"]
    part = browser.get("/slos/mail/_data", query_string={"from": middle, "to": middle + 1}).get_json()
    assert part["values"]["used_ratio"] == used[len(used) // 2 : len(used) // 2 + 1]
    assert "Show the whole window" in browser.get("/slos/mail", query_string={"from": middle}).text
    for path in ("/slos/celery", "/slos/idle"):
        assert "No jobs counted" in browser.get(path).text
        assert browser.get(f"{path}/_data").get_json()["values"]["used_ratio"] == []
    for path in ("/slos/none", "/slos/none/_data"):
        response = browser.get(path)
        assert response.status_code == 404
        assert "[[slos]] in the settings" in response.text


def test_gauges_have_known_figures_only_and_no_old_ones(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def gauges() -> dict[tuple[str, ...], float]:
        return {
            (sample.name.removeprefix("queuedeck_slo_"), *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(browser.get("/metrics").text)
            for sample in family.samples
            if sample.name.startswith("queuedeck_slo")
        }

    found = gauges()
    assert found["good_ratio", "cash"] == found["budget_left_ratio", "cash"] == 1
    assert found["burn_rate", "mail", "1h"] == pytest.approx(5)
    assert found["target_ratio", "celery"] == 0.99
    assert ("good_ratio", "celery") not in found
    assert ("burn_rate", "celery", "1h") not in found
    monkeypatch.setattr(slo_report, "CURRENT_S", -1.0)
    assert gauges() == {}
    assert "ago: no checker counts now." in browser.get("/slos").text


def test_before_anything_is_counted_and_when_it_cannot_be_read(
    make_app: MakeApp, jobs: list[str], redis_client: redis.Redis
) -> None:
    del jobs
    redis_client.set(SLOS, b"\xff not ours")
    client = make_app(**SETTINGS).test_client()
    assert "Not counted yet: the checker that leads" in client.get("/slos").text
    (mail, *_) = client.get("/api/v1/slos").get_json()["slos"]
    assert (mail["state"], mail["good_ratio"], mail["counted_at"]) == ("no figures", None, None)
    assert client.get("/slos/mail").status_code == 200
    redis_client.execute_command("ACL", "SETUSER", "default", "-get", "-eval", "-evalsha")
    try:
        refused = make_app(**SETTINGS).test_client()
        for path in ("/slos", "/slos/_list", "/slos/mail"):
            assert "cannot be read" in refused.get(path).text or "could not be read" in refused.get(path).text
        assert refused.get("/api/v1/slos").status_code in (403, 503)
    finally:
        redis_client.execute_command("ACL", "SETUSER", "default", "+@all")


def test_without_objectives_the_page_shows_how_to_add_one(make_app: MakeApp, redis_client: redis.Redis) -> None:
    client = make_app().test_client()
    page = client.get("/slos").text
    assert "waited_within_s = 60" in page
    assert client.get("/api/v1/slos").get_json() == {"slos": []}
    assert "history_max_bytes</code> is 0" in make_app(history_max_bytes=0).test_client().get("/slos").text
    redis_client.set(SAMPLE_END, int(now_s()))
    assert "sample data" not in page
    assert "are sample data: this is a demo" in make_app(**SETTINGS).test_client().get("/slos").text
