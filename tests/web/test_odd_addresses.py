"""Odd numbers, ids, cursors and dates in URLs of all pages and API routes: a client error, never a server error."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.routing import Rule

from dashboard.web.api.openapi import QUERIES
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import groups
from tests.web.test_hostile import fill

# As they stand in the address: percent-encoded.
ODD = (
    *("9" * 20, "9" * 400, "9" * 5000, "10000000", "-1", "0", "1e999", "1e12", "nan", "1.5", "1_0", "%2B1", ""),
    *("%D9%A3", "%C2%B2", "%00", "1%00", "%ED%A0%80", "%ED%B3%BF", "%FF", "%F0%9F%98%80"),
    *("9-" + "9" * 19, "9" * 20 + "-1", "0-0", "%D9%A3-%D9%A3", "18446744073709551615-18446744073709551615"),
    *("18446744073709551616-0", "0-18446744073709551616", "-", "*", "%5B", "%5C", "%27%22%3E", "A" * 3000),
    *("0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "0001-01-01", "10000-01-01T00:00:00Z"),
    *("2026-02-30", "-9" + "9" * 30, "bnVsbA", "W10", "e30", "gA", "k6FhoWKhYw", "age:%3E9e999d", "age:%3C%C2%B2h"),
    *("id:%ED%A0%80", "state:%00", "queue:" + "%2A" * 64),
)
# One of each kind; all of them have their turn in the soak ring.
SOME = (
    *("9" * 20, "9" * 5000, "-1", "1e999", "", "%D9%A3", "1%00", "%ED%A0%80", "%FF", "18446744073709551616-0", "0-0"),
    *("%5B", "A" * 3000, "0001-01-01T00:00:00%2B23:59", "10000-01-01T00:00:00Z", "bnVsbA", "k6FhoWKhYw"),
)
# Enough for what is only compared or shown.
WORDS = ("9" * 400, "1%00", "%ED%A0%80", "%FF", "*", "%5B", "A" * 3000)
COMPARED = {
    *("q", "source", "backend", "library", "queue", "state", "native", "said", "did", "action", "show", "sort"),
    *("group", "group_by", "dir", "metric", "fingerprint", "when", "rule", "next"),
}
# How an action ended: each page that shows it reads them all, in the same way, and refuses none. Asked for together.
RESULT = {
    *("acted_at", "batch", "changed", "done", "gone", "invalid", "refused", "unknown", "unsupported", "untried"),
}
# With these every route gets to all that it reads.
BASE = {"q": "user", "state": "dead", "action": "delete", "did": "delete", "done": "1", "metric": "depth"}
QUEUES = {"rq": "cash", "bullmq": "mails", "sidekiq": "work", "celery": "alpha"}


class Noting(ImmutableMultiDict[str, str]):
    """Arguments of an address that note which of them were asked for."""

    asked: ClassVar[set[str]] = set()

    def get(self, key: Any, *rest: Any, **more: Any) -> Any:
        self.asked.add(str(key))
        return super().get(key, *rest, **more)

    def __getitem__(self, key: Any) -> Any:
        self.asked.add(str(key))
        return super().__getitem__(key)


@pytest.fixture
def browser(make_app: MakeApp, redis_client: redis.Redis) -> FlaskClient:
    """A browser on a dashboard with jobs of all libraries and some recorded actions."""
    fill(redis_client)
    event = '{"at": 1, "who": "a", "role": "admin", "address": null, "action": "delete"}'
    for _ in range(3):
        redis_client.xadd("{queuedeck}:audit", {"event": event})
    client = make_app().test_client()
    client.application.request_class = type(
        "Request", (client.application.request_class,), {"parameter_storage_class": Noting}
    )
    wait_until(lambda: groups(client), what="the groups")
    return client


def gets(app: Flask) -> list[Rule]:
    """All routes that are read, but for files and those that say how this process is."""
    rules = [rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())]
    return [rule for rule in rules if rule.endpoint != "static" and not rule.endpoint.startswith("health")]


def address(app: Flask, rule: Rule, values: dict[str, str]) -> str:
    """The path of a route."""
    given = {name: values.get(name, "0123456789abcdef") for name in rule.arguments}
    return app.url_map.bind("x").build(rule.endpoint, given)


def odd_queries(
    asked: set[str], base: dict[str, str], odd_values: Sequence[str], known: Collection[str]
) -> Iterator[str]:
    """The arguments with an odd value of one parameter, or of all of RESULT, for each parameter that was asked for.

    Those of a `known` name have only some of the values.
    """
    result = [sorted(asked & RESULT)] if asked & RESULT else []
    for names in (*([name] for name in sorted(asked - RESULT)), *result):
        rest = urlencode({key: value for key, value in base.items() if key not in names})
        # What is read before the library is asked is the same for all of them.
        for odd in WORDS if COMPARED.issuperset(names) or set(names) <= set(known) else odd_values:
            yield "&".join([rest, *(f"{name}={odd}" for name in names)])


@pytest.mark.parametrize("odd_values", [SOME, pytest.param(ODD, marks=pytest.mark.soak)], ids=["some", "all"])
def test_no_parameter_of_an_address_makes_a_page_fail(browser: FlaskClient, odd_values: tuple[str, ...]) -> None:
    app = browser.application
    fingerprint = groups(browser)[0]["fingerprint"]
    asked_of_all: set[str] = set()
    wrong = []
    for rule in gets(app):
        each = QUEUES if "/jobs" in rule.rule else {"rq": "cash"}
        for number, (backend, queue) in enumerate(each.items()):
            values = {
                "source": "main",
                "backend": backend,
                "name": queue,
                "fingerprint": fingerprint,
                "rule_id": "deep",
            }
            path = address(app, rule, values)
            base = BASE | {"source": "main", "backend": backend, "queue": queue}
            if rule.endpoint.startswith(("workers", "schedules", "rules", "overview")):
                base = {}
            known = QUERIES.get(rule.endpoint, {})
            if rule.endpoint.startswith("api"):  # refuses all others
                base = {key: value for key, value in base.items() if key in known}
            Noting.asked = set()
            assert browser.get(f"{path}?{urlencode(base)}").status_code < 500, path
            asked = set(Noting.asked) - {"token", "v"}
            asked.update(known)  # some take all of them apart by themselves
            # In the gate, each name has all values on one page: the others mostly read it in the same way.
            known_names = asked_of_all if odd_values is SOME else ()
            for query in odd_queries(asked, base, odd_values if number == 0 else WORDS, set(known_names)):
                status = browser.get(f"{path}?{query}").status_code
                if status >= 500:
                    wrong.append((path, query[:200], status))
            asked_of_all |= asked
    assert wrong == []
    assert asked_of_all >= {"before", "cursor", "page", "per_page", "from", "to", "step_s", "canary", "pace"}


def test_no_id_in_a_path_makes_a_page_fail(browser: FlaskClient) -> None:
    app = browser.application
    wrong = []
    for rule in gets(app):
        for name in rule.arguments:
            values = {"source": "main", "backend": "rq", "name": "cash", "rule_id": "deep"}
            marked = address(app, rule, values | {name: "MARK"})
            for odd in (*WORDS, "1-1", "-1", "0"):
                status = browser.get(marked.replace("MARK", odd)).status_code
                if status >= 500:
                    wrong.append((marked, odd[:60], status))
    assert wrong == []
