"""Pages that show invented figures or alerts of the demo say so, in the same words; without a demo nothing is said."""

from __future__ import annotations

import re

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.clock import now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.demo.past.writing import write_past
from dashboard.history.series_keys import SAMPLE_END
from dashboard.sources.metering import measure_cost
from dashboard.web.context import EXTENSION, AppContext
from dashboard.web.views.moments.moment import format_at
from tests.caches import expire_values
from tests.cases import failures_of
from tests.web.conftest import MakeApp
from tests.web.test_rule_form import draft

WORDS = r"Figures and alerts before\s+{}\s+are sample data: this is a demo, which began then\."
SAID, SAID_IN_TEXT = re.compile(WORDS.format("<time [^>]*>[^<]*</time>")), re.compile(WORDS.format("[^<]* UTC"))
QUEUE = "/queues/main/bullmq/mails"
DAY_AGO_S = 86_400


@pytest.fixture
def browser(make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis) -> FlaskClient:
    """A demo that has just begun."""
    redis_client.hset("bull:mails:meta", "version", "bullmq:5.81.0")
    write_past(server.url, {"BullMQ in Node"}, now_s())
    return make_app().test_client()


def context_of(browser: FlaskClient) -> AppContext:
    found: AppContext = browser.application.extensions[EXTENSION]
    return found


def pages_of(browser: FlaskClient) -> dict[str, str]:
    at = format_at(now_s() - DAY_AGO_S)
    paths = ("/", "/_overview", "/?wall=1", "/alerts", "/alerts/_now", "/classes", f"{QUEUE}/charts", "/charts")
    past = ("/", QUEUE, "/alerts", "/redis", "/classes")
    pages = {path: browser.get(path).text for path in (*paths, *(f"{path}?at={at}" for path in past))}
    return pages | {"draft": draft(browser, metric="queue.depth", critical="100")}


def test_pages_with_sample_data_say_so(browser: FlaskClient, redis_client: redis.Redis) -> None:
    def check(path: str, page: str) -> None:
        assert len(SAID.findall(page)) == 1

    assert failures_of(check, pages_of(browser).items()) == {}
    assert SAID_IN_TEXT.search(browser.get("/incident").text)
    context = context_of(browser)
    with browser.application.test_request_context(), measure_cost() as meter:
        for _ in range(20):
            context.caches.sample_end()
    assert meter.commands == 0
    redis_client.delete(SAMPLE_END)
    expire_values(context.caches._sample_end)
    context.caches.fragments.invalidate()  # rendered once for each sample
    for path, page in pages_of(browser).items():
        assert "sample data" not in page, path


def test_a_demo_that_began_long_ago_says_nothing(browser: FlaskClient, redis_client: redis.Redis) -> None:
    redis_client.set(SAMPLE_END, int(now_s()) - 8 * DAY_AGO_S)
    for path, page in pages_of(browser).items():
        assert "sample data" not in page, path
