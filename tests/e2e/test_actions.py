"""What an operator does at night, in the browser, with the real BullMQ at the other end."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from playwright.sync_api import expect

from dashboard.demo.embedded import EmbeddedRedis
from tests.contract.bullmq_library import WORKLOAD, BullMQLibrary
from tests.e2e.conftest import confirm, dashboard, wait_for_queues
from tests.processes import child
from tests.serving import get_json
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
DEAD = 30
# The rail does not lie over the buttons.
RAIL_BELOW_BAR = """() => {
    const [bar, rail] = [".bulk-bar", ".rail"].map((found) => document.querySelector(found).getBoundingClientRect());
    return bar.height > 0 && bar.bottom <= rail.top;
}"""


@dataclass
class Mails:
    """A BullMQ queue of one test, with DEAD permanently failed jobs."""

    queue: str
    redis: redis.Redis

    @property
    def failed_key(self) -> str:
        return f"bull:{self.queue}:failed"

    @property
    def list_path(self) -> str:
        return f"/queues/main/bullmq/{self.queue}?state=dead"

    def bulk_path(self, action: str) -> str:
        return f"/bulk/new?source=main&backend=bullmq&queue={self.queue}&state=dead&action={action}"

    def count(self) -> int:
        """The number of failed jobs."""
        return int(self.redis.zcard(self.failed_key))


def copy_queue(client: redis.Redis, queue: str, copy: str) -> None:
    """Make a queue of BullMQ with all the keys of `queue`."""
    for key in client.scan_iter(f"bull:{queue}:*"):
        client.copy(key, key.replace(f"bull:{queue}:".encode(), f"bull:{copy}:".encode(), 1))


@pytest.fixture(scope="module")
def queues(request: pytest.FixtureRequest) -> list[str]:
    """Names of queues, one for each test of this module; each takes the last one."""
    tests = [name for name in vars(request.module) if name.startswith("test_")]
    return [f"mails-{number}" for number in range(len(tests))]


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis, queues: list[str]) -> Iterator[str]:
    """A dashboard that knows the queues of all tests."""
    BullMQLibrary().drive("many", server.url, "mails", count=DEAD, dead=True)
    with redis.Redis.from_url(server.url) as client:
        for name in queues:
            copy_queue(client, "mails", name)
    with dashboard(server.url) as found:
        wait_for_queues(found, len(queues) + 1)
        yield found


@pytest.fixture
def mails(server: EmbeddedRedis, url: str, queues: list[str]) -> Iterator[Mails]:
    """A queue that no other test uses; the dashboard has seen its dead jobs."""
    client = redis.Redis.from_url(server.url)
    found = Mails(queues.pop(), client)
    shown = f"{url}/api/v1/queues/main/bullmq/{found.queue}"
    wait_until(lambda: get_json(shown)["counts"]["dead"] == DEAD, what=f"{DEAD} dead jobs of {found.queue}")
    yield found
    client.close()


@pytest.fixture
def worker(server: EmbeddedRedis, mails: Mails) -> Iterator[Callable[..., None]]:
    """Starts a real worker on the queue of the test that notes each run in the hash `marks`."""
    mails.redis.delete("marks")
    with ExitStack() as stack:

        def start(**options: Any) -> None:
            node = shutil.which("node")
            assert node is not None
            command = [node, WORKLOAD / "drive.mjs", "bullmq", "consume", server.url, mails.queue, json.dumps(options)]
            process = stack.enter_context(child(command, name="bullmq-worker", pipes=True, gently=False))
            assert process.read_line() == '{"ready":true}'

        yield start


Worker = Callable[..., None]


def test_selected_jobs_are_retried_and_finished_by_a_real_worker(
    visit: Any, url: str, mails: Mails, worker: Worker
) -> None:
    worker()
    page = visit(url + mails.list_path).page
    expect(page.locator(".bulk-bar")).to_be_hidden()
    page.locator("[data-tick]").nth(0).check()
    page.keyboard.press("j")
    page.locator("[data-tick]").nth(2).check()
    expect(page.locator("[data-ticked]")).to_have_text("2 jobs selected")
    ids = [page.locator("table.jobs tbody th a").nth(n).inner_text() for n in (0, 2)]
    page.get_by_role("button", name="Retry 2").click()
    expect(page.locator("#flash")).to_contain_text("2 jobs retried.")
    expect(page.locator("#flash")).to_be_focused()
    wait_until(
        lambda: sorted(mails.redis.hkeys("marks")) == sorted(job_id.encode() for job_id in ids),
        what="the runs of both jobs",
    )
    # The row goes by itself, and the ticks with it.
    expect(page.locator(f"th a:text-is('{ids[0]}')")).to_have_count(0)


def test_jobs_selected_by_mouse_are_deleted_by_keyboard(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.list_path).page
    page.locator("[data-tick]").nth(0).click()
    page.locator("[data-tick]").nth(1).click()
    expect(page.locator("[data-tick]").nth(1)).to_be_focused()
    page.keyboard.press("D")
    confirm(page, "Delete 2 jobs")
    expect(page.locator("#flash")).to_contain_text("2 jobs deleted.")
    assert mails.count() == DEAD - 2


def test_the_selection_follows_its_jobs_when_the_list_changes(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.list_path).page
    job_id = page.locator("table.jobs tbody th a").nth(4).inner_text()
    page.locator("[data-tick]").nth(4).check()
    first = page.locator("table.jobs tbody th a").nth(0).inner_text()
    mails.redis.zrem(mails.failed_key, first)
    expect(page.locator(f"th a:text-is('{first}')")).to_have_count(0)
    expect(page.locator("[data-tick]:checked")).to_have_count(1)
    expect(page.locator("tr:has([data-tick]:checked) th a")).to_have_text(job_id)


def test_the_selection_survives_a_reload_and_is_cleared_by_its_action(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.list_path).page
    page.locator("[data-tick]").nth(1).check()
    page.locator("[data-tick]").nth(2).check()
    page.goto(url + mails.list_path + "&page=2")  # no jobs are listed here
    page.goto(url + mails.list_path)
    expect(page.locator("[data-tick]:checked")).to_have_count(2)
    expect(page.locator("[data-ticked]")).to_have_text("2 jobs selected")
    page.get_by_role("button", name="Clear selection").click()
    expect(page.locator(".bulk-bar")).to_be_hidden()
    page.locator("[data-tick]").nth(1).check()
    page.reload()
    page.get_by_role("button", name="Delete 1").click()
    confirm(page, "Delete 1 job")
    expect(page.locator("#flash")).to_contain_text("1 job deleted.")
    page.goto(url + mails.list_path)
    expect(page.locator("[data-tick]:checked")).to_have_count(0)


def test_a_selected_row_looks_selected_under_the_pointer(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.list_path).page
    page.locator("[data-tick]").nth(1).check()
    page.locator("h1").click()  # the row has no focus, which looks alike
    page.locator("[data-tick]").nth(1).hover()
    looks = page.locator("tr:has([data-tick]:checked)").evaluate(
        "(row) => [row, row.cells[2]].map((each) => getComputedStyle(each).backgroundColor)"
    )
    bare = page.locator("tr:has([data-tick]:not(:checked))").first.evaluate(
        "(row) => getComputedStyle(row).backgroundColor"
    )
    assert looks[0] != bare
    assert looks[1] == "rgba(0, 0, 0, 0)"  # the color of the row is seen through its cells


def test_a_cancelled_question_keeps_the_selection(visit: Any, url: str, mails: Mails) -> None:
    """Also where the URL still has the result of an earlier action."""
    page = visit(url + mails.list_path + "&did=retry&done=3").page
    page.locator("[data-tick]").nth(1).check()
    page.locator("[data-tick]").nth(2).check()
    page.get_by_role("button", name="Delete 2").click()
    page.locator("dialog#question").get_by_role("link", name="Cancel").click()
    page.reload()
    expect(page.locator("#flash")).to_contain_text("3 jobs retried.")
    expect(page.locator("[data-tick]:checked")).to_have_count(2)
    page.get_by_role("button", name="Delete 2").click()
    confirm(page, "Delete 2 jobs")
    expect(page.locator("#flash")).to_contain_text("2 jobs deleted.")
    expect(page.locator("[data-tick]:checked")).to_have_count(0)
    assert mails.count() == DEAD - 2


def test_the_selection_works_where_storage_is_blocked(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.list_path).page
    page.add_init_script(
        "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no', 'SecurityError') }})"
    )
    page.reload()
    page.locator("[data-tick]").nth(1).check()
    first = page.locator("table.jobs tbody th a").nth(0).inner_text()
    mails.redis.zrem(mails.failed_key, first)
    expect(page.locator(f"th a:text-is('{first}')")).to_have_count(0)
    expect(page.locator("[data-ticked]")).to_have_text("1 job selected")
    page.get_by_role("button", name="Delete 1").click()
    confirm(page, "Delete 1 job")
    expect(page.locator("#flash")).to_contain_text("1 job deleted.")


def test_on_a_phone_a_finger_selects_all_jobs(visit: Any, url: str, mails: Mails) -> None:
    """Also by the words beside the box; each box is a target of 24 pixels."""
    options = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    page = visit(url + mails.list_path, **options).page
    page.get_by_text("Select all jobs on this page").tap()
    expect(page.locator("[data-ticked]")).to_have_text(f"{DEAD} jobs selected")
    expect(page.locator("[data-tick]:checked")).to_have_count(DEAD)
    for box in page.locator(".ticked input[type=checkbox]").all()[:3]:
        size = box.bounding_box()
        assert size is not None
        assert min(size["width"], size["height"]) >= 24
    all_box, first_box = (page.locator(f"[{name}]").first.bounding_box() for name in ("data-tick-all", "data-tick"))
    assert all_box["x"] == first_box["x"]
    page.get_by_text("Select all jobs on this page").tap()
    expect(page.locator(".bulk-bar")).to_be_hidden()


def test_a_selected_page_leads_to_the_whole_list(visit: Any, url: str, mails: Mails) -> None:
    """Of two pages, with the filter above the list, by keyboard; R still acts on the selected jobs only."""
    with mails.redis.pipeline(transaction=False) as pipe:
        for n in range(1_000, 1_100 - DEAD):
            pipe.hset(f"bull:{mails.queue}:{n}", mapping={"name": "send", "data": "{}", "opts": "{}", "timestamp": n})
            pipe.zadd(mails.failed_key, {str(n): n})
        pipe.execute()
    page = visit(url + mails.list_path).page
    whole = page.locator("[data-whole] summary")
    page.locator("[data-tick]").first.check()
    expect(whole).to_be_hidden()
    retry_selected = page.locator(".bulk-bar [data-verb=Retry]")
    before = retry_selected.bounding_box()
    page.locator("[data-tick-all]").check()
    expect(whole).to_have_text("Select all 100 dead jobs")
    assert abs(retry_selected.bounding_box()["y"] - before["y"]) < 1
    page.get_by_label("Only jobs that match").fill("send")
    whole.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Retry")
    expect(page.get_by_role("main")).to_contain_text("Matching send")
    assert mails.count() == 100


def test_a_deleted_job_is_restored(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.list_path).page
    page.locator("table.jobs tbody th a").first.click()
    page.wait_for_load_state()  # before the scripts have run, the question is a page of its own
    page.get_by_role("button", name="Delete").click()
    confirm(page, "Delete job")
    expect(page.locator("#flash")).to_contain_text("1 job deleted.")
    assert mails.count() == DEAD - 1
    page.get_by_role("button", name="Restore").click()
    expect(page.locator("#flash")).to_contain_text("1 job restored.")
    assert mails.count() == DEAD


def test_a_bulk_operation_stops_after_a_failed_canary_and_can_be_aborted(
    visit: Any, url: str, mails: Mails, worker: Worker
) -> None:
    worker(failing=True)
    page = visit(url + mails.bulk_path("retry")).page
    page.get_by_label("Canary size").fill("5")
    page.get_by_role("button", name=f"Retry {DEAD} jobs").click()
    expect(page.locator("#operation")).to_contain_text("failed again. The other jobs were not changed")
    wait_until(lambda: mails.count() == DEAD, what="the five jobs to fail again")  # it stops at the first
    # Each job of the canary has a cell; the failed ones are named with their errors.
    expect(page.locator("#canary-title")).to_contain_text(
        re.compile(r"^Canary: 0 succeeded, [1-5] failed, [0-4] unfinished")
    )
    expect(page.locator(".cells i")).to_have_count(5)
    expect(page.locator(".cells .failed").first).to_be_visible()
    expect(page.locator(".canary tbody th a").first).to_be_visible()
    expect(page.locator(".canary tbody .bad").first).not_to_have_text("no error message")
    # The rest is not offered before the errors were seen.
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    page.get_by_role("link", name="Look at the errors…").click()
    expect(page.locator("h1")).to_have_text(f"Run the remaining {DEAD - 5} anyway?")
    expect(page.locator("table.preview tbody tr").first.locator(".bad")).not_to_have_text("")
    operation = page.get_by_role("link", name="Cancel").get_attribute("href") or ""
    page.locator("table.preview tbody th a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("dead")
    page.goto(url + operation)
    page.get_by_role("button", name="Abort").click()
    expect(page.locator("#operation .tag")).to_have_text("aborted")
    assert mails.redis.hlen("marks") == 5
    assert mails.count() == DEAD
    page.get_by_role("link", name="Audit log of this operation").click()
    expect(page.locator("table.audit")).to_contain_text("aborted a bulk operation")
    expect(page.locator("table.audit tbody tr")).to_have_count(3)  # started, aborted, what was retried


def test_a_limit_is_previewed_and_kept(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.bulk_path("delete")).page
    page.get_by_label("At most").fill("12")
    page.get_by_role("button", name="Update preview").click()
    expect(page.locator(".plan")).to_have_text(f"Deletes the 12 oldest of {DEAD}.")
    oldest = mails.redis.zrange(mails.failed_key, 0, 11)
    page.get_by_role("button", name="Delete 12 jobs").click()
    expect(page.locator("#operation")).to_contain_text("12 deleted")
    page.goto(f"{url}/bulk")
    expect(page.locator("table.list tbody tr").first.locator("[data-label=started] time")).to_be_visible()
    expect(page.locator("table.list tbody tr").first.locator("progress")).to_have_attribute("value", "12")
    assert mails.count() == DEAD - 12
    assert not set(oldest) & set(mails.redis.zrange(mails.failed_key, 0, -1))


def test_the_remedy_is_above_the_list_and_deleting_in_a_menu(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.list_path).page
    retry = page.get_by_role("button", name=f"Retry all {DEAD}…")
    assert retry.bounding_box()["y"] < page.locator("table.jobs").bounding_box()["y"]
    delete = page.get_by_role("button", name=f"Delete all {DEAD}…")
    expect(delete).to_be_hidden()
    page.locator(".bulk-form summary").focus()
    page.keyboard.press("Enter")
    expect(delete).to_be_visible()
    page.mouse.wheel(0, 3_000)
    expect(retry).to_be_in_viewport()


def test_a_bulk_delete_is_undone(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.bulk_path("delete")).page
    page.get_by_label("Jobs per second").fill("0")
    page.get_by_role("button", name=f"Delete {DEAD} jobs").click()
    expect(page.locator("#operation")).to_contain_text(f"{DEAD} deleted")
    assert mails.count() == 0
    page.get_by_role("button", name=f"Restore {DEAD}").click()
    wait_until(lambda: mails.count() == DEAD, what="all jobs to be back")


def test_a_large_bulk_delete_is_undone_by_a_bulk_operation(visit: Any, url: str, mails: Mails) -> None:
    many = 1_200  # too many to come back at once
    with mails.redis.pipeline(transaction=False) as pipe:
        for n in range(1_000, 1_000 + many - DEAD):
            pipe.hset(f"bull:{mails.queue}:{n}", mapping={"name": "send", "data": "{}", "opts": "{}", "timestamp": n})
            pipe.zadd(mails.failed_key, {str(n): n})
        pipe.execute()
    before = mails.redis.zrange(mails.failed_key, 0, -1, withscores=True)
    page = visit(url + mails.bulk_path("delete")).page
    page.get_by_label("Jobs per second").fill("0")
    page.get_by_role("button", name=f"Delete {many:,} jobs").click()
    expect(page.locator("#operation")).to_contain_text(f"{many:,} deleted")
    deleted = page.url
    page.get_by_role("button", name=f"Restore {many:,}").click()
    expect(page.locator("#operation")).to_contain_text(f"{many:,} of {many:,}: {many:,} restored.")
    assert page.url != deleted
    page.get_by_role("link", name="bulk operation", exact=True).click()
    expect(page).to_have_url(deleted)
    expect(page.locator("#operation")).to_contain_text(f"{many:,} restored since.")
    assert mails.redis.zrange(mails.failed_key, 0, -1, withscores=True) == before


def test_deleted_jobs_are_found_in_the_trash_and_restored(visit: Any, url: str, mails: Mails) -> None:
    before = mails.redis.zrange(mails.failed_key, 0, -1, withscores=True)
    page = visit(url + mails.bulk_path("delete")).page
    page.get_by_label("Jobs per second").fill("0")
    page.get_by_role("button", name=f"Delete {DEAD} jobs").click()
    expect(page.locator("#operation")).to_contain_text(f"{DEAD} deleted")
    # Undo is not lost with that page.
    page.goto(f"{url}/queues/main/bullmq/{mails.queue}")
    page.get_by_role("link", name=f"{DEAD} deleted jobs in the trash").click()
    page.get_by_role("link", name=f"{DEAD} dead jobs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Deleted: {DEAD} dead jobs")
    expect(page.locator("table.trash-jobs")).to_contain_text("many")
    page.locator("[data-tick]").nth(0).check()
    page.locator("[data-tick]").nth(3).check()
    page.get_by_role("button", name="Restore 2", exact=True).click()
    expect(page.locator("#flash")).to_contain_text("2 jobs restored.")
    assert mails.count() == 2
    expect(page.locator("[data-tick]")).to_have_count(DEAD - 2)
    page.get_by_role("button", name=f"Restore all {DEAD - 2}").click()
    expect(page.locator("#flash")).to_contain_text(f"{DEAD - 2} jobs restored.")
    assert mails.redis.zrange(mails.failed_key, 0, -1, withscores=True) == before


def test_a_queue_is_deleted_only_with_its_name(visit: Any, url: str, mails: Mails) -> None:
    page = visit(f"{url}/queues/main/bullmq/{mails.queue}", outage=True).page  # Chromium tells each 409 in the console
    page.get_by_role("link", name="Delete queue…").click()
    page.get_by_label("Type the queue name").fill("mail")
    page.keyboard.press("Enter")  # never confirms
    confirm(page, "Delete queue")
    expect(page.locator("main")).to_contain_text("Nothing was deleted")
    assert mails.redis.exists(f"bull:{mails.queue}:meta")


def test_pause_and_resume(visit: Any, url: str, mails: Mails) -> None:
    page = visit(f"{url}/queues/main/bullmq/{mails.queue}").page
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#flash")).to_contain_text("1 queue paused.")
    assert mails.redis.hget(f"bull:{mails.queue}:meta", "paused") == b"1"
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator("#flash")).to_contain_text("1 queue resumed.")
    assert mails.redis.hget(f"bull:{mails.queue}:meta", "paused") is None


def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Any, url: str, mails: Mails) -> None:
    page = visit(url + mails.list_path, viewport={"width": 360, "height": 740}).page
    # Far down the list: the bar is never above the beginning of its list, which may be near the end of the screen.
    page.locator("[data-tick]").nth(9).check()
    expect(page.locator(".bulk-bar")).to_be_visible()
    page.wait_for_function(RAIL_BELOW_BAR)
    page.get_by_role("button", name="Delete 1", exact=True).click()
    confirm(page, "Delete 1 job")
    kept = page.get_by_role("link", name="View in trash").get_attribute("href")
    for path in (mails.list_path, mails.bulk_path("delete"), "/bulk", "/audit", "/trash", str(kept)):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
