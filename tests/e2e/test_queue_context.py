"""The context of a queue in the browser: one line while folded, open through polls, and its links lead on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from playwright.sync_api import Page, expect
from rq import Queue

from dashboard.alerts.delivery.message import PageLinks
from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.demo.embedded import EmbeddedRedis
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.e2e.conftest import Visit, disabled_rules
from tests.e2e.inspector import DESKTOP, PHONE, TABLET
from tests.serving import get_json, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SETTINGS = """
redis_url = "{url}"
sample_interval_s = 0.5
[[queues]]
match = "mail"
owner = "messaging"
runbook = "https://wiki.example.com/runbooks/mail"
note = "Customers wait for these. Ask in #messaging before you delete anything."
[[rules]]
id = "deep"
name = "Mail is deep"
metric = "queue.depth"
queues = ["mail"]
warning = 2
for_s = 0
min_samples = 1
new_instance_grace_s = 0
"""
PAGE = "/queues/main/rq/mail"
FACTS = "#queue .queue-context"


@pytest.fixture(scope="module")
def base(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard on which a rule of `mail` fires and an error group of it has been read."""
    fail_rq(server, "mail", *((failing_jobs.fail_with, f"502 Bad Gateway from node-{number}") for number in range(4)))
    with redis.Redis.from_url(server.url) as client:
        mail = Queue("mail", connection=client)
        for number in range(30):
            mail.enqueue("app.mail.send", number)
    file: Path = tmp_path_factory.mktemp("context") / "queuedeck.toml"
    # Built-in rules that would fire after some minutes.
    off = disabled_rules("queue-no-consumers", "queue-latency", "workers-gone", "checker-slow")
    file.write_text(SETTINGS.format(url=server.url) + off)
    with serving("--config", file) as served:
        api = f"{served.url}/api/v1"
        wait_until(lambda: get_json(f"{api}/alerts")["alerts"], what="the alert of mail")
        wait_until(lambda: get_json(f"{api}/dead?group_by=error")["groups"], what="the error group")
        yield served.url


def refresh(page: Page) -> None:
    """Wait until the page has been refreshed from now on."""
    with page.expect_response(lambda response: "/_queue" in response.url):
        pass


@pytest.mark.parametrize("size", [DESKTOP, TABLET, PHONE], ids=["1440", "1024", "390"])
def test_the_context_is_short_while_folded_and_stays_open_through_polls(
    visit: Visit, base: str, size: dict[str, Any]
) -> None:
    page = visit(base + PAGE, **size).page
    context = page.locator(FACTS)
    expect(context).to_contain_text("Owner messaging")
    box = context.bounding_box()
    assert box is not None
    assert box["height"] <= (100 if size is PHONE else 60)
    table = context.get_by_role("table", name="Rules that watch this queue")
    expect(table).to_be_hidden()
    context.locator("summary").click()
    expect(table).to_be_visible()
    expect(table.get_by_role("row", name="Mail is deep")).to_contain_text("firing")
    for _ in range(2):
        refresh(page)
    expect(table).to_be_visible()


def test_the_jobs_are_in_sight_below_the_context(visit: Visit, base: str) -> None:
    page = visit(f"{base}{PAGE}?state=dead", **DESKTOP).page
    expect(page.locator("table.jobs tbody tr").nth(2)).to_be_in_viewport()


def test_the_links_of_the_context_lead_to_the_alert_the_group_and_the_filled_in_rule(visit: Visit, base: str) -> None:
    page = visit(base + PAGE, **DESKTOP).page
    context = page.locator(FACTS)
    context.locator("summary").click()
    context.get_by_role("link", name="firing", exact=True).click()
    expect(page.locator("tr:target")).to_contain_text("Mail is deep")
    expect(page.locator("tr:target")).to_contain_text("Owner messaging")
    page.go_back()
    context.locator("summary").click()
    context.get_by_role("link", name="502 Bad Gateway from node-").click()
    expect(page.locator("main")).to_contain_text("Based on all 4 dead letters")
    page.go_back()
    context.locator("summary").click()
    expect(context).to_contain_text("Suggested warning: above 60 waiting jobs, twice the 95th percentile")
    context.get_by_role("link", name="Create alert for this queue").click()
    expect(page.locator('[name="queues"]')).to_have_value("mail")
    expect(page.locator('[name="metric"]')).to_have_value("queue.depth")
    expect(page.locator('[name="warning"]')).to_have_value("60")


@pytest.mark.parametrize(("metric", "tab"), [("queue.dead", "dead"), ("queue.depth", "waiting")])
def test_the_link_of_a_message_opens_the_tab_that_it_is_about(visit: Visit, base: str, metric: str, tab: str) -> None:
    labels = AlertLabels(source="main", backend="rq", queue="mail")
    page = visit(PageLinks(base).subject_url(labels, metric) or "").page
    expect(page.locator('.tabs [aria-current="page"]')).to_contain_text(tab)
