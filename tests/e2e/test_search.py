"""Searching in the browser: results accumulate, stay after a reload, and can be acted on together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from playwright.sync_api import Locator, Page, Route, expect
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from tests.contract.test_sidekiq import payload
from tests.e2e.conftest import confirm, dashboard
from tests.serving import get_json
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
JOBS = 1300  # three parts of a search
PARTS = (125, 250, 325)  # found by SOME after each part: every fourth job, which are more than a part stops at
COUNT_STORES = """() => {
    const setItem = Storage.prototype.setItem;
    window.stores = 0;
    Storage.prototype.setItem = function (...item) { window.stores += 1; return setItem.apply(this, item); };
}"""
FULL = "name:app.mail.send state:waiting"
SOME = f"{FULL} example.org"


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    """A dashboard that knows a queue of RQ with JOBS waiting jobs."""
    with redis.Redis.from_url(server.url) as client:
        queue = Queue("mail", connection=client)
        error = {"error_class": "Net::ReadTimeout", "error_message": f"{'too slow ' * 15}for the needle"}
        client.zadd("dead", {payload(jid="slow", **error): 1})
        client.zadd("retry", {payload(jid=f"again-{n}"): 2_000_000_000 + n for n in range(2)})
        users = [f"user{n}@example.{'com' if n % 4 else 'org'}" for n in range(JOBS)]
        queue.enqueue_many([Queue.prepare_data("app.mail.send", (user,)) for user in users])
    with dashboard(server.url) as found:

        def counted() -> bool:
            queues = get_json(f"{found}/api/v1/queues")["queues"]
            counts = {(queue["backend"], queue["name"]): queue["counts"] for queue in queues}
            dead = counts.get(("sidekiq", "*"), {}).get("dead")
            return dead == 1 and counts.get(("rq", "mail"), {}).get("waiting") == JOBS

        wait_until(counted, what="the jobs")
        yield found


def row_ids(page: Page) -> list[str]:
    ids: list[str] = page.locator("#results tbody tr").evaluate_all("rows => rows.map((row) => row.id)")
    return ids


def progress(page: Page) -> Locator:
    """Where the buttons of the search are: by role, they are found among thousands of rows slowly."""
    return page.locator("[data-search-progress]")


def test_results_accumulate_and_are_deleted_together(visit: Any, url: str) -> None:
    page = visit(f"{url}/search?q={SOME}").page
    status = page.locator("[data-search-status]")
    expect(status).to_contain_text(f"At least {PARTS[0]} found in 500 of {JOBS:,} jobs searched so far")
    first = row_ids(page)
    page.locator("[data-tick]").nth(0).check()
    more = progress(page).get_by_role("link", name="Search more")
    more.click()
    expect(status).to_contain_text(f"At least {PARTS[1]} found in 1,000 of {JOBS:,} jobs")
    assert row_ids(page)[: PARTS[0]] == first
    expect(more).to_be_focused()
    more.click()
    expect(status).to_have_text(f"{PARTS[2]} found in {JOBS:,} jobs, all of them searched.")
    assert len(set(row_ids(page))) == len(row_ids(page)) == PARTS[2]
    expect(page.get_by_role("link", name="Search more")).to_have_count(0)
    page.locator("[data-search-whole] summary").click()
    expect(page.get_by_role("link", name=f"Delete all {PARTS[2]} matching…")).to_be_visible()
    page.locator("[data-tick]").nth(PARTS[2] - 1).check()
    expect(page.locator("[data-ticked]")).to_have_text("2 jobs selected")
    page.locator(".bulk-bar").get_by_role("button", name="Delete 2").click()
    expect(page.locator("dialog#question")).to_contain_text("mail on main: 2 waiting jobs")
    confirm(page, "Delete 2 jobs")
    expect(page.locator("#flash")).to_contain_text("2 jobs deleted.")
    assert page.url.startswith(f"{url}/search?q=")
    page.locator("#flash").get_by_role("button", name="Restore").click()
    wait_until(
        lambda: get_json(f"{url}/api/v1/queues")["queues"][0]["counts"]["waiting"] == JOBS, what="the jobs again"
    )


def test_a_search_goes_on_until_stopped_and_is_there_after_a_reload(visit: Any, url: str) -> None:
    page = visit(f"{url}/search?q={SOME}").page
    held: list[Route] = []
    page.route("**/search?*cursor=*", lambda route: held.append(route))
    page.get_by_role("button", name="Keep searching").click()
    wait_until(lambda: held or page.wait_for_timeout(20), what="the request for the next part")
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_focused()
    stop.click()
    held.pop().continue_()
    expect(page.locator("#results tbody tr")).to_have_count(PARTS[1])
    expect(page.get_by_role("button", name="Keep searching")).to_be_visible()
    assert held == []  # of the third part
    page.unroute("**/search?*cursor=*")
    page.reload()
    expect(page.locator("#results tbody tr")).to_have_count(PARTS[1])
    page.locator("#results tbody th a").nth(200).click()
    expect(page.locator("h1")).not_to_have_text("Search")
    page.go_back()
    expect(page.locator("#results tbody tr")).to_have_count(PARTS[1])
    page.get_by_role("button", name="Keep searching").click()
    expect(page.locator("#results tbody tr")).to_have_count(PARTS[2])


def test_a_search_that_paused_at_many_results_goes_on(visit: Any, url: str) -> None:
    page = visit(f"{url}/search?q={FULL}").page
    status = page.locator("[data-search-status]")
    expect(status).to_contain_text(f"At least 500 found in 500 of {JOBS:,} jobs searched so far")
    keep = progress(page).get_by_role("button", name="Keep searching")
    keep.click()
    expect(status).to_contain_text(f"At least 1,000 found in 1,000 of {JOBS:,} jobs")
    expect(page.locator("#results tbody tr")).to_have_count(1000)
    expect(keep).to_be_visible()
    keep.click()
    expect(status).to_have_text(f"{JOBS:,} found in {JOBS:,} jobs, all of them searched.")
    expect(page.locator("#results tbody tr")).to_have_count(JOBS)
    page.evaluate(COUNT_STORES)
    page.locator("[data-tick-all]").check()
    expect(page.locator("[data-ticked]")).to_have_text(f"{JOBS:,} jobs selected: at most 1,000 at a time")
    expect(page.locator(".bulk-bar button[value=delete]")).to_be_disabled()
    assert page.evaluate("stores") == 1  # not once for each job
    page.reload()
    expect(page.locator("#results tbody tr")).to_have_count(JOBS)


def test_on_a_phone_a_finger_selects_all_results(visit: Any, url: str) -> None:
    options = {"viewport": {"width": 390, "height": 740}, "has_touch": True, "is_mobile": True}
    page = visit(f"{url}/search?q=state:dead", **options).page
    page.get_by_text("Select all results").tap()
    expect(page.locator("[data-ticked]")).to_have_text("1 job selected")
    expect(page.locator("[data-tick]:checked")).to_have_count(1)


def test_the_number_of_selected_jobs_stands_where_the_words_need_it(visit: Any, url: str) -> None:
    page = visit(f"{url}/queues/main/sidekiq/*?state=retrying").page
    bar = page.locator(".bulk-bar")
    page.locator("[data-tick]").first.check()
    expect(bar.locator("button[value=kill]")).to_have_text("Move 1 to dead letters")
    page.locator("[data-tick-all]").check()
    expect(bar.locator("button[value=retry]")).to_have_text("Retry 2")
    bar.locator("button[value=kill]").click()
    expect(page.locator("dialog#question h1")).to_have_text("Move 2 jobs to dead letters?")
    confirm(page, "Move 2 jobs to dead letters")
    expect(page.locator("#flash")).to_contain_text("2 jobs moved to dead letters.")


def test_an_outage_keeps_what_was_found(visit: Any, url: str) -> None:
    page = visit(f"{url}/search?q={SOME}", outage=True).page
    page.route("**/search?*cursor=*", lambda route: route.abort())
    page.get_by_role("link", name="Search more").click()
    expect(page.locator("[data-search-limits]")).to_contain_text("What was found is kept")
    assert len(row_ids(page)) == PARTS[0]
    page.unroute("**/search?*cursor=*")
    page.get_by_role("link", name="Search more").click()
    expect(page.locator("#results tbody tr")).to_have_count(PARTS[1])


def test_without_script_the_next_part_says_the_totals(visit: Any, url: str) -> None:
    page = visit(f"{url}/search?q={SOME}", java_script_enabled=False).page
    page.get_by_role("link", name="Search more").click()
    expect(page.locator("[data-search-status]")).to_contain_text(f"At least {PARTS[1]} found in 1,000")
    expect(page.locator("#results tbody tr")).to_have_count(PARTS[1] - PARTS[0])
    expect(page.get_by_role("button", name="Keep searching")).to_be_hidden()
    expect(page.get_by_role("link", name="Start again")).to_be_visible()


def check_that_results_fit(page: Page, width: int) -> None:
    """No button of a row is outside of it, and the page is as wide as the screen."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    row = page.locator("#results tbody tr").first
    assert row.evaluate("""row => [...row.querySelectorAll("button, a, input")].every((each) => {
        const [inner, outer] = [each.getBoundingClientRect(), row.getBoundingClientRect()];
        return inner.right <= outer.right + 1 && inner.left >= outer.left - 1;
    })"""), width


def check_that_a_dead_job_fits(page: Page, width: int) -> None:
    """It has two buttons, and an error whose match is visible."""
    both = page.locator("#results .actions button")
    expect(both).to_have_text(["Retry", "Delete"])
    assert both.evaluate_all("""buttons => buttons.every((button) => {
        const [inner, cell] = [button.getBoundingClientRect(), button.parentElement.getBoundingClientRect()];
        return inner.width > 30 && inner.right <= cell.right + 1 && inner.bottom <= cell.bottom + 1;
    })"""), width
    cell = page.locator("#results td[data-label=job] div")
    assert cell.evaluate("""cell => {
        const mark = cell.querySelector("mark").getBoundingClientRect();
        const whole = cell.parentElement.getBoundingClientRect();
        return mark.height > 0 && mark.bottom <= whole.bottom;
    }"""), width


@pytest.mark.parametrize(
    ("query", "check"), [("user7", check_that_results_fit), ("needle", check_that_a_dead_job_fits)]
)
def test_results_fit_the_screen(visit: Any, url: str, query: str, check: Callable[[Page, int], None]) -> None:
    page = visit(f"{url}/search?q={query}").page
    expect(page.locator("#results mark").first).to_have_text(query)
    for width in (360, 390, 1024, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        check(page, width)
