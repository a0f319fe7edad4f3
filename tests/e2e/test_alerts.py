"""Alerts in the browser: banner, title, icon, notifications, and the forms of rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import expect
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from tests.e2e.conftest import Visit, disabled_rules, wait_for_queues
from tests.serving import get_json, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
SETTINGS = """
redis_url = "{url}"
sample_interval_s = 0.5
[[rules]]
id = "deep"
name = "Too deep"
metric = "queue.depth"
critical = 3
for_s = 0
min_samples = 1
recover_for_s = 0
new_instance_grace_s = 0
"""
# A headless browser denies notifications, so this stub grants the permission and records what would be shown.
SPY = """
window.told = [];
window.Notification = class extends EventTarget {
  static get permission() { return sessionStorage.getItem("permission") ?? "default"; }
  static async requestPermission() {
    sessionStorage.setItem("permission", "granted");
    return Notification.permission;
  }
  constructor(title, options) {
    super();
    window.told.push([title, options.body]);
  }
};
"""


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file: Path = tmp_path_factory.mktemp("alerts") / "queuedeck.toml"
    off = disabled_rules("queue-no-consumers", "workers-gone", "checker-slow")
    file.write_text(SETTINGS.format(url=server.url) + off)
    with redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", "rq:queue:mail", "rq:queue:video")
    with serving("--config", file) as served:
        wait_for_queues(served.url, 2)
        yield served.url


@pytest.fixture
def connection(server: EmbeddedRedis, url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.url)
    client.delete("rq:queue:mail", "rq:queue:video")
    wait_until(lambda: get_json(f"{url}/api/v1/alerts")["alerts"] == [], what="the end of all alerts")
    yield client
    client.close()


def fill(connection: redis.Redis, name: str) -> None:
    for _ in range(5):
        Queue(name, connection=connection).enqueue("os.getpid")


def test_the_tab_shows_a_firing_alert_until_it_is_acknowledged(visit: Visit, url: str, connection: redis.Redis) -> None:
    page = visit(f"{url}/workers").page
    banner, icon = page.locator("#firing"), page.locator("link[rel=icon]")
    expect(banner).to_be_hidden()
    fill(connection, "mail")
    expect(banner).to_have_text(re.compile(r"critical: Too deep: mail \(rq, main\)"))
    expect(banner).to_have_class("banner firing critical")
    expect(page).to_have_title(re.compile(r"^\(1\) "))
    expect(icon).to_have_attribute("href", re.compile("mark-critical"))
    fill(connection, "video")
    expect(banner).to_contain_text("and 1 more firing")
    banner.get_by_role("link").click()
    for left in ("(1) ", "A"):
        page.get_by_role("link", name="Acknowledge", exact=True).first.click()
        page.get_by_role("button", name="Acknowledge", exact=True).click()
        expect(page).to_have_title(re.compile(rf"^{re.escape(left)}"))
    expect(banner).to_have_text(re.compile("2 alerts firing, all acknowledged or silenced"))
    expect(icon).to_have_attribute("href", re.compile(r"mark\."))
    connection.delete("rq:queue:mail", "rq:queue:video")
    expect(banner).to_be_hidden()


def test_a_tab_opened_in_the_background_counts_once(visit: Visit, url: str, connection: redis.Redis) -> None:
    fill(connection, "mail")
    page = visit("about:blank").page
    page.clock.install()
    page.goto(f"{url}/alerts")
    expect(page).to_have_title(re.compile(r"^\(1\) "))  # from now on, pages are sent with the count
    page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => !window.isOpened})")
    page.goto(f"{url}/workers")
    expect(page).to_have_title("(1) Workers · Queuedeck")
    fill(connection, "video")

    def has_heard() -> bool:
        page.clock.fast_forward(15_000)  # a hidden tab asks rarely
        return page.title() == "(2) Workers · Queuedeck"

    wait_until(has_heard, what="the title with both alerts")
    page.evaluate("window.isOpened = true; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#workers")).to_be_visible()
    expect(page).to_have_title("(2) Workers · Queuedeck")


def test_the_problems_of_a_queue_are_not_cut_on_a_phone(visit: Visit, url: str, connection: redis.Redis) -> None:
    fill(connection, "mail")
    wait_until(lambda: get_json(f"{url}/api/v1/alerts")["alerts"], what="the alert")
    page = visit(f"{url}/queues/main/rq/mail", viewport={"width": 360, "height": 740}).page
    box = page.locator("#queue > .problems")
    expect(box).to_contain_text("too many waiting")
    assert box.evaluate("box => box.scrollHeight <= box.clientHeight")
    assert box.evaluate("box => box.clientHeight") > 64


def test_a_browser_is_notified_of_new_alerts_once_enabled(visit: Visit, url: str, connection: redis.Redis) -> None:
    fill(connection, "mail")
    wait_until(lambda: get_json(f"{url}/api/v1/alerts")["alerts"], what="the alert")
    page = visit("about:blank").page
    page.add_init_script(SPY)
    page.goto(f"{url}/alerts")
    button = page.locator("[data-notify]")
    expect(button).to_have_text("Enable browser notifications")
    button.click()
    expect(button).to_have_text("Disable browser notifications")
    fill(connection, "video")
    page.wait_for_function("() => window.told.length")
    assert page.evaluate("window.told") == [["critical: Too deep", "video"]]  # the other one was no news
    with page.expect_response(f"{url}/api/v1/alerts"):
        page.goto(f"{url}/workers")  # remembered, and not told again
    expect(page.locator("#firing")).to_contain_text("and 1 more")
    assert page.evaluate("window.told") == []
    page.goto(f"{url}/alerts")
    button.click()
    expect(button).to_have_text("Enable browser notifications")


def test_a_new_rule_fires(visit: Visit, url: str, connection: redis.Redis) -> None:
    # The browser notes the 422 of a wrong form, and a poll of the rule that was just removed.
    page = visit(f"{url}/alerts/rules", outage=True).page
    page.get_by_role("link", name="New rule").click()
    page.locator("[name=name]").fill("Video waits")
    page.locator("[name=id]").fill("video")
    page.locator("[name=warning]").fill("soon")
    page.get_by_role("button", name="Create rule").click()
    expect(page.locator("#wrong-warning")).to_have_text("expected a number")
    page.locator("[name=warning]").fill("2")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator(".rule-preview")).to_contain_text("OK.")
    page.get_by_role("button", name="Create rule").click()
    expect(page.locator("#flash")).to_contain_text("Rule created.")
    fill(connection, "video")
    expect(page.locator(".rule-preview")).to_contain_text("Breaching: 1 of 2.")
    page.get_by_text("Delete…").click()
    page.get_by_role("button", name="Delete rule permanently").click()
    expect(page.locator("#flash")).to_contain_text("Rule deleted.")


@pytest.fixture
def crowded_url(any_server: EmbeddedRedis, tmp_path: Path) -> Iterator[str]:
    """A dashboard with 1,000 firing alerts: two rules on 500 queues."""
    file = tmp_path / "queuedeck.toml"
    another = SETTINGS.partition("[[rules]]")[2].replace('"deep"', '"full"').replace("Too deep", "Too full")
    off = disabled_rules("queue-no-consumers", "workers-gone", "checker-slow", "queue-latency")
    file.write_text(f"{SETTINGS.format(url=any_server.url)}[[rules]]{another}{off}")
    with redis.Redis.from_url(any_server.url) as client:
        client.flushall()
        for number in range(500):
            client.sadd("rq:queues", f"rq:queue:mail-{number:03}")
            client.rpush(f"rq:queue:mail-{number:03}", *"abcdef"[: 4 + number % 3])
    with serving("--config", file) as served:
        wait_until(lambda: len(get_json(f"{served.url}/api/v1/alerts")["alerts"]) == 1000, what="1,000 alerts")
        yield served.url


def test_a_thousand_alerts_are_a_few_incidents(visit: Visit, crowded_url: str) -> None:
    page = visit(f"{crowded_url}/alerts").page
    expect(page.locator(".incident")).to_have_count(2)
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollHeight") < 3 * 900
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    details = page.locator(".members details").first
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(details.get_by_role("listitem")).to_have_count(20)
    with page.expect_response(re.compile("/alerts/_now")):
        pass  # the next poll leaves it open
    expect(details.get_by_role("listitem").first).to_be_visible()
    page.get_by_role("link", name="Acknowledge 500…").first.click()
    page.get_by_role("button", name="Acknowledge 500 alerts").click()
    expect(page.locator("#flash")).to_contain_text("500 alerts acknowledged.")
    expect(page.get_by_role("link", name="Acknowledge 500…")).to_have_count(1)
    page.get_by_role("link", name="Show all alerts").click()
    expect(page.get_by_role("navigation", name="Pages of firing alerts")).to_contain_text("1–50 of 1,000")
