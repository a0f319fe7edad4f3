"""The heat map: a thousand queues on one screen, each at its place, reached and named by the keyboard."""

from __future__ import annotations

import gzip
import re
import urllib.request
from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Page, expect
from rq import Queue, SimpleWorker

from dashboard.demo.embedded import EmbeddedRedis
from tests.e2e.conftest import Visit, dashboard, wait_for_queues

pytestmark = pytest.mark.e2e

MANY = 1000
# Compressed: a refresh after a sample in which anything changed.
MOST_BYTES_OF_A_REFRESH = 25_000
TABBABLE = "[...document.querySelectorAll('.cells > a')].filter((cell) => cell.tabIndex === 0).map((cell) => cell.id)"
PLACES = "[...document.querySelectorAll('.cells > a')].map((cell) => [cell.id, cell.offsetLeft, cell.offsetTop])"


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    """A dashboard with a thousand queues of RQ, one of which has work and no worker, and a paused one of BullMQ."""
    with redis.Redis.from_url(server.url) as client:
        names = [f"shop-{number:04}" for number in range(MANY - 1)]
        client.sadd("rq:queues", "rq:queue:alone", *(f"rq:queue:{name}" for name in names))
        worker = SimpleWorker([Queue(name, connection=client) for name in names], connection=client)
        worker.register_birth()
        client.persist(worker.key)
        for _ in range(12):
            Queue("alone", connection=client).enqueue("app.run")
        client.hset("bull:paused:meta", mapping={"version": "bullmq:5.81.0", "opts.maxLenEvents": 10000, "paused": 1})
    with dashboard(server.url) as found:
        wait_for_queues(found, MANY + 1)
        yield found


def label(page: Page) -> str:
    """What a screen reader says of the cell that has the focus."""
    return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))


def test_the_keyboard_leads_from_the_switch_to_a_queue(visit: Visit, url: str) -> None:
    page = visit(url).page
    switch = page.get_by_role("list", name="View").get_by_role("link", name="Heat map")
    switch.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{url}/?view=heat#queues")
    expect(page.get_by_role("list", name="View").locator("[aria-current]")).to_have_text("Heat map")
    expect(page.locator(".cells > a")).to_have_count(MANY + 1)
    expect(page.locator("table.queues")).to_have_count(0)
    # One stop for Tab; after the three links of the view comes the map.
    page.wait_for_function(f"({TABBABLE}).length === 1")
    page.get_by_role("link", name="Wall board").focus()
    page.keyboard.press("Tab")
    assert label(page) == "paused (BullMQ): 0 waiting, paused"
    expect(page.locator("[data-heat-now]")).to_have_text("paused (BullMQ): 0 waiting, paused")
    page.keyboard.press("ArrowDown")
    assert label(page) == "alone (RQ): 12 waiting, critical: no worker"
    page.keyboard.press("ArrowRight")
    assert label(page) == "shop-0000 (RQ): 0 waiting"
    page.keyboard.press("ArrowDown")
    below = label(page)
    page.keyboard.press("ArrowUp")
    assert label(page) == "shop-0000 (RQ): 0 waiting"
    assert re.fullmatch(r"shop-00\d\d \(RQ\): 0 waiting", below)
    page.keyboard.press("End")
    assert label(page) == f"shop-{MANY - 2:04} (RQ): 0 waiting"
    page.keyboard.press("ArrowRight")
    assert label(page) == f"shop-{MANY - 2:04} (RQ): 0 waiting"
    page.keyboard.press("Home")
    page.keyboard.press("j")
    assert label(page).startswith("alone")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("alone")


def test_a_refresh_changes_marks_and_neither_places_nor_the_focus(
    visit: Visit, url: str, connection: redis.Redis
) -> None:
    page = visit(f"{url}/?view=heat").page
    cell = page.locator("[id='main/rq/shop-0500']")
    cell.focus()
    places = page.evaluate(PLACES)
    expect(cell).to_have_class("s0")
    queue = Queue("shop-0500", connection=connection)
    for _ in range(11):
        queue.enqueue("app.run")
    expect(cell).to_have_class("s2")
    expect(cell).to_have_attribute("title", "shop-0500 (RQ): 11 waiting")
    expect(cell).to_be_focused()
    assert page.evaluate(TABBABLE) == ["main/rq/shop-0500"]
    assert page.evaluate(PLACES) == places
    queue.empty()
    expect(cell).to_have_class("s0")


def test_a_thousand_queues_fit_on_one_screen(visit: Visit, url: str) -> None:
    page = visit(f"{url}/?view=heat#queues", viewport={"width": 1440, "height": 900}).page
    expect(page.locator(".cells > a")).to_have_count(MANY + 1)
    page.locator("#queues").evaluate("(section) => section.scrollIntoView()")
    for name in ("main/bullmq/paused", "main/rq/alone", f"main/rq/shop-{MANY - 2:04}"):
        expect(page.locator(f"[id='{name}']")).to_be_in_viewport(ratio=1)
    expect(page.locator(".heat-legend")).to_be_in_viewport(ratio=1)
    # A shape for each level, not only a color.
    alone, paused, calm = (
        page.locator(f"[id='{name}']").evaluate("(cell) => getComputedStyle(cell, '::before').clipPath")
        for name in ("main/rq/alone", "main/bullmq/paused", "main/rq/shop-0000")
    )
    assert alone != paused == calm == "none"


def test_a_refresh_of_a_thousand_queues_is_small(url: str) -> None:
    request = urllib.request.Request(f"{url}/_overview?view=heat", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request) as response:
        body = response.read()
    assert gzip.decompress(body).count(b'aria-label="shop-') == MANY - 1
    assert len(body) < MOST_BYTES_OF_A_REFRESH


def test_the_filter_applies_and_names_are_shown_where_there_is_room(visit: Visit, url: str) -> None:
    page = visit(f"{url}/?view=heat").page
    page.locator("#search").fill("shop-001")
    expect(page.locator(".cells > a")).to_have_count(10)
    expect(page).to_have_url(f"{url}/?view=heat&q=shop-001")
    expect(page.locator(".cells > a b").first).to_have_text("shop-0010")
    page.get_by_role("link", name="Table").click()
    expect(page.locator("table.queues tbody tr")).to_have_count(10)
    expect(page).to_have_url(f"{url}/?q=shop-001#queues")


def test_without_script_each_cell_is_a_link(visit: Visit, url: str) -> None:
    page = visit(f"{url}/?q=shop-001", java_script_enabled=False).page
    page.get_by_role("link", name="Heat map").click()
    cells = page.locator(".cells > a")
    expect(cells).to_have_count(10)
    assert cells.evaluate_all("(cells) => cells.every((cell) => cell.tabIndex === 0)")
    page.get_by_role("link", name="shop-0012 (RQ): 0 waiting").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("shop-0012")
