"""Marks in a browser: added in the form, read at the crosshair with the keyboard, deleted after a question."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Page, Route, expect

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.source import Source
from tests.e2e.conftest import Visit, confirm, dashboard, wait_for_queues
from tests.web.test_marks import record_alert, record_past

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    """The charts of a queue whose alert fired three minutes ago."""
    source = Source("main", server.url)
    record_past(source)
    with redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", "rq:queue:mail")
        record_alert(client, "firing", source.now_s() - 200, "mail")
    source.close()
    with dashboard(server.url) as served:
        wait_for_queues(served, 1)
        yield f"{served}/queues/main/rq/mail/charts?range=15m"


def test_a_deployment_is_marked_in_the_charts(url: str, visit: Visit) -> None:
    page = visit("about:blank").page
    # A refresh moves the figures under the crosshair: a page that is hidden reads none.
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => !window.isShown });")
    page.goto(url)
    chart, said = page.locator("figure").first, page.locator("[data-chart-said]")
    expect(chart.locator("canvas")).to_be_visible()
    page.get_by_text("Add a mark", exact=True).click()
    page.get_by_label("Version").fill("v412")
    page.keyboard.press("Enter")
    expect(page.locator("#flash")).to_contain_text("Mark added.")
    expect(page.locator("#marks tbody th")).to_have_text(["deploy v412", re.compile(": mail fired$")])

    # From the left: the alert, then the deployment, and back.
    expect(chart.locator("canvas")).to_be_visible()
    chart.focus()
    label = chart.locator(".mark-label")
    page.keyboard.press("m")
    expect(label).to_have_text(re.compile(r"^\d\d:\d\d alert Queue is <b>deep</b>: mail fired$"))
    expect(said).to_have_text(re.compile("mail fired$"))
    page.keyboard.press("m")
    expect(label).to_have_text(re.compile(r"^\d\d:\d\d deploy v412$"))
    page.keyboard.press("Shift+M")
    expect(label).to_have_text(re.compile("mail fired$"))

    # The crosshair is in all charts, the label only in the one that is read: with the keyboard and with the pointer.
    others, labels = page.locator("figure .u-cursor-x:visible"), page.locator("figure .mark-label:visible")
    expect(others).not_to_have_count(1)
    expect(labels).to_have_count(1)
    at = chart.locator(".u-cursor-x").bounding_box()
    assert at is not None
    chart.evaluate("figure => figure.blur()")
    page.mouse.move(at["x"] + 2, at["y"] + 20)
    expect(label).to_have_text(re.compile("mail fired$"))
    expect(labels).to_have_count(1)

    page.get_by_role("link", name="Delete the mark deploy v412").click()
    confirm(page, "Delete mark")
    expect(page.locator("#flash")).to_contain_text("Mark deleted.")
    expect(page.locator("#marks tbody th")).to_have_text([re.compile(": mail fired$")])

    # A deploy script adds one while the page is open: the next refresh of the charts has it.
    add_mark(page, url, "v413")
    page.evaluate("window.isShown = true")
    read_charts(page)
    expect(page.locator("#marks tbody th")).to_have_text(["deploy v413", re.compile(": mail fired$")])


def test_the_list_has_each_mark_that_the_charts_draw(url: str, visit: Visit) -> None:
    """One that is added after the page was built and before its first figures, and one whose list could not be read."""
    visitor = visit(url)
    page, rows = visitor.page, visitor.page.locator("#marks tbody th")
    held: list[Route] = []
    page.route("**/charts/_data*", lambda route: held.append(route))
    with page.expect_request("**/charts/_data*"):
        page.reload()
    add_mark(page, url, "v414")
    held.pop().continue_()
    page.unroute("**/charts/_data*")
    expect(rows.first).to_have_text("deploy v414")

    visitor.outage = True
    page.route(lambda address: address == page.url, lambda route: route.abort())
    add_mark(page, url, "v415")
    with page.expect_event("requestfailed"):
        read_charts(page)
    expect(rows.first).to_have_text("deploy v414")
    page.unroute_all()
    read_charts(page)
    expect(rows.first).to_have_text("deploy v415")


def add_mark(page: Page, url: str, version: str) -> None:
    answer = page.request.post(
        re.sub("/queues/.*", "/api/v1/marks", url),
        data={"text": "deploy", "version": version},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status == 201


def read_charts(page: Page) -> None:
    """Let the page read newer figures at once, as when it becomes visible."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
