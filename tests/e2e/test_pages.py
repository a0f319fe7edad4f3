"""Finding one's way: sorting, filter, pages, links, keys, phone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Route, expect
from rq import Queue, Retry, SimpleWorker

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.web.urls import quote_segment
from tests.e2e.conftest import HOSTILE, LONG, Visit, dashboard, press, wait_for_queues

pytestmark = pytest.mark.e2e

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
NO_SIDEWAYS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def fill(connection: redis.Redis, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        queue = Queue(name, connection=connection)
        for _ in range(size):
            queue.enqueue("app.run")


def test_sorting_is_in_the_url_and_back_reverts_it(base: str, connection: redis.Redis, visit: Visit) -> None:
    fill(connection, {"sort-b": 1, "sort-a": 3, "sort-c": 2})
    page = visit(f"{base}/?q=sort-&sort=name").page
    rows = page.locator("table.queues tbody th a")
    expect(rows).to_have_text(["sort-a", "sort-b", "sort-c"])
    # Under the pointer the order stays as it was when the column was clicked, so the figures must be there before.
    expect(page.locator("table.queues tbody td.wait")).to_have_text(["3", "1", "2"])
    page.evaluate("window.stayed = true")
    page.get_by_role("link", name="Waiting", exact=True).click()
    expect(rows).to_have_text(["sort-a", "sort-c", "sort-b"])
    expect(page).to_have_url(re.compile("sort=waiting"))
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("link", name="Waiting", exact=True).click()
    expect(rows).to_have_text(["sort-b", "sort-c", "sort-a"])
    page.go_back()
    expect(rows).to_have_text(["sort-a", "sort-c", "sort-b"])
    page.go_back()
    expect(rows).to_have_text(["sort-a", "sort-b", "sort-c"])
    assert page.evaluate("window.stayed")


def test_the_filter_is_in_the_url(base: str, connection: redis.Redis, visit: Visit) -> None:
    fill(connection, {"filter-x1": 1, "filter-x2": 1, "filter-y": 1})
    page = visit(f"{base}/?sort=name").page
    rows = page.locator("table.queues tbody th a")
    page.keyboard.press("/")
    page.keyboard.type("FILTER-X")
    expect(rows).to_have_text(["filter-x1", "filter-x2"])
    expect(page).to_have_url(f"{base}/?sort=name&q=FILTER-X")
    expect(page.get_by_role("heading", name=re.compile("Queues 2 of"))).to_be_visible()
    page.reload()
    expect(rows).to_have_text(["filter-x1", "filter-x2"])
    expect(page.locator("#search")).to_have_value("FILTER-X")
    page.locator("#search").fill("filter-nothing")
    expect(page.get_by_text("No queue matches")).to_be_visible()
    page.locator("#search").press("Escape")
    expect(page).to_have_url(f"{base}/?sort=name")
    expect(page.locator("#search")).to_have_value("")


def test_text_typed_before_the_scripts_are_loaded_filters(base: str, connection: redis.Redis, visit: Visit) -> None:
    fill(connection, {"filter-x1": 1, "filter-x2": 1, "filter-y": 1})
    page = visit("about:blank").page
    held: list[Route] = []
    page.route("**/queuedeck.js*", lambda route: held.append(route))
    with page.expect_request("**/queuedeck.js*"):
        page.goto(f"{base}/?sort=name", wait_until="commit")
    page.locator("#search").fill("filter-x")
    [script] = held
    script.continue_()
    expect(page.locator("table.queues tbody th a")).to_have_text(["filter-x1", "filter-x2"])
    expect(page).to_have_url(f"{base}/?sort=name&q=filter-x")


def test_a_script_that_throws_does_not_stop_the_others(base: str, visit: Visit) -> None:
    visitor = visit("about:blank")
    page = visitor.page

    def break_one(route: Route) -> None:
        response = route.fetch()
        before, name, after = response.text().partition("/* js/copy.js */\ntry {\n")
        assert name
        route.fulfill(response=response, body=f"{before}{name}throw new Error('broken');\n{after}")

    page.route("**/queuedeck.js*", break_one)
    page.goto(base)
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog", name="Command palette")).to_be_visible()
    assert [error for error in visitor.errors if "broken" in error]
    visitor.errors.clear()


@pytest.fixture
def crowded(server: EmbeddedRedis) -> Iterator[str]:
    """URL of a separate dashboard with a thousand queues in their own database."""
    url = server.url.removesuffix("/0") + "/1"
    with redis.Redis.from_url(url) as client:
        client.sadd("rq:queues", *(f"rq:queue:page-{number:04}" for number in range(1000)))
    with dashboard(url, interval_s="5") as found:
        wait_for_queues(found, 1000)
        yield found


def test_a_thousand_queues_are_paged(crowded: str, visit: Visit) -> None:
    page = visit(f"{crowded}/?q=page-&sort=name").page
    pages = page.get_by_role("navigation", name="Pages of the queue table")
    expect(pages).to_contain_text("1–50 of 1000")
    page.keyboard.press("]")
    expect(pages).to_contain_text("51–100 of 1000")
    pages.get_by_role("link", name="Next").click()
    expect(pages).to_contain_text("101–150 of 1000")
    expect(page.locator("table.queues tbody th a").first).to_have_text("page-0100")
    expect(page).to_have_url(re.compile("page=3"))
    page.go_back()
    expect(pages).to_contain_text("51–100 of 1000")
    page.keyboard.press("[")
    expect(pages).to_contain_text("1–50 of 1000")
    expect(page.locator("table.queues tbody tr")).to_have_count(50)


def test_a_link_to_a_job_with_a_hostile_name_works(base: str, connection: redis.Redis, visit: Visit) -> None:
    job = Queue(HOSTILE, connection=connection).enqueue(
        "app.run", HOSTILE, description=HOSTILE, meta={HOSTILE: "<b hx-get='/x' hx-trigger='load'>"}
    )
    address = f"{base}/queues/main/rq/{quote_segment(HOSTILE)}"
    page = visit(f"{address}/jobs/{job.id}").page
    expect(page.locator("#job")).to_contain_text(job.id)
    expect(page.locator("#job")).to_contain_text("<b hx-get='/x' hx-trigger='load'>")
    with page.expect_response(lambda answer: "/_job" in answer.url and answer.status in (200, 304)):
        pass
    page.locator(".crumbs a", has_text="<script>").click()
    expect(page).to_have_url(address)
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    with page.expect_response(lambda answer: "/_queue" in answer.url and answer.status in (200, 304)):
        pass
    page.locator("table.jobs tbody th a").click()
    expect(page.locator("#job-id")).to_have_text(job.id)
    page.go_back()
    expect(page.locator("h1")).to_contain_text("<script>alert(1)</script>")


def test_tabs_and_pages_of_jobs(base: str, connection: redis.Redis, visit: Visit) -> None:
    fill(connection, {"tabs": 60})
    page = visit(f"{base}/queues/main/rq/tabs").page
    expect(page.locator("nav.pages")).to_contain_text("1–50 of 60")
    page.keyboard.press("]")
    expect(page.locator("nav.pages")).to_contain_text("51–60 of 60")
    expect(page.locator("table.jobs tbody tr")).to_have_count(10)
    page.locator(".tabs a", has_text="dead").click()
    expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()
    expect(page).to_have_url(re.compile("state=dead"))
    page.go_back()
    expect(page.locator("table.jobs tbody tr")).to_have_count(10)


def test_the_keyboard_reaches_everything(base: str, connection: redis.Redis, visit: Visit) -> None:
    fill(connection, {"key-a": 1, "key-b": 1})
    page = visit(f"{base}/?q=key-&sort=name").page
    expect(page.locator("table.queues tbody th a")).to_have_text(["key-a", "key-b"])
    for key, focused in (("j", "key-a"), ("j", "key-b"), ("j", "key-b"), ("k", "key-a")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent") == focused
    page.keyboard.press("Enter")
    expect(page.locator("h1 span").first).to_have_text("key-a")
    press(page, "?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    press(page, "g", "o")
    expect(page).to_have_url(f"{base}/")
    press(page, "p")
    expect(page.locator("[data-live-word]")).to_have_text("paused")


def test_theme_row_height_and_zone_are_remembered(base: str, connection: redis.Redis, visit: Visit) -> None:
    fill(connection, {"prefs": 1})
    page = visit(f"{base}/queues/main/rq/prefs", timezone_id="Asia/Kolkata").page
    root, ground = page.locator("html"), "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    for key in "ttdu":  # system, light, dark
        page.keyboard.press(key)
    expect(page.locator("table.jobs time").first).to_have_attribute("title", re.compile(r"UTC\+05:30$"))
    page.reload()
    for name, value in (("theme", "dark"), ("density", "comfortable"), ("zone", "local")):
        expect(root).to_have_attribute(f"data-{name}", value)
    assert page.evaluate(ground) != light
    expect(page.locator("table.jobs time").first).to_have_attribute("title", re.compile(r"UTC\+05:30$"))


def test_a_phone_needs_no_sideways_scroll(base: str, connection: redis.Redis, visit: Visit) -> None:
    name = LONG
    job = Queue(name, connection=connection).enqueue("app." + "long" * 60, "x" * 500, meta={"k" * 200: "v" * 900})
    page = visit(f"{base}/?q=phone-", **PHONE).page
    expect(page.locator("table.queues tbody tr")).to_have_count(1)
    for path in ("/?q=phone-", f"/queues/main/rq/{name}", f"/queues/main/rq/{name}/jobs/{job.id}", "/nothing"):
        page.goto(base + path) if path != "/nothing" else None
        assert page.evaluate(NO_SIDEWAYS), path


def test_a_job_on_a_phone_names_each_figure(base: str, connection: redis.Redis, visit: Visit) -> None:
    Queue("late", connection=connection).enqueue("app.missing", retry=Retry(max=3, interval=900))
    Queue("late", connection=connection).enqueue("app.missing")
    SimpleWorker(["late"], connection=connection).work(burst=True)
    page = visit(f"{base}/queues/main/rq/late?state=dead", **PHONE).page
    cells = page.locator("table.jobs tbody tr").first.locator("td[data-label]")
    expect(cells.first).to_be_visible()
    label = "(cell) => getComputedStyle(cell, '::before').content"
    shown = [cell for cell in cells.all() if cell.is_visible()]
    assert [cell.evaluate(label) for cell in shown][:3] == ['"enqueued "', '"failed "', '"duration "']
    assert all(cell.evaluate("(cell) => cell.scrollWidth <= cell.clientWidth") for cell in shown)
    assert all(cell.bounding_box()["width"] > 100 for cell in shown)  # not below the tick box


def test_the_selected_tab_and_queues_of_a_worker_are_visible(base: str, connection: redis.Redis, visit: Visit) -> None:
    Queue("tabs", connection=connection).enqueue("app.run")
    worker = SimpleWorker(["tabs"], connection=connection)
    worker.register_birth()
    try:
        page = visit(f"{base}/queues/main/rq/tabs").page
        chosen = page.locator(".tabs [aria-current]")
        expect(chosen).to_be_in_viewport(ratio=1)
        assert page.locator(".tabs").evaluate("(tabs) => tabs.scrollLeft") == 0
        page.goto(f"{base}/workers")
        cell = page.locator("table.workers tbody td[data-label=queues]", has_text="tabs").first
        expect(cell).to_be_visible()
        assert cell.evaluate("(cell) => cell.scrollWidth <= cell.clientWidth && cell.clientWidth > 100")
    finally:
        worker.register_death()


def test_a_missing_page_is_explained(base: str, visit: Visit) -> None:
    page = visit(f"{base}/queues/main/rq/no-such-queue", outage=True).page
    expect(page.get_by_role("heading", name="Queue not found.")).to_be_visible()
    page.get_by_role("link", name="Go to the overview").click()
    expect(page).to_have_url(f"{base}/")
