"""What a browser with an empty cache asks for until a page is there: few requests, and small ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
import redis
from playwright.sync_api import Page, Request
from rq import Queue
from werkzeug.security import generate_password_hash

from dashboard.demo.embedded import EmbeddedRedis
from tests.e2e.conftest import Visit, dashboard, wait_for_queues
from tests.serving import serving

pytestmark = pytest.mark.e2e

NAMES = tuple(f"queue-{number:02}-of-the-shop" for number in range(60))  # a full page of the overview
CALM_S = "5"  # between two polls, so that none belongs to the first load


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis) -> Iterator[str]:
    """A dashboard with 60 queues of RQ, of which one has jobs."""
    with redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", *(f"rq:queue:{name}" for name in NAMES))
        for _ in range(60):
            Queue(NAMES[0], connection=client).enqueue("shop.mail", "someone@example.org")
    with dashboard(server.url, interval_s=CALM_S) as served:
        wait_for_queues(served, len(NAMES))
        yield served


def measure(page: Page, url: str) -> dict[str, int]:
    """The bytes on the wire, head and body, of each response that the first load of `url` needs, by its address."""
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    page.goto(url, wait_until="networkidle")
    sizes: dict[str, int] = {}
    for request in [request for request in asked if "hx-request" not in request.headers]:  # those are later polls
        size = request.sizes()
        sizes[request.url] = size["responseHeadersSize"] + size["responseBodySize"]
    # Without a window, Chromium shows no icon and does not ask for it.
    icon = urljoin(url, page.locator("link[rel=icon]").get_attribute("href") or "")
    answer = page.request.get(icon)
    assert answer.ok
    heads = sum(len(f"{each['name']}: {each['value']}\r\n") for each in answer.headers_array)
    return sizes | {icon: heads + int(answer.headers["content-length"])}


@pytest.mark.parametrize(
    ("path", "max_requests", "max_bytes"),
    [
        ("/", 10, 120_000),
        ("/?view=heat", 10, 120_000),
        ("/?wall=1", 8, 60_000),
        (f"/queues/main/rq/{NAMES[0]}", 8, 90_000),
        (f"/queues/main/rq/{NAMES[0]}/charts", 8, 100_000),
        ("/dead", 8, 90_000),
        ("/search?q=shop", 8, 90_000),
        ("/alerts", 8, 90_000),
        ("/alerts/rules/new", 8, 90_000),
    ],
)
def test_the_first_load_of_a_page_is_few_small_requests(
    visit: Visit, url: str, path: str, max_requests: int, max_bytes: int
) -> None:
    loaded = measure(visit("about:blank").page, url + path)
    assert len(loaded) <= max_requests, loaded
    assert sum(loaded.values()) <= max_bytes, loaded


def test_the_sign_in_page_loads_next_to_nothing(visit: Visit, server: EmbeddedRedis, tmp_path: Path) -> None:
    file = tmp_path / "queuedeck.toml"
    digest = generate_password_hash("password of vera", "scrypt:1024:8:1")
    file.write_text(
        f'redis_url = "{server.url}"\nstore_prefix = "{{first}}"\nsecret_key = "{"k" * 40}"\n'
        f'[[users]]\nname = "vera"\npassword_hash = "{digest}"\nrole = "viewer"\n'
    )
    with serving("--config", file, QUEUEDECK_AUTH="auto") as served:
        page = visit("about:blank").page
        loaded = measure(page, served.url)
        assert page.get_by_label("Password").is_visible()
        assert len(loaded) <= 5, loaded  # the first one leads to the form
        assert sum(loaded.values()) <= 20_000, loaded
