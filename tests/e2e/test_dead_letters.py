"""Dead letters in the browser: what an operator reads at night, and what they say of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from playwright.sync_api import expect
from rq import Queue

from dashboard.dead_letters.index import ROWS_PER_LIST
from dashboard.demo.embedded import EmbeddedRedis
from tests.conftest import start_server
from tests.contract.bullmq_library import BullMQLibrary
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.e2e.conftest import HOSTILE, Visit, dashboard, press
from tests.serving import get_json
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DEAD = 8


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    """A dashboard on jobs of RQ and BullMQ that died of four kinds of errors."""
    fail_rq(server, "mail", *((failing_jobs.mail, f"user{n}@example.com", n) for n in range(DEAD)))
    fail_rq(
        server,
        "odd",
        (failing_jobs.fail_with, HOSTILE),
        (failing_jobs.fail_with, "<b hx-get='/x' hx-trigger='load'>" * 500),
    )
    BullMQLibrary().run_jobs(server.url, "mails", good=1, bad=3)
    with redis.Redis.from_url(server.url) as client:  # looking for new queues takes seconds
        client.sadd("rq:queues", "rq:queue:slow", "rq:queue:back")
    with dashboard(server.url) as found:
        wait_until(lambda: get_json(f"{found}/api/v1/dead")["total"] >= DEAD + 5, what="finding the dead letters")
        yield found


@pytest.fixture
def connection(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.url)
    client.delete("{queuedeck}:groups", "{queuedeck}:groups:seen")
    yield client
    client.close()


def test_from_the_rail_to_a_job_by_keyboard(visit: Visit, url: str, connection: redis.Redis) -> None:
    page = visit(url).page
    press(page, "g", "d")
    expect(page).to_have_url(f"{url}/dead")
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
    expect(page.locator(".rail > ul [aria-current]")).to_have_attribute("href", "/dead")
    expect(page.locator("table.groups tbody tr")).to_have_count(4)
    press(page, "j", "Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("ConnectionError")
    expect(page.locator("table.members tbody tr")).to_have_count(DEAD)
    expect(page.locator("#group .error-text")).to_contain_text(f"to user{DEAD - 1}@example.com")
    expect(page.locator("#group .pattern")).to_have_text(
        "Pattern: cannot send order <n> to <email>: timed out after <n> s"
    )
    expect(page.locator(".crumbs")).to_contain_text("ConnectionError: cannot send order")
    expect(page.locator(".sample .stack").first).to_contain_text("failing_jobs.py")
    page.locator("table.members tbody th a").first.click()
    expect(page.locator("#job")).to_contain_text("ConnectionError")


def test_a_group_has_a_chart_of_its_deaths(visit: Visit, url: str, connection: redis.Redis) -> None:
    page = visit(f"{url}/dead").page
    page.locator("table.groups tbody th a").first.click()
    canvas = page.locator("#deaths canvas")
    expect(canvas).to_be_visible()
    page.get_by_role("link", name="30 days", exact=True).click()
    expect(page).to_have_url(re.compile(r"/dead/\w+\?range=30d#deaths-over-time$"))
    expect(canvas).to_be_visible()
    page.locator("#deaths").focus()
    said = page.locator("[data-chart-said]")
    page.keyboard.press("ArrowLeft")
    expect(said).to_have_text(re.compile(r"UTC: jobs died \d"))
    canvas.evaluate("(canvas) => { canvas.dataset.known = ''; }")
    with page.expect_response(lambda response: "/_group" in response.url):
        page.evaluate("window.queuedeck.refresh()")
    expect(page.locator("#deaths canvas[data-known]")).to_be_visible()  # the poll left it alone
    # As if its jobs were only read now: a poll brings the place of the chart, and the page reads the chart.
    page.evaluate("""() => {
      const early = Object.assign(document.createElement("section"), { id: "deaths-over-time" });
      document.getElementById("deaths-over-time").replaceWith(early);
    }""")
    expect(canvas).to_be_visible()
    expect(page.locator("#deaths canvas[data-known]")).to_have_count(0)


def test_other_shortcuts_keep_working(visit: Visit, url: str) -> None:
    page = visit(f"{url}/dead").page
    for key, path in (
        ("w", "/workers"),
        ("r", "/redis"),
        ("s", "/schedules"),
        ("f", "/search"),
        ("a", "/alerts"),
        ("o", "/"),
    ):
        press(page, "g", key)
        expect(page).to_have_url(f"{url}{path}")
        if path == "/search":
            press(page, "Escape")  # leaves the box, which has the focus there
    root = page.locator("html")
    density = root.get_attribute("data-density") or ""
    press(page, "g")
    page.clock.set_fixed_time(page.evaluate("Date.now() / 1000 + 1.1"))
    page.keyboard.press("d")  # too late to belong to the "g"
    expect(root).not_to_have_attribute("data-density", density)
    expect(page).to_have_url(f"{url}/")


def test_new_dead_letters_appear_in_the_list(
    visit: Visit, url: str, server: EmbeddedRedis, connection: redis.Redis
) -> None:
    page = visit(f"{url}/dead?queue=mails").page
    count = page.locator("table.groups td[data-label=jobs]")
    expect(count).to_have_text("3")
    page.evaluate("window.stayed = true")
    BullMQLibrary().run_jobs(server.url, "mails", good=0, bad=2)
    expect(count).to_have_text("5")
    assert page.evaluate("window.stayed")
    connection.zremrangebyrank("bull:mails:failed", 3, -1)
    expect(count).to_have_text("3")


def test_acknowledge_note_ignore_and_find_it_again(visit: Visit, url: str, connection: redis.Redis) -> None:
    page = visit(f"{url}/dead").page
    newest = f"cannot send order {DEAD - 1} to user{DEAD - 1}@example.com"
    expect(page.locator("table.groups tbody tr").first).to_contain_text(newest)
    expect(page.locator("table.groups")).not_to_contain_text("<email>")
    expect(page.locator("table.groups tbody tr").first.locator(".tag")).to_have_text("new")
    page.locator("table.groups tbody th a").first.click()
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(page.locator("#flash")).to_be_focused()
    expect(page.locator("#group .tag")).to_have_text("acknowledged")
    page.get_by_label("Owner", exact=True).fill("anna")
    page.get_by_label("Note", exact=True).fill("The mail server moves.\nBack at noon.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".annotations .note")).to_contain_text("Back at noon.")
    page.get_by_label("or until").fill("5")
    page.get_by_role("button", name="Ignore", exact=True).click()
    expect(page.locator(".annotations")).to_contain_text(f"until there are more than {DEAD + 5} jobs")
    page.locator(".crumbs a").click()
    expect(page.locator("table.groups tbody tr")).to_have_count(3)
    page.get_by_role("link", name=re.compile("Ignored or resolved")).click()
    expect(page).to_have_url(re.compile("show=quiet"))
    expect(page.locator("table.groups tbody tr")).to_have_count(1)
    expect(page.locator("table.groups tbody tr")).to_contain_text("anna")
    page.go_back()
    expect(page.locator("table.groups tbody tr")).to_have_count(3)
    page.get_by_label("Part of an error, owner or note").fill("nobody")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("table.groups tbody tr")).to_have_count(1)
    expect(page.locator("table.groups tbody tr")).to_contain_text("TypeError")


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
def test_a_group_shows_what_differs_between_its_jobs(
    visit: Visit, url: str, connection: redis.Redis, screen: dict[str, Any]
) -> None:
    page = visit(f"{url}/dead?queue=mail", **screen).page
    page.locator("table.groups tbody th a").click()
    fields = page.locator(".differing tbody tr")
    expect(fields).to_have_count(3)
    expect(fields.nth(1)).to_contain_text("argument 1")
    expect(fields.nth(1).locator("td.n")).to_have_text(str(DEAD))
    expect(fields.nth(1)).to_contain_text(f"'user{DEAD - 1}@example.com'")
    first = page.locator("table.members tbody tr").first
    expect(first).to_contain_text(f"'user{DEAD - 1}@example.com', {DEAD - 1}")
    expect(first).not_to_contain_text("timed out")
    # Neither a value nor a job's arguments are cut by their cell; examples are.
    for cell in (*fields.locator("td:not(.examples-line)").all(), *page.locator("table.members .job > div").all()):
        assert cell.evaluate("each => each.scrollWidth <= each.clientWidth + 1"), cell.inner_text()


def test_hostile_errors_do_nothing(visit: Visit, url: str, connection: redis.Redis) -> None:
    page = visit(f"{url}/dead?queue=odd").page
    expect(page.locator("table.groups tbody tr")).to_have_count(2)
    for n in range(2):
        page.goto(f"{url}/dead?queue=odd")
        page.locator("table.groups tbody th a").nth(n).click()
        expect(page.locator(".sample .message")).to_have_count(1)
        with page.expect_response(lambda answer: "/_group" in answer.url and answer.status in (200, 304)):
            pass
        assert page.locator("#view img, #view script, #view [hx-get]").count() == 0


def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Visit, url: str, connection: redis.Redis) -> None:
    page = visit(f"{url}/dead", **PHONE).page
    expect(page.locator("table.groups tbody tr")).to_have_count(4)
    paths = ["/dead", *(page.locator("table.groups tbody th a").nth(n).get_attribute("href") for n in range(4))]
    for path in paths:
        page.goto(f"{url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        assert page.evaluate("document.querySelector('.rail ul').scrollWidth") <= 360
    expect(page.get_by_role("button", name="Acknowledge", exact=True)).to_be_visible()


def test_groups_can_be_annotated_without_scripts(visit: Visit, url: str, connection: redis.Redis) -> None:
    page = visit(f"{url}/dead", java_script_enabled=False).page
    page.locator("table.groups tbody th a").first.click()
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(page.locator("#flash")).to_contain_text("Group acknowledged.")
    page.get_by_role("button", name="Resolve", exact=True).click()
    expect(page.locator("#group")).to_contain_text("resolved")


def test_a_redis_without_dead_letters(visit: Visit, server: EmbeddedRedis) -> None:
    with start_server("redis-7") as empty, dashboard(empty.url) as found:
        with redis.Redis.from_url(empty.url) as client:
            Queue("mail", connection=client).enqueue("app.run")
        # The server ends before the tab does.
        expect(visit(f"{found}/dead", outage=True).page.get_by_role("heading", name="No dead letters")).to_be_visible()


def test_a_count_that_is_not_final_never_looks_final(visit: Visit) -> None:
    jobs = ROWS_PER_LIST + 100
    with start_server("redis-7") as long, redis.Redis.from_url(long.url) as client:
        (first,) = BullMQLibrary().drive("many", long.url, "long", count=1, dead=True)["ids"]
        fields, at = client.hgetall(f"bull:long:{first}"), client.zscore("bull:long:failed", first)
        pipeline = client.pipeline(transaction=False)
        for n in range(2, jobs + 1):
            pipeline.hset(f"bull:long:{n}", mapping=fields)
            pipeline.zadd("bull:long:failed", {str(n): at - n})
        pipeline.execute()
        with dashboard(long.url) as found:
            page = visit(f"{found}/dead", outage=True).page
            # While it reads, the count grows, and in the end it is that of the newest jobs: a lower bound all the time.
            cell = page.locator("table.groups td[data-label=jobs]")
            count, last = re.compile(r"^[\d,]+\+$"), f"{ROWS_PER_LIST:,}+"
            expect(cell).to_have_text(count)
            while (shown := cell.inner_text()) != last:
                assert count.match(shown)
                expect(cell).not_to_have_text(shown)
            expect(page.locator(".window")).to_contain_text(f"the newest {ROWS_PER_LIST:,} of {jobs:,} dead letters")
            page.locator("table.groups tbody th a").click()
            error = page.locator(".crumbs li").last.inner_text()
            button = page.get_by_role("link", name="Retry all of this error")
            expect(button).to_contain_text(f"at least {ROWS_PER_LIST:,}")
            expect(page.locator("#group")).not_to_contain_text(f"Retry all {ROWS_PER_LIST:,}")
            button.click()
            expect(page.get_by_role("heading", level=1)).to_have_text(f"Retry at least {ROWS_PER_LIST:,} jobs")
            expect(page.locator(".crumbs li").last).to_have_text(error)


def test_samples_stay_open_or_closed(visit: Visit, url: str, server: EmbeddedRedis) -> None:
    first = fail_rq(server, "slow", *((failing_jobs.fail_with, "too slow for us") for _ in range(2)))

    def both() -> bool:
        groups = get_json(f"{url}/api/v1/dead")["groups"]
        return any(group["count"] == 2 and "too slow" in group["message"] for group in groups)

    wait_until(both, what="both jobs of the new error")
    page = visit(f"{url}/dead?queue=slow").page
    page.locator("table.groups tbody th a").click()
    expect(page.locator("#samples > .sample")).to_have_count(2)

    def standing() -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = page.locator("#samples > .sample").evaluate_all(
            "all => all.map(each => [each.querySelector('.id').textContent, each.open])"
        )
        return [(job, is_open) for job, is_open in found]

    assert standing() == [(first[1], True), (first[0], False)]
    page.locator("#samples > .sample > summary").nth(1).click(position={"x": 5, "y": 5})
    page.locator("#samples > .sample > summary").nth(0).click(position={"x": 5, "y": 5})
    read = page.locator("#samples > .sample").nth(1).element_handle()
    assert standing() == [(first[1], False), (first[0], True)]
    later: list[str] = []
    for turn in range(4):
        later[:0] = fail_rq(server, "slow", (failing_jobs.fail_with, "too slow for us"))
        expect(page.locator("table.members tbody tr")).to_have_count(3 + turn)
        newest = [*later, *reversed(first)][:3]
        expected = [(job, job == first[0]) for job in newest]
        expected += [] if first[0] in newest else [(first[0], True)]
        wait_until(lambda expected=expected: standing() == expected, what=f"{expected}")
    assert read.evaluate("sample => sample.isConnected")
    page.locator("#samples > .sample > summary").nth(3).click(position={"x": 5, "y": 5})
    fail_rq(server, "slow", (failing_jobs.fail_with, "too slow for us"))
    expect(page.locator("#samples > .sample")).to_have_count(3)
    assert not [job for job, is_open in standing() if is_open]


def test_a_resolved_group_that_returns_is_regressed(
    visit: Visit, url: str, server: EmbeddedRedis, connection: redis.Redis
) -> None:
    def find_marks() -> list[str]:
        groups = get_json(f"{url}/api/v1/dead?queue=back")["groups"]
        return list(groups[0]["marks"]) if groups else []

    fail_rq(server, "back", (failing_jobs.fail_with, "it is back"))
    wait_until(find_marks, what="the group")
    page = visit(f"{url}/dead?queue=back").page
    page.locator("table.groups tbody th a").click()
    page.get_by_role("button", name="Resolve", exact=True).click()
    expect(page.locator("#flash")).to_contain_text("marked as regressed if another job fails")
    expect(page.locator("#group .tag")).to_have_text("resolved")
    fail_rq(server, "back", (failing_jobs.fail_with, "it is back"))
    expect(page.locator("#group .tag")).to_have_text("regressed")
    expect(page.locator("#group .regression")).to_contain_text("was resolved by local")
    page.goto(f"{url}/dead?queue=back")
    expect(page.locator("table.groups tbody tr .regression")).to_contain_text("was resolved by local")
