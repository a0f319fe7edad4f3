"""Mounted in a Flask application under gunicorn, clicked through."""

from __future__ import annotations

import re

import pytest
import redis
from playwright.sync_api import expect
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from tests.e2e.conftest import INTERVAL_S, Visit
from tests.serving import get_json, running

pytestmark = pytest.mark.e2e


def test_every_click_stays_below_the_path(server: EmbeddedRedis, connection: redis.Redis, visit: Visit) -> None:
    queue = Queue("mounted/queue", connection=connection)
    job = queue.enqueue("app.run")
    command = ["-m", "gunicorn", "tests.e2e.host:app", "--threads", "8", "--bind", "127.0.0.1:0"]
    command += ["--no-control-socket"]
    with running(command, HOST_REDIS_URL=server.url, QUEUEDECK_SAMPLE_INTERVAL_S=INTERVAL_S) as served:
        assert get_json(f"{served.url}/ops/queues/api/v1/overview")["error"]["code"] == "forbidden"
        page = visit(f"{served.url}/").page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_role("link", name="Queues").click()
        page.locator("#search").fill("mounted")
        expect(page.locator("table.queues tbody tr")).to_have_count(1)
        expect(page).to_have_url(re.compile("/ops/queues/.q=mounted$"))
        queue.enqueue("app.run")
        expect(page.locator("table.queues td.wait")).to_have_text("2")
        page.get_by_role("link", name="mounted/queue", exact=True).click()
        expect(page.locator("table.jobs tbody tr")).to_have_count(2)
        page.get_by_role("link", name=job.id).click()
        expect(page.locator("#job-id")).to_have_text(job.id)
        with page.expect_response(lambda answer: "/_job" in answer.url and answer.status in (200, 304)):
            pass
        page.locator(".rail").get_by_role("link", name="Overview", exact=True).click()
        expect(page.locator("table.queues")).to_be_visible()
        assert asked
        assert {url for url in asked if not url.startswith(f"{served.url}/ops/queues/")} == set()
        page.goto("about:blank")  # so that no poll reaches a server that is shutting down
