"""A key of another type than its library's costs its queue or its row: never a page, never another queue."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.web.context import EXTENSION
from tests.contract.celery_library import CeleryLibrary
from tests.contract.library import Library
from tests.contract.rq_library import RQLibrary
from tests.contract.test_celery import declare_queues, message
from tests.contract.test_odd_data import KINDS, far_apart
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

LIBRARIES: dict[str, Library] = {"celery": CeleryLibrary(), "rq": RQLibrary()}
STATES = ("waiting", "active", "scheduled", "retrying", "dead", "completed", "canceled", "blocked")
PAGES = (
    *(
        "/",
        "/dead",
        "/workers",
        "/schedules",
        "/metrics",
        "/search?q=shop",
        "/api/v1/search?q=alpha",
        "/api/v1/overview",
    ),
    *("/api/v1/dead", "/api/v1/workers", "/api/v1/schedules", "/api/v1/redis"),
)
# Without these, others are not read: they have another type alone.
FIRST_READ = (b"_kombu.", b"rq:queues", b"rq:workers")
ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{24,32}")


def pages(library: str, queues: dict[str, Any]) -> list[str]:
    """Every page and answer that shows something of a library's queue `alpha` and of all queues together."""
    found = list(PAGES)
    for name in queues.keys() & {"alpha", "*"}:
        found.append(f"/api/v1/queues/main/{library}/{name}")
        for state in STATES:
            found.append(f"/queues/main/{library}/{name}?state={state}")
            found.append(f"/api/v1/queues/main/{library}/{name}/jobs?state={state}")
    return found


def told(client: FlaskClient, library: str) -> dict[str, dict[str, Any]]:
    """The queues of a library, by name, as sampled last."""
    return {
        queue["name"]: queue
        for queue in client.get("/api/v1/queues").get_json()["queues"]
        if queue["backend"] == library
    }


def spoil(client: redis.Redis, keys: Sequence[bytes]) -> list[tuple[bytes, str]]:
    """Give each key a type that it does not have; which ones they are."""
    spoilt = []
    for key in keys:
        kind = client.type(key).decode()
        others = [name for name in KINDS if name != kind]
        other = others[zlib.crc32(ID.sub(b"", key)) % len(others)]
        client.delete(key)
        KINDS[other](client, key)
        spoilt.append((key, other))
    return spoilt


# How many keys have another type at the same time; in the soak each key has it by itself.
@pytest.mark.parametrize("together", [3, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_key_can_have_the_wrong_type(
    make_app: MakeApp,
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    library: str,
    together: int,
) -> None:
    LIBRARIES[library].fill(server.url)
    wanted = sorted(key for key in redis_client.scan_iter() if not key.startswith(b"{queuedeck}"))
    # Of the keys of single jobs one of each kind.
    wanted = list({ID.sub(b"", key): key for key in wanted}.values())
    assert len(wanted) > 8
    client = make_app(sample_interval_s=0.5).test_client()
    wait_until(lambda: {"alpha", "beta"} <= told(client, library).keys(), what="both queues")
    urls = pages(library, told(client, library))
    wrong: list[Any] = []
    dumps = {key: redis_client.dump(key) for key in wanted}
    alone = [[key] for key in wanted if key.startswith(FIRST_READ)]
    for chosen in (*alone, *far_apart([key for key in wanted if not key.startswith(FIRST_READ)], together)):
        spoilt = spoil(redis_client, chosen)
        client.application.extensions[EXTENSION].services.forget_live_rows()
        for url in urls:
            answer = client.get(url)
            refused = answer.status_code == 503 and " type" in answer.text
            if answer.status_code >= 500 and not refused:
                wrong.append((spoilt, url, answer.status_code))
            if answer.status_code == 200 and url == "/api/v1/workers" and answer.get_json()["problems"]:
                wrong.append((spoilt, url, answer.get_json()["problems"]))
        for key in chosen:
            redis_client.restore(key, 0, dumps[key], replace=True)
    assert wrong == []
    assert not [each.message for each in caplog.records if "sample failed" in each.message]
    wait_until(
        lambda: all(told(client, library).get(name, {"error": "lost"})["error"] is None for name in ("alpha", "beta")),
        what="both queues again",
    )


def test_queues_that_cannot_be_found_are_reported_as_unknown(make_app: MakeApp, redis_client: redis.Redis) -> None:
    redis_client.set("rq:queues", "x")
    redis_client.rpush("rq:queue:alpha", "1")
    client = make_app(sample_interval_s=0.5).test_client()
    why = "rq:queues is not a set"
    wait_until(lambda: why in client.get("/").text, what="the problem on the overview")
    overview = client.get("/api/v1/overview").get_json()
    (source,) = overview["sources"]
    assert [why in problem for problem in source["problems"]] == [True]
    assert not source["discovered"]
    assert overview["totals"]["depth"] is None
    missing = client.get("/api/v1/queues/main/rq/alpha")
    assert missing.status_code == 404
    assert why in missing.text


def test_readable_celery_lists_are_shown_beside_unreadable_ones(make_app: MakeApp, redis_client: redis.Redis) -> None:
    declare_queues(redis_client, "mails")
    redis_client.lpush("mails", message("t1"))
    redis_client.set("mails\x06\x163", "another type")
    redis_client.set("unacked", "another type")
    client = make_app(sample_interval_s=0.5).test_client()
    wait_until(lambda: "mails" in told(client, "celery"), what="the queue")
    jobs = "/api/v1/queues/main/celery/mails/jobs?state=waiting"
    why = "The list 'mails\\x06\\x163' cannot be read: its key has the wrong type."
    listed = client.get(jobs).get_json()
    assert [job["id"] for job in listed["jobs"]] == ["t1"]
    assert (listed["total"], listed["at_least"], listed["problems"]) == (1, True, [why])
    assert "cannot be read: its key has the wrong type" in client.get("/queues/main/celery/mails?state=waiting").text
    for asked in ("/api/v1/search?q=shop.send", f"{jobs}&q=shop.send"):
        found = client.get(asked).get_json()
        assert [job["id"] for job in found["jobs"]] == ["t1"]
        assert (found["at_least"], f"mails: {why}" in found["problems"]) == (True, True)
    for state in ("scheduled", "retrying", "active"):
        refused = client.get(f"/api/v1/queues/main/celery/*/jobs?state={state}")
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "wrong_type")
    redis_client.delete("mails")
    empty = client.get(jobs).get_json()
    assert (empty["jobs"], empty["total"], empty["problems"]) == ([], None, [why])
