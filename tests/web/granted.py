"""Queues of all four libraries, of which some people may see only those that are called mail-…"""

from __future__ import annotations

import base64
import json
import pickle
import time
import zlib
from typing import Any

import redis

from dashboard.auth import Identity, Role

NOW = 1_900_000_000
# Words that only what is about the other queues contains.
HIDDEN = ("payroll", "PAYROLL", "Payroll", "hiddenjob")
VISIBLE = "shown-word"
MAIL = ["mail-*"]
ALL_ACTS = ["view", "retry", "delete", "pause", "bulk", "alerts"]
GRANTS = [
    {"users": ["mia"], "tokens": ["mia-token"], "queues": MAIL, "allow": ["view"]},
    {"groups": ["mail-team"], "queues": MAIL, "allow": ALL_ACTS},
    {"users": ["den"], "queues": ["payroll-*"], "deny": ["view"]},
]
PEOPLE = {
    "mia": Identity(name="mia", role=Role.OPERATOR),
    "mona": Identity(name="mona", groups=("mail-team",)),
    "den": Identity(name="den", role=Role.OPERATOR),
    "root": Identity(name="root", role=Role.ADMIN),
}
USER_HEADER = "X-User"


def identify(environ: dict[str, Any]) -> Identity | None:
    """The person whom the header X-User names, as an application would say who has signed in."""
    return PEOPLE.get(environ.get("HTTP_X_USER", ""))


def as_user(name: str) -> dict[str, str]:
    """The headers of a request by that person."""
    return {USER_HEADER: name, "Sec-Fetch-Site": "same-origin"}


def fill(client: redis.Redis) -> None:
    """Write dead, waiting and running jobs, schedules and workers: of each library a visible and a hidden queue."""
    for queue, word in (("mail-out", VISIBLE), ("payroll-run", "hiddenjob")):
        _fill_bullmq(client, queue, word)
        _fill_rq(client, queue, word)
        _fill_sidekiq(client, queue, word)
        _fill_celery(client, queue, word)


def _fill_bullmq(client: redis.Redis, queue: str, word: str) -> None:
    client.hset(f"bull:{queue}:meta", mapping={"version": "bullmq:5.1.0"})
    job = {"name": f"{word}-name", "timestamp": NOW * 1000, "data": json.dumps({"to": word}), "opts": "{}", "atm": 1}
    dead = {"failedReason": f"Broken{word}: {queue} failed", "finishedOn": NOW * 1000, "stacktrace": "[]"}
    parent = {"queueKey": "bull:payroll-run", "id": "hiddenjob1"}
    client.hset(f"bull:{queue}:{word}1", mapping=job | dead)
    client.zadd(f"bull:{queue}:failed", {f"{word}1": NOW * 1000})
    client.hset(f"bull:{queue}:{word}2", mapping=job | {"parent": json.dumps(parent)})
    client.rpush(f"bull:{queue}:wait", f"{word}2")
    client.zadd(f"bull:{queue}:repeat", {f"{word}-nightly": NOW * 1000})
    client.hset(f"bull:{queue}:repeat:{word}-nightly", mapping={"name": f"{word}-report", "pattern": "0 3 * * *"})


def _fill_rq(client: redis.Redis, queue: str, word: str) -> None:
    client.sadd("rq:queues", f"rq:queue:{queue}")
    for number, state in enumerate(("failed", "queued", "unlisted")):
        call = ("app.pay", None, (word,), {"to": word})
        job = {
            "status": "failed" if state == "failed" else "queued",
            "origin": queue,
            "description": f"app.{word}({word!r})",
            "created_at": "2031-01-01T00:00:00.000000Z",
            "data": zlib.compress(pickle.dumps(call)),
            "exc_info": zlib.compress(f"Traceback (most recent call last):\nBroken{word}: {queue}".encode()),
        }
        client.hset(f"rq:job:{word}{number}", mapping=job | {"ended_at": job["created_at"]})
        if state == "failed":
            client.zadd(f"rq:failed:{queue}", {f"{word}{number}": NOW})
        elif state == "queued":
            client.rpush(f"rq:queue:{queue}", f"{word}{number}")
    for name, queues in ((f"w-{word}", queue), ("w-both", "mail-out,payroll-run")):
        client.sadd("rq:workers", f"rq:worker:{name}")
        at = "2031-01-01T00:00:00.000000Z"
        work = {"state": "busy", "current_job": "hiddenjob1"} if name == "w-both" else {"state": "idle"}
        client.hset(f"rq:worker:{name}", mapping={"birth": at, "last_heartbeat": at, "queues": queues, **work})


def _fill_sidekiq(client: redis.Redis, queue: str, word: str) -> None:
    client.sadd("queues", queue)
    job = json.dumps(
        {
            "class": f"Mail{word}",
            "args": [word],
            "jid": f"{word}0123456789abcdef",
            "queue": queue,
            "error_class": f"Broken{word}",
            "error_message": f"{queue} failed",
            "failed_at": NOW,
            "retry_count": 3,
        }
    )
    client.lpush(f"queue:{queue}", job)
    client.zadd("dead", {job: NOW})
    client.zadd("retry", {job: NOW + 1})
    client.sadd("processes", f"{word}-host:1:a")
    info = {"hostname": f"{word}-host", "started_at": NOW, "queues": [queue], "concurrency": 1}
    client.hset(f"{word}-host:1:a", mapping={"info": json.dumps(info), "busy": 1, "beat": time.time()})
    running = {"queue": queue, "payload": job, "run_at": NOW}
    client.hset(f"{word}-host:1:a:work", "tid", json.dumps(running))
    client.sadd("cron_jobs", f"cron_job:{word}")
    cron = {"name": word, "klass": f"Mail{word}", "cron": "0 3 * * *", "status": "enabled", "queue_name": queue}
    client.hset(f"cron_job:{word}", mapping=cron)


def _fill_celery(client: redis.Redis, queue: str, word: str) -> None:
    client.sadd(f"_kombu.binding.{queue}", f"{queue}\x06\x16\x06\x16{queue}")
    headers = {
        "task": f"app.{word}",
        "id": f"{word}-task",
        "argsrepr": f"({word!r},)",
        "kwargsrepr": "{}",
        "retries": 0,
    }
    message = {
        "body": base64.b64encode(json.dumps([[word], {}, {}]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {"body_encoding": "base64", "delivery_tag": word, "priority": 0},
    }
    client.lpush(queue, json.dumps(message))
    record = {
        "status": "FAILURE",
        "result": {"exc_type": f"Broken{word}", "exc_message": [f"{queue} failed"], "exc_module": "app"},
        "traceback": f"Traceback\nBroken{word}: {queue} failed",
        "date_done": "2031-01-01T00:00:00+00:00",
        "name": f"app.{word}",
        "queue": queue,
        "task_id": f"{word}-task-2",
    }
    client.set(f"celery-task-meta-{word}-task-2", json.dumps(record))
    client.zadd("{queuedeck}:celery:main:dead", {f"{word}-task-2": NOW})
    client.set("{queuedeck}:celery:main:filled", 1)
