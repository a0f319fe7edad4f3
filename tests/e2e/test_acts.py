"""What an operator does at night, in the browser, with the real BullMQ at the other end."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from playwright.sync_api import expect

from dashboard.demo.embedded import EmbeddedRedis, die_with_parent
from tests.contract.bullmq_library import WORKLOAD, BullMQLibrary
from tests.e2e.conftest import dashboard
from tests.serving import get_json, wait_until

pytestmark = pytest.mark.e2e
DEAD = 30
# The rail does not lie over the buttons.
RAIL_BELOW_BAR = """() => {
    const [bar, rail] = [".bulkbar", ".rail"].map((found) => document.querySelector(found).getBoundingClientRect());
    return bar.height > 0 && bar.bottom <= rail.top;
}"""


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    with redis.Redis.from_url(server.url) as client:
        client.hset("bull:mails:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
    with dashboard(server.url) as found:
        wait_until(lambda: get_json(f"{found}/api/v1/queues")["total"] >= 1, what="finding the queue")
        yield found


@pytest.fixture
def dead(server: EmbeddedRedis, url: str) -> Iterator[redis.Redis]:
    """A client of a Redis in which DEAD jobs of `mails` have failed for good."""
    client = redis.Redis.from_url(server.url)
    for key in client.scan_iter():
        if not key.startswith(b"{queuedeck}") or b"bulk" in key or b"audit" in key:
            client.delete(key)
    BullMQLibrary().drive("many", server.url, "mails", count=DEAD, dead=True)
    wait_until(
        lambda: [queue["counts"]["dead"] for queue in get_json(f"{url}/api/v1/queues")["queues"]] == [DEAD],
        what="the dashboard seeing them",
    )
    yield client
    client.close()


@pytest.fixture
def worker(server: EmbeddedRedis) -> Iterator[Callable[..., None]]:
    """Starts a real worker on `mails` that notes each run in the hash `marks`."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**options: Any) -> None:
        node = shutil.which("node")
        assert node is not None
        command = [node, str(WORKLOAD / "drive.mjs"), "bullmq", "consume", server.url, "mails", json.dumps(options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=die_with_parent())
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b'{"ready":true}'

    yield start
    for process in started:
        process.kill()
        process.communicate()


Worker = Callable[..., None]
LIST = "/queues/main/bullmq/mails?state=dead"


def test_ticked_jobs_are_retried_and_the_real_worker_finishes_them(
    visit: Any, url: str, dead: redis.Redis, worker: Worker
) -> None:
    worker()
    page = visit(url + LIST).page
    expect(page.locator(".bulkbar")).to_be_hidden()
    page.locator("[data-tick]").nth(0).check()
    page.keyboard.press("j")
    page.locator("[data-tick]").nth(2).check()
    expect(page.locator("[data-ticked]")).to_have_text("2 jobs ticked")
    ids = [page.locator("table.jobs tbody th a").nth(n).inner_text() for n in (0, 2)]
    page.get_by_role("button", name="Retry 2").click()
    expect(page.locator("#did")).to_contain_text("2 jobs retried.")
    expect(page.locator("#did")).to_be_focused()
    wait_until(lambda: sorted(dead.hkeys("marks")) == sorted(job_id.encode() for job_id in ids), what="the worker")
    # The row goes by itself, and the ticks with it.
    expect(page.locator(f"th a:text-is('{ids[0]}')")).to_have_count(0)


def test_jobs_that_were_ticked_by_mouse_are_deleted_by_key(visit: Any, url: str, dead: redis.Redis) -> None:
    page = visit(url + LIST).page
    page.locator("[data-tick]").nth(0).click()
    page.locator("[data-tick]").nth(1).click()
    expect(page.locator("[data-tick]").nth(1)).to_be_focused()
    page.keyboard.press("D")
    expect(page.locator("#did")).to_contain_text("2 jobs deleted.")
    assert dead.zcard("bull:mails:failed") == DEAD - 2


def test_ticks_stay_with_their_jobs_while_the_list_moves(visit: Any, url: str, dead: redis.Redis) -> None:
    page = visit(url + LIST).page
    job_id = page.locator("table.jobs tbody th a").nth(4).inner_text()
    page.locator("[data-tick]").nth(4).check()
    first = page.locator("table.jobs tbody th a").nth(0).inner_text()
    dead.zrem("bull:mails:failed", first)
    expect(page.locator(f"th a:text-is('{first}')")).to_have_count(0)
    expect(page.locator("[data-tick]:checked")).to_have_count(1)
    expect(page.locator("tr:has([data-tick]:checked) th a")).to_have_text(job_id)


def test_a_deleted_job_comes_back(visit: Any, url: str, dead: redis.Redis) -> None:
    page = visit(url + LIST, gone=True).page
    page.locator("table.jobs tbody th a").first.click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#did")).to_contain_text("1 job deleted.")
    assert dead.zcard("bull:mails:failed") == DEAD - 1
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#did")).to_contain_text("1 job put back.")
    assert dead.zcard("bull:mails:failed") == DEAD


def test_work_whose_canary_fails_stops_and_can_be_aborted(
    visit: Any, url: str, dead: redis.Redis, worker: Worker
) -> None:
    worker(failing=True)
    page = visit(f"{url}/bulk/new?source=main&backend=bullmq&queue=mails&state=dead&action=retry").page
    page.get_by_label("First").fill("5")
    page.get_by_role("button", name=f"Retry {DEAD} jobs").click()
    expect(page.locator("#work")).to_contain_text("failed again, so the rest was not touched")
    wait_until(lambda: dead.zcard("bull:mails:failed") == DEAD, what="all five failing")  # it stops at the first
    page.get_by_role("button", name="Abort").click()
    expect(page.locator("#work .tag")).to_have_text("aborted")
    assert dead.hlen("marks") == 5
    assert dead.zcard("bull:mails:failed") == DEAD
    page.goto(f"{url}/audit")
    expect(page.locator("table.audit")).to_contain_text("abort bulk work")


def test_a_bulk_delete_is_undone(visit: Any, url: str, dead: redis.Redis) -> None:
    page = visit(f"{url}/bulk/new?source=main&backend=bullmq&queue=mails&state=dead&action=delete").page
    page.get_by_label("Jobs per second").fill("0")
    page.get_by_role("button", name=f"Delete {DEAD} jobs").click()
    expect(page.locator("#work")).to_contain_text(f"{DEAD} deleted")
    assert dead.zcard("bull:mails:failed") == 0
    page.get_by_role("button", name="Undo").click()
    wait_until(lambda: dead.zcard("bull:mails:failed") == DEAD, what="all of them back")


def test_a_large_bulk_delete_is_undone_by_bulk_work(visit: Any, url: str, dead: redis.Redis) -> None:
    many = 3_000
    with dead.pipeline(transaction=False) as pipe:
        for n in range(1_000, 1_000 + many - DEAD):
            pipe.hset(f"bull:mails:{n}", mapping={"name": "send", "data": "{}", "opts": "{}", "timestamp": n})
            pipe.zadd("bull:mails:failed", {str(n): n})
        pipe.execute()
    before = dead.zrange("bull:mails:failed", 0, -1, withscores=True)
    page = visit(f"{url}/bulk/new?source=main&backend=bullmq&queue=mails&state=dead&action=delete").page
    page.get_by_label("Jobs per second").fill("0")
    page.get_by_role("button", name=f"Delete {many:,} jobs").click()
    expect(page.locator("#work")).to_contain_text(f"{many:,} deleted")
    deleted = page.url
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#work")).to_contain_text(f"{many:,} of {many:,}: {many:,} put back.")
    assert page.url != deleted
    page.get_by_role("link", name="bulk work", exact=True).click()
    expect(page).to_have_url(deleted)
    expect(page.locator("#work")).to_contain_text(f"{many:,} put back since.")
    assert dead.zrange("bull:mails:failed", 0, -1, withscores=True) == before


def test_a_queue_is_removed_only_by_its_name(visit: Any, url: str, dead: redis.Redis) -> None:
    page = visit(f"{url}/queues/main/bullmq/mails", outage=True).page  # Chromium tells each 409 in the console
    page.get_by_role("link", name="Remove queue…").click()
    page.get_by_label("Type the name").fill("mail")
    page.get_by_role("button", name="Remove the queue").click()
    expect(page.locator("main")).to_contain_text("Nothing was done")
    assert dead.exists("bull:mails:meta")


def test_pause_and_resume(visit: Any, url: str, dead: redis.Redis) -> None:
    page = visit(f"{url}/queues/main/bullmq/mails").page
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#did")).to_contain_text("1 queue paused.")
    assert dead.hget("bull:mails:meta", "paused") == b"1"
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator("#did")).to_contain_text("1 queue resumed.")
    assert dead.hget("bull:mails:meta", "paused") is None


def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Any, url: str, dead: redis.Redis) -> None:
    page = visit(url + LIST, viewport={"width": 360, "height": 740}).page
    # Far down the list: the bar is never above the beginning of its list, which may be near the end of the screen.
    page.locator("[data-tick]").nth(9).check()
    expect(page.locator(".bulkbar")).to_be_visible()
    page.wait_for_function(RAIL_BELOW_BAR)
    for path in (LIST, "/bulk/new?source=main&backend=bullmq&queue=mails&state=dead&action=delete", "/bulk", "/audit"):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
