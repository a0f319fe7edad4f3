"""The page of alerts as of a moment in the past."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from flask import Flask

from dashboard.alerts import keys
from dashboard.alerts.management import past_alerts
from dashboard.alerts.rules.rule import Severity
from dashboard.alerts.store import AlertStore
from dashboard.clock import instant, iso, now_s
from dashboard.history.series_keys import SAMPLE_END
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from dashboard.web.context import EXTENSION
from tests.caches import expire_values
from tests.unit.alerts.test_past_alerts import incident
from tests.web.conftest import MakeApp

HOSTILE = '<b>q\udcff"'


def plain(page: str) -> str:
    """The text of a page, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
def app(make_app: MakeApp, jobs: list[str]) -> Flask:
    return make_app()


def page_of(app: Flask, at: Any) -> str:
    response = app.test_client().get("/alerts", query_string={"at": at})
    assert response.status_code == 200
    return response.text


def test_the_page_shows_what_was_firing_then(app: Flask, source: Source) -> None:
    alert_store = AlertStore(Store(source))
    now = int(alert_store.read_time())
    for name, began_s, ended_s in ((HOSTILE, 8000, 4000), ("mail", 5000, 4900), ("lost", 7000, None)):
        for entry in incident(name, now - began_s, None if ended_s is None else now - ended_s):
            alert_store.append_history(entry)
    page = page_of(app, now - 4800)
    text = plain(page)
    assert "2 alerts firing" in text
    since = f"{instant(now - 8000):%Y-%m-%d %H:%M:%S} UTC"
    assert f'<b>q\\xff" RQ on main {since} 53 m 20 s resolved 13 m 20 s later' in text
    assert "end not recorded" in text
    assert "1 alert resolved in the hour before" in text
    history = page[page.index('id="history"') :]
    assert "mail" in history
    assert "lost" not in history
    assert "Nothing was recorded then: no checker was running" in text
    assert not re.search(
        r"<form[^>]*method=.post|Acknowledge|hx-get|Send test", page[page.index("<main") : page.index("</main>")]
    )
    kept = f"at={iso(instant(now - 4800))[:19]}Z"
    assert f'href="/queues/main/rq/mail?{kept}"' in history
    assert '<a href="/alerts">Now</a>' in page
    over = plain(page_of(app, now - 3000))
    assert "1 alert firing" in over
    assert "Alert history, newest first" in over
    assert page_of(app, now - 9000).count("No alerts were firing") == 1


def test_the_api_has_the_alerts_of_then(app: Flask, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    alert_store = AlertStore(Store(source))
    now = int(alert_store.read_time())
    browser = app.test_client()

    def api(at: Any) -> dict[str, Any]:
        response = browser.get("/api/v1/alerts", query_string={"at": at})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.get_json()
        return found

    for entry in [
        *incident(HOSTILE, now - 8000, now - 4000),
        *incident("mail", now - 6000),
        *incident("mail", now - 5000, severity=Severity.CRITICAL),
    ]:
        alert_store.append_history(entry)
    found = api(now - 4800)
    assert (found["at"], found["pending"], found["watched"]) == (iso(instant(now - 4800)), None, False)
    assert found["age_s"] >= 4800
    assert "Nothing was recorded then" in found["problem"]
    critical, old, warning = found["alerts"]
    assert [alert["severity"] for alert in (critical, old, warning)] == ["critical", "warning", "warning"]
    assert (old["labels"]["queue"], old["since"], old["resolved_at"], old["firing_now"]) == (
        HOSTILE,
        iso(instant(now - 8000)),
        iso(instant(now - 4000)),
        False,
    )
    assert (old["state"], warning["resolved_at"], warning["muted"], critical["muted"]) == ("firing", None, True, None)
    firing_now = browser.get("/api/v1/openapi.json").get_json()["components"]["schemas"]["FiringAlert"]["properties"]
    assert old.keys() == firing_now.keys() | {"resolved_at", "firing_now"}
    unknown = firing_now.keys() - {"fingerprint", "rule", "name", "metric", "severity", "state", "labels", "since"}
    assert {old[name] for name in unknown - {"episode"}} == {None}  # never 0: none of it is recorded
    assert api(now - 9000)["alerts"] == []
    monkeypatch.setattr(past_alerts, "MAX_EPISODES", 2)
    app.extensions[EXTENSION].services.alert_service.past_alerts._histories.invalidate()
    assert "The alert history goes back to" in api(now - 9000)["problem"]
    for at in (now + 3600, now - 40 * 86_400, "noon"):
        assert browser.get("/api/v1/alerts", query_string={"at": at}).status_code == 422


def test_a_history_that_does_not_go_back_so_far_says_so(
    app: Flask, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_alerts, "MAX_EPISODES", 2)
    alert_store = AlertStore(Store(source))
    now = int(alert_store.read_time())
    for entry in incident("mail", now - 500, now - 400):
        alert_store.append_history(entry)
    text = plain(page_of(app, now - 600))
    assert f"The alert history goes back to {instant(now - 500):%Y-%m-%d %H:%M:%S} UTC" in text
    assert "No alerts were firing" not in text
    assert "1 alert firing" in plain(page_of(app, now - 450))
    assert "sample data" not in text
    source.execute("SET", SAMPLE_END, str(now - 500))
    expire_values(app.extensions[EXTENSION].caches._sample_end)
    assert "Figures and alerts before" in plain(page_of(app, now - 600))
    assert "sample data" not in page_of(app, now - 450)


def test_alerts_of_other_settings_are_no_all_clear(make_app: MakeApp, source: Source) -> None:
    beat = {"at": int(now_s() * 1000), "holder": "elsewhere:1.00000000", "lead": "elsewhere:1:1", "delivers": "1"}
    source.execute("HSET", keys.HEARTBEAT, *(word for pair in beat.items() for word in pair))
    app = make_app(checker="off")
    page = plain(page_of(app, int(now_s()) - 600))
    assert "what was firing then is not known here" in page
    answer = app.test_client().get("/api/v1/alerts", query_string={"at": int(now_s()) - 600}).get_json()
    assert (answer["alerts"], "other settings" in answer["problem"]) == (None, True)
    for words in ("No alerts were firing", "No alerts had resolved"):
        assert words not in page
    overview = plain(app.test_client().get("/", query_string={"at": int(now_s()) - 600}).text)
    assert "The alerts of then could not be read: a dashboard with other settings" in overview


def test_without_redis_and_for_a_wrong_moment_there_is_one_line(make_app: MakeApp, app: Flask, source: Source) -> None:
    gone = make_app(redis_url="redis://127.0.0.1:1/0").test_client()
    now = int(AlertStore(Store(source)).read_time())
    page = gone.get(f"/alerts?at={now - 600}")
    assert page.status_code == 200
    assert "The alert history cannot be read" in page.text
    for at, words in ((now + 3600, "in the future"), (now - 40 * 86_400, "30 days"), ("noon", "expected a time")):
        response = app.test_client().get("/alerts", query_string={"at": at})
        assert (response.status_code, words in response.text) == (422, True)
    source.execute("SET", keys.EPISODES, "of another program")
    assert "No alerts were firing" in page_of(app, now - 600)
    assert app.extensions[EXTENSION].services.alert_service.past_alerts.firing_at(now - 600).is_complete
