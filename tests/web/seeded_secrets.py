"""Secrets of more than 30 kinds in every field of jobs of each library, schedules and workers."""

from __future__ import annotations

import base64
import html
import json
import pickle
import random
import re
import time
import zlib
from collections.abc import Callable
from typing import Any

import redis

NOW = 1_900_000_000
SEEN = "shown-word"  # not masked: shows that the texts arrive at all
REDACTION = {
    "names": ["customer_id", "full name", "*birth*"],
    "patterns": ["CUST-[0-9]{8}", "4020[0-9]{6}"],
    "allow": ["session_token"],
}
# With a function of the host application, which knows the secrets of one more kind.
OWN_FUNCTION = "own function"
WITH_HOOK = {**REDACTION, "hook": "tests.web.seeded_secrets:find_tickets"}


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# Texts in which `s` is the secret; `n` are eight digits.
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
KINDS: dict[str, Callable[[str, str], str]] = {
    "password as argument": lambda s, n: f"connect(password='{s}', host='db')",
    "each name": lambda s, n: " ".join(f"{name}={s}" for name in NAMES),
    "repr of each name": lambda s, n: repr(dict.fromkeys(NAMES, s)),
    "JSON": lambda s, n: json.dumps({"db_pass": s, "ok": 1}),
    "JSON in JSON": lambda s, n: json.dumps({"body": json.dumps({"client_secret": s})}),
    "repr": lambda s, n: repr({"kwargs": {"api_key": s}}),
    "JSON web token": lambda s, n: f"eyJhbGciOiJIUzI1NiJ9.eyJ{s}.{s}",
    "private key": lambda s, n: f"-----BEGIN PRIVATE KEY-----\n{s}\n{s}\n-----END PRIVATE KEY-----",
    "AWS key ID": lambda s, n: f"AKIA{s[:16].upper()}",
    "AWS secret": lambda s, n: f"aws_secret_access_key={s}",
    "Google API key": lambda s, n: f"AIza{(s + s)[:35]}",
    "Google OAuth": lambda s, n: f"ya29.{s}",
    "GitHub": lambda s, n: f"ghp_{s}{s}",
    "GitHub, fine-grained": lambda s, n: f"github_pat_{s}{s}",
    "GitLab": lambda s, n: f"glpat-{s}",
    "Slack": lambda s, n: f"xoxb-{s}",
    "Slack webhook": lambda s, n: f"https://hooks.slack.com/services/T000/B000/{s}",
    "Stripe": lambda s, n: f"sk_live_{s}",
    "signing secret": lambda s, n: f"whsec_{s}",
    "OpenAI": lambda s, n: f"sk-{s}x",
    "SendGrid": lambda s, n: f"SG.{s}.{s}",
    "npm": lambda s, n: f"npm_{s}{s}",
    "password hash": lambda s, n: f"$2b$12${s}{s}",
    "user in a URL": lambda s, n: f"https://ann:{s}@example.com/x",
    "DSN": lambda s, n: f"SENTRY_DSN=https://{s}@sentry.example.com/1",
    "Redis URL": lambda s, n: f"redis://:{s}@h/0",
    "connection string": lambda s, n: f"Server=db;Password={s};Port=1",
    "bearer": lambda s, n: f"Authorization: Bearer {s}",
    "basic": lambda s, n: f"Authorization: Basic {base64_of(f'ann:{s}')}",
    "cookie": lambda s, n: f"Cookie: sid={s}; other={s}",
    "headers as pairs": lambda s, n: json.dumps([["Accept", "*/*"], ["X-Api-Key", s]]),
    "name and value": lambda s, n: json.dumps({"name": "token", "value": s}),
    "card": lambda s, n: repr({"card_number": n + n, "cvv": s}),
    "IBAN": lambda s, n: f"iban=DE44{n}{n}",
    "PIN": lambda s, n: f"pin='{s}'",
    "session": lambda s, n: f"session_id: {s}",
    "curl": lambda s, n: f"curl -u ann:{s} https://x",
    "SQL": lambda s, n: f"CREATE USER x IDENTIFIED BY '{s}'",
    "query": lambda s, n: f"GET /?access_token={s}&page=2",
    "query in a query": lambda s, n: f"next=%2F%3Ftoken%3D{s}%26page%3D2",
    "XML": lambda s, n: f"<password>{s}</password>",
    "option": lambda s, n: f"deploy --token {s}",
    "key with signs": lambda s, n: json.dumps({"user password (old)": s}),
    "key with a digit": lambda s, n: json.dumps({"2fa_secret": s}),
    "own name": lambda s, n: repr({"customer_id": s, "customerId": int(n)}),
    "own name in prose": lambda s, n: f"Full Name: {s} {s[::-1]}, next",
    "own glob": lambda s, n: json.dumps({"date_of_birth": {"at": [s]}}),
    "own pattern": lambda s, n: f"no customer CUST-{n} here",
    OWN_FUNCTION: lambda s, n: f"ticket/{s} is open, ticket/{n} too",
}


def find_tickets(text: str) -> list[str]:
    """The parts of a text to hide: what follows the word "ticket"."""
    return re.findall(r"(?<=ticket/)\w{2,40}", text)


# Everything that may be one of the secrets.
SUSPECTS = re.compile(
    r"(?=(zq[a-z0-9]{18}|ZQ[A-Z0-9]{14}|[a-z0-9]{18}qz|YW5uOnpx[A-Za-z0-9+/]{14}|7[0-9]{7}|4020[0-9]{6}))"
)


class Seeds:
    """Makes secrets that occur nowhere else, and remembers how each of them may be written."""

    def __init__(self, *, with_hook: bool = False) -> None:
        """`with_hook`: also those that only the function of WITH_HOOK knows."""
        self._kinds = [kind for kind in KINDS if with_hook or kind != OWN_FUNCTION]
        self._random = random.Random(20310101)
        self.made: dict[str, str] = {}  # what must not be seen, and the kind

    def text(self, kind: str) -> str:
        """A text with a new secret of this kind."""
        s = "zq" + "".join(self._random.choices("bcdfghjklmnpqrstvwxyz0123456789", k=18))
        n = "7" + "".join(self._random.choices("0123456789", k=7))
        text = KINDS[kind](s, n)
        written = [s, s.upper()[:16], s[::-1], base64_of(f"ann:{s}")[:22], n]
        self.made |= dict.fromkeys((each for each in written if each in text), kind)
        return text

    def leaked(self, text: str) -> set[str]:
        """The kinds of the secrets in a page, an answer or a log."""
        return {self.made[each] for each in SUSPECTS.findall(html.unescape(text)) if each in self.made}

    def lines(self) -> str:
        """A line for each kind, as programs write them into errors and logs."""
        return f"{SEEN}\n" + "\n".join(map(self.text, self._kinds))

    def value(self) -> dict[str, Any]:
        """All kinds as a payload."""
        n = "".join(self._random.choices("0123456789", k=6))
        self.made[f"4020{n}"] = "own pattern in a number"
        texts = {kind: self.text(kind) for kind in self._kinds}
        decoded = [json.loads(text) for text in texts.values() if text[:1] in "{[" and '"' in text]
        return {
            SEEN: "x",
            "texts": texts,
            "decoded": decoded,
            "number": int(f"4020{n}"),
            "deep": [{"password": {"a": decoded}}],
        }


def fill_bullmq(client: redis.Redis, seeds: Seeds) -> None:
    client.hset("bull:mails:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
    job = {
        "opts": json.dumps({"attempts": 3, "headers": seeds.value()}),
        "timestamp": NOW * 1000,
        "atm": 1,
        "failedReason": seeds.lines(),
        "stacktrace": json.dumps([f"Error: {seeds.lines()}\n    at send (/app/mail.js:3:5)"]),
        "returnvalue": json.dumps(seeds.value()),
        "progress": json.dumps(seeds.value()),
    }
    for number, state in enumerate(("failed", "completed")):
        client.zadd(f"bull:mails:{state}", {str(number): NOW * 1000})
        own = {"name": f"send {seeds.text('GitHub')}", "data": json.dumps(seeds.value()), "finishedOn": NOW * 1000}
        client.hset(f"bull:mails:{number}", mapping=job | own)
        client.rpush(f"bull:mails:{number}:logs", seeds.lines(), json.dumps(seeds.value()))
    client.zadd("bull:mails:repeat", {"nightly": NOW * 1000})
    template = {
        "name": "report",
        "data": json.dumps(seeds.value()),
        "opts": json.dumps(seeds.value()),
        "pattern": "0 3 * * *",
    }
    client.hset("bull:mails:repeat:nightly", mapping=template)


def fill_rq(client: redis.Redis, seeds: Seeds) -> None:
    client.sadd("rq:queues", "rq:queue:cash")
    for number, state in enumerate(("failed", "finished")):
        call = ("app.pay", None, (seeds.lines(),), seeds.value())
        job = {
            "status": state,
            "origin": "cash",
            "description": f"app.pay('{SEEN}', {seeds.text('repr')}, {seeds.text('password as argument')})",
            "created_at": "2031-01-01T00:00:00.000000Z",
            "ended_at": "2031-01-01T00:00:00.000000Z",
            "data": zlib.compress(pickle.dumps(call)),
            "meta": zlib.compress(pickle.dumps({"progress": seeds.lines(), "more": seeds.value()})),
            "result": zlib.compress(pickle.dumps(seeds.value())),
            "exc_info": zlib.compress(f"Traceback (most recent call last):\nPayError: {seeds.lines()}".encode()),
        }
        client.hset(f"rq:job:r{number}", mapping=job)
        client.zadd(f"rq:{state}:cash", {f"r{number}": NOW})
    client.sadd("rq:workers", "rq:worker:w1")
    birth = {"birth": "2031-01-01T00:00:00.000000Z", "last_heartbeat": "2031-01-01T00:00:00.000000Z", "queues": "cash"}
    client.hset("rq:worker:w1", mapping=birth | {"state": "busy", "current_job": "r0", "hostname": seeds.text("DSN")})


def fill_sidekiq(client: redis.Redis, seeds: Seeds) -> None:
    client.sadd("queues", "work")
    for number, place in enumerate(("dead", "schedule", "queue:work")):
        trace = zlib.compress(json.dumps([f"app/mail.rb:3:in `send': {seeds.lines()}"]).encode())
        job = json.dumps(
            {
                "class": f"Mail {seeds.text('Slack')}",
                "args": [seeds.value(), seeds.lines()],
                "jid": f"{number}123456789abcdef01234567",
                "queue": "work",
                "error_class": "MailError",
                "error_message": seeds.lines(),
                "error_backtrace": base64.b64encode(trace).decode(),
                "failed_at": NOW,
                "retry_count": 3,
                "tags": [seeds.text("Stripe")],
                "cattr": seeds.value(),
            }
        )
        client.lpush(place, job) if place == "queue:work" else client.zadd(place, {job: NOW})
    client.sadd("processes", "host:1:a")
    beat = {
        "info": json.dumps({"hostname": "host", "started_at": NOW, "queues": ["work"], "concurrency": 1}),
        "busy": 1,
        "beat": time.time(),
    }
    client.hset("host:1:a", mapping=beat)
    running = {"queue": "work", "payload": job, "run_at": NOW}
    client.hset("host:1:a:work", "tid", json.dumps(running))
    client.sadd("cron_jobs", "cron_job:nightly")
    cron = {"name": "nightly", "klass": "Mail", "cron": "0 3 * * *", "status": "enabled", "queue_name": "work"}
    client.hset(
        "cron_job:nightly", mapping=cron | {"args": json.dumps([seeds.value()]), "description": seeds.text("DSN")}
    )


def fill_celery(client: redis.Redis, seeds: Seeds) -> None:
    client.sadd("_kombu.binding.alpha", "alpha\x06\x16\x06\x16alpha")
    record = {
        "status": "FAILURE",
        "result": {"exc_type": "PayError", "exc_message": [seeds.lines(), seeds.value()], "exc_module": "app"},
        "traceback": f"Traceback (most recent call last):\nPayError: {seeds.lines()}",
        "children": [],
        "date_done": "2031-01-01T00:00:00+00:00",
        "name": f"app.pay {seeds.text('npm')}",
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
    call: list[Any] = [[seeds.value()], {"password": seeds.text("GitHub")}, {"chord": None, "chain": None}]
    for number, (body, content_type) in enumerate(
        ((json.dumps(call).encode(), "application/json"), (pickle.dumps(call), "application/x-python-serialize"))
    ):
        headers = {
            "task": "app.pay",
            "id": f"m{number}",
            "argsrepr": f"({seeds.text('repr')}, '{SEEN}', {seeds.value()!r})",
            "kwargsrepr": repr(seeds.value())[:-30],  # Celery cuts it anywhere
            "retries": 0,
        }
        message = {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "binary",
            "content-type": content_type,
            "headers": headers,
            "properties": {"body_encoding": "base64", "delivery_tag": "t", "priority": 0},
        }
        client.lpush("alpha", json.dumps(message))
        client.hset("unacked", f"t{number}", json.dumps([message, "", "alpha"]))
        client.zadd("unacked_index", {f"t{number}": NOW})
    definition = {
        "name": "nightly",
        "task": "app.pay",
        "args": [seeds.value()],
        "kwargs": seeds.value(),
        "enabled": True,
        "schedule": {"__type__": "interval", "every": 60.0, "relative": False},
    }
    client.hset(
        "redbeat:nightly", mapping={"definition": json.dumps(definition), "meta": json.dumps({"total_run_count": 1})}
    )
    client.zadd("redbeat::schedule", {"redbeat:nightly": NOW})


def fill(client: redis.Redis, seeds: Seeds) -> None:
    """Write jobs of all four libraries, of which one each is dead."""
    for fill_library in (fill_bullmq, fill_rq, fill_sidekiq, fill_celery):
        fill_library(client, seeds)
