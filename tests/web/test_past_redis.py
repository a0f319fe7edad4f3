"""The pages of Redis servers as of a moment in the past."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from dashboard.clock import instant, iso, now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.history.columns import SOURCE, Record
from dashboard.history.recorder import ClosedSlot
from dashboard.history.series_keys import SeriesKey
from dashboard.history.tiers import FINE, MINUTES, QUARTERS, slot_of
from dashboard.sources.source import Source
from tests.unit.history.class_samples import record_classes
from tests.web.conftest import MakeApp

DAYS_S = 4 * 86_400
GAP_S = 3 * 3600  # so long ago, for an hour
FIGURES = {
    "used_memory_bytes": 80 * 2**20,
    "maxmemory_bytes": 100 * 2**20,
    "clients": 31,
    "blocked_clients": 7,
    "ops_per_s": 1234,
    "keys": 5678,
    "fragmentation_permille": 1250,
    "hit_permille": 640,
}


def plain(page: str) -> str:
    """The text of a page, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def slots_of(name: str, now: float) -> Iterator[ClosedSlot]:
    """A server that evicted three keys and rejected a client each minute, and was not sampled for an hour."""
    for tier in (QUARTERS, MINUTES, FINE):
        for at_s in range(slot_of(now - min(tier.keep_s, DAYS_S), tier.step_s), int(now), tier.step_s):
            if not now - GAP_S <= at_s < now - GAP_S + 3600:
                minutes = tier.step_s / 60
                counted = {"sampled_ms": tier.step_s * 1000, "evicted": round(3 * minutes), "rejected": round(minutes)}
                cells = tuple((FIGURES | counted).get(column) for column in SOURCE.names)
                yield ClosedSlot(SeriesKey(SOURCE, name), tier, Record(at_s, cells))


@pytest.fixture
def now(source: Source) -> float:
    found = now_s()
    record_classes(source, slots_of("main", found), found)
    return found


@pytest.fixture
def browser(make_app: MakeApp, now: float) -> FlaskClient:
    return make_app().test_client()


def test_the_page_has_the_figures_of_the_moment(browser: FlaskClient, now: float) -> None:
    for ago_s, seconds in ((7200 - 600, 60), (3 * 86_400, 900)):
        at = int(now) - ago_s
        page = browser.get(f"/redis?at={at}").text
        text = plain(page)
        end_s = slot_of(at, seconds)
        start, end = (f"{instant(each):%Y-%m-%d %H:%M:%S} UTC" for each in (end_s - seconds, end_s))
        assert f"Recorded figures, from {start} to {end}" in text
        assert "Memory used 80.0 MiB 80% of 100 MiB" in text.replace("80 MiB", "80.0 MiB")
        for words in (
            "Commands per second 1.2k",
            "Clients 31 7 waiting for a job",
            "Hit ratio 64%",
            "Evicted keys per minute 3",
            "Rejected per minute 1",
            "Fragmentation 125%",
            "Keys 5,678",
        ):
            assert words in text, words
        assert "Known only of now" in text
        main = page[page.index("<main") : page.index("</main>")]
        assert not re.search(r"hx-get|<form|Slow log</h2>|/redis/main/memory", main)
        assert f'href="/sources/main/charts?at={iso(instant(at))[:19]}Z"' in main
        assert 'href="/redis/main">' in main


def test_a_gap_leads_to_the_last_figures_before_it(browser: FlaskClient, now: float) -> None:
    at = int(now - GAP_S) + 1200
    page = browser.get(f"/redis/main?at={at}").text
    assert "Nothing was recorded at this moment" in page
    assert not re.search("Memory used|Recorded figures", page)
    (link,) = re.findall(r'<a href="([^"]+)">Go to the last figures before it', page)
    assert "Memory used" in browser.get(link).text
    older = browser.get(f"/redis/main?at={int(now) - 6 * 86_400}").text
    assert "Nothing was recorded in the 3 h before it either" in older.replace("\u202f", " ")


def test_the_list_has_the_servers_that_were_recorded_then(make_app: MakeApp, server: EmbeddedRedis, now: float) -> None:
    sources = [{"name": "main", "url": server.url}, {"name": "new", "url": server.url.rpartition("/")[0] + "/1"}]
    browser = make_app(sources=sources).test_client()
    at = int(now) - 5400
    text = plain(browser.get(f"/redis?at={at}").text)
    assert re.search(r"main redis://\S+ 80\S* MiB 80% of 100 MiB 1.2k 31 64% 3 new redis://\S+ not recorded then", text)
    page = browser.get(f"/redis/new?at={at}").text
    assert "Nothing was recorded at this moment" in page


def test_wrong_moments_and_a_store_that_is_down_get_one_line(make_app: MakeApp, browser: FlaskClient) -> None:
    for path in ("/redis", "/redis/main"):
        for at in ("9999-12-31T00:00:00Z", "1", "noon"):
            assert browser.get(path, query_string={"at": at}).status_code == 422
    assert browser.get("/redis/none", query_string={"at": "1"}).status_code == 404
    gone = make_app(redis_url="redis://127.0.0.1:1/0").test_client()
    page = gone.get(f"/redis?at={int(now_s()) - 600}")
    assert page.status_code == 200
    assert "The history cannot be read" in page.text
