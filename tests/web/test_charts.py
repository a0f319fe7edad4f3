"""Chart pages: what was recorded, in any range, for scripts and without them."""

from __future__ import annotations

import gzip
import json
from typing import Any

import msgspec
import pytest
import redis
from flask.testing import FlaskClient
from msgspec.structs import replace

from dashboard.clock import instant, iso, now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.demo.past.writing import write_past
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import HistoryRecorder
from dashboard.history.series_keys import SAMPLE_END
from dashboard.model import HistoryProblem, Quality
from dashboard.settings import Settings
from dashboard.sources.source import Source
from dashboard.store.redis_store import LEAD, Store
from dashboard.web.views.charts.recording_problem import find_recording_problem
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of
from tests.web.conftest import MakeApp

HOURS = 3
PATHS = ("/charts", "/queues/main/rq/mail/charts", "/sources/main/charts")
FIGURE_OF = {"/charts": "throughput_per_min", "/queues/main/rq/mail/charts": "depth", "/sources/main/charts": "clients"}


RECORDED: dict[bytes, tuple[int, bytes]] = {}  # key -> TTL in ms and value, once they were recorded


@pytest.fixture
def browser(make_app: MakeApp, source: Source, redis_client: redis.Redis, jobs: list[str]) -> FlaskClient:
    """A browser on a dashboard with the queue `mail` and the last HOURS of its history, recorded once for all tests."""
    if not RECORDED:
        record_past(source)
        for key in redis_client.scan_iter("{queuedeck}:ts:*"):
            RECORDED[key] = max(0, redis_client.pttl(key)), redis_client.dump(key)
    for key, (left_ms, value) in RECORDED.items():
        redis_client.restore(key, left_ms, value, replace=True)
    return make_app().test_client()


def record_past(source: Source, quality: Quality = Quality.EXACT) -> None:
    """Record the last HOURS of a queue with 60 jobs a minute, as a leader would."""
    source.execute("SET", LEAD, "past:1", "PX", 60_000)
    writer, recorder = HistoryWriter(Store(source), 64 * 2**20), HistoryRecorder()
    writer.load_series()
    end_s = now_s()
    for number in range(HOURS * 360, 0, -1):
        flow = flow_of("mail", 10, 1, *([0.5] * 10), span_s=10)
        flow = msgspec.structs.replace(flow, waits_s=(0.2, 0.2, 0.2, 9.0), retried=2, quality=quality)
        sample = snapshot_of(end_s - number * 10, queue_row("mail", 4))
        assert writer.append_slots("past:1", recorder.add_sample(sample, flows_of(flow)))
    assert writer.append_slots("past:1", recorder.close())
    source.execute("DEL", LEAD)


def data_of(browser: FlaskClient, path: str, **query: Any) -> dict[str, Any]:
    response = browser.get(f"{path}/_data", query_string=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json
    return found


def known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def test_the_data_has_the_recorded_rates_and_gaps_elsewhere(browser: FlaskClient) -> None:
    for name, seconds in {"15m": 900, "1h": 3600, "24h": 86_400, "30d": 30 * 86_400}.items():
        data = data_of(browser, "/queues/main/rq/mail/charts", range=name)
        count = (data["end_s"] - data["start_s"]) // data["step_s"]
        assert {len(values) for values in data["values"].values()} == {count}
        assert data["end_s"] - data["start_s"] == pytest.approx(seconds, abs=2 * data["step_s"])
        rates = known(data["values"]["throughput_per_min"])
        assert sorted(rates)[len(rates) // 2] == pytest.approx(60, rel=1e-3)  # the time is in whole milliseconds
        assert len(rates) * data["step_s"] == pytest.approx(min(seconds, HOURS * 3600), abs=3 * data["step_s"])


def test_a_refresh_gets_only_the_newest_slots(browser: FlaskClient) -> None:
    whole = data_of(browser, "/charts", range="1h")
    newer = data_of(browser, "/charts", range="1h", since=whole["end_s"] - 2 * whole["step_s"])
    assert len(newer["values"]["depth"]) <= 3
    assert len(whole["values"]["depth"]) >= 360


def test_a_page_has_its_figures_as_a_table_and_links_to_ranges(browser: FlaskClient) -> None:
    for path in PATHS:
        text = browser.get(path, query_string={"range": "1h"}).text
        assert 'aria-current="true">1 hour</a>' in text
        assert "Figures as a table" in text or path.startswith("/sources")
    page = browser.get("/queues/main/rq/mail/charts", query_string={"range": "1h"}).text
    assert "Jobs per minute: processed" in page
    assert ">60</td>" in page
    assert ">500 ms</td>" not in page  # no more exact than a bucket


def test_estimated_figures_say_so_in_the_page_its_table_and_its_data(
    make_app: MakeApp, source: Source, jobs: list[str]
) -> None:
    record_past(source, Quality.ESTIMATED)
    browser, path = make_app().test_client(), "/queues/main/rq/mail/charts"
    whole = data_of(browser, path, range="1h")
    assert whole["notes"]["flow"].startswith("≈ Estimated in this range")
    assert whole["notes"]["depth"] == "Scheduled and retrying jobs are not reported by RQ."
    newer = data_of(browser, path, range="1h", since=whole["end_s"] - 2 * whole["step_s"], charts="errors")
    assert newer["notes"] == {"errors": "≈ Estimated in this range."}
    page = browser.get(path, query_string={"range": "1h"}).text
    assert f"data-note>{whole['notes']['depth']}</p>" in page
    assert "Error ratio: ≈ Estimated in this range.</p>" in page
    assert page.count("data-note hidden>") == 3  # of run time, waiting time and workers


def test_sparklines_and_rates_lead_to_the_charts_of_what_they_show(browser: FlaskClient) -> None:
    browser.get("/api/v1/queues")
    overview = browser.get("/").text
    for link in (
        '<a class="to-chart" href="/queues/main/rq/mail/charts" aria-label="Charts of mail"',
        'href="/queues/main/rq/mail/charts#flow" tabindex="-1"',
        'href="/queues/main/rq/mail/charts#errors" tabindex="-1"',
        'href="/charts#depth" aria-label="Charts of all queues: waiting"',
        'href="/sources/main/charts" aria-label="Charts of Redis main"',
        'href="/charts" title="All queues together',
    ):
        assert link in overview, link
    queue = browser.get("/queues/main/rq/mail").text
    assert 'href="/queues/main/rq/mail/charts">All charts</a>' in queue
    for figure in ("depth", "flow", "errors"):
        assert f'href="/queues/main/rq/mail/charts#{figure}" aria-label="Charts of this queue: ' in queue
        assert f'id="{figure}"' in browser.get("/queues/main/rq/mail/charts").text


def test_a_page_without_history_says_so(make_app: MakeApp, jobs: list[str]) -> None:
    page = make_app().test_client().get("/queues/main/rq/mail/charts")
    assert page.status_code == 200
    assert "data-chart-empty><h2>No history in this range</h2>" in page.text
    assert 'data-url="/queues/main/rq/mail/charts/_data" hidden>' in page.text
    off = make_app(history_max_bytes=0).test_client().get("/charts").text
    assert "No history is recorded: <code>history_max_bytes</code> is 0." in off
    assert "history_max_bytes" not in page.text


def test_marks_that_may_not_be_read_leave_the_charts(
    browser: FlaskClient, make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    rights = ("~*", "&*", "+@all", "-zrevrangebyscore")
    redis_client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", *rights)
    limited = make_app(redis_url=server.url.replace("redis://", "redis://reader:secret@")).test_client()
    page = limited.get("/queues/main/rq/mail/charts?range=1h").text
    assert "Marks could not be read: The Redis user is not allowed" in page
    assert "No deployments or alerts" not in page
    assert 'data-url="/queues/main/rq/mail/charts/_data">' in page
    assert known(data_of(limited, "/queues/main/rq/mail/charts", range="1h")["values"]["depth"])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"range": "1y"}, "expected one of 15m"),
        ({"from": "2026-02-30"}, "expected a time"),
        ({"from": "100", "to": "50"}, "at least a minute"),
        ({"from": "1", "to": "999"}, "30 days"),
        ({"compare": "year"}, "expected day or week"),
        ({"at": "9999-12-31T00:00:00Z"}, "in the future"),
        ({"at": "1", "range": "1h"}, "30 days"),
        ({"at": "noon"}, "expected a time"),
    ],
)
def test_a_wrong_range_is_refused_in_one_line(browser: FlaskClient, query: dict[str, str], words: str) -> None:
    for path in PATHS:
        for address in (path, f"{path}/_data"):
            response = browser.get(address, query_string=query)
            assert response.status_code == 422
            assert words in response.text
            assert (response.mimetype == "application/json") is address.endswith("_data")  # a script reads it


def test_without_redis_the_page_says_so_and_its_script_gets_a_line(make_app: MakeApp) -> None:
    browser = make_app(redis_url="redis://127.0.0.1:1/0").test_client()
    page = browser.get("/charts")
    assert page.status_code == 200
    assert 'data-chart-status role="status">' in page.text
    assert "The history could not be read: " in page.text
    answer = browser.get("/charts/_data")
    assert (answer.status_code, answer.mimetype) == (503, "application/json")
    assert "127.0.0.1:1" in answer.json["error"]["message"]


def test_a_month_of_six_charts_is_small(make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    redis_client.hset("bull:mails:meta", "version", "bullmq:5.81.0")
    write_past(server.url, {"BullMQ in Node"}, now_s(), days=30)
    browser = make_app().test_client()
    path = "/queues/main/bullmq/mails/charts"
    answer = browser.get(f"{path}/_data?range=30d&compare=week", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.data) < 60_000
    values = json.loads(gzip.decompress(answer.data))["values"]
    assert min(len(known(values[name])) for name in ("depth", "throughput_per_min", "runtime_p95_s", "workers")) > 350
    page = browser.get(f"{path}?range=30d", headers={"Accept-Encoding": "gzip"})
    assert len(page.data) < 20_000
    assert "are sample data" in gzip.decompress(page.data).decode()
    redis_client.delete(SAMPLE_END)
    assert "sample data" not in make_app().test_client().get(path).text


def test_a_moment_in_the_future_means_now(browser: FlaskClient) -> None:
    data = data_of(browser, "/charts", to="9999-12-31T00:00:00Z")
    assert abs(data["end_s"] - now_s()) < 2 * data["step_s"] + 60


def test_a_range_ends_at_the_moment_of_the_page(browser: FlaskClient) -> None:
    at = int(now_s()) - 3600
    for path in PATHS:
        data = data_of(browser, path, range="1h", at=at)
        assert (data["end_s"] - data["step_s"] <= at < data["end_s"], data["end_s"] - data["start_s"]) == (True, 3660)
    assert known(data_of(browser, "/queues/main/rq/mail/charts", range="1h", at=at)["values"]["depth"])
    zoomed = data_of(browser, "/charts", **{"from": at - 900, "at": at})
    assert zoomed["start_s"] <= at - 900 < at < zoomed["end_s"] <= at + 60
    page = browser.get("/queues/main/rq/mail/charts", query_string={"range": "1h", "at": at, "compare": "day"}).text
    text = iso(instant(at))[:19] + "Z"
    for link in (
        f"?range=24h&amp;compare=day&amp;at={text}",
        f"?range=1h&amp;compare=week&amp;at={text.replace(':', '%3A')}",
        f"/queues/main/rq/mail?at={text}",
        f"/charts?at={text}",
    ):
        assert f'href="{link}"' in page, link
    assert "Add a mark" in browser.get("/charts").text
    assert "Add a mark" not in page
    zoomed_page = browser.get("/charts", query_string={"from": at - 900, "to": at, "range": "1h", "at": at}).text
    assert f'href="?range=1h&amp;at={text}">Back to 1 hour</a>' in " ".join(zoomed_page.split())


def test_a_range_can_be_compared_with_the_day_before(browser: FlaskClient) -> None:
    data = data_of(browser, "/charts", range="1h", compare="day")
    assert {len(values) for values in data["earlier"].values()} == {len(data["values"]["depth"])}
    assert known(data["earlier"]["depth"]) == []


def test_unknown_queues_and_sources_are_not_found(browser: FlaskClient) -> None:
    for path in ("/queues/main/rq/none/charts", "/sources/none/charts", "/sources/none/charts/_data"):
        assert browser.get(path).status_code == 404


def test_reading_costs_two_round_trips(browser: FlaskClient, redis_client: redis.Redis) -> None:
    data_of(browser, "/charts", range="30d")
    before = redis_client.info("commandstats")
    data_of(browser, "/charts", range="30d")
    after = redis_client.info("commandstats")
    calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert calls.get("cmdstat_hmget") == 1
    assert calls.get("cmdstat_set", 0) == calls.get("cmdstat_append", 0) == 0


def test_the_api_has_the_stored_history(browser: FlaskClient) -> None:
    start_s = now_s() - 2 * 3600
    for path in ("/api/v1/queues/main/rq/mail/history", "/api/v1/history"):
        answer = browser.get(path, query_string={"metric": "throughput_per_min", "from": start_s}).json
        assert (answer["metric"], answer["unit"], answer["step_s"]) == ("throughput_per_min", "jobs/min", 60)
        rates = known([value for _, value in answer["points"]])
        assert sorted(rates)[len(rates) // 2] == pytest.approx(60, rel=1e-3)  # the time is in whole milliseconds
        longer = browser.get(path, query_string={"metric": "runtime_p95_s", "from": start_s, "step_s": 1000}).json
        assert longer["step_s"] == 1800
        assert known([value for _, value in longer["points"]])[0] == pytest.approx(0.5, rel=0.05)
        for metric, truth in (("wait_p50_s", 0.2), ("wait_p95_s", 9.0), ("retried_per_min", 12.0)):
            points = browser.get(path, query_string={"metric": metric, "from": start_s}).json["points"]
            values = sorted(known([value for _, value in points]))
            assert values[len(values) // 2] == pytest.approx(truth, rel=0.05)
    memory = browser.get("/api/v1/sources/main/history", query_string={"from": start_s}).json
    assert memory["unit"] == "bytes"


def test_metrics_that_a_series_does_not_have_are_named(browser: FlaskClient) -> None:
    for path, metric in (("/api/v1/history", "clients"), ("/api/v1/sources/main/history", "depth")):
        response = browser.get(path, query_string={"metric": metric})
        assert response.status_code == 422
        assert "Available metrics: " in response.json["error"]["hint"]
    assert browser.get("/api/v1/sources/none/history").status_code == 404


def test_pages_say_why_no_history_is_recorded(make_app: MakeApp, source: Source, jobs: list[str]) -> None:
    browser = make_app().test_client()
    for path in ("/charts", "/redis"):
        shown = " ".join(browser.get(path).text.split())
        assert (
            "<strong>No history is recorded.</strong> No checker is running. Run &#34;queuedeck checker&#34;" in shown
        )
    full = HistoryProblem(message="Full.", hint="Make room.")
    sample = replace(snapshot_of(now_s(), queue_row("mail", 4)), samples_total=1)
    settings = Settings()
    assert find_recording_problem(replace(sample, history_problem=full), settings) == full
    assert find_recording_problem(replace(sample, samples_total=None), settings) is None
    assert find_recording_problem(None, settings) is None
