"""What pages say while Redis is stopped, frozen or loading, and Queuedeck itself is: four single, right messages."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
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
DOWN = re.compile(r"^Redis down \d+ s$")


@dataclass
class Watched:
    """A dashboard on a Redis of its own, and a tab on each of its main pages."""

    server: EmbeddedRedis
    tabs: dict[str, Page] = field(default_factory=dict)

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


@pytest.fixture
def watch(serve: Serve, visit: Visit) -> Iterator[Callable[..., Watched]]:
    """Opens the pages of a dashboard that has seen a queue with two jobs."""
    begun = []

    def open_pages(*options: str) -> Watched:
        server = start_server("redis-7", *options)
        begun.append(server)
        connection = redis.Redis.from_url(server.url)
        queue = Queue("mails", connection=connection)
        for _ in range(2):
            queue.enqueue("app.send")
        connection.close()
        running = serve(server.url)
        base = running.__enter__()
        begun.append(running)
        wait_for_queues(base, 1)
        found = Watched(server)
        for path in PAGES:
            page = found.tabs[path] = visit(base + path, outage=True).page
            page.evaluate("window.stayed = true")
            expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "live")
        return found

    yield open_pages
    for each in reversed(begun):
        each.close() if isinstance(each, EmbeddedRedis) else each.__exit__(None, None, None)


def test_a_stopped_redis_is_reported_once_with_what_was_known(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.server.stop(kill=True)
    watched.check_each("Connection refused")
    overview = watched.tabs["/"]
    row = overview.locator("#queues tbody tr")
    expect(row).to_have_class("old")
    expect(row.locator("td.wait")).to_have_text("2")
    expect(overview.locator(".as-of")).to_have_text(re.compile(r"Last known figures, from\s+\d+\ss ago\."))
    expect(overview.locator("#source-main .dot")).to_have_class("dot critical")
    watched.server.start()
    with redis.Redis.from_url(watched.server.url) as connection:  # it has lost its data
        Queue("mails", connection=connection).enqueue("app.send")
    watched.check_that_each_recovers()
    expect(overview.locator(".as-of")).to_have_count(0)


def test_a_frozen_redis_is_not_blamed_on_queuedeck(watch: Callable[..., Watched]) -> None:
    watched = watch()
    assert watched.server.pid is not None
    os.kill(watched.server.pid, signal.SIGSTOP)
    watched.check_each("did not respond in time")
    problem = watched.tabs["/queues/main/rq/mails"].locator(".problems li", has_text="unreadable")
    expect(problem).to_contain_text(watched.server.url.rstrip("/"))
    os.kill(watched.server.pid, signal.SIGCONT)
    watched.check_that_each_recovers()


def test_a_loading_redis_is_reported_as_loading(watch: Callable[..., Watched]) -> None:
    # It loads for minutes, unless the delay is removed.
    watched = watch("--appendonly", "yes", "--key-load-delay", "400")
    with redis.Redis.from_url(watched.server.url) as client:
        client.eval("for number = 1, ARGV[1] do redis.call('SET', 'ballast:' .. number, 'x') end", 0, 300_000)
        watched.server.stop(kill=True)
        watched.server.start()
        watched.check_each("is loading")
        client.config_set("key-load-delay", 0)
    watched.check_that_each_recovers()


def test_a_stopped_dashboard_is_reported_as_such(serve: Serve, visit: Visit, server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as connection:
        Queue("mails", connection=connection).enqueue("app.send")
    with reserved_port() as port:
        with serve(server.url, port, gently=True) as base:
            wait_for_queues(base, 1)
            pages = [visit(base + path, outage=True).page for path in PAGES]
            for page in pages:
                expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "live")
        for page in pages:
            expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "lost")
            expect(page.get_by_text("Cannot reach Queuedeck.").filter(visible=True)).to_have_count(1)
            expect(page.get_by_text("Redis down").filter(visible=True)).to_have_count(0)
