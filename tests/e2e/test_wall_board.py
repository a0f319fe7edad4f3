"""The wall board: all on one screen, and nobody in the room can mistake old figures for new ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Page, expect
from rq import Queue, SimpleWorker
from werkzeug.security import generate_password_hash

from dashboard.demo.embedded import EmbeddedRedis, reserved_port
from tests.conftest import start_server
from tests.e2e.conftest import Serve, Visit, disabled_rules, wait_for_queues
from tests.serving import get_json, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

SCREENS = ((1920, 1080), (1280, 720))
SETTINGS = """
redis_url = "{url}"
sample_interval_s = 0.5
[[rules]]
id = "deep"
name = "Too deep"
metric = "queue.depth"
critical = 8
for_s = 0
min_samples = 1
recover_for_s = 0
new_instance_grace_s = 0
[[rules]]
id = "last"
name = "The last one is deep"
metric = "queue.depth"
queues = ["queue-29-*"]
critical = 4
for_s = 0
min_samples = 1
recover_for_s = 0
new_instance_grace_s = 0
"""
NAMES = tuple(f"queue-{number:02}-of-the-shop" for number in range(30))
# Rows that are partly visible: neither whole nor beyond the edge.
CUT = """
(list) => {
  const edge = list.getBoundingClientRect();
  return [...list.children].filter((row) => {
    const box = row.getBoundingClientRect();
    return box.left < edge.right - 1 && box.bottom > edge.bottom + 1;
  }).length;
}
"""
VISIBLE = """
(list) => {
  const edge = list.getBoundingClientRect();
  return [...list.children].filter((row) => row.getBoundingClientRect().right <= edge.right + 1).length;
}
"""


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard with 30 queues of RQ, and a rule that fires at 9 waiting jobs."""
    file: Path = tmp_path_factory.mktemp("wall") / "queuedeck.toml"
    off = disabled_rules("queue-no-consumers", "workers-gone", "checker-slow")
    file.write_text(SETTINGS.format(url=server.url) + off)
    with redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", *(f"rq:queue:{name}" for name in NAMES))
        # A worker that is there and does not run: without any, that would be the problem.
        worker = SimpleWorker([Queue(name, connection=client) for name in NAMES], connection=client)
        worker.register_birth()
        client.persist(worker.key)
    with serving("--config", file) as served:
        wait_for_queues(served.url, len(NAMES))
        yield served.url


@contextmanager
def firing(url: str, connection: redis.Redis, *names: str, jobs: int = 9) -> Iterator[None]:
    """While this lasts, these queues are too deep; afterwards the alerts are resolved."""
    queues = [Queue(name, connection=connection) for name in names]
    for queue in queues:
        for _ in range(jobs):
            queue.enqueue("app.run")
    wait_until(lambda: len(get_json(f"{url}/api/v1/alerts")["alerts"]) == len(names), what="the alerts")
    yield
    for queue in queues:
        queue.empty()
    wait_until(lambda: not get_json(f"{url}/api/v1/alerts")["alerts"], what="the end of the alerts")


def check_that_all_fits(page: Page) -> None:
    """Nothing scrolls, and no row of a queue is cut."""
    inner, outer = page.evaluate(
        "[[innerWidth, innerHeight], [document.documentElement.scrollWidth, document.documentElement.scrollHeight]]"
    )
    assert outer == inner
    assert page.locator(".board-queues ol").evaluate(CUT) == 0
    assert page.locator(".board-queues ol").evaluate(VISIBLE) >= 8
    for part in (".headline", ".board-problems", ".board-figures", ".board-queues", ".board-foot"):
        box = page.locator(part).bounding_box()
        assert box is not None
        assert 0 <= box["y"] <= box["y"] + box["height"] <= inner[1], part


def test_trouble_and_calm_fit_on_one_screen(visit: Visit, url: str, connection: redis.Redis) -> None:
    pages = [visit(f"{url}/?wall=1", viewport={"width": wide, "height": high}).page for wide, high in SCREENS]
    deep = NAMES[:5]
    with firing(url, connection, *deep[:2]):
        for page in pages:
            expect(page.get_by_role("heading", level=1)).to_have_text("2 critical problems")
            expect(page.locator(".board-problems li")).to_have_count(2)
            expect(page.locator(".board-problems li").first).to_contain_text(
                re.compile(r"started \d+\s[sm] ago|started now")
            )
            expect(page.locator(".board-figures .figure")).to_have_count(5)
            expect(page.locator(".board-queues .row.critical").first).to_contain_text(deep[0])
            expect(page.locator("[data-last-sample]")).to_have_text(re.compile(r"^last sample \d\d:\d\d:\d\d UTC$"))
            expect(page.locator(".rail, .bar, input, button:visible")).to_have_count(0)
            check_that_all_fits(page)
    for page in pages:
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^No problems in 30 queues"))
        expect(page.locator(".board-problems .resolved").first).to_contain_text("Too deep")
        check_that_all_fits(page)


def test_of_more_than_five_problems_the_last_line_says_how_many_more(
    visit: Visit, url: str, connection: redis.Redis
) -> None:
    broken = [f"broken-{number}" for number in range(3)]
    try:
        connection.sadd("rq:queues", *(f"rq:queue:{name}" for name in broken))
        for name in broken:
            connection.set(f"rq:queue:{name}", "no list")
        with firing(url, connection, *NAMES[:3]):
            page = visit(f"{url}/?wall=1", viewport={"width": 1280, "height": 720}).page
            expect(page.get_by_role("heading", level=1)).to_have_text("6 critical problems")
            expect(page.locator(".board-problems li")).to_have_count(5)
            last = page.locator(".board-problems li").last
            expect(last).to_contain_text("1 more problem")
            for part in (last.locator(".more"), last.locator("time"), last.locator(".what")):
                expect(part).to_be_in_viewport(ratio=1)
            check_that_all_fits(page)
    finally:
        connection.srem("rq:queues", *(f"rq:queue:{name}" for name in broken))
        connection.delete(*(f"rq:queue:{name}" for name in broken))
    wait_until(lambda: get_json(f"{url}/api/v1/queues")["total"] == len(NAMES), what="the end of the broken queues")


def test_figures_of_many_digits_are_not_cut_off(visit: Visit, url: str) -> None:
    page = visit(f"{url}/?wall=1", viewport={"width": 1440, "height": 900}).page
    figures = page.locator(".board-figures p")
    expect(figures).to_have_count(5)
    for figure, longest in zip(figures.all(), ("999.9k", "999.9k", "99.9%", "999.9k", "999.9 MiB"), strict=True):
        hidden_px = figure.evaluate(
            "(line, text) => { line.firstChild.textContent = text; return line.scrollWidth - line.clientWidth; }",
            longest,
        )
        assert hidden_px <= 0, longest


def test_letters_are_large_and_dark_unless_light_was_chosen(visit: Visit, url: str) -> None:
    page = visit(f"{url}/?wall=1", viewport={"width": 1920, "height": 1080}, color_scheme="light").page
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    sizes = {
        part: page.locator(part).first.evaluate("(part) => parseFloat(getComputedStyle(part).fontSize)")
        for part in (".headline h1", ".board-figures b", ".board-queues li")
    }
    assert sizes[".headline h1"] >= 60
    assert sizes[".board-figures b"] >= 60
    assert sizes[".board-queues li"] >= 30
    page.keyboard.press("t")
    page.keyboard.press("t")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_the_calm_overview_tells_what_was_resolved_last(visit: Visit, url: str, connection: redis.Redis) -> None:
    name = NAMES[-1]
    with firing(url, connection, name, jobs=5):
        pass
    page = visit(url).page
    calm = page.locator("#overview > .all-clear")
    expect(calm).to_contain_text("No problems in 30 queues.")
    expect(calm.locator("[data-checked]")).to_have_text(re.compile("^Last check"))
    row = calm.locator("li").first
    expect(row).to_contain_text("The last one is deep")
    expect(row).to_contain_text("lasted")
    expect(row.locator("time")).to_have_text(re.compile("ago$|^now$"))
    assert calm.evaluate("(box) => box.scrollHeight <= box.clientHeight")
    row.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    page.goto(url)
    calm.get_by_role("link", name="Alert history").click()
    expect(page.locator("#history")).to_be_in_viewport()


def test_the_way_in_keeps_the_filter_and_escape_leads_out(visit: Visit, url: str) -> None:
    page = visit(f"{url}/?library=rq&sort=name").page
    page.get_by_role("link", name="Wall board").click()
    expect(page).to_have_url(f"{url}/?wall=1&library=rq")
    expect(page.locator(".board-foot")).to_contain_text("RQ")
    leave = page.get_by_role("link", name="Leave wall board")
    page.wait_for_load_state()
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 60"))
    expect(leave).to_have_css("opacity", "0")
    page.mouse.move(200, 200)
    page.mouse.move(220, 220)
    expect(leave).to_have_css("opacity", "1")
    page.clock.run_for(3_000)  # without a move
    expect(leave).to_have_css("opacity", "0")
    page.clock.resume()
    page.keyboard.press("Tab")
    expect(leave).to_be_focused()
    expect(leave).to_have_css("opacity", "1")
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{url}/?library=rq")


def test_a_stopped_redis_is_seen_from_afar(serve: Serve, visit: Visit) -> None:
    server = start_server("redis-7")
    try:
        with redis.Redis.from_url(server.url) as client:
            Queue("mails", connection=client).enqueue("app.send")
        with serve(server.url) as base:
            wait_for_queues(base, 1)
            page = visit(f"{base}/?wall=1", outage=True, viewport={"width": 1280, "height": 720}).page
            expect(page.locator(".board-queues li")).to_have_count(1)
            server.stop(kill=True)
            alarm = page.get_by_role("alert")
            expect(alarm).to_be_visible()
            expect(alarm.locator("strong")).to_have_text("Redis down")
            expect(alarm.locator("b")).to_have_text(re.compile(r"^for \d+ [sm]$"))
            expect(page.locator("body")).to_have_attribute("data-state", "down")
            expect(page.locator(".board-queues li")).to_contain_text("last known")
            check_headline_is_covered(page)
            page.evaluate("window.stayed = true")
            server.start()
            with redis.Redis.from_url(server.url) as client:  # it has lost its data
                Queue("mails", connection=client).enqueue("app.send")
            expect(alarm).to_be_hidden()
            expect(page.locator(".board-queues li")).not_to_contain_text("last known")
            assert page.evaluate("window.stayed")
    finally:
        server.close()


def check_headline_is_covered(page: Page) -> None:
    """The alarm lies over the headline and moves nothing."""
    alarm, headline = page.locator("#alarm").bounding_box(), page.locator(".headline").bounding_box()
    assert alarm is not None
    assert headline is not None
    assert {name: round(alarm[name]) for name in alarm} == {name: round(headline[name]) for name in headline}


def test_a_board_that_cannot_reach_queuedeck_is_grey(serve: Serve, visit: Visit, server: EmbeddedRedis) -> None:
    with reserved_port() as port:
        with serve(server.url, port, gently=True) as base:
            wait_for_queues(base, 1)
            page = visit(f"{base}/?wall=1", outage=True).page
            expect(page.locator("#alarm")).to_be_hidden()
        alarm = page.get_by_role("alert")
        expect(alarm.locator("strong")).to_have_text("No data")
        expect(alarm.locator("b")).to_have_text(re.compile(r"^for \d+ [sm]$"))
        expect(alarm).to_contain_text("Cannot reach Queuedeck.")
        expect(page.locator("#view")).to_have_css("filter", "grayscale(1)")
        with serve(server.url, port):
            expect(alarm).to_be_hidden()
            expect(page.locator("#view")).to_have_css("filter", "none")


def test_a_viewer_may_see_it_and_an_ended_session_is_said(
    visit: Visit, server: EmbeddedRedis, tmp_path: Path, connection: redis.Redis
) -> None:
    digest = generate_password_hash("password of vera", "scrypt:1024:8:1")
    file = tmp_path / "queuedeck.toml"
    file.write_text(
        f'redis_url = "{server.url}"\nstore_prefix = "{{wall}}"\nsecret_key = "{"k" * 40}"\n'
        f'[[users]]\nname = "vera"\npassword_hash = "{digest}"\nrole = "viewer"\n'
    )
    connection.sadd("rq:queues", "rq:queue:mails")
    with serving("--config", file, QUEUEDECK_SAMPLE_INTERVAL_S="0.5", QUEUEDECK_AUTH="auto") as served:
        page = visit(f"{served.url}/?wall=1", outage=True).page
        page.get_by_label("Name").fill("vera")
        page.get_by_label("Password").fill("password of vera")
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{served.url}/?wall=1")
        expect(page.locator(".board-queues li").first).to_be_visible()
        expect(page.locator("#alarm")).to_be_hidden()
        page.context.clear_cookies()
        alarm = page.get_by_role("alert")
        expect(alarm.locator("strong")).to_have_text("Signed out")
        expect(page.locator("#view")).to_have_css("filter", "grayscale(1)")
        alarm.get_by_role("link", name="Sign in").click()
        expect(page.get_by_label("Password")).to_be_visible()


def test_without_script_it_reloads_itself_and_can_be_left(visit: Visit, url: str) -> None:
    page = visit(f"{url}/?wall=1", java_script_enabled=False).page
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "10"
    expect(page.locator("[data-last-sample]")).to_contain_text("UTC")
    page.get_by_role("link", name="Leave wall board").click()
    expect(page.get_by_role("link", name="Wall board")).to_be_visible()
