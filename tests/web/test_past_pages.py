"""Pages as of a moment in the past: figures that were recorded, what was not, and moments that cannot be shown."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest
import redis
from flask.testing import FlaskClient
from msgspec.structs import replace

from dashboard.clock import now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import HistoryRecorder
from dashboard.sources.source import Source
from dashboard.store.redis_store import LEAD, Store
from dashboard.web.views.moments.moment import format_at
from tests.cases import failures_of
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of
from tests.web.conftest import MakeApp
from tests.web.test_marks import record_alert

MINUTES = 40
STEP_S = 20
HOSTILE = '<b>"late\udcff'
HOSTILE_SHOWN = "&lt;b&gt;&#34;late\\xff"
# Minutes of the past: quiet, then half of the jobs fail and a backlog grows, a gap, and a hostile queue.
QUIET, BACKLOG, GAP, LATE = 15, 24, 28, 38


@pytest.fixture
def base_s(source: Source, redis_client: redis.Redis, jobs: list[str]) -> int:
    """When the recorded past began; the queue `mail` exists now, with real jobs."""
    return record_minutes(source)


def record_minutes(source: Source) -> int:
    """Record the MINUTES until about now, as a leader would; when they began, at the beginning of a minute."""
    source.execute("SET", LEAD, "past:1", "PX", 60_000)
    writer, recorder = HistoryWriter(Store(source), 64 * 2**20), HistoryRecorder()
    writer.load_series()
    base_s = (int(now_s()) // 60 - MINUTES - 1) * 60
    for second in range(0, MINUTES * 60, STEP_S):
        minute = second // 60
        if 25 <= minute < 32:
            continue
        failed = 5 if minute >= 18 else 0
        rows = [queue_row("mail", 40 if minute >= 20 else 4, dead=3, latency_s=900.0 if minute >= 20 else 1.0)]
        rows += [queue_row("gone", 1)] if minute < 32 else [queue_row(HOSTILE, 7)]
        flows = [flow_of(row.name, 10, failed, *([0.5] * 10), span_s=STEP_S) for row in rows]
        closed = recorder.add_sample(snapshot_of(base_s + second, *rows), flows_of(*flows))
        assert writer.append_slots("past:1", closed)
    assert writer.append_slots("past:1", recorder.close())
    source.execute("DEL", LEAD)
    return base_s


@pytest.fixture
def browser(make_app: MakeApp, base_s: int) -> FlaskClient:
    browser = make_app().test_client()
    browser.get("/api/v1/queues")  # the first sample
    return browser


def at(base_s: int, minute: float) -> str:
    return format_at(base_s + minute * 60)


def words_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.split("<main", 1)[1]).split())


def test_the_overview_shows_the_figures_of_then(browser: FlaskClient, base_s: int) -> None:
    quiet = browser.get("/", query_string={"at": at(base_s, QUIET)}).text
    words = words_of(quiet)
    assert "Waiting 5 " in words
    assert "Queues 2 " in words
    assert "No problems in the recorded figures of 2 queues." in words
    backlog = words_of(browser.get("/", query_string={"at": at(base_s, BACKLOG)}).text)
    assert "Waiting 41 " in backlog
    assert "oldest job waiting 15 m" in backlog.replace("\u202f", " ")
    # The past stays as it is: it does not poll, has no buttons that act, and cannot be taken for now.
    assert "data-live data-interval" not in quiet
    assert 'method="post"' not in quiet.split("<main", 1)[1]
    assert '<body class="past"' in quiet
    assert "As of" in quiet
    assert 'class="past"' not in browser.get("/").text


def test_links_keep_the_moment_and_lead_back_to_now(browser: FlaskClient, base_s: int) -> None:
    moment = at(base_s, QUIET)
    page = browser.get("/", query_string={"at": moment, "q": "ma", "sort": "name", "page": 1}).text
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"#]+)', page)]
    shown = moment
    queues = [link for link in links if link.startswith("/queues/main/rq/mail") and "charts" not in link]
    sorts = [link for link in links if "sort=" in link and "data-moment" not in link]
    assert queues
    assert all(link.endswith(f"at={shown}") for link in queues), queues
    assert any(f"at={shown}" in link for link in sorts)
    assert "/?q=ma&sort=name" in links  # back to now
    assert f"/?q=ma&sort=name&at={at(base_s, QUIET - 10)}" in links
    assert f'<input type="hidden" name="at" value="{moment}">' in page  # the filter of the top bar
    heat = browser.get("/", query_string={"at": moment, "view": "heat"}).text
    assert f'href="/queues/main/rq/mail?at={moment}"' in heat
    now = browser.get("/", query_string={"q": "ma"}).text
    assert re.search(r'href="/\?q=ma&amp;at=20[^"]+" data-moment-earlier', now)


def test_a_queue_shows_the_figures_of_then_and_no_jobs(browser: FlaskClient, base_s: int) -> None:
    page = browser.get("/queues/main/rq/mail", query_string={"at": at(base_s, BACKLOG)}).text
    words = words_of(page)
    assert "Waiting 40 " in words
    assert "Error ratio 50% 15 failed/min" in words, words[:1500]
    assert "Jobs are read from Redis, which only has those of now." in words
    assert 'href="/queues/main/rq/mail">Open the jobs of now' in page
    assert "data-live data-interval" not in page
    assert 'method="post"' not in page.split("<main", 1)[1]
    gone = browser.get("/queues/main/rq/gone", query_string={"at": at(base_s, QUIET)})
    assert "no longer exists" in gone.text
    assert browser.get("/queues/main/rq/gone").status_code == 404
    overview = browser.get("/", query_string={"at": at(base_s, LATE)}).text
    assert HOSTILE_SHOWN in overview
    link = re.findall(r'href="(/queues/main/rq/[^"?]*late[^"?]*)\?at=', overview)[0]
    as_sent = {"PATH_INFO": unquote(link, "latin-1")}  # the test client would lose its bytes
    hostile = browser.get(link, query_string={"at": at(base_s, LATE)}, environ_overrides=as_sent)
    assert HOSTILE_SHOWN in hostile.text, link
    assert "<b>&#34;late" not in hostile.text
    early = browser.get(link, query_string={"at": at(base_s, QUIET)}, environ_overrides=as_sent)
    assert early.status_code == 404


def test_a_queue_that_is_gone_has_its_charts_of_then(browser: FlaskClient, base_s: int) -> None:
    then = {"at": at(base_s, QUIET)}
    overview = browser.get("/", query_string=then).text
    assert f'href="/queues/main/rq/gone/charts?at={at(base_s, QUIET)}#flow"' in overview
    page = browser.get("/queues/main/rq/gone/charts", query_string=then)
    assert (page.status_code, "Charts of gone" in page.text) == (200, True)
    depth = browser.get("/queues/main/rq/gone/charts/_data", query_string=then).json or {}
    assert depth["values"]["depth"][-2:] == [1, 1]
    for path in ("/queues/main/rq/gone/charts", "/queues/main/rq/gone/charts/_data"):
        assert browser.get(path).status_code == 404
        assert browser.get(path.replace("/main/", "/other/"), query_string=then).status_code == 404


def test_a_redis_that_was_not_recorded_is_no_all_clear(make_app: MakeApp, server: EmbeddedRedis, base_s: int) -> None:
    sources = [{"name": "main", "url": server.url}, {"name": "new", "url": server.url.rpartition("/")[0] + "/1"}]
    page = make_app(sources=sources).test_client().get("/", query_string={"at": at(base_s, QUIET)}).text
    assert "Nothing was recorded of new then. Its queues are missing here" in words_of(page)
    assert '<use href="#i-ok"' not in page.split("all-clear", 1)[1].split("</p>", 1)[0]


def test_whether_a_queue_still_exists_is_not_guessed(make_app: MakeApp, base_s: int) -> None:
    unsampled = make_app(checker="off").test_client()
    for minute, words in ((QUIET, "Waiting 4 "), (GAP, "Nothing was recorded at this moment")):
        page = unsampled.get("/queues/main/rq/mail", query_string={"at": at(base_s, minute)})
        assert page.status_code == 200
        assert words in words_of(page.text)
        assert "no longer exists" not in page.text


def test_a_gap_is_said_and_leads_to_the_last_figures(browser: FlaskClient, base_s: int) -> None:
    for path in ("/", "/queues/main/rq/mail"):
        page = browser.get(path, query_string={"at": at(base_s, GAP)}).text
        assert "Nothing was recorded at this moment" in page, path
        assert f'at={at(base_s, 25)}">Go to the last figures before it' in page, path
    long_ago = browser.get("/", query_string={"at": format_at(now_s() - 20 * 86_400)}).text
    assert "Nothing was recorded in the 3 h before it either." in words_of(long_ago).replace("\u202f", " ")


def test_moments_that_cannot_be_shown_say_why(browser: FlaskClient, make_app: MakeApp) -> None:
    def check(path: str, value: str, words: str) -> None:
        response = browser.get(path, query_string={"at": value})
        assert response.status_code == 422, response.status
        assert words in response.text

    wrong = [
        ("2100-01-01T00:00:00Z", "This moment is in the future"),
        ("2020-01-01", "The history goes back 30 days."),
        ("yesterday", "expected a time"),
        ("-5", "expected a time"),
        ("nan", "expected a time"),
        ("9" * 30, "expected a number"),
        ("2026-13-01T00:00Z", "expected a time"),
        ("<script>alert(1)</script>", "expected a time"),
    ]
    paths = ("/", "/queues/main/rq/mail", "/api/v1/overview", "/api/v1/queues/main/rq/mail")
    assert failures_of(check, [(path, *case) for path in paths for case in wrong]) == {}
    assert browser.get("/", query_string={"at": ""}).status_code == 200
    assert browser.get("/", query_string={"at": format_at(now_s()), "wall": "1"}).status_code == 422
    off = make_app(history_max_bytes=0).test_client()
    assert "No history is recorded" in off.get("/", query_string={"at": format_at(now_s() - 864_000)}).text


def test_alerts_and_marks_of_then_are_shown(browser: FlaskClient, redis_client: redis.Redis, base_s: int) -> None:
    record_alert(redis_client, "firing", base_s + 21 * 60, "mail")
    mark = {"text": "deploy", "version": "v412", "at": format_at(base_s + 12 * 60)}
    added = browser.post("/api/v1/marks", json=mark, headers={"Sec-Fetch-Site": "same-origin"})
    assert added.status_code == 201
    for path in ("/", "/queues/main/rq/mail"):
        before = browser.get(path, query_string={"at": at(base_s, QUIET)}).text
        assert "Firing then" not in before
        assert "3\u202fm after v412" in before
        assert "Queue is &lt;b&gt;deep" in browser.get(path, query_string={"at": at(base_s, BACKLOG)}).text
    assert "Firing then" not in browser.get("/queues/main/rq/gone", query_string={"at": at(base_s, BACKLOG)}).text


def test_the_api_has_the_same_past(browser: FlaskClient, base_s: int) -> None:
    overview: dict[str, Any] = browser.get("/api/v1/overview", query_string={"at": at(base_s, QUIET)}).json or {}
    assert overview["sampled_at"] == at(base_s, QUIET).replace("Z", ".000Z")
    assert overview["totals"]["depth"] == 5
    assert overview["alerts"] is None
    mail = next(queue for queue in overview["queues"] if queue["name"] == "mail")
    assert (mail["depth"], mail["paused"], mail["counts"]["dead"]) == (4, None, 3)
    assert mail["throughput_per_min"] == pytest.approx(30, rel=0.05)
    one = browser.get("/api/v1/queues/main/rq/mail", query_string={"at": at(base_s, QUIET)}).json
    assert one == mail
    gap = browser.get("/api/v1/overview", query_string={"at": at(base_s, GAP)}).json or {}
    assert (gap["sampled_at"], gap["sources"], gap["queues"], gap["totals"]["depth"]) == (None, [], [], None)
    for query, status in (({"at": at(base_s, GAP)}, 404), ({"since": "1"}, 422)):
        assert browser.get("/api/v1/queues/main/rq/mail", query_string=query).status_code == status


def test_a_moment_of_just_now_shows_what_rare_samples_have_stored(
    make_app: MakeApp, source: Source, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del jobs
    interval_s, now = 120, now_s()
    monkeypatch.setattr(Store, "now_s", lambda _: now)  # the next sample is yet to come, however slow the machine is
    source.execute("SET", LEAD, "past:1", "PX", 60_000)
    writer, recorder = HistoryWriter(Store(source), 64 * 2**20), HistoryRecorder()
    writer.load_series()
    for ago_s in range(9 * interval_s - 10, 0, -interval_s):
        row, flow = queue_row("mail", 6), flow_of("mail", 240, 0, *([0.5] * 10), span_s=interval_s)
        sample = replace(snapshot_of(now - ago_s, row), interval_s=float(interval_s))
        assert writer.append_slots("past:1", recorder.add_sample(sample, flows_of(flow)))
    browser = make_app(sample_interval_s=interval_s, checker="off").test_client()
    just_now = format_at(now - 5)

    def check(path: str, words: str) -> None:
        page = words_of(browser.get(path, query_string={"at": just_now}).text)
        assert words in page, page[:600]
        assert "Nothing was recorded" not in page

    assert failures_of(check, [("/", "Waiting 6 "), ("/queues/main/rq/mail", "Waiting 6 "), ("/redis", "main")]) == {}
    assert browser.get("/api/v1/alerts", query_string={"at": just_now}).get_json()["watched"] is True
    for path in (f"/charts/_data?from={now - 20:.0f}", f"/queues/main/rq/mail/charts/_data?range=15m&at={just_now}"):
        found = browser.get(path).get_json()["values"]
        assert 6 in found["depth"], path
        assert 120 in found["throughput_per_min"], path


def test_all_viewers_share_a_moment(browser: FlaskClient, base_s: int, redis_client: redis.Redis) -> None:
    browser.get("/", query_string={"at": at(base_s, QUIET)})
    before = redis_client.info("commandstats")["cmdstat_mget"]["calls"]
    browser.get("/", query_string={"at": at(base_s, QUIET + 0.5), "sort": "name"})
    assert redis_client.info("commandstats")["cmdstat_mget"]["calls"] == before
