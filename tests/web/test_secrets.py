"""Secrets in payloads, arguments, errors, stacks, logs and results of each library: none is shown or sent to users."""

from __future__ import annotations

import html
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis
from flask import Flask
from werkzeug.exceptions import HTTPException

from dashboard.alerts.delivery.channels import discord, email_message, pagerduty, slack, teams, webhook, wording
from dashboard.alerts.delivery.channels.base import KINDS as CHANNEL_KINDS
from dashboard.alerts.delivery.channels.base import Message
from dashboard.alerts.delivery.message import PageLinks, build_message
from dashboard.auth import Identity, Role
from dashboard.dead_letters.top_errors import texts_of
from dashboard.model import JobQuery, State
from dashboard.redact import MASK
from dashboard.web.context import EXTENSION
from tests.redaction import any_redaction
from tests.unit.alerts.test_message import notification
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.seeded_secrets import KINDS, NOW, SEEN, SUSPECTS, WITH_HOOK, Seeds, fill

# What each kind of channel sends of a message.
SENT: dict[str, Callable[[Message], Any]] = {
    "slack": slack.build_payload,
    "email": lambda message: [
        wording.format_plain_text(message),
        email_message.render_html(message, with_picture=False),
    ],
    "webhook": webhook.build_payload,
    "pagerduty": pagerduty.build_events,
    "teams": teams.build_payload,
    "discord": discord.build_payload,
    "apprise": wording.format_plain_text,
}


@pytest.fixture
def seeds(redis_client: redis.Redis) -> Seeds:
    found = Seeds(with_hook=True)
    fill(redis_client, found)
    return found


@pytest.fixture
def app(make_app: MakeApp, seeds: Seeds) -> Iterator[Flask]:
    """The app of an admin, and of a viewer for requests with the header that `as_viewer` sends."""

    def identify(environ: dict[str, Any]) -> Identity:
        return Identity(name="vera", role=Role.VIEWER if "HTTP_X_VIEWER" in environ else Role.ADMIN)

    with any_redaction():
        made = make_app(
            identify=identify, sample_interval_s=0.5, redaction=WITH_HOOK, checker="auto", metrics_public=True
        )
        client = made.test_client()
        wait_until(lambda: client.get("/api/v1/dead").get_json()["scanned"] == 4, what="all dead jobs in groups")
        yield made


STARTS = (
    *("/", "/_overview", "/?wall=1", "/?view=heat", "/dead", "/bulk", "/audit", "/alerts", "/alerts/rules", "/workers"),
    *(
        "/schedules",
        "/redis",
        "/redis/main/memory",
        "/redis/main/leftovers",
        "/classes",
        "/trash",
        "/incident",
        "/charts",
    ),
    *(
        f"/search?q={SEEN}",
        f"/palette?q={SEEN}",
        f"/complete?q={SEEN[:5]}",
        "/slos",
        "/metrics",
        "/healthz",
        "/no-such",
    ),
    *(f"/api/v1/{each}" for each in ("overview", "queues", "dead", "alerts", "audit", "workers", "schedules", "redis")),
    *(f"/api/v1/{each}" for each in ("classes", "trash", "bulk", "marks", "rules", "deliveries", "incident")),
    *(f"/api/v1/search?q={SEEN}", "/api/v1/redis/main", "/api/v1/redis/main/memory", "/api/v1/redis/main/leftovers"),
)
LINK = re.compile(r'(?:href|action|hx-get)="(/[^"#]*)')
# What only arranges the same content in another way.
ARRANGED = re.compile(r"[?&](?:at|dir|group|native|range|show|sort|view|page|library|source)=")


def crawl(app: Flask) -> Iterator[tuple[str, str]]:
    """Yield addresses with what an admin gets there, and of the first of each kind and library what a viewer gets."""
    client, routes = app.test_client(), app.url_map.bind("x")
    left, kinds, seen = [(url, True) for url in STARTS], Counter[tuple[str, ...]](), set[str]()
    while left:
        url, is_first = left.pop(0)
        seen.add(url)
        for headers in ({"X-Viewer": "1"}, {}) if is_first else ({},):
            answer = client.get(url, headers=headers)
            assert answer.status_code < 500 or answer.status_code == 503, (url, answer.status_code)
            yield url, answer.text
        for found in LINK.findall(answer.text):
            link = html.unescape(found)
            for path in (link, f"/api/v1{link}"):
                bare, _, query = path.partition("?")
                try:
                    endpoint, values = routes.match(bare, method="GET")
                except HTTPException:
                    continue
                kind = (endpoint, values.get("backend", ""), *re.findall(r"(state=\w+|action=\w+|\w+=)", query))
                most = 3 if "job_id" in values and "/_" not in path else 1
                if path not in seen and not ARRANGED.search(path) and endpoint != "static" and kinds[kind] < most:
                    kinds[kind] += 1
                    left.append((path, kinds[kind] == 1))


def test_no_page_or_response_shows_a_secret(app: Flask, seeds: Seeds, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    found: dict[str, set[str]] = {}
    shown = set()
    for url, text in crawl(app):
        if leaks := seeds.leaked(text):
            found[url] = leaks
        if SEEN in text and (MASK in text or json.dumps(MASK)[1:-1] in text):
            shown.add(url)
    assert found == {}
    assert len(KINDS) > 40
    assert len(seeds.made) > 2000
    assert all(SUSPECTS.match(each) for each in seeds.made)
    libraries = {each.split("/")[3] for each in shown if each.startswith("/queues/") and "/jobs/" in each}
    assert libraries == {"bullmq", "celery", "rq", "sidekiq"}, shown
    assert sum("/jobs/" in url for url in shown) >= 15, shown
    assert seeds.leaked(caplog.text) == set()


def test_no_search_finds_a_secret(app: Flask, seeds: Seeds) -> None:
    client = app.test_client()
    assert len(client.get(f"/api/v1/search?q={SEEN}").get_json()["jobs"]) >= 4
    for seed in list(seeds.made)[::200]:
        assert client.get(f"/api/v1/search?q={seed}").get_json()["jobs"] == []


def test_no_notification_contains_a_secret(app: Flask, seeds: Seeds) -> None:
    here = app.extensions[EXTENSION]
    messages = []
    for library, queue in (("bullmq", "mails"), ("rq", "cash"), ("celery", "*"), ("sidekiq", "*")):
        backend = here.services.sources.backend("main", library)
        ref = here.find_queue_stats("main", library, queue).ref
        texts = texts_of(backend.search_page(ref, JobQuery(state=State.DEAD)).rows, time.time())
        assert any(SEEN in text for text in texts)
        about = msgspec.structs.replace(notification(), top_errors=texts, detail=seeds.lines())
        messages.append(build_message("m", "firing", [about], PageLinks("https://q.example.com"), "ops"))
    stored = msgspec.structs.replace(notification(), top_errors=(seeds.lines(),))  # by a release that masked less
    messages.append(build_message("m", "firing", [stored], PageLinks(None), "ops"))
    for message in messages:
        assert message.top_errors
        sent = [build(message) for build in SENT.values()]
        assert seeds.leaked(json.dumps(sent, ensure_ascii=False)) == set()
        assert seeds.leaked(repr(message)) == set()


def test_every_kind_of_channel_is_checked_for_secrets() -> None:
    assert set(SENT) == set(CHANNEL_KINDS)


def test_our_own_log_is_masked(app: Flask, seeds: Seeds, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("dashboard.sampling.sampler")
    try:
        json.loads("{")
    except ValueError as exc:
        exc.add_note(seeds.lines())
        log.exception("reading %s failed", seeds.lines())
    assert SEEN in caplog.text
    assert "JSONDecodeError" in caplog.text
    assert seeds.leaked(caplog.text) == set()


def test_groups_do_not_split_or_merge_by_what_is_masked(app: Flask, redis_client: redis.Redis) -> None:
    client = app.test_client()
    redis_client.delete("dead")
    texts = [f"login failed: password={'x' * n}{n}y at db{end}" for end in ("", " of the shop") for n in range(3, 6)]
    for n, text in enumerate(texts):
        job = {"class": "A", "args": [], "jid": f"{n:024x}", "queue": "work", "error_class": "E", "error_message": text}
        redis_client.zadd("dead", {json.dumps(job): NOW + n})

    def groups() -> list[tuple[str, int]]:
        found = client.get("/api/v1/dead?backend=sidekiq").get_json()["groups"]
        return sorted((re.sub(r"\s+", " ", group["message"]), group["count"]) for group in found)

    wanted = [(f"login failed: password={MASK} at db{end}", 3) for end in ("", " of the shop")]
    wait_until(lambda: groups() == wanted, what="two groups of three")
