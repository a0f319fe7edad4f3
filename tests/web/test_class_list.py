"""The list of all job classes: figures, regressions first, filters and orders, on the page and in the API."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.clock import now_s
from dashboard.history.classes.windows import last_end_s
from dashboard.history.columns import Record
from dashboard.history.recorder import ClosedSlot
from dashboard.history.tiers import slot_of
from dashboard.model import Quality
from dashboard.sources.source import Source
from tests.unit.history.class_samples import (
    class_key,
    class_record,
    closed_slots,
    record_classes,
    sampled_slots_of,
    unknown_record,
)
from tests.web.conftest import MakeApp

QUARTER_S = 900
SLOWER_FOR_S = 3600  # the class `Slow` is three times slower since then
HOSTILE = "<b>Évil\udcff\n\"class\""


def past_of(now: float) -> list[ClosedSlot]:
    """Three days of classes; the last day of `app.Failing` has failures."""
    end_s = last_end_s(now)
    start_s = slot_of(end_s - 3 * 86_400, 7200)
    starts = range(start_s, end_s, QUARTER_S)
    day_s = slot_of(end_s - 86_400, 7200)
    slow_s = end_s - SLOWER_FOR_S
    estimated = Quality.ESTIMATED
    records: dict[Any, list[Record]] = {
        class_key("app.Steady"): [class_record(at, 150, 0, 0.5) for at in starts],
        class_key("app.Failing", "cash"): [class_record(at, 15, 3 if at >= day_s else 0, 0.1) for at in starts],
        class_key("app.Slow"): [class_record(at, 15, 0, 3.0 if at >= slow_s else 1.0) for at in starts],
        class_key("app.Steady", "cash"): [class_record(at, 15, 0, 0.5, quality=estimated) for at in starts],
        class_key(HOSTILE, "q/\udcfe", "celery"): [class_record(at, 1, 0, None) for at in starts],
        class_key("app.Unknown", "mail"): [class_record(starts[0], 1), *(unknown_record(at) for at in starts[1:])],
    }
    slots = [slot for key, each in records.items() for slot in closed_slots(key, each)]
    return [*sampled_slots_of("main", start_s, int(now)), *slots]


@pytest.fixture(scope="module")
def now() -> float:
    return now_s()


@pytest.fixture
def browser(make_app: MakeApp, source: Source, jobs: list[str], now: float) -> FlaskClient:
    """A browser on a dashboard with the queue `mail` and three days of classes."""
    del jobs
    record_classes(source, iter(past_of(now)), now)
    return make_app().test_client()


def api(browser: FlaskClient, **query: Any) -> dict[str, Any]:
    response = browser.get("/api/v1/classes", query_string=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json
    return found


def names(answer: dict[str, Any]) -> list[str]:
    return [f"{row['job_class']} {row['queue']}" for row in answer["classes"]]


def test_x(browser):
    r = browser.get("/classes")
    print(r.status_code, r.text)
    assert 0
