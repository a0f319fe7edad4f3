"""A night of an operator, in the browser and with each library's real worker; what a viewer and the audit see of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from playwright.sync_api import Page, expect
from werkzeug.security import generate_password_hash

from dashboard.demo.embedded import EmbeddedRedis
from tests.conftest import start_server
from tests.e2e.conftest import INTERVAL_S, Visit, Visitor, confirm, press
from tests.e2e.on_call import LIBRARIES, Night
from tests.serving import serving
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
# Almost as many as a page lists: a bulk operation at PACE_PER_S does not finish before it is aborted.
DEAD = 45
PACE_PER_S = "0.5"
PEOPLE = {"otto": "operator", "vera": "viewer", "ada": "admin"}
# Steps and pages are the same for each library, so each run tests one of them: the one whose dead jobs are in a list
# shared by all queues. The actions of each library and the role viewer are tested without a browser.
NIGHTS = [
    pytest.param(night, id=night.name, marks=() if night.name == "sidekiq" else pytest.mark.soak) for night in LIBRARIES
]


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of the test's own: nothing is left of another night."""
    with start_server("redis-7") as instance:
        yield instance


@pytest.fixture
def url(server: EmbeddedRedis, tmp_path: Path) -> Iterator[str]:
    """A dashboard with sign-in that monitors all libraries. Requested before `visit`, it outlives the tabs."""
    lines = [f'secret_key = "{"k" * 40}"', f'[[sources]]\nname = "main"\nurl = {json.dumps(server.url)}']
    for name, role in PEOPLE.items():
        digest = generate_password_hash(f"password of {name}", "scrypt:1024:8:1")
        lines.append(f'[[users]]\nname = "{name}"\npassword_hash = "{digest}"\nrole = "{role}"')
    config = tmp_path / "queuedeck.toml"
    config.write_text("\n".join(lines))
    with serving("--config", config, QUEUEDECK_SAMPLE_INTERVAL_S=INTERVAL_S, QUEUEDECK_AUTH="auto") as served:
        yield served.url


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as found:
        yield found


def signed_in(visit: Visit, url: str, name: str, **options: Any) -> Visitor:
    visitor = visit(f"{url}/login", **options)
    visitor.page.get_by_label("Name").fill(name)
    visitor.page.get_by_label("Password").fill(f"password of {name}")
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.locator(".rail")).to_be_visible()
    return visitor


def open_group(page: Page, url: str, night: Night) -> None:
    """From the list of errors to that of the library, which has all of its jobs."""
    page.goto(f"{url}/dead?library={night.name}")
    row = page.locator("table.groups tbody tr")
    expect(row).to_have_count(1)
    expect(row.locator("td").first).to_have_text(str(DEAD))
    row.locator("th a").click()
    expect(page.locator("table.members tbody tr")).to_have_count(DEAD)


@pytest.mark.parametrize("night", NIGHTS)
def test_a_night_on_call(url: str, visit: Visit, server: EmbeddedRedis, client: redis.Redis, night: Night) -> None:
    with night.dying(server.url, DEAD):
        page = signed_in(visit, url, "otto").page
        open_group(page, url, night)
        group = page.url
        with night.working(server.url):
            # One is retried from its page, and the real worker finishes it.
            page.locator("table.members tbody th a").first.click()
            page.get_by_role("button", name="Retry", exact=True).click()
            expect(page.locator("#flash")).to_contain_text("1 job retried.")
            wait_until(lambda: night.ran(client) == [1], what="one run of the job")
            # One is deleted by the keyboard, and comes back.
            page.goto(group)
            rows = page.locator("table.members tbody tr")
            expect(rows).to_have_count(DEAD - 1)
            press(page, "j", "j", "x")
            expect(page.locator("[data-ticked]")).to_have_text("1 job selected")
            deleted = page.locator("table.members tr:has([data-tick]:checked) th").inner_text()
            page.keyboard.press("D")
            confirm(page, "Delete 1 job")
            expect(page.locator("#flash")).to_contain_text("1 job deleted.")
            expect(page.locator("#flash")).to_be_focused()
            expect(rows).to_have_count(DEAD - 2)
            expect(page.locator(f"table.members th:text-is('{deleted}')")).to_have_count(0)
            page.get_by_role("button", name="Restore").click()
            expect(page.locator("#flash")).to_contain_text("1 job restored.")
            expect(rows).to_have_count(DEAD - 1)
            # All that match a filter are retried behind a canary, and that is ended half way.
            page.goto(f"{url}/queues/main/{night.name}/{night.shelf}?state=dead")
            page.locator(".bulk-form input[name=q]").fill(night.word)
            page.get_by_role("button", name=re.compile("^Retry all")).first.click()
            expect(page.get_by_role("heading", level=1)).to_have_text(f"Retry {DEAD - 1} jobs")
            expect(page.locator("main > p.muted").first).to_contain_text(re.compile(f"^{night.title}(: | )"))
            page.get_by_label("Jobs per second").fill(PACE_PER_S)
            page.get_by_label("Canary size").fill("2")
            page.get_by_label("Reason").fill(f"{night.title} is back")
            page.get_by_role("button", name=f"Retry {DEAD - 1} jobs").click()
            expect(page.locator("#operation .tag")).to_have_text("running")
            page.get_by_role("button", name="Abort").click()
            expect(page.locator("#operation .tag")).to_have_text("aborted")
            wait_until(lambda: 3 <= len(night.ran(client)) < DEAD, what="the runs of the canary")
            # The rest of the group goes at once; each ran once.
            page.goto(group)
            page.get_by_role("link", name="Retry all").click()
            page.get_by_label("Jobs per second").fill("0")
            page.get_by_role("button", name="Retry").click()
            expect(page.locator("#operation .tag")).to_have_text("done")
            wait_until(lambda: night.ran(client) == [1] * DEAD, what="one run of each job")
            page.goto(group)
            expect(page.locator("#group")).to_contain_text("No jobs left in this group")
    audit = signed_in(visit, url, "ada").page
    audit.goto(f"{url}/audit")
    told = [
        line
        for line in audit.locator("table.audit tbody tr").all_inner_texts()
        if night.title in line or "bulk" in line
    ]
    story = " | ".join(" ".join(line.split()) for line in reversed(told))
    position = 0
    parts = (
        "otto retried 1 dead job",
        "otto deleted 1 dead job",
        "otto restored 1 dead job",
        "otto aborted a bulk operation",
        f"aborted {night.title} is back",
        "otto retried",
    )
    for part in parts:
        position = story.find(part, position)
        assert position >= 0, (part, story)
    assert all("otto" in line for line in told)


@pytest.mark.parametrize("night", NIGHTS)
def test_a_viewer_sees_no_buttons_and_changes_nothing(
    url: str, visit: Visit, server: EmbeddedRedis, client: redis.Redis, night: Night
) -> None:
    with night.dying(server.url, DEAD):
        page = signed_in(visit, url, "vera", outage=True).page  # Chromium tells each 403 in the console
        open_group(page, url, night)
        shelf = f"/queues/main/{night.name}/{night.shelf}"
        job = page.locator("table.members tbody th a").first.get_attribute("href")
        assert job is not None
        assert job.startswith(f"{shelf}/jobs/")
        for address in (page.url, f"{url}{shelf}?state=dead", f"{url}{job}", f"{url}/bulk"):
            page.goto(address)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            offered = page.locator("[data-tick], main form[method=post], .bulk-bar, a[href*='/bulk/new']")
            expect(offered).to_have_count(0)
        everything = {"source": "main", "backend": night.name, "queue": night.shelf, "state": "dead"}
        for path, body in (
            (f"/api/v1{job}/retry", {}),
            (f"/api/v1{job}/delete", {}),
            ("/api/v1/bulk", {"action": "delete", **everything}),
            (f"/api/v1{shelf}/pause", {}),
        ):
            send = """([path, body]) => fetch(path, {
                method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
            }).then((answer) => answer.status)"""
            assert page.evaluate(send, [path, body]) == 403, path
        left = page.evaluate("path => fetch(path).then((answer) => answer.json())", f"/api/v1{shelf}/jobs?state=dead")
        assert left["total"] == DEAD
        page.goto(f"{url}/audit")
        expect(page.locator("main")).to_contain_text("You need the admin role")
