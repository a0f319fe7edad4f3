"""A page whose job or bulk operation disappears says so, without an error, and becomes live again when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from playwright.sync_api import Page, expect

from dashboard.demo.embedded import EmbeddedRedis
from tests.e2e.conftest import dashboard
from tests.serving import get_json
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
JOB = "/queues/main/bullmq/mails/jobs/1"


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    with redis.Redis.from_url(server.url) as client:
        fill(client)
    with dashboard(server.url) as found:
        wait_until(lambda: get_json(f"{found}/api/v1/queues")["total"], what="finding the queue")
        yield found


@pytest.fixture
def mails(server: EmbeddedRedis, url: str) -> Iterator[redis.Redis]:
    """A client of a Redis with a dead job of BullMQ, which the dashboard knows."""
    with redis.Redis.from_url(server.url) as client:
        fill(client)
        wait_until(lambda: get_json(f"{url}/api/v1/dead")["groups"], what="the dashboard seeing the dead job")
        yield client


def fill(client: redis.Redis) -> None:
    """One failed job in the queue `mails`, and no other."""
    base = "bull:mails:"
    client.delete(*client.keys(base + "*"), base)
    client.hset(base + "meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
    client.set(base + "id", 1)
    failed = {"failedReason": "no route", "finishedOn": 1_700_000_001_000, "processedOn": 1_700_000_000_000}
    client.hset(
        base + "1", mapping={"name": "send", "data": "{}", "opts": "{}", "timestamp": 1_700_000_000_000, **failed}
    )
    client.zadd(base + "failed", {"1": 1_700_000_001_000})


def polls(page: Page) -> list[int]:
    """The status of each poll from now on."""
    seen: list[int] = []
    page.on("response", lambda response: "/_" in response.url and seen.append(response.status))
    return seen


def check_that_it_goes_and_comes_back(page: Page, said: str, take_away: Callable[[], Any], put_back: Any) -> None:
    seen = polls(page)
    state = page.locator("[data-live-button]")
    expect(state).to_have_attribute("data-state", "live")
    take_away()
    banner = page.locator("#connection")
    expect(banner).to_contain_text(said)
    expect(state).to_have_attribute("data-state", "gone")
    # What was seen last stays, and the page asks rarely.
    expect(page.locator("#view")).not_to_be_empty()
    assert 404 not in seen
    assert seen[-1] == 204
    put_back()
    banner.get_by_role("button", name="Try now").click()
    expect(state).to_have_attribute("data-state", "live")
    expect(banner).to_be_hidden()
    assert 404 not in seen
    assert set(seen[-1:]) <= {200, 304}


def test_a_deleted_job_is_reported_until_it_is_back(visit: Any, url: str, mails: redis.Redis) -> None:
    page = visit(url + JOB).page
    check_that_it_goes_and_comes_back(page, "job", lambda: forget_job(mails), lambda: fill(mails))


def forget_job(client: redis.Redis) -> None:
    """The job alone: its queue stays."""
    client.delete("bull:mails:1", "bull:mails:failed")


def test_a_removed_bulk_operation_is_reported_until_it_is_back(visit: Any, url: str, mails: redis.Redis) -> None:
    form = f"{url}/bulk/new?source=main&backend=bullmq&queue=mails&state=dead&action=retry"
    page = visit(form).page
    page.get_by_role("button", name="Retry 1 job").click()
    expect(page.locator("#operation .tag")).to_have_text("done")
    key = "{queuedeck}:bulk:" + page.url.partition("?")[0].rpartition("/")[2]
    kept = mails.dump(key)
    check_that_it_goes_and_comes_back(
        page, "Bulk operation not found", lambda: mails.delete(key), lambda: mails.restore(key, 0, kept)
    )


def test_a_page_without_its_job_polls_rarely(visit: Any, url: str, mails: redis.Redis) -> None:
    page = visit(f"{url}/queues/main/bullmq/mails").page
    now_ms = page.evaluate("Date.now()")
    page.clock.install(time=now_ms / 1000 - 600)
    page.clock.pause_at(now_ms / 1000)
    page.goto(url + JOB)  # from here on, the time of the page is the test's
    forget_job(mails)
    page.clock.run_for(600)
    expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "gone")
    seen = polls(page)
    page.clock.run_for(14_000)
    assert seen == []
    with page.expect_response(lambda response: "/_job" in response.url):
        page.clock.run_for(2_000)
