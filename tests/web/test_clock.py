"""A dashboard on a host whose clock is an hour off, beside workers and a checker whose clocks are right."""

from __future__ import annotations

import base64
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from rq import Queue
from rq.worker import Worker

from dashboard.demo.embedded import EmbeddedRedis
from tests.contract import sidekiq_worker
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.celery_live import Shop
from tests.serving import get_json, running, serving
from tests.waiting import CEILING_S, wait_until

HOUR_S = 3600
SOON_S = 600
LIBRARIES = {"bullmq", "celery", "rq", "sidekiq"}


@dataclass
class Busy:
    """`jobs` = (queue, id) of a job of each library, added between two times of Redis and due SOON_S later."""

    jobs: dict[str, tuple[str, str]]
    added_from_s: float
    added_to_s: float


@pytest.fixture
def busy(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Busy]:
    """A worker of each library, and a job of each that is due later."""
    with ExitStack() as stack:
        added_from_s = redis_time_s(redis_client)
        queue = Queue("mail", connection=redis_client)
        late = queue.enqueue_in(timedelta(seconds=SOON_S), "os.getpid")
        worker = Worker([queue], connection=redis_client)
        worker.register_birth()
        worker.set_state("idle")

        bull = BullMQLibrary()
        added = bull.drive("add", server.url, "video", opts={"delay": SOON_S * 1000, "jobId": "soon"})
        assert added
        waits = stack.enter_context(redis.Redis.from_url(server.url))
        name = base64.b64encode(b"video").decode()
        waits.client_setname(f"bull:{name}")

        shop = Shop(server.url)
        stack.callback(shop.close)
        stack.enter_context(shop.worker("alpha"))
        eta = shop.send("a", queue="alpha", countdown=SOON_S)

        stack.enter_context(sidekiq_worker.running_sidekiq(server.url))
        payload = sidekiq_worker.payload("one", queue="work")
        redis_client.sadd("queues", "work")
        redis_client.zadd("schedule", {payload: time.time() + SOON_S})
        wait_until(lambda: redis_client.scard("processes"), what="Sidekiq's process")
        jobs = {
            "rq": ("mail", late.id),
            "bullmq": ("video", "soon"),
            "celery": ("alpha", eta),
            "sidekiq": ("work", sidekiq_worker.jid_of("one")),
        }
        yield Busy(jobs, added_from_s, redis_time_s(redis_client))


def redis_time_s(client: redis.Redis) -> float:
    """The clock of Redis, in seconds since 1970."""
    seconds, micros = client.time()
    return float(seconds + micros / 1e6)


@pytest.fixture
def config(server: EmbeddedRedis, tmp_path: Path) -> Path:
    file = tmp_path / "queuedeck.toml"
    file.write_text(f'redis_url = "{server.url}"\nsample_interval_s = 0.5\nchecker = "off"\n')
    return file


def test_skewed_clocks_change_neither_worker_states_nor_ages(
    busy: Busy, config: Path, tmp_path: Path, redis_client: redis.Redis
) -> None:
    sampling = tmp_path / "sampling.toml"
    sampling.write_text(config.read_text().replace('checker = "off"', 'checker = "auto"'))
    with ExitStack() as stack:
        stack.enter_context(serving("--config", sampling))
        for off_s in (HOUR_S, -HOUR_S):
            clock = tmp_path / f"clock{off_s}"
            clock.write_text(str(off_s))
            command = ["-m", "tests.alerts.step_clock", clock, "serve", "--config", config, "--port", "0"]
            url = stack.enter_context(running(command)).url
            check_workers(url, busy)
            for library, (queue, job) in busy.jobs.items():
                check_due(
                    f"{url}/queues/main/{library}/{_queue(url, library, queue)}/jobs/{quote(job)}", busy, redis_client
                )


def check_workers(url: str, busy: Busy) -> None:
    """There is a worker of each library, none seems dead, and their times are those of the right clock."""

    def workers() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = get_json(f"{url}/api/v1/workers")["workers"]
        return rows if {row["backend"] for row in rows if row["state"] != "unknown"} >= LIBRARIES else []

    rows = wait_until(workers, what="a worker of each library")
    # The one of BullMQ is a connection that asks for nothing.
    assert {row["backend"] for row in rows if row["state"] in ("idle", "quiet")} == LIBRARIES
    assert not [row for row in rows if row["state"] in ("suspect", "dead")]
    times = [row[part] for row in rows for part in ("started_at", "heartbeat_at") if row[part]]
    began_s = busy.added_from_s
    assert all(abs(datetime.fromisoformat(at).timestamp() - began_s) < HOUR_S / 2 for at in times)
    assert {row["backend"] for row in rows if row["started_at"]} >= {"rq", "bullmq", "sidekiq"}


def check_due(url: str, busy: Busy, client: redis.Redis) -> None:
    """The page of a job says in how long it is due, by the clock of Redis."""
    before_s = redis_time_s(client)
    with urllib.request.urlopen(url, timeout=CEILING_S) as page:
        shown = page.read().decode()
    after_s = redis_time_s(client)
    told = re.search(r"It (?:is due in|is not to start for) (\d+)\sm(?: (\d+)\ss)?\.", shown)
    assert told, url
    left_s = int(told[1]) * 60 + int(told[2] or 0)
    # Rounded, and a job may be written a moment after its time was chosen.
    assert busy.added_from_s + SOON_S - after_s - 2 <= left_s <= busy.added_to_s + SOON_S - before_s + 2, url
    assert not re.search(r"-1\sh", shown)


def _queue(url: str, library: str, name: str) -> str:
    rows = get_json(f"{url}/api/v1/queues?backend={library}")["queues"]
    names = [row["name"] for row in rows]
    return quote(name if library != "sidekiq" else next(each for each in names if each != name), safe="")
