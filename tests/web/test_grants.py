"""People who may see only some queues: what is about the others is not in any page, answer or message."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from flask import Flask
from werkzeug.exceptions import HTTPException

from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.granted import GRANTS, HIDDEN, VISIBLE, as_user, fill, identify
from tests.web.test_secrets import ARRANGED, STARTS

RULES = [
    {"id": f"deep-{word}", "metric": "queue.depth", "queues": [glob], "critical": 0, "op": "gt", "for_s": 0}
    | {"min_samples": 1, "new_instance_grace_s": 0}
    for word, glob in (("mail", "mail-*"), ("payroll", "payroll-*"))
]
LINK = re.compile(r'(?:href|action|hx-get|hx-post|data-[a-z-]*url)="(/[^"#]*)')


@pytest.fixture
def app(make_app: MakeApp, redis_client: redis.Redis) -> Iterator[Flask]:
    """An app with grants, whose checker has found all queues, fired and read the dead letters."""
    fill(redis_client)
    made = make_app(identify=identify, sample_interval_s=0.5, grants=GRANTS, rules=RULES, checker="auto")
    client = made.test_client()

    def is_ready() -> bool:
        queues = client.get("/api/v1/queues", headers=as_user("root")).get_json()["total"]
        dead = client.get("/api/v1/dead", headers=as_user("root")).get_json()["scanned"]
        firing = client.get("/api/v1/alerts", headers=as_user("root")).get_json()["alerts"]
        return bool(queues >= 10 and dead >= 6 and len(firing) >= 2)

    wait_until(is_ready, what="all queues, dead letters and alerts")
    return made


def traces(text: str) -> set[str]:
    """The words of hidden queues in a text."""
    shown = html.unescape(text)
    return {word for word in HIDDEN if word in shown}


def crawl(app: Flask, user: str) -> Iterator[tuple[str, str, str]]:
    """(address, status, body with headers) of what `user` gets, also at what only root finds."""
    client, routes = app.test_client(), app.url_map.bind("x")
    starts = (*STARTS, "/search?q=hiddenjob", "/palette?q=payroll", "/palette?q=", "/complete?q=queue:pay")
    left, kinds, seen = [*starts], Counter[tuple[str, ...]](), set[str]()
    while left:
        url = left.pop(0)
        if url in seen:
            continue
        seen.add(url)
        bodies = []
        for person in (user, "root"):
            answer = client.get(url, headers=as_user(person))
            assert answer.status_code < 500 or answer.status_code == 503, (url, person, answer.text[:500])
            bodies.append(answer.text)
            if person == user:
                yield url, answer.status, f"{answer.text}\n{answer.headers}"
        for found in {each for body in bodies for each in LINK.findall(body)}:
            link = html.unescape(found)
            for path in (link, f"/api/v1{link}"):
                bare, _, _ = path.partition("?")
                try:
                    endpoint, values = routes.match(bare, method="GET")
                except HTTPException:
                    continue
                kind = (endpoint, str(sorted(values.items()))) if not ARRANGED.search(path) else (endpoint, "arranged")
                kinds[kind] += 1
                if path not in seen and kinds[kind] <= 2:
                    left.append(path)


@pytest.mark.parametrize("user", ["mia", "mona", "den"])
def test_no_address_shows_what_is_about_other_queues(app: Flask, user: str) -> None:
    found, shown, statuses = {}, 0, Counter[str]()
    for url, status, text in crawl(app, user):
        statuses[status] += 1
        shown += VISIBLE in text
        # What was asked for is repeated in answers.
        if words := traces(text) - traces(url):
            found[url] = (status, words)
    assert not found
    assert shown > 20, statuses
    assert sum(statuses.values()) > 100
