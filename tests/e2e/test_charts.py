"""From a sparkline to what happened: the chart pages, with the mouse and with the keyboard, and without the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from playwright.sync_api import Locator, Page, Route, expect
from werkzeug.security import generate_password_hash

from dashboard.clock import now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.demo.past.writing import write_past
from tests.e2e.conftest import Visit, dashboard, wait_for_queues
from tests.serving import serving
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

QUEUES = ("mails", "video-transcode")
CHARTS = "/queues/main/bullmq/mails/charts"
REFRESH_MS = 61_000  # longer than the page waits between two
TIMEOUT_MS = 10_500  # longer than it waits for an answer, and before it tries again


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    """A dashboard with two queues that have a week behind them."""
    with redis.Redis.from_url(server.url) as client:
        for name in QUEUES:
            client.hset(f"bull:{name}:meta", "version", "bullmq:5.81.0")
    write_past(server.url, {"BullMQ in Node"}, now_s())
    with dashboard(server.url, interval_s="5") as served:
        wait_for_queues(served, len(QUEUES))
        yield served


def wait_until_drawn(page: Page) -> None:
    expect(page.locator("#flow canvas")).to_be_visible()
    expect(page.locator("#flow [data-line=throughput_per_min] b")).to_have_text(re.compile(r"\d"))


def drag_over(page: Page, chart: str) -> None:
    """Drag over the middle third of a chart."""
    box = page.locator(f"#{chart} .u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 45)
    page.mouse.move(box["x"] + box["width"] * 2 / 3, box["y"] + 45)
    page.mouse.up()


def test_from_a_sparkline_into_the_past_and_back(visit: Visit, url: str) -> None:
    page = visit(url).page
    page.get_by_role("link", name="mails", exact=True).focus()
    page.keyboard.press("Tab")
    sparkline = page.get_by_role("link", name="Charts of mails")
    expect(sparkline).to_be_focused()
    before = page.locator("table.queues tbody tr").first.bounding_box()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Charts of mails")
    assert before is not None
    assert before["height"] <= 33  # the links make no row higher
    wait_until_drawn(page)
    heights = [figure.bounding_box() for figure in page.locator(".history-chart").all()]
    page.get_by_role("link", name="7 days", exact=True).click()
    expect(page).to_have_url(re.compile(r"range=7d$"))
    wait_until_drawn(page)
    assert [figure.bounding_box() for figure in page.locator(".history-chart").all()] == heights

    # Keys read the values, in all charts at once.
    page.locator("#depth").focus()
    page.keyboard.press("Shift+ArrowLeft")
    said = page.locator("[data-chart-said]")
    expect(said).to_have_text(re.compile(r"^\d+ \w+, \d\d:\d\d UTC: waiting .*\d"))
    moment = (said.text_content() or "").split(": ")[0]
    expect(page.locator("#flow [data-legend-time]")).to_have_text(moment)
    page.keyboard.press("Enter")
    expect(said).to_have_text(f"Zoom begins at {moment}. Move and press Enter again.")
    waiting = page.locator("#depth [data-line=depth]")
    waiting.click()
    expect(waiting).to_have_attribute("aria-pressed", "false")
    log = page.locator("#runtimes [data-log]")
    log.click()
    expect(log).to_have_attribute("aria-pressed", "true")

    page.evaluate("scrollTo(0, 0)")
    drag_over(page, "flow")
    expect(page).to_have_url(re.compile(r"range=7d&from=\d+&to=\d+$"))
    wait_until_drawn(page)
    page.locator("summary", has_text="Figures as a table").click()
    rows = page.get_by_role("region", name="Figures as a table").locator("tbody tr")
    expect(rows.first).to_be_visible()
    assert 20 < rows.count() <= 48
    page.get_by_role("link", name="Back to 7 days").click()
    expect(page).to_have_url(re.compile(r"range=7d$"))
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="mails").click()
    expect(page).to_have_url(f"{url}{CHARTS.removesuffix('/charts')}")


def test_the_crosshair_keeps_its_time_when_charts_refresh(visit: Visit, url: str) -> None:
    page = visit(f"{url}{CHARTS}?range=15m").page
    wait_until_drawn(page)
    shown, said = page.locator("#flow [data-legend-time]"), page.locator("[data-chart-said]")
    page.locator("#flow").focus()
    page.keyboard.press("Shift+ArrowLeft")
    expect(said).not_to_have_text("")
    page.keyboard.press("Enter")
    expect(said).to_have_text(re.compile("^Zoom begins at "))
    time = (said.text_content() or "").removeprefix("Zoom begins at ").split(".")[0]
    blank = "document.querySelector('#flow [data-legend-time]').textContent = ''"

    def ends_at() -> int:
        page.evaluate(blank)
        with page.expect_response("**/charts/_data*") as answer:
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(shown).not_to_have_text("")  # the figures are drawn
        return int(answer.value.json()["end_s"])

    def is_read_until(time_s: int) -> bool:
        return ends_at() >= time_s

    begun = ends_at()
    for slots in (1, 2):
        wait_until(partial(is_read_until, begun + slots * 10), what="figures of the next slot")
        assert shown.inner_text() == time, slots
    page.evaluate(f"{blank}; document.documentElement.dataset.theme = 'dark'")  # draws all charts again
    expect(shown).not_to_have_text("")
    assert shown.inner_text() == time
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_url("**from=*")
    start_s, end_s = (int(parse_qs(urlsplit(page.url).query)[name][0]) for name in ("from", "to"))
    assert (end_s - start_s, f"{datetime.fromtimestamp(end_s - 10, UTC):%H:%M:%S} UTC" in time) == (110, True)


def test_without_the_server_the_charts_stay_and_are_continued_later(visit: Visit, url: str) -> None:
    page = visit("about:blank", outage=True, viewport={"width": 360, "height": 780}).page
    page.clock.install()
    page.goto(f"{url}{CHARTS}?range=1h")
    wait_until_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    chart = page.locator("#flow")
    chart.focus()
    page.context.set_offline(True)
    page.clock.fast_forward(REFRESH_MS)
    status = page.locator("[data-chart-status]")
    expect(status).to_contain_text("New figures could not be read: Cannot reach Queuedeck. Trying again")
    expect(page.locator("#flow canvas")).to_be_visible()
    page.context.set_offline(False)
    with page.expect_request(lambda request: "_data" in request.url) as asked:
        page.clock.fast_forward(REFRESH_MS)
    assert "since=" in asked.value.url
    expect(status).to_be_hidden()
    expect(chart).to_be_focused()
    answer = asked.value.response()
    assert answer is not None
    assert len(answer.json()["values"]["depth"]) < 30  # what is new, of 360 slots


def test_a_server_that_does_not_answer_is_named_and_a_late_answer_is_dropped(visit: Visit, url: str) -> None:
    page = visit("about:blank").page
    page.clock.install()
    page.goto(f"{url}{CHARTS}?range=1h")
    wait_until_drawn(page)
    status, shown = page.locator("[data-chart-status]"), page.locator("#flow [data-legend-time]")
    blank = "document.querySelector('#flow [data-legend-time]').textContent = ''"
    held: list[Route] = []

    def hold_one() -> None:
        page.route("**/charts/_data*", lambda route: held.append(route), times=1)
        with page.expect_request("**/charts/_data*"):
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    page.evaluate(blank)
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 60"))  # the page reads at this moment, then not by itself
    expect(shown).not_to_have_text("")
    hold_one()
    page.clock.fast_forward(TIMEOUT_MS)
    expect(status).to_contain_text("New figures could not be read: Cannot reach Queuedeck. Trying again")
    page.clock.fast_forward(TIMEOUT_MS)
    expect(status).to_be_hidden()

    # The one that is answered later was asked for earlier.
    hold_one()
    page.evaluate(blank)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(shown).not_to_have_text("")
    page.clock.fast_forward(TIMEOUT_MS)
    hold_one()
    assert status.is_hidden()
    assert len(held) == 3


SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def test_charts_unfold_on_overview_and_queue_page_and_stay_so(visit: Visit, url: str) -> None:
    visitor = visit("about:blank")
    page = visitor.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script(SHIFTS)
    page.goto(url, wait_until="networkidle")
    assert not [address for address in asked if "charts" in address]  # as light as without them
    details = page.locator("#recent-charts")
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    wait_until_drawn(page)
    data = next(address for address in asked if "/charts/_data" in address)
    assert "range=6h&charts=depth,flow,errors" in data.replace("%2C", ",")
    expect(page.locator("#errors canvas")).to_be_visible()
    for _ in range(2):
        with page.expect_response(lambda response: "/_overview" in response.url):
            page.evaluate("window.queuedeck.refresh()")
    expect(page.locator("#flow canvas")).to_be_visible()  # polls leave them alone
    box = details.bounding_box()

    page.reload(wait_until="networkidle")
    wait_until_drawn(page)
    assert details.bounding_box() == box
    assert page.evaluate("window.shifts") < 0.01  # there is room for them from the beginning
    with page.expect_request(lambda request: "_data" in request.url) as newer:
        page.locator("#recent-charts summary").press("Enter")
        page.locator("#recent-charts summary").press("Enter")
    assert "since=" in newer.value.url
    details.get_by_role("link", name="All charts of all queues").click()
    expect(page).to_have_url(f"{url}/charts")

    page.goto(url + CHARTS.removesuffix("/charts"))
    wait_until_drawn(page)
    expect(page.locator("#runtimes canvas")).to_be_visible()
    page.locator("#recent-charts").scroll_into_view_if_needed()
    drag_over(page, "depth")
    expect(page).to_have_url(re.compile(rf"{re.escape(CHARTS)}\?range=6h&from=\d+&to=\d+$"))


def unfold(page: Page) -> Locator:
    """Unfold the charts of the overview after the session has ended; what they say."""
    page.context.clear_cookies()
    page.locator("#recent-charts summary").press("Enter")
    return page.locator("[data-chart-note]")


def test_after_the_end_of_a_sign_in_charts_say_what_to_do(
    visit: Visit, server: EmbeddedRedis, url: str, tmp_path: Path
) -> None:
    del url  # whose past they show
    settings = tmp_path / "queuedeck.toml"
    digest = generate_password_hash("correct horse", "scrypt:1024:8:1")
    settings.write_text(
        f'secret_key = "{"k" * 40}"\nredis_url = "{server.url}"\n'
        f'[[users]]\nname = "ada"\npassword_hash = "{digest}"\nrole = "viewer"\n'
    )
    environ = {"QUEUEDECK_SAMPLE_INTERVAL_S": "5", "QUEUEDECK_AUTH": "auto"}
    with serving("--config", settings, **environ) as served:
        page = visit(served.url, outage=True).page
        sign_in(page)
        note = unfold(page)
        expect(note).to_have_text("Your sign-in has ended. Sign in to see the charts.")
        note.get_by_role("link", name="Sign in").click()
        sign_in(page)
        expect(page).to_have_url(f"{served.url}/")
        page.goto(f"{served.url}/charts")
        wait_until_drawn(page)
        page.context.clear_cookies()
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # they ask for newer figures
        status = page.locator("[data-chart-status]")
        expect(status).to_contain_text("Your sign-in has ended. Sign in to see the charts.")
        expect(status.get_by_role("link", name="Sign in")).to_have_attribute("href", "/charts")
    with serving("--redis", server.url, **environ) as served:
        address = re.search(r"http://\S+token=\S+", served.process.read_log())
        assert address is not None
        page = visit(address[0], outage=True).page
        note = unfold(page)
        expect(note).to_contain_text("read: Open the address that Queuedeck printed when it started. It ends")
        expect(note).to_contain_text("Fold and unfold to try again.")


def sign_in(page: Page) -> None:
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".rail")).to_be_visible()


def test_without_script_the_charts_are_a_link(visit: Visit, url: str) -> None:
    page = visit(url, java_script_enabled=False).page
    page.locator("#recent-charts summary").click()
    expect(page.get_by_text("Loading…")).to_be_hidden()
    expect(page.locator(".recent-box")).to_be_hidden()  # no empty room of the height of the charts
    page.get_by_role("link", name="All charts of all queues").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Charts of all queues")
