"""A real browser in front of the real server; every test fails on a script error or a breach of the policy."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from dashboard.demo.embedded import EmbeddedRedis
from tests.conftest import start_server
from tests.serving import get_json, serving
from tests.waiting import CEILING_S, wait_until

INTERVAL_S = "0.5"
# The ceiling of each wait for what a page shows: the one of all waits.
PATIENCE_MS = CEILING_S * 1000
expect.set_options(timeout=PATIENCE_MS)
# Only after a failure: a page that does not answer shall not hide why the test failed.
SCREENSHOT_MS = 10_000
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>/../a b%2F"
LONG = "phone-" + "very-long-" * 12
# Looking for new queues takes seconds, so they are there from the beginning.
QUEUES = (
    *("moving", "keeping", "order-one", "order-two", "still", "late", "pausing", "restarted"),
    *("sort-a", "sort-b", "sort-c", "filter-x1", "filter-x2", "filter-y"),
    *("tabs", "key-a", "key-b", "prefs", HOSTILE, LONG),
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
    """A tab, and what went wrong in it. `outage` = the test takes the server away."""

    page: Page
    errors: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    outage: bool = False

    @property
    def timeouts(self) -> int:
        """How many requests of its page were not answered in time."""
        return sum(f": {SLOW}" in line for line in self.console)

    def hear(self, message: ConsoleMessage) -> None:
        self.console.append(f"{message.type}: {message.text}")
        if message.type not in ("error", "warning"):
            return
        if message.text.startswith(SLOW):
            return
        if not (self.outage and message.text.startswith(OUTAGE)):
            self.errors.append(f"console: {message.text}")


def chromium() -> str | None:
    """Path of a Chromium of the machine; None: the one that Playwright brought."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests; each gets its own profile."""
    # As root, as in containers, Chromium starts only without its sandbox. One process renders all tabs: to start
    # one for each, and one more in reserve, costs more than most tests.
    # Nor does it optimize code: no page is there for long enough.
    arguments = ["--disable-gpu", "--renderer-process-limit=1", "--js-flags=--no-opt"]
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield started
        started.close()


Visit = Callable[..., Visitor]
VISITORS = pytest.StashKey[list[Visitor]]()
SAVED = pytest.StashKey[str]()  # where the pages with errors are saved


def save_pages(item: pytest.Item, visitors: Sequence[Visitor]) -> str:
    """Save a screenshot of each page of a failed test, its URL and its console; where they are."""
    name = re.sub(r"[^\w.-]+", "-", item.nodeid.removeprefix("tests/e2e/"))[:120]
    folder = item.config.rootpath / "test-results" / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, visitor in enumerate(visitors, 1):
        told = [visitor.page.url, *visitor.console, *visitor.errors]
        with contextlib.suppress(PlaywrightError):
            visitor.page.screenshot(path=folder / f"page-{number}.png", full_page=True, timeout=SCREENSHOT_MS)
        Path(folder / f"page-{number}.txt").write_text("\n".join(told) + "\n")
    return f"screenshots, URLs and consoles of {len(visitors)} pages: {folder}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test saves its pages, and its report says where."""
    report = yield
    visitors = item.stash.get(VISITORS, [])
    if report.when == "call" and report.failed and visitors:
        report.sections.append(("pages of the browser", save_pages(item, visitors)))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Close the pages before any fixture ends: one that still polls a server that has ended would report that."""
    visitors = item.stash.get(VISITORS, [])
    if any(visitor.errors for visitor in visitors):
        item.stash[SAVED] = save_pages(item, visitors)
    for visitor in visitors:
        with contextlib.suppress(PlaywrightError):
            visitor.page.context.close()


def press(page: Page, *keys: str) -> None:
    """Press keys one after the other, all at the same moment by the clock of the page, however slow the machine is.

    The page is waited for first: before its scripts have run, a key says nothing.
    """
    page.wait_for_load_state()
    page.clock.set_fixed_time(page.evaluate("Date.now() / 1000"))
    for key in keys:
        page.keyboard.press(key)


def confirm(page: Page, verb: str) -> None:
    """Confirm the question that is open, by its button `verb`. The focus was on the safe one."""
    dialog = page.locator("dialog#question")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name=verb).click()


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Opens a tab at a URL; the options are those of Playwright's `new_context`."""
    visitors = request.node.stash[VISITORS] = list[Visitor]()

    def open_tab(url: str, *, outage: bool = False, **options: Any) -> Visitor:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "timezone_id": "UTC", **options})
        context.set_default_timeout(PATIENCE_MS)
        visitor = Visitor(context.new_page(), outage=outage)
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
    assert [visitor.errors for visitor in visitors] == [[] for _ in visitors], request.node.stash.get(SAVED, "")


@contextmanager
def dashboard(redis_url: str, port: int = 0, *, interval_s: str = INTERVAL_S, gently: bool = False) -> Iterator[str]:
    """`queuedeck serve` on that Redis; its URL, without a slash at the end. Port 0 means any free port."""
    arguments = ("--redis", redis_url)
    with serving(*arguments, port=port, gently=gently, QUEUEDECK_SAMPLE_INTERVAL_S=interval_s) as served:
        yield served.url


def disabled_rules(*ids: str) -> str:
    """Settings, to append to others, that disable these built-in rules."""
    return "".join(f'[[rules]]\nid = "{rule_id}"\nenabled = false\n' for rule_id in ids)


def wait_for_queues(url: str, count: int) -> None:
    """Return once the dashboard at `url` shows `count` queues."""
    wait_until(lambda: get_json(f"{url}/api/v1/queues")["total"] >= count, what=f"{count} queues at {url}")


Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def serve() -> Serve:
    """Starts a dashboard of one's own, for tests that end it."""
    return dashboard


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A Redis server for this module alone, so that its dashboard shows no data of other tests."""
    instance = start_server("redis-7")
    yield instance
    instance.close()


@pytest.fixture(scope="module")
def base(server: EmbeddedRedis) -> Iterator[str]:
    """URL of a dashboard that has already found QUEUES, on the Redis of the module; each test has its own queues."""
    with redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", *(f"rq:queue:{name}" for name in QUEUES))
    with dashboard(server.url) as url:
        wait_for_queues(url, len(QUEUES))
        yield url


@pytest.fixture
def connection(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of the Redis of the module."""
    client = redis.Redis.from_url(server.url)
    yield client
    client.close()
