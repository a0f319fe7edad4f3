"""One Redis with jobs of all four libraries in all states, one app that watches it, and all that it answered.

The real libraries fill the Redis, the app's own checker fires, and real receivers take its messages. Everything is
asked over HTTP, in an order in which each answer is the same in each run.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import redis
from flask import Flask
from rq import Queue

from dashboard.clock import instant, iso, now_s
from tests.alerts.channels.fake_providers import HttpSink
from tests.alerts.channels.smtp import SmtpSink
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.celery_library import CeleryLibrary
from tests.contract.library import Library
from tests.contract.rq_library import RQLibrary, run_waiting_jobs
from tests.contract.sidekiq_library import SidekiqLibrary
from tests.golden.apps import address, headers
from tests.waiting import wait_until
from tests.workloads import rq_jobs

API = "/api/v1"
LIBRARIES = ("bullmq", "celery", "rq", "sidekiq")
# What each answers where its queues shall pause: Celery's needs a worker that lives, Sidekiq's is not to be had.
PAUSES = {"bullmq": 200, "celery": 403, "rq": 200, "sidekiq": 422}
# One alert fires for a queue of three jobs or more, is repeated, and ends with them; the other is never due.
SOON: dict[str, Any] = {
    "min_samples": 1,
    "recover_for_s": 0,
    "new_instance_grace_s": 0,
    "group_wait_s": 0,
    "queues": ["mail"],
    "metric": "queue.depth",
}
RULES = [
    {"id": "deep", "critical": 2, "for_s": 0, "repeat_every_s": 2, "runbook_url": "https://r.example/mail", **SOON},
    {"id": "later", "warning": 2, "for_s": 86_400, **SOON},
]
# Every kind of channel, and Slack's bot beside its webhook; email has a server of its own.
KINDS = ("slack", "slack-bot", "webhook", "teams", "discord", "pagerduty", "apprise")
TOKEN = "xoxb-0123456789"


def channels(http: HttpSink, smtp: SmtpSink) -> list[dict[str, Any]]:
    """A channel of each kind; its id is its kind and ends its address."""
    url = f"http://127.0.0.1:{http.port}/"
    own: dict[str, dict[str, Any]] = {
        "slack-bot": {"token": TOKEN, "channel": "C012345"},
        "webhook": {"secret": TOKEN, "headers": {"X-Team": "ops"}},
        "pagerduty": {"routing_key": TOKEN},
    }
    hooks = [
        {"id": kind, "kind": kind.removesuffix("-bot"), "url": url + kind, **own.get(kind, {})} for kind in KINDS[:-1]
    ]
    services = {"id": "apprise", "kind": "apprise", "urls": [f"json://127.0.0.1:{http.port}/apprise"]}
    people = {"from": "deck@example.com", "to": ["a@example.com"], "tls": "none"}
    mail = {"id": "email", "kind": "email", "host": "127.0.0.1", "port": smtp.port, **people}
    return [*hooks, services, mail]


class Stage:
    """Asks the app, and notes each answer of the API under its route, method and status."""

    def __init__(self, app: Flask, url: str, http: HttpSink, smtp: SmtpSink) -> None:
        self.app = app
        self.url = url
        self.http = http
        self.smtp = smtp
        self.client = app.test_client(use_cookies=False)
        self.redis = redis.Redis.from_url(url)
        self.mail = Queue("mail", connection=self.redis)
        self.answers: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        self.messages: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.metrics = ""

    def ask(
        self,
        path: str,
        *,
        expected: int = 200,
        role: str | None = "admin",
        noted: bool = True,
        **more: Any,
    ) -> Any:
        """The JSON that a path of the API answers; a POST where there is a `json`."""
        method = more.pop("method", "POST" if "json" in more else "GET")
        answer = self.client.open(API + path, method=method, headers=headers(role), **more)
        assert answer.status_code == expected, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        found = answer.get_json()
        if noted:
            adapter = self.app.url_map.bind("localhost")
            try:
                rule, _ = adapter.match(API + path.partition("?")[0], method=method, return_rule=True)
                where = address(rule.rule)
            except Exception:
                where = "(no route)"
            self.answers[f"{where} {method}"][str(expected)].append(found)
        return found

    def form(self, path: str, **fields: Any) -> None:
        """Send a form of the pages."""
        answer = self.client.post(path, data=fields, headers=headers("admin"))
        assert answer.status_code == 303, f"{path}: {answer.status_code} {answer.text[-2000:]}"

    def queues(self) -> dict[tuple[str, str], Any]:
        """The queues of the newest sample, by library and name."""
        found = self.ask("/queues", noted=False)["queues"]
        return {(queue["backend"], queue["name"]): queue for queue in found}


def fill(url: str, client: redis.Redis) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Jobs of all states by the real libraries; ids by library, queue and state."""
    filled: dict[str, Any] = {"celery": CeleryLibrary().fill(url)}  # waits until no other client blocks
    bullmq = BullMQLibrary()
    others: tuple[Library, ...] = (RQLibrary(), bullmq)
    with ThreadPoolExecutor(1) as slow:
        sidekiq = slow.submit(SidekiqLibrary().fill, url)
        filled |= {repr(library): library.fill(url) for library in others}
        bullmq.drive("schedule", url, "clock")
        bullmq.drive("consume", url, "idle")  # a worker that is alive, until `play` is over
        filled["sidekiq"] = sidekiq.result()
    for key in client.smembers("processes"):
        client.persist(key)  # else Sidekiq's process is gone after a minute
    return {
        library: {queue: {str(state): ids for state, ids in found.items() if ids} for queue, found in each.ids.items()}
        for library, each in filled.items()
    }


def play(stage: Stage) -> None:
    """The whole piece, from the filled queues to a Redis that is gone."""
    ids = fill(stage.url, stage.redis)
    for number in range(3):
        stage.mail.enqueue(rq_jobs.fail, f"no {number}")
    run_waiting_jobs(stage.mail)
    stage.ask("/overview", noted=False)
    wait_until(lambda: is_complete(stage), what="a sample of all queues")
    for channel in (*KINDS, "email"):
        stage.form(f"/channels/{channel}/test")
    wait_until(lambda: all(sent(stage, "test")), what="the tests of the channels")
    for _ in range(3):
        stage.mail.enqueue(rq_jobs.add, 1)
    wait_until(lambda: all(sent(stage, "reminder")), what="the reminders")
    look(stage, ids)
    run_waiting_jobs(stage.mail)
    wait_until(lambda: all(sent(stage, "resolved")), what="the ends of the alert")
    stage.messages = messages(stage)
    refuse(stage, ids)
    act(stage, ids)
    work(stage, ids)
    edit_rules(stage)
    stage.ask("/audit")
    stage.ask("/undo")
    BullMQLibrary().drive("stop", stage.url, "idle", worker=0)  # the first that this driver started


def is_complete(stage: Stage) -> bool:
    """Whether each library is told with its lists for all queues together."""
    found = stage.queues()
    celery = found.get(("celery", "*"))
    return (
        all((library, name) in found for library in LIBRARIES for name in ("alpha", "beta"))
        and {("rq", "mail"), ("bullmq", "clock"), ("sidekiq", "*")} <= set(found)
        and celery is not None
        and celery["counts"]["completed"] is not None
        and stage.ask("/overview", noted=False)["sources"][0]["search_progress"] is None
    )


def deliveries(stage: Stage) -> list[dict[str, Any]]:
    """What was delivered, the oldest first."""
    found: list[dict[str, Any]] = stage.ask("/deliveries", noted=False)["deliveries"]
    return found[::-1]


def sent(stage: Stage, kind: str) -> list[bool]:
    """Of each channel, whether it had a message of that kind."""
    had = {each["channel"] for each in deliveries(stage) if each["kind"] == kind}
    return [channel in had for channel in (*KINDS, "email")]


def messages(stage: Stage) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What each channel was sent, by the kind of the message."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    arrived: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for request in stage.http.requests:
        arrived[request.path.strip("/")].append(
            {"headers": sorted(map(str.lower, request.headers)), "body": request.json()}
        )
    for mail in stage.smtp.mails:
        parts = [part.get_content_type() for part in mail.walk()]
        arrived["email"].append({"headers": sorted(map(str.lower, mail.keys())), "parts": parts})
    for each in deliveries(stage):
        # PagerDuty opens and closes an incident for a test.
        for _ in range(2 if (each["channel"], each["kind"]) == ("pagerduty", "test") else 1):
            found[each["channel"]][each["kind"]].append(arrived[each["channel"]].pop(0))
    return found


def queue_path(library: str, name: str) -> str:
    """The address of a queue below the API."""
    return f"/queues/main/{library}/{quote(name, safe='')}"


def job_path(library: str, name: str, job_id: str) -> str:
    """The address of a job below the API."""
    return f"{queue_path(library, name)}/jobs/{quote(job_id, safe='')}"


def look(stage: Stage, ids: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    """Read everything there is to read, while an alert fires."""
    ask = stage.ask
    (alert,) = ask("/alerts")["alerts"]
    ask("/overview")
    stage.form(f"/alerts/{alert['fingerprint']}/ack", episode=alert["episode"], comment="seen")
    ask(f"/alerts/{alert['fingerprint']}/acknowledge", json={"comment": "seen"})
    ask(f"/alerts/groups/{alert['group']}/acknowledge", json={})
    ask(f"/alerts/{alert['fingerprint']}/acknowledge", expected=409, json={"episode": "another"})
    ask("/alerts/groups/no/acknowledge", expected=404, json={})
    stage.form("/silences", rule="other", hours="1", comment="quiet")
    stage.form(
        "/silences",
        rule="deep",
        hours="1",
        queue="mail",
        severity="warning",
        when="weekly",
        days="0",
        weeks="2",
        **{"from": "02:00"},
    )
    for path in ("/alerts", "/overview", "/redis", "/rules", "/rules/deep", "/silences", "/deliveries", "/workers"):
        ask(path)
    for path in ("/queues", "/schedules", "/search?q=mail", "/openapi.json", "/bulk", "/undo"):
        ask(path, noted=path != "/openapi.json")
    an_hour_ago = iso(instant(now_s() - 3600))
    mark = {"text": "deploy", "version": "v412", "link": "https://ci.example/412", "at": an_hour_ago}
    mark_id = ask("/marks", expected=201, json=mark)["id"]
    ask("/marks")
    (group, *_) = ask("/dead")["groups"]
    ask(f"/dead/{group['fingerprint']}")
    ask(f"/marks/{mark_id}", method="DELETE")
    stage.metrics = stage.client.get("/metrics", headers=headers("viewer")).text
    for (library, name), queue in stage.queues().items():
        path = queue_path(library, name)
        ask(path)
        ask(f"{path}/classes")
        ask(f"{path}/history?metric=depth")
        for state, count in queue["counts"].items():
            if count is not None:
                ask(f"{path}/jobs?state={state}")
    ask(f"{queue_path('rq', 'alpha')}/jobs?q=rq_jobs")
    for library, queues in ids.items():
        for name, states in queues.items():
            for found in states.values():
                ask(job_path(library, name, found[0]))


def refuse(stage: Stage, ids: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    """Everything that is refused, each way once."""
    ask = stage.ask
    waiting, dead = (job_path("rq", "alpha", ids["rq"]["alpha"][state][0]) for state in ("waiting", "dead"))
    missing = job_path("rq", "alpha", "no-such-job")
    ask("/queues", role=None, expected=401)
    ask("/audit", role="operator", expected=403)
    ask("/queues", expected=400, data="{}", content_type="application/json")
    ask("/queues?no_such=1", expected=422)
    ask("/no-such-path", expected=404)
    ask("/overview", expected=405, json={})
    ask("/dead?group_by=no", expected=422)
    for path in (queue_path("rq", "no"), missing, "/bulk/no", "/dead/no", "/rules/no"):
        ask(path, expected=404)
    for path in (f"{queue_path('rq', 'alpha')}/jobs?state=no", f"{queue_path('rq', 'alpha')}/history?metric=no"):
        ask(path, expected=422)
    ask(f"{dead}/retry", expected=401, role=None, json={})
    ask(f"{dead}/retry", expected=403, role="viewer", json={})
    ask(f"{missing}/retry", expected=404, json={})
    ask(f"{missing}/retry", expected=404, json={"state": "dead"})
    ask(f"{dead}/retry", expected=409, json={"state": "waiting"})
    ask(f"{dead}/promote", expected=409, json={})
    ask(f"{dead}/retry", expected=415, method="POST", data="{}", content_type="text/plain")
    ask(f"{dead}/no-such-verb", expected=422, json={})
    ask(f"{dead}/retry", expected=422, json={"no_such": 1})
    ask(f"{dead}/retry", expected=422, json={"payload": "{}"})
    ask(f"{dead}/move", expected=403, json={})
    ask(f"{waiting}/edit", expected=422, json={"payload": "no JSON"})
    for verb in ("obliterate", "purge"):
        ask(f"{queue_path('rq', 'alpha')}/{verb}", expected=403, role="viewer", json={})
        ask(f"{queue_path('rq', 'no')}/{verb}", expected=404, json={})
        ask(f"{queue_path('rq', 'alpha')}/{verb}", expected=422, json={"no_such": 1})
    ask(f"{queue_path('rq', 'alpha')}/obliterate", expected=409, json={})
    ask("/undo/no-such", expected=409, json={})
    ask("/undo/no-such", expected=403, role="viewer", json={})
    ask("/undo/no-such", expected=422, json={"no_such": 1})


def act(stage: Stage, ids: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    """Something to each library: to a job, and to a queue."""
    ask = stage.ask
    for library in LIBRARIES:
        name = "*" if "*" in ids[library] else "alpha"
        ask(f"{job_path(library, name, ids[library][name]['dead'][0])}/retry", json={"reason": "mended"})
        for verb in ("pause", "resume"):
            ask(f"{queue_path(library, 'beta')}/{verb}", json={}, expected=PAUSES[library])
    first, second, *_ = ids["rq"]["alpha"]["scheduled"]
    ask(f"{job_path('rq', 'alpha', second)}/duplicate", json={})
    batch = ask(f"{job_path('rq', 'alpha', first)}/delete", json={"state": "scheduled"})["undo"]
    ask("/undo")
    ask("/trash")
    ask(f"/trash/{batch}")
    ask(f"/trash/{batch}/restore", expected=409, json={"ids": ["no such"]})
    ask("/trash/restore", json={"queue": "alpha"})
    ask("/trash/restore", json={"queue": "alpha"}, expected=404)
    batch = ask(f"{job_path('rq', 'alpha', first)}/delete", json={"state": "scheduled"})["undo"]
    ask(f"/undo/{batch}", json={})
    ask(f"/undo/{batch}", json={}, expected=404)


def work(stage: Stage, ids: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    """Bulk work: one piece that ends and is undone, one that is told what to do, and what cannot begin."""
    ask = stage.ask
    place = {"source": "main", "backend": "rq", "queue": "beta", "state": "scheduled"}
    ask("/bulk", json={"action": "delete", **place, "preview": True})
    done = ask("/bulk", expected=201, json={"action": "delete", **place, "ids": ids["rq"]["beta"]["scheduled"][:1]})
    ended(stage, done["bulk_id"])
    ask(f"/bulk/{done['bulk_id']}/undo", json={})
    slow = ask("/bulk", expected=201, json={"action": "delete", **place, "pace_per_s": 0.01})["bulk_id"]
    for word in ("pause", "resume", "abort"):
        ask(f"/bulk/{slow}/{word}", json={})
    ended(stage, slow)
    ask("/bulk")
    ask("/bulk", expected=403, role="viewer", json={"action": "delete", **place})
    ask("/bulk", expected=404, json={"action": "delete", **place, "queue": "no"})
    ask("/bulk", expected=409, json={"action": "delete", **place, "q": "there-is-no-such-text"})
    ask("/bulk", expected=422, json={"action": "delete"})
    ask("/bulk", expected=422, json={"action": "delete", **place, "no_such": 1})
    ask(f"/bulk/{slow}/pause", expected=403, role="viewer", json={})
    ask("/bulk/no/pause", expected=404, json={})
    ask(f"/bulk/{slow}/no", expected=404, json={})
    ask(f"/bulk/{slow}/pause", expected=409, json={})
    ask(f"/bulk/{slow}/pause", expected=422, json={"no_such": 1})
    purged = ask(f"{queue_path('rq', 'beta')}/purge", json={})["bulk_id"]
    ended(stage, purged)
    ask(f"{queue_path('rq', 'beta')}/purge", json={})
    ask(f"{queue_path('rq', 'beta')}/obliterate", json={"confirm": "beta"}, expected=403)  # a job of it runs
    ask(f"{queue_path('rq', 'mail')}/obliterate", json={"confirm": "mail"})


def ended(stage: Stage, bulk_id: str) -> None:
    """Wait for the end of a piece of bulk work, and ask for it."""
    path = f"/bulk/{bulk_id}"
    wait_until(lambda: stage.ask(path, noted=False)["ended_at"], what="the end of bulk work")
    stage.ask(path)


def edit_rules(stage: Stage) -> None:
    """Make a rule, change it, switch it and remove it."""
    ask = stage.ask
    rule = {"id": "mine", "metric": "queue.dead", "warning": 1}
    ask("/rules", expected=201, json=rule)
    ask("/rules", expected=200, json={**rule, "warning": 2, "version": 1})
    ask("/rules", expected=403, role="operator", json=rule)
    ask("/rules", expected=409, json={**rule, "version": 1})
    ask("/rules", expected=422, json={**rule, "warning": None})
    ask("/rules", expected=422, json={**rule, "no_such": 1})
    ask("/rules/mine")
    ask("/rules/mine/disable", json={"version": 2})
    ask("/rules/mine/enable", json={"version": 3})
    ask("/rules/mine/enable", expected=409, json={"version": 1})
    ask("/rules/mine/enable", expected=422, json={})
    ask("/rules/no/enable", expected=404, json={"version": 1})
    ask("/rules/mine/delete", expected=409, json={"version": 1})
    ask("/rules/mine/delete", json={"version": 4})
    ask("/rules/mine/delete", expected=404, json={"version": 4})


def lose(stage: Stage) -> None:
    """Ask when the Redis is gone, of which all is known by then."""
    wait_until(lambda: not stage.ask("/overview", noted=False)["sources"][0]["reachable"], what="the loss of Redis")
    for path in ("/bulk", "/audit", "/undo"):
        stage.ask(path, expected=503)
    stage.ask("/redis")
