"""What pages say while Redis is stopped, frozen or loading, and Queuedeck itself is: four single, right messages.

The same pages see one outage after the other, and recover from each without a reload.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field

import pytest
import redis
from playwright.sync_api import Page, expect
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis, reserved_port
from tests.conftest import start_server
from tests.e2e.conftest import Serve, Visit, wait_for_queues

pytestmark = pytest.mark.e2e
PAGES = ("/", "/queues/main/rq/mails", "/workers", "/dead", "/alerts")
# It loads these keys for minutes unless the delay is removed, and answers after each of them, not only every two MB.
BALLAST = {f"ballast:{number}": "x" * 1024 for number in range(3_000)}
SLOW_LOADING = (
    "--key-load-delay",
    "40000",
    "--loading-process-events-interval-bytes",
    "1024",
    "--rdbcompression",
    "no",
)
DOWN = re.compile(r"^Redis down \d+ [sm]$")


@dataclass
class Watched:
    """A dashboard on a Redis of its own, and a tab on each of its main pages."""

    server: EmbeddedRedis
    tabs: dict[str, Page] = field(default_factory=dict)

    def open_pages(self, visit: Visit, base: str) -> None:
        """Open the tabs; each is live."""
        for path in PAGES:
            page = self.tabs[path] = visit(base + path, outage=True).page
            page.evaluate("window.stayed = true")
            expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "live")

    def add_job(self) -> None:
        with redis.Redis.from_url(self.server.url) as connection:
            Queue("mails", connection=connection).enqueue("app.send")

    def check_each(self, message: str) -> None:
        """Each page shows one message: that Redis is down, with `message`."""
        for path, page in self.tabs.items():
            expect(page.locator("[data-live-button]")).to_have_text(DOWN)
            expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "down")
            expect(page.get_by_text(message).filter(visible=True), path).to_have_count(1)
            for wrong in (
                "Cannot reach Queuedeck",
                "Data is no longer updating",
                "No problems in",
                "No alerts are firing",
            ):
                expect(page.get_by_text(wrong).filter(visible=True), path).to_have_count(0)

    def check_that_each_recovers(self) -> None:
        """Each page is live again, without a reload."""
        for path, page in self.tabs.items():
            expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "live")
            expect(page.locator("#connection"), path).to_be_hidden()
            assert page.evaluate("window.stayed"), path


def check_that_a_frozen_redis_is_not_blamed_on_queuedeck(watched: Watched) -> None:
    assert watched.server.pid is not None
    os.kill(watched.server.pid, signal.SIGSTOP)
    watched.check_each("did not respond in time")
    problem = watched.tabs["/queues/main/rq/mails"].locator(".problems li", has_text="unreadable")
    expect(problem).to_contain_text(watched.server.url.rstrip("/"))
    os.kill(watched.server.pid, signal.SIGCONT)
    watched.check_that_each_recovers()


def check_that_a_stopped_redis_is_reported_once_with_what_was_known(watched: Watched) -> None:
    watched.server.stop(kill=True)
    watched.check_each("Connection refused")
    overview = watched.tabs["/"]
    row = overview.locator("#queues tbody tr")
    expect(row).to_have_class("old")
    expect(row.locator("td.wait")).to_have_text("2")
    expect(overview.locator(".as-of")).to_have_text(re.compile(r"Last known figures, from\s+\d+\s[sm] ago\."))
    expect(overview.locator("#source-main .dot")).to_have_class("dot critical")
    watched.server.start()
    watched.add_job()  # it has lost its data
    watched.check_that_each_recovers()
    expect(overview.locator(".as-of")).to_have_count(0)


def check_that_a_loading_redis_is_reported_as_loading(watched: Watched) -> None:
    with redis.Redis.from_url(watched.server.url) as client:
        client.mset(BALLAST)
        client.save()
        watched.server.stop(kill=True)
        watched.server.start()
        watched.check_each("is loading")
        client.config_set("key-load-delay", 0)
    watched.check_that_each_recovers()


def check_that_a_stopped_dashboard_is_reported_as_such(watched: Watched) -> None:
    for page in watched.tabs.values():
        expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "lost")
        expect(page.get_by_text("Cannot reach Queuedeck.").filter(visible=True)).to_have_count(1)
        expect(page.get_by_text("Redis down").filter(visible=True)).to_have_count(0)


def test_each_outage_is_reported_once_and_as_what_it_is(serve: Serve, visit: Visit) -> None:
    with reserved_port() as port, start_server("redis-7", *SLOW_LOADING) as server:
        watched = Watched(server)
        for _ in range(2):
            watched.add_job()
        with serve(server.url, port, gently=True) as base:
            wait_for_queues(base, 1)
            watched.open_pages(visit, base)
            check_that_a_frozen_redis_is_not_blamed_on_queuedeck(watched)
            check_that_a_stopped_redis_is_reported_once_with_what_was_known(watched)
            check_that_a_loading_redis_is_reported_as_loading(watched)
        check_that_a_stopped_dashboard_is_reported_as_such(watched)
