"""The list of all job classes: figures, regressions first, filters and orders, on the page and in the API."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.clock import instant, iso, now_s
from dashboard.history.classes.reader import ClassReader
from dashboard.history.columns import Record
from dashboard.history.recorder import ClosedSlot
from dashboard.history.series_keys import SAMPLE_END
from dashboard.history.tiers import classes_until_s, slot_of
from dashboard.model import Quality
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from dashboard.web.class_rankings import API_WAIT_S
from dashboard.web.context import EXTENSION
from dashboard.web.pages.classes import class_list
from tests.caches import expire_values
from tests.unit.history.class_samples import (
    class_key,
    class_record,
    closed_slots,
    record_classes,
    sampled_slots_of,
    unknown_record,
)
from tests.web.conftest import MakeApp
from tests.web.test_api import SAME

QUARTER_S = 900
SLOWER_FOR_S = 3600  # the class `Slow` is three times slower since then
HOSTILE = '<b>Évil\udcff\n"class"'


def past_of(now: float) -> list[ClosedSlot]:
    """Three days of classes until after now; the last day of `app.Failing` has failures.

    A test can run while a slot ends: the one that is not complete is there, too.
    """
    end_s = classes_until_s(now)
    start_s = slot_of(end_s - 3 * 86_400, 7200)
    starts = range(start_s, end_s + QUARTER_S, QUARTER_S)
    day_s = slot_of(end_s - 86_400, 7200)
    slow_s = end_s - SLOWER_FOR_S
    estimated = Quality.ESTIMATED
    records: dict[Any, list[Record]] = {
        class_key("app.Steady"): [class_record(at, 150, 0, 0.5) for at in starts],
        class_key("app.Failing", "cash"): [class_record(at, 15, 3 if at >= day_s else 0, 0.1) for at in starts],
        class_key("app.Slow"): [class_record(at, 15, 0, 3.0 if at >= slow_s else 1.0) for at in starts],
        class_key("app.Steady", "cash"): [class_record(at, 15, 0, 0.5, quality=estimated) for at in starts],
        class_key(HOSTILE, "q\udcfe", "celery"): [class_record(at, 1, 0, None) for at in starts],
        class_key("app.Unknown", "mail"): [class_record(starts[0], 1), *(unknown_record(at) for at in starts[1:])],
    }
    slots = [slot for key, each in records.items() for slot in closed_slots(key, each)]
    return [*sampled_slots_of("main", start_s, end_s + QUARTER_S), *slots]


@pytest.fixture(scope="module")
def now() -> float:
    return now_s()


@pytest.fixture
def browser(
    make_app: MakeApp, source: Source, jobs: list[str], now: float, monkeypatch: pytest.MonkeyPatch
) -> FlaskClient:
    """A browser on a dashboard with the queue `mail` and three days of classes."""
    del jobs
    monkeypatch.setattr(class_list, "PAGE_WAIT_S", API_WAIT_S)  # a busy machine must not change what is shown
    record_classes(source, iter(past_of(now)), now)
    return make_app().test_client()


def api(browser: FlaskClient, **query: Any) -> dict[str, Any]:
    response = browser.get("/api/v1/classes", query_string=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def names(answer: dict[str, Any]) -> list[str]:
    return [f"{row['job_class']} {row['queue']}" for row in answer["classes"]]


def rows_of(page: str) -> list[str]:
    return [re.sub(r"<[^>]+>|\s+", " ", row) for row in page.split("<tr id=")[1:]]


def test_regressions_are_first_on_the_page_and_in_the_api(browser: FlaskClient) -> None:
    hour = api(browser)
    assert names(hour)[:2] == ["app.Slow mail", "app.Steady mail"]
    slow = hour["classes"][0]
    assert slow["before"]["regressions"] == ["slower"]
    assert slow["before"]["runtime_p95_ratio"] == pytest.approx(3, rel=0.1)
    assert (slow["finished"], slow["throughput_per_min"], slow["quality"]) == (60, 1.0, "exact")
    assert slow["runtime_p95_s"] == pytest.approx(3, rel=0.05)
    assert sum(row["runtime_share_ratio"] or 0 for row in hour["classes"]) == pytest.approx(1, abs=0.01)

    day = api(browser, range="24h")
    failing = day["classes"][0]
    assert (failing["job_class"], failing["before"]["regressions"]) == ("app.Failing", ["failing"])
    assert failing["error_ratio"] == 0.2
    assert failing["before"]["error_ratio_increase"] == pytest.approx(0.2, abs=0.02)

    first, *_ = rows_of(browser.get("/classes").text)
    assert "app.Slow" in first
    assert "slower" in first
    page = browser.get("/classes?range=24h").text
    assert "errors +20%" in rows_of(page)[0]
    assert "1 slower or failing more than in the 24 hours before" in page


def test_figures_are_those_of_whole_slots_at_any_moment(source: Source) -> None:
    end_s = 1_700_000_100  # of a slot of 15 minutes
    record_classes(source, iter(past_of(end_s + 29)), end_s + 930)
    reader = ClassReader(Store(source))
    for later_s in (30, 31, 59, 60, 89, 90, 400, 899, 929):
        ranking = reader.read_ranking(3600, end_s + later_s)
        (steady,) = (row for row in ranking.rows if row.key.job_class == "app.Steady" and row.key.queue == "mail")
        assert steady.figures.per_min == 10, later_s


def test_unknown_figures_are_dashes_and_estimates_are_marked(browser: FlaskClient) -> None:
    rows = rows_of(browser.get("/classes").text)
    assert not [row for row in rows if "app.Unknown" in row]  # nothing is known of the last two hours
    assert "≈" in next(row for row in rows if "app.Steady" in row and "cash" in row)
    unknown = next(row for row in api(browser, range="7d", q="unknown")["classes"])
    assert unknown["throughput_per_min"] == 0.0667  # one job in the 15 minutes that are known
    month = api(browser, range="30d")
    assert month["before_stored"] is False
    assert {row["before"]["runtime_p95_ratio"] for row in month["classes"]} == {None}
    assert "so there is no comparison" in browser.get("/classes?range=30d").text


def test_a_moment_is_compared_with_the_time_before_it(browser: FlaskClient, now: float) -> None:
    since = classes_until_s(now) - SLOWER_FOR_S
    found = api(browser, range="24h", since=since)
    assert names(found)[:2] == ["app.Failing cash", "app.Slow mail"]
    slow = found["classes"][1]
    assert slow["since"]["regressions"] == ["slower"]
    assert slow["since"]["figures"]["finished"] >= 60
    assert slow["before"]["regressions"] == []  # of 24 hours, one is too little
    page = browser.get(f"/classes?range=24h&since={since}").text
    assert "slower" in rows_of(page)[1]
    assert 'name="since"' in page
    for later in (now, 1e12):
        assert "No figures since" in browser.get(f"/classes?since={later:.0f}").text
    for earlier in ("0", "0001-01-01T00:00:00Z"):
        assert "the period before is not stored" in browser.get(f"/classes?since={earlier}").text
    assert api(browser)["classes"][0]["since"] is None


def test_filters_orders_and_pages(browser: FlaskClient) -> None:
    assert names(api(browser, q="STEADY")) == ["app.Steady mail", "app.Steady cash"]
    assert [row["runtime_p95_s"] for row in api(browser, backend="celery")["classes"]] == [None]
    assert names(api(browser, queue="cash", sort="name")) == ["app.Failing cash", "app.Steady cash"]
    assert names(api(browser, sort="p95", dir="up", source="main"))[0] == "app.Failing cash"
    assert api(browser, source="other")["total"] == 0
    second = api(browser, per_page=2, page=2, sort="rate")
    assert (second["total"], second["page"], len(second["classes"])) == (5, 2, 2)
    merged = api(browser, group="class", q="Steady")["classes"]
    assert [(row["queue"], row["queues"], row["finished"]) for row in merged] == [(None, ["cash", "mail"], 660)]
    page = browser.get("/classes?group=class&q=steady&sort=rate").text
    assert "2 queues" in rows_of(page)[0]
    assert 'name="sort" value="rate"' in page
    assert "No class matches" in browser.get("/classes?q=nothing").text


def test_the_list_as_of_a_moment_ends_with_the_last_slot_before_it(browser: FlaskClient, now: float) -> None:
    slow_s = classes_until_s(now) - SLOWER_FOR_S
    before = browser.get(f"/classes?at={slow_s + 100}").text
    (slow,) = (row for row in rows_of(before) if "app.Slow" in row)
    assert "slower" not in slow
    start, end = (f"{instant(at):%Y-%m-%d %H:%M}:00 UTC" for at in (slow_s - 3600, slow_s))
    assert f"from {start} until {end}" in " ".join(re.sub(r"<[^>]+>", " ", before).split())
    assert "hx-get" not in before
    then = api(browser, at=slow_s + 100)
    assert (then["start"], then["end"]) == (iso(instant(slow_s - 3600)), iso(instant(slow_s)))
    (slow_then,) = (row for row in then["classes"] if row["job_class"] == "app.Slow")
    assert (slow_then["before"]["regressions"], slow_then["runtime_p95_s"]) == ([], pytest.approx(1, rel=0.05))
    kept = f"at={iso(instant(slow_s + 100))[:19]}Z"
    assert f"/classes/main/rq/mail/app.Slow?range=6h&amp;{kept}" in before
    assert f"/classes?sort=p95&amp;{kept}" in before
    hours = slow_s // 7200 * 7200 - 2 * 86_400
    for at in (hours, hours + 7199):  # of two days ago, only slots of two hours are stored
        ranking = rows_of(page := browser.get(f"/classes?at={at}").text)
        assert f"{instant(hours):%H:%M:%S} UTC" in page
        assert next(row for row in ranking if "app.Steady" in row and "mail" in row).count(" 10 ") == 1
    assert "app.Slow" in rows_of(browser.get("/classes").text)[0]  # the moments leave the list of now alone
    oldest = browser.get(f"/classes?at={int(now) - 20 * 86_400}").text
    assert "No classes in the hour before" in oldest
    for at in (now + 3600, now - 31 * 86_400, "yesterday"):
        for path in ("/classes", "/api/v1/classes"):
            assert browser.get(path, query_string={"at": at}).status_code == 422


def test_wrong_parameters_are_refused_in_one_line(browser: FlaskClient) -> None:
    for query in ({"range": "2d"}, {"since": "yesterday"}):
        for path in ("/classes", "/classes/_classes", "/api/v1/classes"):
            response = browser.get(path, query_string=query)
            assert response.status_code == 422
            assert "expected" in response.text
    for query in ({"sort": "age"}, {"group": "all"}, {"dir": "left"}, {"page": "0"}, {"per_page": "2000"}):
        assert browser.get("/api/v1/classes", query_string=query).status_code == 422


def test_a_class_has_charts_and_links_to_its_failed_jobs(browser: FlaskClient) -> None:
    page = browser.get("/classes?q=app.Failing&range=24h").text
    path = "/classes/main/rq/cash/app.Failing"
    assert f'href="{path}?range=24h"' in page
    search = "/search?q=name:%22app.Failing%22+state:dead+library:%22rq%22+source:%22main%22+queue:%22cash%22"
    assert f'href="{search}"' in page
    assert browser.get(search).status_code == 200
    shown = browser.get(f"{path}?range=24h").text
    assert f'href="{search}"' in shown
    assert "Jobs per minute: processed" in shown
    assert "range=15m" not in shown
    data = browser.get(f"{path}/_data?range=24h").json
    assert data is not None
    rates = [value for value in data["values"]["throughput_per_min"] if value is not None]
    assert set(rates) == {1.0}
    (hostile,) = re.findall(r'href="(/classes/main/celery/[^"]+)"', browser.get("/classes").text)
    assert browser.get(hostile).status_code == 200
    assert browser.get("/classes/main/rq/cash/none").status_code == 200
    assert browser.get("/classes/other/rq/cash/none").status_code == 404


def test_one_reading_serves_all_viewers(browser: FlaskClient, redis_client: redis.Redis) -> None:
    reads = {"cmdstat_get", "cmdstat_hgetall", "cmdstat_hmget"}

    def calls() -> int:
        return sum(stat["calls"] for name, stat in redis_client.info("commandstats").items() if name in reads)

    page = browser.get("/classes").text
    (trips,) = re.findall(r"in (\d+) round trips", page)
    assert int(trips) == 4
    before = calls()
    for path in ("/classes", "/classes/_classes", "/api/v1/classes", "/classes?sort=p95&q=app"):
        assert browser.get(path).status_code == 200
    assert calls() - before < 10  # of the alerts, not of six classes with up to four values each


def test_the_page_says_what_is_sample_data(browser: FlaskClient, redis_client: redis.Redis, now: float) -> None:
    assert "sample data" not in browser.get("/classes").text
    for hours, shown in ((0, {"1h": True, "24h": True}), (5, {"1h": False, "24h": True})):
        redis_client.set(SAMPLE_END, int(now) - hours * 3600)
        for name, is_shown in shown.items():
            expire_values(browser.application.extensions[EXTENSION].caches._sample_end)
            assert ("are sample data: this is a demo" in browser.get(f"/classes?range={name}").text) is is_shown


def test_without_classes_the_page_says_what_is_needed(make_app: MakeApp, redis_client: redis.Redis) -> None:
    del redis_client
    page = make_app().test_client().get("/classes").text
    assert "No classes in the last hour" in page
    assert "task of Celery" in page
    page = make_app(history_max_bytes=0).test_client().get("/classes").text
    assert "No history is recorded" in page


def test_the_last_mark_is_compared_with_the_time_before_it(browser: FlaskClient, now: float) -> None:
    assert "Since v412" not in browser.get("/classes").text
    since = classes_until_s(now) - SLOWER_FOR_S
    mark = {"text": "deploy", "version": "v412", "at": iso(instant(since))}
    assert browser.post("/api/v1/marks", json=mark, headers=SAME).status_code == 201
    page = browser.get("/classes?range=24h").text
    assert ">Since v412</a>" in page
    assert f"since={since}" in page  # also when it is sorted
    fresh = {"text": "deploy", "version": "v413"}
    assert browser.post("/api/v1/marks", json=fresh, headers=SAME).status_code == 201
    page = browser.get("/classes?range=24h").text
    assert ">Since v412</a>" in page  # there are no figures since v413
    assert re.search(r"Newer than v412:\s+v413 \([^)]+ UTC, compared from [^)]+ UTC on\)\.", page)
    assert "come from" not in page


def test_classes_without_a_name_are_shown_and_link_nowhere(
    make_app: MakeApp, source: Source, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_list, "PAGE_WAIT_S", API_WAIT_S)
    starts = range(slot_of(classes_until_s(now), QUARTER_S) - 7200, int(now), QUARTER_S)
    keys = (class_key(""), class_key(" "), class_key("app.Steady", ""))
    slots = [slot for key in keys for slot in closed_slots(key, [class_record(at, 15, 0, 0.5) for at in starts])]
    record_classes(source, iter([*sampled_slots_of("main", starts[0], int(now)), *slots]), now)
    browser = make_app().test_client()
    blank, space, steady = rows = rows_of(browser.get("/classes?sort=name").text)
    assert [row.count("(no name)") for row in rows] == [1, 1, 1]
    assert "/classes/main/rq/mail/?" not in f"{blank}{space}{steady}"
    assert "(no name)" in browser.get("/classes/main/rq/mail/%20").text
