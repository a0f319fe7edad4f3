"""Secrets in payloads, arguments, errors, stacks, logs and results of each library: none is shown or sent to users."""

from __future__ import annotations

import base64
import html
import json
import logging
import pickle
import random
import re
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from dashboard.alerts.delivery.channels import discord, email_message, pagerduty, slack, teams, webhook, wording
from dashboard.alerts.delivery.channels.base import KINDS, Message
from dashboard.alerts.delivery.message import PageLinks, build_message
from dashboard.dead_letters.top_errors import texts_of
from dashboard.model import JobQuery, State
from dashboard.redact import MASK
from dashboard.web.context import EXTENSION
from dashboard.web.urls import quote_segment
from tests.unit.alerts.test_message import notification
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

NOW = 1_900_000_000
SEEN = "shown-word"  # what nobody hides, to see that the texts arrive at all
TRACEBACK = 'Traceback (most recent call last):\n  File "/app/pay.py", line 3, in pay\n'
NAMES = (
    *(
        "password",
        "passwd",
        "pwd",
        "db_pass",
        "secret",
        "client_secret",
        "token",
        "accessToken",
        "api_key",
        "X-Api-Key",
    ),
    *("authorization", "auth", "bearer", "jwt", "otp", "pin", "pan", "dsn", "connection_string", "signature", "cookie"),
    *("webhook_url", "private_key", "card", "iban", "session_id"),
)


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


class Seeds:
    """Makes secrets that occur nowhere else, and remembers them."""

    def __init__(self) -> None:
        self._random = random.Random(20310101)
        self.made: list[str] = []

    def __call__(self) -> str:
        self.made.append("zq" + "".join(self._random.choices("bcdfghjklmnpqrstvwxyz0123456789", k=18)))
        return self.made[-1]

    def text(self) -> str:
        """Lines as programs write them into errors and logs."""
        named = " ".join(f"{name}={self()}" for name in NAMES)
        return "\n".join(
            (
                f"{SEEN} connect(password='{self()}', host=\"db\") failed {named}",
                f"{self.repr()} {json.dumps(self.value())} {json.dumps(json.dumps({'password': self()}))}",
                f"GET https://app:{self()}@example.com/?token={self()}&page=2",
                f"Authorization: Bearer {self()}",
                f"Cookie: sid={self()}; other={self()}",
                f"sent Basic {base64.b64encode(f'ann:{self()}'.encode()).decode()}, ghp_{self()}{self()}, sk-{self()}x",
                f"curl --password {self()} <password>{self()}</password>",
                f"[('Authorization', 'Token {self()}'), ('Cookie', '{self()}')]",
            )
        )

    def repr(self) -> str:
        """As Python writes a dict."""
        return repr({**{name: self() for name in NAMES}, "deep": {"secret": [self(), {"a": self()}]}, "n": 3})

    def value(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {
            SEEN: "x",
            **{name: self() for name in NAMES},
            "deep": [{"password": {"a": [self()]}}],
            "fields": [{"name": "password", "value": self()}, {"value": self(), "key": "api_key"}],
            "headers": [["Accept", "*/*"], ["Authorization", f"Bearer {self()}"]],
            "note": f"login with password={self()} at redis://u:{self()}@h/0",
            "inner": json.dumps({"token": self()}),
            f"redis://u:{self()}@h/1": 1,
        }


def fill_bullmq(client: redis.Redis, seeds: Seeds) -> None:
    client.hset("bull:mails:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
    client.zadd("bull:mails:failed", {"7": NOW * 1000})
    client.hset(
        "bull:mails:7",
        mapping={
            "name": "send",
            "data": json.dumps(seeds.value()),
            "opts": json.dumps({"attempts": 1, "headers": {"authorization": seeds()}}),
            "timestamp": NOW * 1000,
            "atm": 1,
            "failedReason": seeds.text(),
            "stacktrace": json.dumps([f"Error: {seeds.text()}\n    at send (/app/mail.js:3:5)"]),
            "returnvalue": json.dumps({"text": seeds.text()}),
            "progress": json.dumps({"at": seeds.value()}),
            "finishedOn": NOW * 1000,
        },
    )
    client.rpush("bull:mails:7:logs", seeds.text(), json.dumps(seeds.value()))


def fill_rq(client: redis.Redis, seeds: Seeds) -> None:
    client.sadd("rq:queues", "rq:queue:cash")
    call = ("app.pay", None, (seeds.repr(),), seeds.value())
    client.hset(
        "rq:job:r1",
        mapping={
            "status": "failed",
            "origin": "cash",
            "description": f"app.pay({seeds.repr()}, password='{seeds()}', note='{SEEN}')",
            "created_at": "2031-01-01T00:00:00.000000Z",
            "ended_at": "2031-01-01T00:00:00.000000Z",
            "data": zlib.compress(pickle.dumps(call)),
            "meta": zlib.compress(pickle.dumps({"progress": seeds.text(), "more": seeds.value()})),
            "result": zlib.compress(pickle.dumps(seeds.text())),
            "exc_info": zlib.compress(f"{TRACEBACK}PayError: {seeds.text()}".encode()),
        },
    )
    client.zadd("rq:failed:cash", {"r1": NOW})


def fill_sidekiq(client: redis.Redis, seeds: Seeds) -> None:
    trace = zlib.compress(json.dumps([f"app/mail.rb:3:in `send': {seeds.text()}"]).encode())
    job = {
        "class": "Mail",
        "args": [seeds.value(), seeds.text()],
        "jid": "0123456789abcdef01234567",
        "queue": "work",
        "error_class": "MailError",
        "error_message": seeds.text(),
        "error_backtrace": base64.b64encode(trace).decode(),
        "failed_at": NOW,
        "retry_count": 3,
    }
    client.sadd("queues", "work")
    client.zadd("dead", {json.dumps(job): NOW})


def fill_celery(client: redis.Redis, seeds: Seeds) -> None:
    client.sadd("_kombu.binding.alpha", "alpha\x06\x16\x06\x16alpha")
    record = {
        "status": "FAILURE",
        "result": {"exc_type": "PayError", "exc_message": [seeds.text(), seeds.value()], "exc_module": "app"},
        "traceback": f"{TRACEBACK}PayError: {seeds.text()}",
        "children": [],
        "date_done": "2031-01-01T00:00:00+00:00",
        "name": "app.pay",
        "args": [seeds.value()],
        "kwargs": seeds.value(),
        "worker": "w@h",
        "queue": "alpha",
        "task_id": "c1",
        "retries": 0,
    }
    client.set("celery-task-meta-c1", json.dumps(record))
    client.zadd("{queuedeck}:celery:main:dead", {"c1": NOW})
    client.set("{queuedeck}:celery:main:filled", 1)
    body = json.dumps([[seeds.value()], {"password": seeds()}, {"chord": None, "chain": None}]).encode()
    headers = {
        "task": "app.pay",
        "id": "c2",
        "argsrepr": f"({seeds.repr()}, '{SEEN}')",
        "kwargsrepr": seeds.repr()[:-30],  # Celery cuts it anywhere
        "retries": 0,
        "eta": None,
    }
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {"body_encoding": "base64", "delivery_tag": "t", "priority": 0},
    }
    client.lpush("alpha", json.dumps(message))
    # Bodies that are not read: what the headers say of their arguments is all that is shown.
    call = ([seeds.value()], {"password": seeds()}, {})
    for number, (packed, content_type, compression) in enumerate(
        (
            (pickle.dumps(call), "application/x-python-serialize", None),
            (zlib.compress(json.dumps(call).encode()), "application/json", "application/x-gzip"),
        ),
        start=3,
    ):
        told = {"argsrepr": f"({seeds.repr()}, '{SEEN}')", "kwargsrepr": seeds.repr(), "compression": compression}
        other = {
            "body": base64.b64encode(packed).decode(),
            "content-type": content_type,
            "content-encoding": "binary",
            "headers": headers | told | {"id": f"c{number}"},
        }
        client.lpush("alpha", json.dumps(message | other))


@pytest.fixture
def seeds(redis_client: redis.Redis) -> Seeds:
    found = Seeds()
    for fill in (fill_bullmq, fill_rq, fill_sidekiq, fill_celery):
        fill(redis_client, found)
    return found


@pytest.fixture
def app(make_app: MakeApp, seeds: Seeds) -> Flask:
    made = make_app(sample_interval_s=0.5)
    client = made.test_client()
    wait_until(lambda: client.get("/api/v1/dead").get_json()["scanned"] == 4, what="all dead jobs in groups")
    return made


JOBS = (
    ("bullmq", "mails", "7"),
    ("rq", "cash", "r1"),
    ("celery", "*", "c1"),
    *(("celery", "alpha", each) for each in ("c2", "c3", "c4")),
)


def leaked(text: str, seeds: Seeds) -> list[str]:
    """The seeds in a page or answer, also as JSON, HTML and base64 write them."""
    plain = html.unescape(text)
    packed = {seed: base64.b64encode(seed.encode()).decode()[4:20] for seed in seeds.made}
    return [seed for seed in seeds.made if seed in plain or packed[seed] in plain]


def pages(client: FlaskClient) -> Iterator[str]:
    jobs = list(JOBS)
    (dead,) = client.get("/api/v1/queues/main/sidekiq/*/jobs?state=dead").get_json()["jobs"]
    jobs.append(("sidekiq", "*", dead["id"]))
    for library, queue, job_id in jobs:
        place = f"main/{library}/{quote_segment(queue)}"
        for state in ["waiting"] if queue == "alpha" else ["dead"]:
            yield f"/queues/{place}?state={state}"
            yield f"/api/v1/queues/{place}/jobs?state={state}"
            yield f"/api/v1/queues/{place}/jobs?state={state}&q={SEEN}"
        job = f"{place}/jobs/{quote_segment(job_id)}"
        yield f"/queues/{job}"
        yield f"/api/v1/queues/{job}"
        if library != "rq":
            yield f"/queues/{job}/edit"
    for group in client.get("/api/v1/dead").get_json()["groups"]:
        yield f"/dead/{group['fingerprint']}"
        yield f"/api/v1/dead/{group['fingerprint']}"
    yield from ("/", "/dead", "/api/v1/dead", f"/search?q={SEEN}", f"/api/v1/search?q={SEEN}", "/bulk", "/audit")
    yield from (
        "/redis",
        "/redis/main/memory",
        "/redis/main/leftovers",
        "/workers",
        "/schedules",
        "/alerts",
        "/metrics",
        "/api/v1/overview",
    )


def test_no_page_or_response_shows_a_secret(app: Flask, seeds: Seeds, caplog: pytest.LogCaptureFixture) -> None:
    client = app.test_client()
    caplog.set_level(logging.DEBUG)
    found: dict[str, list[str]] = {}
    shown = set()
    for url in pages(client):
        answer = client.get(url)
        assert answer.status_code == 200, (url, answer.text)
        if leaks := leaked(answer.text, seeds):
            found[url] = leaks
        if SEEN in answer.text and (MASK in answer.text or json.dumps(MASK)[1:-1] in answer.text):
            shown.add(url)
    assert found == {}
    assert len(seeds.made) > 500
    assert sum("/jobs/" in url for url in shown) >= 8, shown
    assert leaked(caplog.text, seeds) == []


def test_no_search_finds_a_secret(app: Flask, seeds: Seeds) -> None:
    client = app.test_client()
    assert len(client.get(f"/api/v1/search?q={SEEN}").get_json()["jobs"]) >= 4
    for seed in seeds.made[::20]:
        assert client.get(f"/api/v1/search?q={seed}").get_json()["jobs"] == []


def test_no_notification_contains_a_secret(app: Flask, seeds: Seeds) -> None:
    here = app.extensions[EXTENSION]
    messages = []
    for library, queue in (("bullmq", "mails"), ("rq", "cash"), ("celery", "*"), ("sidekiq", "*")):
        backend = here.services.sources.backend("main", library)
        ref = here.find_queue_stats("main", library, queue).ref
        texts = texts_of(backend.search_page(ref, JobQuery(state=State.DEAD)).rows, time.time())
        assert any(SEEN in text for text in texts)
        about = msgspec.structs.replace(notification(), top_errors=texts, detail=seeds.text())
        messages.append(build_message("m", "firing", [about], PageLinks("https://q.example.com"), "ops"))
    stored = msgspec.structs.replace(notification(), top_errors=(seeds.text(),))  # by a release that masked less
    messages.append(build_message("m", "firing", [stored], PageLinks(None), "ops"))
    for message in messages:
        assert message.top_errors
        sent = [build(message) for build in SENT.values()]
        assert leaked(json.dumps(sent, ensure_ascii=False), seeds) == []
        assert leaked(repr(message), seeds) == []


def test_every_kind_of_channel_is_checked_for_secrets() -> None:
    assert set(SENT) == set(KINDS)


def test_our_own_log_is_masked(app: Flask, seeds: Seeds, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("dashboard.sampling.sampler")
    try:
        json.loads("{")
    except ValueError as exc:
        exc.add_note(seeds.text())
        log.exception("reading %s failed", seeds.text())
    assert SEEN in caplog.text
    assert "JSONDecodeError" in caplog.text
    assert leaked(caplog.text, seeds) == []


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
