"""Queues of each library as it leaves them in Redis, in any number, and what ends in them between two samples."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import redis

PER_PIPELINE = 50


@dataclass(frozen=True, slots=True)
class Library:
    """How to make `queues` queues in Redis, and what ends in half of them between two samples."""

    fill: Callable[[redis.Redis, int], None]
    work: Callable[[redis.Redis, int], None]
    # The last parts of keys of what waits, runs or is to run, given the queue's name; without them it is at rest.
    unended: Callable[[str], Iterable[str]]


def name_of(number: int) -> str:
    """The name of a queue."""
    return f"queue-{number:04}"


def rest(client: redis.Redis, queues: int, library: Library) -> None:
    """Take all jobs out of the queues that have not ended."""
    for number in range(queues):
        client.delete(*library.unended(name_of(number)))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def fill_bullmq(client: redis.Redis, queues: int) -> None:
    """`queues` BullMQ queues with a few jobs in each state."""
    pipe = client.pipeline(transaction=False)
    now = int(time.time() * 1000)
    for number in range(queues):
        base = f"bull:{name_of(number)}:"
        pipe.hset(base + "meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
        pipe.set(base + "id", 20)
        for job in range(20):
            pipe.hset(
                f"{base}{job}", mapping={"name": "send", "data": "{}", "opts": "{}", "timestamp": now - job * 1000}
            )
        pipe.rpush(base + "wait", *range(5))
        pipe.lpush(base + "active", 5)
        pipe.zadd(base + "delayed", {"6": (now + 60_000) * 4096})
        pipe.zadd(base + "completed", {str(job): now - job * 1000 for job in range(7, 15)})
        pipe.zadd(base + "failed", {str(job): now - job * 1000 for job in range(15, 20)})
        born = now - 3_600_000
        for job in range(20):
            pipe.xadd(base + "events", {"event": "added", "jobId": job, "name": "send"}, id=f"{born}-{job * 2}")
            pipe.xadd(base + "events", {"event": "waiting", "jobId": job}, id=f"{born}-{job * 2 + 1}")
        if number % PER_PIPELINE == PER_PIPELINE - 1:
            pipe.execute()
    pipe.execute()


def work_bullmq(client: redis.Redis, queues: int) -> None:
    """Two jobs end in every second queue."""
    pipe = client.pipeline(transaction=False)
    for number in range(0, queues, 2):
        events = f"bull:{name_of(number)}:events"
        for job in ("7", "8"):
            pipe.xadd(events, {"event": "active", "jobId": job, "prev": "waiting"}, maxlen=10000)
            pipe.xadd(events, {"event": "completed", "jobId": job, "returnvalue": "null", "prev": "active"})
    pipe.execute()


def _rq_job(name: str, job: int, now: float, status: str) -> dict[str, str]:
    job_hash = {
        "created_at": _iso(now - 600 + job),
        "enqueued_at": _iso(now - 600 + job),
        "origin": name,
        "description": "shop.jobs.send(42)",
        "data": "x" * 60,
        "status": status,
        "timeout": "180",
        "worker_name": "",
    }
    if status in ("finished", "failed", "started"):
        job_hash["started_at"] = _iso(now - 300 + job)
    if status in ("finished", "failed"):
        job_hash["ended_at"] = _iso(now - 299 + job)
    return job_hash


def fill_rq(client: redis.Redis, queues: int) -> None:
    """`queues` RQ queues with a few jobs in each state, and ten workers that serve a tenth of them each."""
    pipe = client.pipeline(transaction=False)
    now = time.time()
    for number in range(queues):
        name = name_of(number)
        pipe.sadd("rq:queues", f"rq:queue:{name}")
        states = ("queued",) * 5 + ("started", "scheduled") + ("finished",) * 8 + ("failed",) * 5
        ids = [f"{name}-{job}" for job in range(len(states))]
        for job, status in enumerate(states):
            pipe.hset(f"rq:job:{ids[job]}", mapping=_rq_job(name, job, now, status))
        pipe.rpush(f"rq:queue:{name}", *ids[:5])
        pipe.zadd(f"rq:wip:{name}", {f"{ids[5]}:{'0' * 32}": now + 3600})
        pipe.zadd(f"rq:scheduled:{name}", {ids[6]: now + 3600})
        pipe.zadd(f"rq:finished:{name}", {each: int(now) + 86400 for each in ids[7:15]})
        pipe.zadd(f"rq:failed:{name}", {each: int(now) + 31_536_000 - 86_400 for each in ids[15:]})
        if number % PER_PIPELINE == PER_PIPELINE - 1:
            pipe.execute()
    for worker in range(10):
        served = [name_of(number) for number in range(worker, queues, 10)]
        key = f"rq:worker:{worker}"
        pipe.sadd("rq:workers", key)
        pipe.hset(key, mapping={"queues": ",".join(served), "version": "3.0.0", "birth": _iso(now - 3600)})
        for name in served:
            pipe.sadd(f"rq:workers:{name}", key)
    pipe.execute()


def work_rq(client: redis.Redis, queues: int) -> None:
    """Two jobs end in every second queue."""
    pipe = client.pipeline(transaction=False)
    now = time.time()
    for number in range(0, queues, 2):
        name = name_of(number)
        for job in range(2):
            done = f"{name}-{int(now * 1000)}-{job}"
            pipe.hset(f"rq:job:{done}", mapping=_rq_job(name, job, now, "finished"))
            pipe.expire(f"rq:job:{done}", 500)
            pipe.zadd(f"rq:finished:{name}", {done: int(now) + 500})
    for worker in range(10):
        pipe.hincrby(f"rq:worker:{worker}", "successful_job_count", len(range(worker, queues, 10)))
    pipe.execute()


def _sidekiq_job(name: str, job: int, now: float) -> str:
    return json.dumps(
        {
            "retry": True,
            "queue": name,
            "class": "SendMail",
            "args": [job, "a" * 40],
            "jid": f"{job:024x}",
            "created_at": now - 600 + job,
            "enqueued_at": now - 600 + job,
        }
    )


def fill_sidekiq(client: redis.Redis, queues: int) -> None:
    """`queues` Sidekiq queues with five jobs each, a process for each fifty of them, and the sets that all share."""
    pipe = client.pipeline(transaction=False)
    now = time.time()
    for number in range(queues):
        name = name_of(number)
        pipe.sadd("queues", name)
        pipe.lpush(f"queue:{name}", *(_sidekiq_job(name, job, now) for job in range(5)))
        if number % PER_PIPELINE == PER_PIPELINE - 1:
            pipe.execute()
    for number in range(0, queues, PER_PIPELINE):
        identity = f"host-{number}:1:abcdef"
        served = [name_of(n) for n in range(number, min(queues, number + PER_PIPELINE))]
        info = {"hostname": f"host-{number}", "pid": 1, "concurrency": 10, "queues": served, "version": "8.0.0"}
        pipe.sadd("processes", identity)
        pipe.hset(identity, mapping={"info": json.dumps(info), "concurrency": 10, "busy": 1, "beat": now})
        job = {"queue": served[0], "payload": _sidekiq_job(served[0], 9, now), "run_at": int(now)}
        pipe.hset(f"{identity}:work", "tid1", json.dumps(job))
    for key in ("schedule", "retry", "dead"):
        pipe.zadd(key, {_sidekiq_job("queue-0000", 100 + job, now): now + 3600 + job for job in range(20)})
    pipe.mset({"stat:processed": 1000, "stat:failed": 10})
    pipe.execute()


def work_sidekiq(client: redis.Redis, queues: int) -> None:
    """Two jobs end in every second queue."""
    client.incrby("stat:processed", queues)


def fill_celery(client: redis.Redis, queues: int) -> None:
    """`queues` Celery queues with five messages each, and a hundred that workers took and have not acknowledged."""
    pipe = client.pipeline(transaction=False)
    for number in range(queues):
        name = name_of(number)
        pipe.sadd(f"_kombu.binding.{name}", "\x06\x16".join((name, "", name)))
        pipe.lpush(name, *(json.dumps(_celery_message(name, f"{number:06}-{job}")) for job in range(5)))
        if number % PER_PIPELINE == PER_PIPELINE - 1:
            pipe.execute()
    for job in range(100):
        message = _celery_message("queue-0000", f"taken-{job}")
        pipe.hset("unacked", f"tag-{job}", json.dumps([message, "queue-0000", "queue-0000"]))
    pipe.execute()


def _celery_message(name: str, task: str) -> dict[str, object]:
    return {
        "body": base64.b64encode(json.dumps([[1], {}, {}]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "shop.send", "id": task, "retries": 0, "eta": None, "root_id": task},
        "properties": {
            "correlation_id": task,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": name},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": task,
        },
    }


def work_celery(client: redis.Redis, queues: int) -> None:
    """Two jobs end in every second queue, with a result each."""
    pipe = client.pipeline(transaction=False)
    for number in range(0, queues, 2):
        for job in range(2):
            task = f"{number}-{job}-{int(time.time() * 1000)}"
            result = {"status": "SUCCESS", "result": None, "task_id": task, "queue": name_of(number), "children": []}
            key = f"celery-task-meta-{task}"
            pipe.set(key, json.dumps(result), ex=600)
            pipe.publish(key, json.dumps(result))
    pipe.execute()


LIBRARIES = {
    "bullmq": Library(
        fill_bullmq, work_bullmq, lambda name: [f"bull:{name}:{key}" for key in ("wait", "active", "delayed")]
    ),
    "rq": Library(fill_rq, work_rq, lambda name: [f"rq:{key}:{name}" for key in ("queue", "wip", "scheduled")]),
    "sidekiq": Library(fill_sidekiq, work_sidekiq, lambda name: [f"queue:{name}"]),
    "celery": Library(fill_celery, work_celery, lambda name: [name]),
}
