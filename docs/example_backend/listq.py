"""listq: a job queue in Redis in sixty lines, of the kind that many applications have of their own.

Keys, for a queue `mail`:

    listq:queues          set     the names of all queues
    listq:mail:wait       list    ids; added on the left, taken from the right
    listq:mail:busy       list    ids that a worker runs
    listq:mail:done       zset    ids by the time at which they finished
    listq:mail:dead       zset    ids by the time at which they failed
    listq:mail:job:<id>   hash    name, args (JSON), enqueued_at, started_at, finished_at, result (JSON), error, stack
"""

from __future__ import annotations

import json
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import redis


def enqueue(client: redis.Redis, queue: str, name: str, *args: Any) -> str:
    """Add a job; its id."""
    job_id = uuid.uuid4().hex
    with client.pipeline(transaction=True) as pipeline:
        pipeline.sadd("listq:queues", queue)
        job = {"name": name, "args": json.dumps(args), "enqueued_at": time.time()}
        pipeline.hset(f"listq:{queue}:job:{job_id}", mapping=job)
        pipeline.lpush(f"listq:{queue}:wait", job_id)
        pipeline.execute()
    return job_id


def take(client: redis.Redis, queue: str) -> str | None:
    """Move the next job to `busy`; its id, or None if no job is waiting."""
    raw = client.lmove(f"listq:{queue}:wait", f"listq:{queue}:busy", "RIGHT", "LEFT")
    if raw is None:
        return None
    job_id = raw.decode()
    client.hset(f"listq:{queue}:job:{job_id}", "started_at", time.time())
    return job_id


def run_next(client: redis.Redis, queue: str, functions: Mapping[str, Callable[..., Any]]) -> bool:
    """Run the next job and file it under `done` or `dead`; False if no job is waiting."""
    job_id = take(client, queue)
    if job_id is None:
        return False
    key = f"listq:{queue}:job:{job_id}"
    name, args = client.hmget(key, "name", "args")
    try:
        result = functions[name.decode()](*json.loads(args))
        target, outcome = "done", {"result": json.dumps(result)}
    except Exception as exc:
        target, outcome = "dead", {"error": f"{type(exc).__name__}: {exc}", "stack": traceback.format_exc()}
    now = time.time()
    with client.pipeline(transaction=True) as pipeline:
        pipeline.lrem(f"listq:{queue}:busy", 1, job_id)
        pipeline.hset(key, mapping={**outcome, "finished_at": now})
        pipeline.zadd(f"listq:{queue}:{target}", {job_id: now})
        pipeline.execute()
    return True


def counts(client: redis.Redis, queue: str) -> dict[str, int]:
    """How many jobs each list holds."""
    key = f"listq:{queue}"
    return {
        "wait": client.llen(f"{key}:wait"),
        "busy": client.llen(f"{key}:busy"),
        "dead": client.zcard(f"{key}:dead"),
        "done": client.zcard(f"{key}:done"),
    }
