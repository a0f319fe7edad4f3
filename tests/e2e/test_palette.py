"""The command palette and the completion of searches, by keyboard, mouse and finger."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Page, Route, expect
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from tests.conftest import start_server
from tests.e2e.conftest import INTERVAL_S, Visit, dashboard, wait_for_queues
from tests.serving import get_json, running, serving

pytestmark = pytest.mark.e2e

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
HOSTILE = "<img src=x onerror=alert(1)> hostile"
NAMES = ("mails", "late mails", "order-confirmations", HOSTILE)
BLOCKED = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('blocked'); } });"
MAC = "Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' });"


@pytest.fixture(scope="module")
def filled(server: EmbeddedRedis) -> str:
    with redis.Redis.from_url(server.url) as client:
        for name in NAMES:
            Queue(name, connection=client).enqueue("app.mail.send")
    return server.url


@pytest.fixture(scope="module")
def base(filled: str) -> Iterator[str]:
    with dashboard(filled, interval_s="5") as url:
        wait_for_queues(url, len(NAMES))
        yield url


def open_palette(page: Page) -> None:
    page.wait_for_load_state()  # before the scripts have run, the key does nothing
    page.keyboard.press("Control+k")
    expect(page.locator("#palette")).to_be_visible()
    expect(page.locator("#palette [role=option]").first).to_be_visible()


def options(page: Page, box: str = "#palette") -> list[str]:
    return page.locator(f"{box} [role=option] span:first-child").all_inner_texts()


def expect_active(page: Page, box: str, text: str | re.Pattern[str]) -> None:
    """The box points to the selected option, which has that text."""
    selected = page.locator("[role=option][aria-selected=true]")
    expect(selected.locator("span").first).to_have_text(text)
    expect(page.locator(box)).to_have_attribute("aria-activedescendant", str(selected.get_attribute("id")))


def test_a_queue_is_opened_by_its_initials(base: str, visit: Visit) -> None:
    page = visit(f"{base}/workers").page
    open_palette(page)
    expect_active(page, "#palette-text", "Overview")
    page.keyboard.type("oc")
    expect_active(page, "#palette-text", "order-confirmations")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{base}/queues/main/rq/order-confirmations")


def test_enter_waits_for_the_answer_to_what_was_typed(base: str, visit: Visit) -> None:
    page = visit(f"{base}/workers").page
    open_palette(page)
    page.keyboard.type("late")
    page.keyboard.press("Enter")  # before the list shows it
    expect(page).to_have_url(f"{base}/queues/main/rq/late%20mails")


def test_a_job_is_opened_by_its_id(base: str, filled: str, visit: Visit) -> None:
    with redis.Redis.from_url(filled) as client:
        (job_id,) = Queue("mails", connection=client).job_ids
    page = visit(f"{base}/workers").page
    open_palette(page)
    page.keyboard.insert_text(job_id)
    expect_active(page, "#palette-text", f"Open job {job_id}")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{base}/queues/main/rq/mails/jobs/{job_id}")


def test_arrow_keys_go_round_and_escape_closes(base: str, visit: Visit) -> None:
    page = visit(f"{base}/workers").page
    page.locator("#filter, main input").first.focus()
    open_palette(page)
    last = options(page)[-1]
    page.keyboard.press("ArrowUp")
    expect_active(page, "#palette-text", last)
    page.keyboard.press("ArrowDown")
    expect_active(page, "#palette-text", "Overview")
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).to_be_hidden()
    expect(page.locator("main input").first).to_be_focused()
    open_palette(page)
    page.keyboard.press("Control+k")
    expect(page.locator("#palette")).to_be_hidden()


def test_single_keys_are_text_in_the_palette(base: str, visit: Visit) -> None:
    page = visit(f"{base}/workers").page
    theme = page.evaluate("document.documentElement.dataset.theme")
    open_palette(page)
    page.keyboard.type("t?")
    expect(page.locator("#palette-text")).to_have_value("t?")
    expect(page.locator("#help")).to_be_hidden()
    assert page.evaluate("document.documentElement.dataset.theme") == theme


def test_an_action_asks_before_anything_happens(base: str, filled: str, visit: Visit) -> None:
    page = visit(base).page
    open_palette(page)
    page.keyboard.type("pause order")
    expect_active(page, "#palette-text", "Pause queue order-confirmations…")
    page.keyboard.press("Enter")
    question = page.locator("dialog#question")
    expect(question).to_contain_text("Pause queue order-confirmations?")
    expect(page.locator("#palette")).to_be_hidden()
    expect(question.get_by_role("link", name="Cancel")).to_be_focused()
    assert all(not queue["paused"] for queue in get_json(f"{base}/api/v1/queues")["queues"])
    question.get_by_role("link", name="Cancel").click()
    expect(question).to_be_hidden()


def test_commands_change_this_page(base: str, visit: Visit) -> None:
    page = visit(base).page
    open_palette(page)
    page.keyboard.type("theme")
    expect_active(page, "#palette-text", re.compile("^Change theme"))
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    open_palette(page)
    page.keyboard.type("live")
    expect_active(page, "#palette-text", re.compile("live updates"))
    page.keyboard.press("Enter")
    expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "paused")
    open_palette(page)
    page.keyboard.type("shortcuts")
    expect_active(page, "#palette-text", re.compile("shortcuts"))
    page.keyboard.press("Enter")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Control+k")  # not over another dialog
    expect(page.locator("#palette")).to_be_hidden()


def test_recent_choices_are_first_the_next_time(base: str, visit: Visit) -> None:
    page = visit(base).page
    open_palette(page)
    page.keyboard.type("late")
    expect_active(page, "#palette-text", "late mails")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("late%20mails$"))
    open_palette(page)
    expect(page.locator("#palette .title").first).to_have_text("Recent")
    expect_active(page, "#palette-text", "late mails")


def test_blocked_storage_forgets_only_what_was_recent(base: str, visit: Visit) -> None:
    visitor = visit("about:blank")
    visitor.page.add_init_script(BLOCKED)
    page = visitor.page
    page.goto(base)
    open_palette(page)
    page.keyboard.type("theme")
    expect_active(page, "#palette-text", re.compile("^Change theme"))
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    open_palette(page)
    expect_active(page, "#palette-text", re.compile("^Change theme"))  # of this page


def test_jobs_are_searched_for_when_nothing_matches(base: str, visit: Visit) -> None:
    page = visit(base).page
    open_palette(page)
    page.keyboard.type("no such thing")
    expect(page.locator("#palette [role=status]")).to_have_text("Nothing matches “no such thing”.")
    expect_active(page, "#palette-text", "Search jobs for “no such thing”")
    page.locator("#palette-text").fill("4711")
    expect_active(page, "#palette-text", "Open job 4711")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{base}/search?q=id:4711&open=1")


def test_names_from_redis_stay_text(base: str, visit: Visit) -> None:
    page = visit(base).page
    open_palette(page)
    page.keyboard.type("hostile")
    expect_active(page, "#palette-text", HOSTILE)
    assert page.locator("#palette img").count() == 0
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img")


def test_a_finger_opens_and_closes_it(base: str, visit: Visit) -> None:
    page = visit(base, **PHONE).page
    page.get_by_role("button", name="Commands").tap()
    option = page.locator("#palette [role=option]", has_text="Trash")
    expect(option).to_be_visible()
    assert option.evaluate("(option) => option.getBoundingClientRect().height") >= 24
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.locator("#palette").get_by_role("button", name="Close").tap()
    expect(page.locator("#palette")).to_be_hidden()
    page.get_by_role("button", name="Commands").tap()
    option.tap()
    expect(page).to_have_url(f"{base}/trash")


def test_a_mac_has_another_key(base: str, visit: Visit) -> None:
    page = visit("about:blank").page
    page.add_init_script(MAC)
    page.goto(base)
    expect(page.locator("button [data-palette-key]")).to_have_text("⌘ K")
    page.keyboard.press("Control+k")  # deletes to the end of the line there
    expect(page.locator("#palette")).to_be_hidden()
    page.keyboard.press("Meta+k")
    expect(page.locator("#palette")).to_be_visible()


def test_without_script_there_is_no_button(base: str, visit: Visit) -> None:
    page = visit(f"{base}/search", java_script_enabled=False).page
    expect(page.locator("[data-palette]")).to_be_hidden()
    expect(page.locator("#find")).to_have_attribute("list", "known")
    expect(page.locator("datalist#known option").first).to_be_attached()


def test_it_says_so_when_the_dashboard_does_not_answer(filled: str, visit: Visit) -> None:
    with serving("--redis", filled, QUEUEDECK_SAMPLE_INTERVAL_S=INTERVAL_S) as served:
        page = visit(f"{served.url}/", outage=True).page
        open_palette(page)
    page.keyboard.type("mails")
    expect(page.locator("#palette [role=status]")).to_contain_text("No answer from Queuedeck.")


def test_it_stays_below_the_path_of_a_mounted_dashboard(filled: str, visit: Visit) -> None:
    command = ["-m", "gunicorn", "tests.e2e.host:app", "--threads", "8", "--bind", "127.0.0.1:0", "--no-control-socket"]
    with running(command, HOST_REDIS_URL=filled, QUEUEDECK_SAMPLE_INTERVAL_S=INTERVAL_S) as served:
        page = visit(f"{served.url}/").page
        page.get_by_role("link", name="Queues").click()
        expect(page.locator("table.queues tbody tr").first).to_be_visible()
        open_palette(page)
        page.keyboard.type("oc")
        expect_active(page, "#palette-text", "order-confirmations")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{served.url}/ops/queues/queues/main/rq/order-confirmations")
        page.wait_for_load_state()
        page.locator("#search").press_sequentially("sta")
        expect(page.locator(".completions [role=option]")).to_have_count(1)
        page.goto("about:blank")


def test_a_late_answer_neither_changes_the_choice_nor_opens_a_closed_list(base: str, visit: Visit) -> None:
    page = visit(f"{base}/workers").page
    offered = page.locator(".bar .completions").get_by_role("option")
    held: list[Route] = []
    page.keyboard.press("/")
    page.keyboard.insert_text("queue:")
    expect(offered).to_have_count(len(NAMES))
    page.route("**/complete?*", lambda route: held.append(route))
    with page.expect_request("**/complete?*"):
        page.keyboard.insert_text("late")
    late = 'queue:"late mails"'
    for _ in range(1 + options(page, ".bar .completions").index(late)):
        page.keyboard.press("ArrowDown")
    expect_active(page, "#search", late)
    held.pop().continue_()
    expect(offered).to_have_count(1)
    expect_active(page, "#search", late)

    # A choice is for what was typed before it; it replaces all of the word.
    with page.expect_request("**/complete?*"):
        page.keyboard.insert_text(" m")
    expect(page.locator("[role=option][aria-selected=true]")).to_have_count(0)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#search")).to_have_value(f"{late} ")

    page.keyboard.insert_text("queue:")
    with page.expect_request("**/complete?*"):
        page.keyboard.insert_text("m")
    with page.expect_event("requestfailed"):  # its answer is no longer wanted
        page.keyboard.press("Escape")
    expect(offered).to_have_count(0)


def test_a_field_and_then_its_value_are_completed_by_keyboard(base: str, visit: Visit) -> None:
    page = visit(f"{base}/workers").page
    page.keyboard.press("/")
    page.keyboard.type("que")
    box, listed = page.locator("#search"), page.locator(".bar .completions")
    expect(box).to_have_attribute("aria-expanded", "true")
    assert options(page, ".bar .completions") == ["queue:"]
    page.keyboard.press("ArrowDown")
    expect_active(page, "#search", "queue:")
    page.keyboard.press("Tab")
    expect(box).to_have_value("queue:")
    expect(box).to_be_focused()
    expect(listed.get_by_role("option")).to_have_count(len(NAMES))
    page.keyboard.type("lat")
    expect(listed.get_by_role("option")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(box).to_have_value('queue:"late mails" ')
    expect(listed).to_be_hidden()
    expect(box).to_have_attribute("aria-expanded", "false")
    page.keyboard.type("state:wai")
    expect(listed.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(listed).to_be_hidden()
    expect(box).to_have_value('queue:"late mails" state:wai')
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/search.q="))


def test_enter_without_a_choice_searches(base: str, visit: Visit) -> None:
    page = visit(f"{base}/search").page
    page.locator("#find").press_sequentially("state")
    expect(page.locator("main .completions [role=option]")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{base}/search?q=state")


def test_a_value_is_completed_in_the_middle_by_mouse(base: str, visit: Visit) -> None:
    page = visit(f"{base}/search").page
    box = page.locator("#find")
    box.fill("😀 sta:x timeout")
    box.evaluate("(box) => { box.setSelectionRange(6, 6); box.dispatchEvent(new Event('input', { bubbles: true })); }")
    page.locator("main .completions").get_by_text("state:", exact=True).click()
    expect(box).to_have_value("😀 state: timeout")
    expect(box).to_be_focused()
    expect(page.locator("main .completions").get_by_text("state:dead", exact=True)).to_be_visible()


def test_the_overview_only_filters(base: str, visit: Visit) -> None:
    page = visit(base).page
    page.keyboard.press("/")
    page.keyboard.type("late")
    expect(page.locator("table.queues tbody th a")).to_have_text(["late mails"])
    assert page.locator(".completions").count() == 0


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    instance = start_server("redis-7")
    yield instance
    instance.close()
