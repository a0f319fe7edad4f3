"""The file of an incident report, opened from disk without a network: nothing is loaded, nothing runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, expect

from dashboard.clock import now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.demo.past.writing import write_past
from tests.e2e.conftest import HOSTILE, PATIENCE_MS, Visit, dashboard, wait_for_queues
from tests.e2e.inspector import AXE, PHONE
from tests.web.incidents.past import record_alert

pytestmark = pytest.mark.e2e

QUEUES = ("mails", "webhooks")


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    """A dashboard with two queues that have a week behind them, and an alert with a hostile name."""
    with redis.Redis.from_url(server.url) as client:
        for name in QUEUES:
            client.hset(f"bull:{name}:meta", "version", "bullmq:5.81.0")
        at = now_s() - 1000
        record_alert(client, at, "firing", began=at, queue=HOSTILE, name=HOSTILE)
    write_past(server.url, {"BullMQ in Node"}, now_s())
    with dashboard(server.url, interval_s="5") as served:
        wait_for_queues(served, len(QUEUES))
        yield served


def test_from_a_chart_to_a_file_that_needs_nothing(visit: Visit, browser: Browser, url: str, tmp_path: Path) -> None:
    page = visit(f"{url}/queues/main/bullmq/mails/charts?range=24h").page
    page.get_by_role("link", name="Incident report of this range").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Incident report")
    expect(page.get_by_label("Queue", exact=True)).to_have_value("mails")
    page.get_by_label("Queue", exact=True).fill("")
    page.get_by_label("Title").fill("The night of the mails")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Redis main, ")).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("link", name="Download the report").click()
    file = tmp_path / started.value.suggested_filename
    started.value.save_as(file)
    assert file.name.startswith("queuedeck-incident-20")

    context = browser.new_context(offline=True, bypass_csp=False, **PHONE)
    context.set_default_timeout(PATIENCE_MS)
    opened, asked, said = context.new_page(), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.goto(file.as_uri())
    expect(opened.get_by_role("heading", level=1)).to_have_text("The night of the mails")
    expect(opened.get_by_role("img", name="Jobs per minute over time")).to_be_visible()
    opened.get_by_text("All figures").first.click()  # without any script
    expect(opened.locator("details table").first).to_be_visible()
    assert opened.locator("#timeline tbody tr").count() >= 2  # the alert, and a deploy of the past
    assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
    assert (asked, said) == ([file.as_uri()], [])
    context.close()

    checked = browser.new_context(bypass_csp=True)
    checked.set_default_timeout(PATIENCE_MS)
    opened = checked.new_page()
    opened.goto(file.as_uri())
    opened.add_script_tag(content=AXE.read_text())
    found = opened.evaluate("axe.run().then((result) => result.violations.map((each) => `${each.id}: ${each.help}`))")
    assert found == []
    checked.close()
