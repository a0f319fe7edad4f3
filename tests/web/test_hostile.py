"""Jobs with any bytes in their ids, names, errors and queues, on all pages with actions."""

from __future__ import annotations

import html
import json
import pickle
import re
import zlib
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.web.urls import quote_segment
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME

MARK = b"<script>alert(1)</script>"
EVIL: tuple[bytes, ...] = (
    MARK + b"\"'>",
    b"line\nbreak\r\n<!channel>",
    b"nul\0byte",
    b"bad\xff\xfeutf8\xed\xa0\x80",
    b"a/../b%2F?x=1#y|z~",
    "bidi\u202egpj\u2066\u200b".encode(),
    b"l" * 10_000,
)
# Each text in three libraries.
LINKS_OF_A_KIND = 3 * len(EVIL)


def packed(text: str) -> bytes:
    """A call as RQ keeps it."""
    return zlib.compress(pickle.dumps((text, None, (), {})))


def fill(client: redis.Redis) -> None:
    """Each evil text as a job's id, name, error and queue, in each library; and keys of wrong types."""
    client.sadd("queues", *EVIL, "work")
    client.lpush("queue:work", json.dumps({"class": "Good", "args": [], "jid": "first", "queue": "work"}))
    for n, evil in enumerate(EVIL):
        text = evil.decode("utf-8", "replace")
        # BullMQ
        for queue in (evil, b"mails"):
            base = b"bull:" + queue + b":"
            client.hset(base + b"meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
            client.zadd(base + b"failed", {evil: 1_700_000_000_000 + n})
            client.hset(
                base + evil,
                mapping={
                    "name": evil,
                    "data": evil,
                    "opts": "{}",
                    "timestamp": 1_700_000_000_000,
                    "ats": 1,
                    "atm": 1,
                    "failedReason": evil,
                    "stacktrace": json.dumps([text]),
                    "finishedOn": 1_700_000_000_000 + n,
                },
            )
        # RQ
        for queue in (evil, b"cash"):
            client.sadd("rq:queues", b"rq:queue:" + queue)
            job = b"rq:job:" + evil + queue[:20]
            client.hset(
                job,
                mapping={
                    "status": "failed",
                    "origin": queue,
                    "description": evil,
                    "created_at": evil,
                    "ended_at": "2026-01-01T00:00:00.000000Z",
                    "data": packed(text),
                    "exc_info": zlib.compress(evil),
                },
            )
            client.zadd(b"rq:failed:" + queue, {evil + queue[:20]: 1_900_000_000})
        # Sidekiq
        job = {"class": text, "args": [text], "jid": text, "queue": text, "error_class": text, "error_message": text}
        client.zadd("dead", {json.dumps(job): 1_700_000_000 + n, evil: 1_700_000_100 + n})
        # Celery
        client.sadd("_kombu.binding.alpha", b"alpha\x06\x16\x06\x16alpha")
        record = {
            "status": "FAILURE",
            "result": {"exc_type": text, "exc_message": [text], "exc_module": text},
            "traceback": text,
            "children": [],
            "date_done": text,
            "name": text,
            "args": [text],
            "kwargs": {},
            "worker": text,
            "queue": text,
            "task_id": text,
            "retries": text,
        }
        client.set(b"celery-task-meta-" + evil, json.dumps(record))
        client.zadd("{queuedeck}:celery:main:dead", {evil: 1_700_000_000 + n})
    client.set("{queuedeck}:celery:main:filled", 1)
    for wrong in ("bull:wrong:failed", "rq:failed:wrong", "queue:wrong"):
        client.set(wrong, MARK)
    client.hset("bull:wrong:meta", "version", MARK)
    client.sadd("rq:queues", "rq:queue:wrong")
    client.sadd("queues", "wrong")
    client.xadd("{queuedeck}:audit", {"event": MARK})


@pytest.fixture
def client(make_app: MakeApp, redis_client: redis.Redis) -> FlaskClient:
    fill(redis_client)
    found = make_app(sample_interval_s=0.5).test_client()
    # Of each text two dead jobs of RQ and of Sidekiq, two records of Celery, one job of BullMQ.
    wait_until(lambda: found.get("/api/v1/dead").get_json()["scanned"] == 7 * len(EVIL), what="all dead jobs in groups")
    return found


def get(client: FlaskClient, url: str) -> str:
    """The page, which is none of our failing and runs nothing of theirs."""
    answer = client.get(url)
    assert answer.status_code < 500 or answer.status_code == 503, (url, answer.status_code)
    text = answer.text
    assert MARK.decode() not in text or answer.mimetype != "text/html", url
    return text


def test_every_page_with_actions_shows_hostile_jobs(client: FlaskClient) -> None:
    queues = client.get("/api/v1/queues").get_json()["queues"]
    assert len(queues) > 3 * len(EVIL)
    seen: set[str] = set()
    left = [
        "/",
        "/dead",
        "/dead?q=script",
        "/bulk",
        "/audit",
        "/alerts",
        "/rules",
        "/workers",
        "/schedules",
        "/redis",
        "/metrics",
    ]
    left += ["/search?q=script", "/api/v1/openapi.json", "/api/v1/dead", "/api/v1/search?q=line", "/api/v1/audit"]
    kinds: dict[str, int] = {}
    while left:
        url = left.pop(0)
        if url in seen:
            continue
        seen.add(url)
        text = get(client, url)
        for found in re.findall(r'(?:href|hx-get)="(/[^"#]*)', text):
            link = html.unescape(found)
            kind = re.sub(r"[^/?=&]{1,}", "x", link)
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] <= LINKS_OF_A_KIND and not link.startswith(("/static", "/logout")):
                left.append(link)
    assert sum("/jobs/" in url for url in seen) > 20
    assert sum("/bulk/new" in url for url in seen) > 10
    assert sum(url.startswith("/dead/") for url in seen) > 5


def picture(client: redis.Redis) -> dict[bytes, Any]:
    """All keys of the libraries, but the streams of what happened and the marks of what was deleted: as DUMP tells
    them, but for sets and hashes, which have no order.
    """
    names = [key for key in client.scan_iter(count=1000) if b"queuedeck" not in key and not key.endswith(b":events")]
    read: dict[bytes, Any] = {b"set": client.smembers, b"hash": client.hgetall}
    return {key: read.get(client.type(key), client.dump)(key) for key in names}


def test_selected_jobs_are_deleted_and_restored_unchanged(client: FlaskClient, redis_client: redis.Redis) -> None:
    before = picture(redis_client)
    deleted = 0
    for queue in client.get("/api/v1/queues").get_json()["queues"]:
        path = f"/queues/{queue['source']}/{queue['backend']}/{quote_segment(queue['name'])}"
        tokens = re.findall(r'name="pick" value="([^"]*)"', client.get(f"{path}?state=dead").text)
        if not tokens:
            continue
        form = {"action": "delete", "state": "dead", "pick": [html.unescape(token) for token in tokens]}
        answer = client.post(f"{path}/act", data=form, headers=SAME)
        assert answer.status_code == 303, (path, answer.text)
        told = client.get(answer.headers["Location"])
        assert told.status_code == 200
        assert f"{len(tokens)} job" in told.text, (path, re.findall(r'id="flash".*?</div>', told.text, re.S))
        deleted += len(tokens)
        (batch,) = re.findall(r'name="batch" value="([^"]*)"', told.text)
        back = client.get(client.post("/undo", data={"batch": batch}, headers=SAME).headers["Location"]).text
        assert f"{len(tokens)} job{'s' * (len(tokens) > 1)} restored." in back, path
    assert deleted >= 6 * len(EVIL)
    after = picture(redis_client)
    assert {key for key in before if before[key] != after.get(key)} == set()
    assert set(after) == set(before)


def test_whole_groups_are_deleted_and_retried(client: FlaskClient, redis_client: redis.Redis) -> None:
    before = picture(redis_client)
    for action in ("delete", "retry"):
        for group in client.get("/api/v1/dead").get_json()["groups"]:
            form = {"action": action, "fingerprint": group["fingerprint"], "pace": "0", "reason": EVIL[0].decode()}
            answer = client.post("/bulk", data=form, headers=SAME)
            assert answer.status_code == 303, answer.text
            url = answer.headers["Location"]
            api = f"/api/v1{url}"
            work = wait_until(
                lambda api=api: (found := client.get(api).get_json())["state"] in ("done", "failed") and found,
                what="the end",
            )
            assert work["state"] == "done", work
            get(client, url)
            if action == "delete":
                assert work["outcomes"] == {"done": group["count"]}, (group, work)
                assert client.post(f"{url}/undo", headers=SAME).status_code == 303
                after = picture(redis_client)
                assert {key for key in before if before[key] != after.get(key)} == set(), group
            else:
                assert sum(work["outcomes"].values()) == work["matched"], (group, work)
    get(client, "/audit")
    get(client, "/bulk")
