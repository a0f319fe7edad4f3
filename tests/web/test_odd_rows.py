"""Odd entries of workers and schedules, of all libraries: each costs its own row, never a page, the API or a sample."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.backends.bullmq import active_jobs as bullmq_running
from dashboard.backends.bullmq import schedules as bullmq_schedules
from dashboard.backends.bullmq import workers as bullmq_workers
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.celery import schedules
from dashboard.backends.celery import workers as celery_workers
from dashboard.backends.rq import workers as rq_people
from dashboard.backends.sidekiq import schedules as sidekiq_schedules
from dashboard.backends.sidekiq import workers as sidekiq_workers
from dashboard.model import QueueRef, WorkerState
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from dashboard.web.context import EXTENSION
from tests.contract.test_celery import declare_queues
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

BIG = "9" * 400
# As JSON spells them.
VALUES = (
    *(BIG, "1e999", "-1", "1e20", "true", "null", "[]", "{}", '""', '"\\ud83c"', '"1e999"', '{"__type__": "crontab"}'),
    *('{"year": 1e9}', '{"year": 2026, "month": 1, "day": 1, "timezone": 1e9}', '"9999-12-31T23:59:59-23:59"'),
)
TEXTS = (b"", b"\xff\xfe", b"1e999", b"-1", b"9" * 20, b"x" * 3000, b"253402300800", b"9999-12-31T23:59:59-23:59")
ENTRY = {"name": "n", "task": "t", "args": [], "kwargs": {}, "options": {"queue": "alpha"}, "enabled": True}
ENTRY |= {"schedule": {"__type__": "interval", "every": 5}}
META = {"last_run_at": {"__type__": "datetime", "year": 2026, "month": 1, "day": 1}, "total_run_count": 3}
CRON_JOB = {"func_name": "a.b", "queue_name": "alpha", "args": "[]", "interval": 5, "cron": "* * * * *"}
CRON_JOB |= {"next_enqueue_time": "2026-01-01T00:00:00Z", "latest_enqueue_time": "2026-01-01T00:00:00Z"}
SIDEKIQ_CRON = {"klass": "Mark", "cron": "0 3 * * *", "status": "enabled", "args": "[]"}
SIDEKIQ_CRON |= {"last_enqueue_time": "2026-01-01 00:00:00 UTC"}
BEAT = {"active": 1, "processed": 2, "pid": 3, "sw_ver": "5", "loadavg": [1, 2, 3]}
RQ_WORKER = {"birth": "2026-01-01T00:00:00Z", "last_heartbeat": "2026-01-01T00:00:00Z", "queues": "alpha"}
RQ_WORKER |= dict.fromkeys(("pid", "state", "successful_job_count", "failed_job_count", "total_working_time"), "1")


@pytest.fixture(autouse=True)
def lasting_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats are sent once: on a busy machine, the rows are read much later."""
    monkeypatch.setattr(celery_workers, "SUSPECT_AFTER_S", 600.0)


def odd(fields: Mapping[str, Any]) -> Iterator[str]:
    """Objects as JSON: in each one field holds one of VALUES."""
    for name in fields:
        for value in VALUES:
            yield json.dumps({**fields, name: "@@"}).replace('"@@"', value)


def fill(client: redis.Redis) -> None:
    """One good entry of each kind, and odd ones."""
    declare_queues(client, "alpha")
    entries = [(json.dumps(ENTRY), json.dumps(META))]
    entries += [(each, json.dumps(META)) for each in odd(ENTRY)] + [(json.dumps(ENTRY), each) for each in odd(META)]
    for n, (definition, meta) in enumerate(entries):
        client.hset(f"redbeat:{n}", mapping={"definition": definition, "meta": meta})
        client.zadd("redbeat::schedule", {f"redbeat:{n}": n})
    client.lpush("redbeat:list", 1)
    client.zadd("redbeat::schedule", {"redbeat:list": 1e20, "redbeat:gone": "inf", b"redbeat:\xff": -1})
    client.sadd("rq:queues", "rq:queue:alpha")
    jobs = [json.dumps(CRON_JOB), "null", "5", *odd(CRON_JOB)]
    client.hset("rq:cron_scheduler:s", "cron_jobs", f"[{','.join(jobs)}]")
    client.zadd("rq:cron_schedulers", {"s": 1, "gone": 2})
    client.sadd("rq:workers", "rq:worker:good", "rq:worker:list")
    client.hset("rq:worker:good", mapping=RQ_WORKER)
    client.lpush("rq:worker:list", 1)
    for name in RQ_WORKER:
        for n, text in enumerate(TEXTS):
            client.sadd("rq:workers", f"rq:worker:{name}{n}")
            client.hset(f"rq:worker:{name}{n}", mapping={**RQ_WORKER, name: text})
    client.set("stat:processed", 1)
    client.sadd("queues", "alpha")
    for n, each in enumerate([json.dumps({"class": "P", "every": "5m"}), *odd({"class": "P", "every": "5m"})]):
        client.hset("schedules", f"p{n}", each)
    client.hset("sidekiq-scheduler:next_times", mapping={f"p{n}": text for n, text in enumerate(TEXTS)})
    crons = [SIDEKIQ_CRON, *({**SIDEKIQ_CRON, name: text} for name in SIDEKIQ_CRON for text in TEXTS)]
    for n, fields in enumerate(crons):
        client.sadd("cron_jobs", f"cron_job:k{n}")
        client.hset(f"cron_job:k{n}", mapping=fields)
    info = {"hostname": "h", "queues": ["alpha"], "started_at": 1, "pid": 2, "concurrency": 5}
    for n, each in enumerate([json.dumps(info), *odd(info)]):
        client.sadd("processes", f"h:{n}:abc")
        client.hset(f"h:{n}:abc", mapping={"info": each, "busy": 1, "beat": time.time()})


def beat(client: redis.Redis) -> int:
    """Send heartbeats of Celery workers with different names, one of them valid; return their number."""
    beats = [json.dumps({**BEAT, "hostname": "good@h"})]
    beats += [f'{each[:-1]}, "hostname": "w{n}@h"}}' for n, each in enumerate(odd(BEAT))]
    for each in beats:
        body = base64.b64encode(each.encode()).decode()
        told = json.dumps({"body": body, "content-type": "application/json"})
        client.publish("/0.celeryev/worker.heartbeat", told)
    return len(beats)


def rows(client: FlaskClient, kind: str, library: str) -> dict[str, dict[str, Any]]:
    """What the API lists, by id."""
    client.application.extensions[EXTENSION].services.forget_live_rows()
    found = client.get(f"/api/v1/{kind}?backend={library}").get_json()
    assert found["problems"] == []
    return {each["id"]: each for each in found[kind]}


def test_each_odd_entry_affects_only_its_own_row(
    make_app: MakeApp, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    fill(redis_client)
    client = make_app(sample_interval_s=0.5, checker="auto").test_client()

    def libraries() -> set[str]:
        return {queue["backend"] for queue in client.get("/api/v1/queues").get_json()["queues"]}

    wait_until(lambda: libraries() >= {"celery", "rq", "sidekiq"}, what="all libraries")
    wait_until(lambda: beat(redis_client) <= len(rows(client, "workers", "celery")), what="all workers of Celery")
    # Two samples that know of them.
    at = client.get("/api/v1/overview").get_json()["sampled_at"]
    wait_until(lambda: client.get("/api/v1/overview").get_json()["sampled_at"] > at, what="a sample after it")
    failed = [each.message for each in caplog.records if "sample failed" in each.message]
    assert failed == []
    for url in ("/workers", "/schedules", "/", "/metrics", "/api/v1/queues", "/queues/main/celery/alpha"):
        assert client.get(url).status_code == 200, url
    workers = {library: rows(client, "workers", library) for library in ("celery", "rq", "sidekiq")}
    schedules = {library: rows(client, "schedules", library) for library in ("celery", "rq", "sidekiq")}
    good = workers["celery"]["good@h"]
    assert (good["busy"], good["processed"], good["pid"], good["problem"]) == (1, 2, 3, None)
    assert (workers["rq"]["good"]["processed"], workers["rq"]["list"]["problem"]) == (
        2,
        "its record has the wrong type",
    )
    assert workers["sidekiq"]["h:0:abc"]["concurrency"] == 5
    assert (schedules["celery"]["redbeat:0"]["runs"], schedules["celery"]["redbeat:0"]["problem"]) == (3, None)
    assert {"redbeat:list", "redbeat:gone"} <= {key for key, each in schedules["celery"].items() if each["problem"]}
    assert schedules["rq"]["s#0"]["pattern"] == "* * * * *"
    assert schedules["rq"]["s#1"]["problem"] == "its entry is not a JSON object"
    assert (schedules["sidekiq"]["p0"]["pattern"], schedules["sidekiq"]["k0"]["pattern"]) == ("5m", "0 3 * * *")
    for found in (*workers.values(), *schedules.values()):
        for each in found.values():
            figures = [each.get(name) for name in ("pid", "busy", "processed", "failed", "concurrency", "runs")]
            assert all(value is None or (type(value) is int and 0 <= value <= 1e15) for value in figures), each


def fill_bullmq(client: redis.Redis) -> None:
    """A queue with two running jobs, each with its holder, and two repeatable ones."""
    client.hset("bull:alpha:meta", mapping={"version": "bullmq:5.81.0", "opts.maxLenEvents": 10000})
    for name in ("a", "b"):
        client.hset(f"bull:alpha:{name}", mapping={"name": "n", "data": "{}", "opts": "{}", "processedOn": 1})
        client.rpush("bull:alpha:active", name)
        client.set(f"bull:alpha:{name}:lock", f"holder-{name}:1")
        client.zadd("bull:alpha:repeat", {name: 5})
        client.hset(f"bull:alpha:repeat:{name}", mapping={"name": "n", "every": 5000, "ic": 1})


BROKEN: dict[tuple[str, str], tuple[Any, str, str]] = {
    ("workers", "bullmq"): (bullmq_workers._Queue, "_of_connection", "alpha@"),
    ("schedules", "bullmq"): (bullmq_schedules, "_build_schedule", "a"),
    ("workers", "celery"): (celery_workers, "_build_worker", "good@h"),
    ("workers", "rq"): (rq_people, "_running_ids", "good"),
    ("workers", "sidekiq"): (sidekiq_workers, "_build_worker", "h:0:abc"),
    ("schedules", "celery"): (schedules, "_build_schedule", "redbeat:0"),
    ("schedules", "rq"): (rq_people, "_build_schedule", "s#0"),
    ("schedules", "sidekiq"): (sidekiq_schedules, "_cron_schedule", "k0"),
}


def test_an_unexpected_entry_is_shown_with_its_id(
    make_app: MakeApp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(redis_client)
    fill_bullmq(redis_client)
    redis_client.client_setname("bull:alpha")
    client = make_app(sample_interval_s=0.5, checker="auto").test_client()

    def all_there() -> bool:
        beat(redis_client)
        return all(
            any(each.startswith(broken) for each in rows(client, *kind)) for kind, (_, _, broken) in BROKEN.items()
        )

    wait_until(all_there, what="all rows")
    for (kind, library), (module, name, _) in BROKEN.items():
        real = getattr(module, name)
        turns = iter([True])

        def odd_once(*arguments: Any, _real: Any = real, _turns: Iterator[bool] = turns) -> Any:
            if next(_turns, False):
                raise KeyError("odd data")
            return _real(*arguments)

        before = rows(client, kind, library)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, odd_once)
            found = rows(client, kind, library)
        assert found.keys() == before.keys(), (kind, library)
        told = [each for each in found.values() if (each["problem"] or "").startswith("it could not be read: KeyError")]
        assert len(told) == 1, (kind, library)


def test_an_unexpected_running_job_hides_no_worker(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_bullmq(redis_client)
    backend = BullMQ(source, SourceSettings(name="main", url="redis://x"))
    refs = [QueueRef(source="main", backend="bullmq", name="alpha", key="bull:alpha")]
    real = bullmq_running._holder_of_lock

    def odd(token: Any) -> str | None:
        if token == b"holder-a:1":
            raise KeyError("odd data")
        return real(token)

    monkeypatch.setattr(bullmq_running, "_holder_of_lock", odd)
    assert [work.job_id for worker in backend.list_workers(refs) for work in worker.work] == ["b"]
    monkeypatch.setattr(bullmq_workers._Queue, "_jobs_by_holder", odd)
    (row,) = backend.list_workers(refs)
    assert (row.id, row.state) == ("alpha", WorkerState.UNKNOWN)
    assert (row.problem or "").startswith("it could not be read: ")
