"""The page follows Redis without a reload, and says so when it cannot."""

from __future__ import annotations

import re

import pytest
import redis
from playwright.sync_api import Page, Route, expect
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis, reserved_port
from tests.conftest import start_server
from tests.e2e.conftest import Serve, Visit
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

STAY = "window.stayed = true"


def waiting(page: Page, queue: str, count: str) -> None:
    expect(page.locator(f'table.queues tr:has(a:text-is("{queue}")) td.wait')).to_have_text(count)


def test_figures_update_without_a_reload(base: str, connection: redis.Redis, visit: Visit) -> None:
    queue = Queue("moving", connection=connection)
    queue.enqueue("app.run")
    page = visit(f"{base}/?q=moving").page
    page.evaluate(STAY)
    waiting(page, "moving", "1")
    for _ in range(4):
        queue.enqueue("app.run")
    waiting(page, "moving", "5")
    queue.empty()
    waiting(page, "moving", "0")
    assert page.evaluate("window.stayed")
    expect(page.locator("[data-live-word]")).to_have_text(re.compile("^live · [0-2] s$"))


def test_a_refresh_keeps_focus_open_parts_and_typed_text(base: str, connection: redis.Redis, visit: Visit) -> None:
    queue = Queue("keeping", connection=connection)
    job = queue.enqueue("app.run", {"a": {"b": {"c": "deep"}}}, meta={"outer": {"inner": {"leaf": 1}}})
    page = visit(f"{base}/queues/main/rq/keeping/jobs/{job.id}").page
    page.locator("main details:not([open]) > summary").first.click()
    page.locator("main details:not([open]) > summary").first.focus()
    focused = page.evaluate("document.activeElement.textContent")
    opened = page.locator("main details[open]").count()
    job.meta["outer"]["new"] = "fresh"
    job.save_meta()
    expect(page.locator("#view")).to_contain_text("fresh")
    expect(page.locator("main details[open]")).to_have_count(opened)
    expect(page.locator("summary:focus")).to_have_text(focused)


def test_an_unchanged_view_costs_no_body(base: str, connection: redis.Redis, visit: Visit) -> None:
    job = Queue("still", connection=connection).enqueue("app.run")
    # Its age is shown, and changes slowly.
    connection.hset(f"rq:job:{job.id}", mapping=dict.fromkeys(("created_at", "enqueued_at"), "2026-01-01T00:00:00.0Z"))
    page = visit(f"{base}/queues/main/rq/still").page
    with page.expect_response(lambda answer: "/_queue" in answer.url and answer.status == 304) as found:
        pass
    assert found.value.headers["hx-ptag"]
    expect(page.locator("#queue")).to_contain_text("still")


def test_a_hidden_tab_does_not_poll(base: str, visit: Visit) -> None:
    page = visit("about:blank").page
    page.clock.install()
    page.goto(base)
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 60"))  # not before, however late this is called
    expect(page.locator("#live.htmx-request")).to_have_count(0)
    asked: list[str] = []
    page.on("request", lambda request: "_firing" in request.url or asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.away !== false})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.run_for(60_000)
    with page.expect_response(lambda answer: "_overview" in answer.url):
        page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    assert len(asked) == 1, asked  # this one; whatever was asked for before would stand before it


def test_a_page_becomes_live_when_its_scripts_load_late(base: str, connection: redis.Redis, visit: Visit) -> None:
    queue = Queue("late", connection=connection)
    queue.enqueue("app.run")
    page = visit("about:blank").page
    page.clock.install()
    held: list[Route] = []
    page.route("**/queuedeck.js*", lambda route: held.append(route))
    page.goto(f"{base}/?q=late", wait_until="commit")
    page.wait_for_function("() => window.htmx !== undefined")
    page.clock.run_for(10_000)  # many intervals
    wait_until(lambda: page.evaluate("1") and held, what="the request for the scripts")
    assert len(held) == 1
    expect(page.locator("table.queues")).to_be_visible()
    held[0].continue_()
    queue.enqueue("app.run")
    waiting(page, "late", "2")


def test_pausing_stops_and_resuming_catches_up(base: str, connection: redis.Redis, visit: Visit) -> None:
    queue = Queue("pausing", connection=connection)
    queue.enqueue("app.run")
    page, other = visit(f"{base}/?q=pausing").page, visit(f"{base}/?q=pausing").page
    waiting(page, "pausing", "1")
    page.locator("[data-live-button]").click()
    expect(page.locator("[data-live-word]")).to_have_text("paused")
    expect(page.locator("#live.htmx-request")).to_have_count(0)  # what was asked before may still bring news
    queue.enqueue("app.run")
    waiting(other, "pausing", "2")
    waiting(page, "pausing", "1")
    page.locator("[data-live-button]").click()
    waiting(page, "pausing", "2")


def test_the_page_recovers_after_redis_was_down(serve: Serve, visit: Visit) -> None:
    server = start_server("redis-7")
    try:
        connection = redis.Redis.from_url(server.url)
        Queue("survivor", connection=connection).enqueue("app.run")
        with serve(server.url) as url:
            page = visit(url, outage=True).page
            page.evaluate(STAY)
            waiting(page, "survivor", "1")
            listing = visit(f"{url}/queues/main/rq/survivor", outage=True).page
            expect(listing.locator("table.jobs")).to_be_visible()
            server.stop()
            expect(page.locator(".problems li.critical")).to_contain_text("unreachable")
            expect(page.locator(".problems")).to_contain_text("Connection refused")
            expect(listing.locator(".problems, #connection:visible").first).to_contain_text("Connection refused")
            expect(page).to_have_title(re.compile(r"\(1\)"))
            server.start()
            for _ in range(3):
                Queue("survivor", connection=connection).enqueue("app.run")
            waiting(page, "survivor", "3")
            expect(page.get_by_text("cannot be read for")).to_have_count(0)
            expect(listing.locator("table.jobs tbody tr")).to_have_count(3)
            assert page.evaluate("window.stayed")
        connection.close()
    finally:
        server.close()


def test_the_page_recovers_after_the_server_was_down(
    server: EmbeddedRedis, connection: redis.Redis, serve: Serve, visit: Visit
) -> None:
    queue = Queue("restarted", connection=connection)
    queue.enqueue("app.run")
    with reserved_port() as port:
        with serve(server.url, port, gently=True) as base:
            page = visit("about:blank", outage=True).page
            page.clock.install()
            page.goto(f"{base}/?q=restarted")
            page.evaluate(STAY)
            waiting(page, "restarted", "1")
            expect(page.locator("#connection")).to_be_hidden()
        banner = page.locator("#connection")
        expect(banner).to_be_visible()
        expect(banner).to_contain_text("Cannot reach Queuedeck.")
        expect(banner).to_contain_text(re.compile(r"Showing data from \d+ s ago"))
        expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "lost")
        waiting(page, "restarted", "1")  # what was known stays
        queue.enqueue("app.run")
        page.clock.pause_at(page.evaluate("Date.now() / 1000 + 60"))  # it does not try again by itself
        expect(page.locator("#live.htmx-request")).to_have_count(0)
        with serve(server.url, port):
            banner.get_by_role("button", name="Try now").click()
            page.clock.resume()
            waiting(page, "restarted", "2")
            expect(banner).to_be_hidden()
            assert page.evaluate("window.stayed")
            expect(page).not_to_have_title(re.compile(r"\(!\)"))
