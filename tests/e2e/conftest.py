"""A real browser in front of the real server; every test fails on a script error or a breach of the policy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from dashboard.demo.embedded import EmbeddedRedis, free_port
from tests.conftest import start_server
from tests.serving import get_json, running, wait_until

INTERVAL_S = "0.5"
# How long a page may take to show what a test expects, on a machine that has more to do than this.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>/../a b%2F"
LONG = "phone-" + "very-long-" * 12
# Looking for new queues takes seconds, so they are there from the beginning; one test waits for a new one.
QUEUES = (
    *("keeping", "order-one", "order-two", "still", "pausing", "restarted", "sort-a", "sort-b", "sort-c"),
    *("filter-x1", "filter-x2", "filter-y", "tabs", "key-a", "key-b", "prefs", "mounted/queue", HOSTILE, LONG),
    *(f"page-{number:04}" for number in range(1000)),
)
# What a browser and htmx write to the console when the server is away; errors in all tests that do not take it away.
OUTAGE = ("Failed to load resource: net::ERR", "Failed to load resource: the server responded", "htmx: htmx:error")
# A poll of which nothing came for ten seconds: the machine had other things to do, and the page asks again.
SLOW = "htmx: htmx:error: timeout"
TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  window.tellViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""


@dataclass
class Visitor:
    """A tab, and what went wrong in it. `outage` = the test takes the server away; `gone` = it takes away what the page
    shows, which a poll under way may meet."""

    page: Page
    errors: list[str] = field(default_factory=list)
    outage: bool = False
    gone: bool = False

    def hear(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if message.text.startswith(SLOW):
            return
        if self.gone and "404" in message.text and message.text.startswith(OUTAGE):
            return
        if not (self.outage and message.text.startswith(OUTAGE)):
            self.errors.append(f"console: {message.text}")


def chromium() -> str | None:
    """Path of a Chromium of the machine; None: the one that Playwright brought."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests; each gets a profile of its own."""
    # As root, as in containers, Chromium starts only without its sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield started
        started.close()


Visit = Callable[..., Visitor]


def press(page: Page, *keys: str) -> None:
    """Press keys one after the other, all at the same moment by the clock of the page, however slow the machine is.

    The page is waited for first: before its scripts have run, a key says nothing.
    """
    page.wait_for_load_state()
    page.clock.set_fixed_time(page.evaluate("Date.now() / 1000"))
    for key in keys:
        page.keyboard.press(key)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a tab at a URL; the options are those of Playwright's `new_context`."""
    visitors: list[Visitor] = []

    def open_tab(url: str, *, outage: bool = False, gone: bool = False, **options: Any) -> Visitor:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "timezone_id": "UTC", **options})
        context.set_default_timeout(PATIENCE_MS)
        visitor = Visitor(context.new_page(), outage=outage, gone=gone)
        visitors.append(visitor)
        page = visitor.page
        context.expose_binding("tellViolation", lambda _source, text: visitor.errors.append(f"policy: {text}"))
        context.add_init_script(TELL_VIOLATIONS)
        page.on("console", visitor.hear)
        page.on("pageerror", lambda error: visitor.errors.append(f"script: {error}"))
        page.on("dialog", lambda dialog: (visitor.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(url)
        return visitor

    yield open_tab
    for visitor in visitors:
        visitor.page.context.close()
    assert [visitor.errors for visitor in visitors] == [[] for _ in visitors]


@contextmanager
def dashboard(redis_url: str, port: int | None = None) -> Iterator[str]:
    """`queuedeck serve` on that Redis; answers its URL, without a slash at the end."""
    port = port or free_port()
    command = ["-m", "dashboard.cli", "serve", "--redis", redis_url, "--port", str(port)]
    with running(command, port, QUEUEDECK_SAMPLE_INTERVAL_S=INTERVAL_S):
        yield f"http://127.0.0.1:{port}"


Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def serve() -> Serve:
    """Starts a dashboard of one's own, for tests that end it."""
    return dashboard


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of the module's own: what a dashboard shows of it is nobody else's."""
    instance = start_server("redis-7")
    yield instance
    instance.close()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[EmbeddedRedis]:
    """A Redis for all tests that leave it running; each uses queue names of its own."""
    instance = start_server("redis-7")
    yield instance
    instance.close()


@pytest.fixture(scope="session")
def base(shared_redis: EmbeddedRedis) -> Iterator[str]:
    """URL of the dashboard on the shared Redis, which knows the queues of all tests already."""
    with redis.Redis.from_url(shared_redis.url) as client:
        client.sadd("rq:queues", *(f"rq:queue:{name}" for name in QUEUES))
    with dashboard(shared_redis.url) as url:

        def found() -> bool:
            return bool(get_json(f"{url}/api/v1/queues?per_page=1")["total"] >= len(QUEUES))

        wait_until(found, what="finding the queues")
        yield url


@pytest.fixture
def connection(shared_redis: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of the shared Redis."""
    client = redis.Redis.from_url(shared_redis.url)
    yield client
    client.close()
