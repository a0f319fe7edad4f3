"""Pages in the past in a browser: with keys, with the slider, and without script."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.source import Source
from tests.e2e.conftest import PATIENCE_MS, Visit, dashboard, wait_for_queues
from tests.web.test_past_pages import BACKLOG, QUIET, at, record_minutes

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def past(server: EmbeddedRedis) -> Iterator[tuple[str, int]]:
    """The address of a dashboard, and when its recorded past began."""
    source = Source("main", server.url)
    base_s = record_minutes(source)
    with redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", "rq:queue:mail")
    source.close()
    with dashboard(server.url) as served:
        wait_for_queues(served, 1)
        yield served, base_s


def asked_at(page: Page) -> str:
    found = re.search(r"[?&]at=([^&#]+)", page.url)
    return found[1].replace("%3A", ":") if found else ""


def test_keys_and_the_slider_lead_through_the_past(past: tuple[str, int], visit: Visit) -> None:
    url, base_s = past
    page = visit(f"{url}/").page
    bar, figure = page.locator("[data-moment]"), page.locator(".figure b").first
    expect(bar).to_have_count(0)
    page.keyboard.press("e")
    expect(bar).to_contain_text("As of")
    first = asked_at(page)
    page.wait_for_load_state()
    page.keyboard.press("e")
    page.wait_for_url(lambda to: asked_at(page) not in ("", first))
    page.goto(f"{url}/?q=mail&at={at(base_s, QUIET)}")
    expect(figure).to_have_text("5")

    # The slider shows its time while it moves; Enter leads there, and the focus stays on it.
    slider, clock = page.get_by_label("Moment within 24 hours"), page.locator("[data-moment-clock]")
    expect(clock).to_have_text(re.compile(rf"^\w{{3}} {at(base_s, QUIET)[:10]} {at(base_s, QUIET)[11:19]} UTC$"))
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 60"))  # after a while, a step with a key leads there too
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(clock).to_contain_text(at(base_s, QUIET + 3)[11:16])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda to: at(base_s, QUIET + 3)[:16] in to.replace("%3A", ":"))
    assert "q=mail" in page.url
    expect(slider).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    expect(clock).to_contain_text(at(base_s, QUIET + 3)[11:16])
    page.clock.resume()

    # A page in the past does not poll: what it shows stays.
    page.goto(f"{url}/?at={at(base_s, BACKLOG)}")
    expect(figure).to_have_text("41")
    expect(page.locator("[data-live-button]")).to_be_hidden()
    page.get_by_role("link", name="mail", exact=True).click()
    expect(page.locator("h1")).to_contain_text("mail")
    expect(bar).to_contain_text("As of")
    page.get_by_role("textbox", name="UTC").fill(at(base_s, QUIET)[:16])
    page.get_by_role("button", name="Show").click()
    expect(figure).to_have_text("4")
    page.wait_for_load_state()
    page.keyboard.press("n")
    expect(bar).to_have_count(0)
    assert asked_at(page) == ""


def test_the_past_needs_no_script(past: tuple[str, int], browser: Browser) -> None:
    url, base_s = past
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{url}/queues/main/rq/mail")
    page.locator("a.earlier").click()
    expect(page.locator("[data-moment]")).to_contain_text("As of")
    expect(page.locator("[data-moment-slider]")).to_be_hidden()
    page.get_by_role("textbox", name="UTC").fill(at(base_s, BACKLOG)[:16])
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".figure b").first).to_have_text("40")
    page.get_by_role("link", name="Back to now").click()
    expect(page.locator("[data-moment]")).to_have_count(0)
    context.close()
