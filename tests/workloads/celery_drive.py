"""Drives a real Celery from the tests: `python -m tests.workloads.celery_drive COMMAND URL [QUEUE GOOD BAD]`.

Answers one line of JSON. Celery imports this module as `celery_drive` from its folder, too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.__main__ import main
from celery.exceptions import Ignore
from redis import Redis

URL = os.environ.get("CELERY_DRIVE_URL") or sys.argv[2]
app = Celery("celery_drive", broker=URL, backend=os.environ.get("CELERY_DRIVE_RESULTS", URL))
app.conf.update(
    result_extended=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=20,
    broker_transport_options=json.loads(os.environ.get("CELERY_DRIVE_OPTIONS", "{}")),
    result_backend_transport_options=json.loads(os.environ.get("CELERY_DRIVE_OPTIONS", "{}")),
)
app.conf.update(json.loads(os.environ.get("CELERY_DRIVE_CONF", "{}")))


@app.task(name="shop.send")
def send(to: str, fail: bool = False) -> dict[str, str]:
    if fail:
        raise ValueError(f"cannot send to {to}")
    return {"sent": to}


@app.task(name="shop.again", bind=True, max_retries=5)
def again(self: Any) -> None:
    raise self.retry(countdown=3600, exc=RuntimeError("not yet"))


@app.task(name="shop.hold", acks_late=True, track_started=True)
def hold() -> None:
    time.sleep(600)


@app.task(name="shop.mark", bind=True)
def mark(self: Any, key: str, *rest: Any, **named: Any) -> str:
    """Notes that it ran under `key`, and what it was given; fails as long as there is a key `broken`."""
    client = app.backend.client
    client.hset("given", key, json.dumps([rest, named]))
    if client.exists("broken"):
        client.hincrby("failed", key, 1)
        raise ValueError(f"cannot mark {key}")
    client.hincrby("ran", key, 1)
    return str(self.request.id)


@app.task(name="shop.take")
def take(ms: float, fail: bool) -> None:
    """Takes so long, and adds when it ended, whether it failed, and its seconds, to the list `ended`."""
    began = time.perf_counter()
    time.sleep(ms / 1000)
    took_s = time.perf_counter() - began
    Redis.from_url(URL).rpush("ended", json.dumps([time.time(), int(fail), took_s]))
    if fail:
        raise ValueError("no such template")


@app.task(name="shop.refuse", bind=True)
def refuse(self: Any) -> None:
    """Says itself that it failed, and why."""
    self.update_state(state="FAILURE", meta={"reason": "card refused", "password": "opensesame"})
    raise Ignore


@app.task(name="shop.long")
def long(size: int) -> str:
    return "x" * size


@app.task(name="shop.busy", acks_late=True)
def busy(key: str) -> None:
    """Notes that it began, and runs for long."""
    app.backend.client.hset("began", key, os.getpid())
    time.sleep(600)


def worker(queues: str) -> int:
    """The process id of a worker of its own process group: a fork, which has imported Celery already."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.chdir(Path(__file__).parent)
    os.environ["CELERY_DRIVE_URL"] = URL
    arguments = ["-A", "celery_drive", "worker", "-P", "threads", "-c", "2"]
    sys.argv = ["celery", *arguments, "-Q", queues, "-l", "CRITICAL", "--without-gossip", "--without-mingle"]
    try:
        main()
    finally:
        os._exit(0)


def wait_until(condition: Any) -> None:
    """Returns as soon as `condition` answers something true."""
    deadline = time.monotonic() + 90
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def add(queue: str, **options: Any) -> str:
    return str(send.apply_async(("anna@example.com",), {"fail": options.pop("fail", False)}, queue=queue, **options).id)


def fill() -> dict[str, Any]:
    """Jobs of all states; the worker is killed in the end, so that what it took stays taken."""
    redis = app.backend.client
    running = worker("alpha,beta")
    completed = [add("alpha") for _ in range(3)]
    dead = [add("alpha", fail=True), add("beta", fail=True)]
    eta = [add("alpha", countdown=3600), add("alpha", countdown=7200)]
    canceled = [add("beta", expires=-5)]
    retry = [str(again.apply_async(queue="alpha").id)]
    held = [str(hold.apply_async(queue="alpha").id)]
    for task in (*completed, *dead, *canceled):
        wait_until(lambda task=task: app.AsyncResult(task).state in ("SUCCESS", "FAILURE", "REVOKED"))
    wait_until(lambda: app.AsyncResult(retry[0]).state == "RETRY")
    wait_until(lambda: app.AsyncResult(held[0]).state == "STARTED")
    # Last, because the message of the first attempt counts too until it is acknowledged; a worker killed between
    # BRPOP and HSET loses the message of the retry.
    wait_until(lambda: redis.hlen("unacked") == len(eta) + len(retry) + len(held))
    os.killpg(running, signal.SIGKILL)
    os.waitpid(running, 0)
    # A message sent before the server has seen the end of a worker's BRPOP would go to the dead.
    wait_until(lambda: redis.info("clients")["blocked_clients"] == 0)
    waiting = {"alpha": [add("alpha") for _ in range(5)], "beta": [add("beta", priority=n) for n in (0, 9)]}
    ids: dict[str, Any] = {name: {"waiting": found} for name, found in waiting.items()}
    ids["*"] = {"active": held, "scheduled": eta, "retrying": retry}
    ids["*"] |= {"dead": dead, "completed": completed, "canceled": canceled}
    return {"ids": ids, "counts": {}}


def counts(queue: str) -> dict[str, int]:
    """What kombu counts in a queue."""
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        return {"queued": sum(channel.client.llen(channel._q_for_pri(queue, step)) for step in channel.priority_steps)}


def run(queue: str, good: int, bad: int) -> dict[str, int]:
    running = worker(queue)
    tasks = [add(queue) for _ in range(good)] + [add(queue, fail=True) for _ in range(bad)]
    for task in tasks:
        wait_until(lambda task=task: app.AsyncResult(task).state in ("SUCCESS", "FAILURE"))
    os.kill(running, signal.SIGTERM)
    os.waitpid(running, 0)
    return {"ended": len(tasks)}


if __name__ == "__main__":
    command, _, *rest = sys.argv[1:]
    if command == "run":
        answer: Any = run(rest[0], int(rest[1]), int(rest[2]))
    else:
        answer = fill() if command == "fill" else counts(rest[0])
    print(json.dumps(answer))
