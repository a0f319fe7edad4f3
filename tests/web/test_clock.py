"""A dashboard on a host whose clock is an hour off, beside workers and a checker whose clocks are right."""

from __future__ import annotations

import base64
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
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


@pytest.fixture
def busy(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[dict[str, tuple[str, str]]]:
    """A worker of each library, and (queue, id) of a job of each that is due in ten minutes."""
    with ExitStack() as stack:
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

        stack.enter_context(sidekiq_worker.worker(server.url))
        payload = sidekiq_worker.payload("one", queue="work")
        redis_client.sadd("queues", "work")
        redis_client.zadd("schedule", {payload: time.time() + SOON_S})
        wait_until(lambda: redis_client.scard("processes"), what="Sidekiq's process")
        yield {
            "rq": ("mail", late.id),
            "bullmq": ("video", "soon"),
            "celery": ("alpha", eta),
            "sidekiq": ("work", sidekiq_worker.jid("one")),
        }


@pytest.fixture
def config(server: EmbeddedRedis, tmp_path: Path) -> Path:
    file = tmp_path / "queuedeck.toml"
    file.write_text(f'redis_url = "{server.url}"\nsample_interval_s = 0.5\nchecker = "off"\n')
    return file


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S])
def test_living_workers_live_and_no_job_is_older_than_it_is(
    busy: dict[str, tuple[str, str]], config: Path, tmp_path: Path, off_s: int
) -> None:
    clock = tmp_path / "clock"
    clock.write_text(str(off_s))
    sampling = tmp_path / "sampling.toml"
    sampling.write_text(config.read_text().replace('checker = "off"', 'checker = "auto"'))
    began = time.time()
    stepped = ["-m", "tests.alerts.stepped", str(clock), "serve", "--config", str(config), "--port", "0"]
    with serving("--config", sampling), running(stepped) as served:
        url = served.url

        def workers() -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = get_json(f"{url}/api/v1/workers")["workers"]
            return rows if {row["backend"] for row in rows if row["state"] != "unknown"} >= LIBRARIES else []

        rows = wait_until(workers, what="a worker of each library")
        # The one of BullMQ is a connection that asks for nothing.
        assert {row["backend"] for row in rows if row["state"] in ("idle", "quiet")} == LIBRARIES
        assert not [row for row in rows if row["state"] in ("suspect", "dead")]
        times = [row[part] for row in rows for part in ("started_at", "heartbeat_at") if row[part]]
        assert all(abs(datetime.fromisoformat(at).timestamp() - began) < 300 for at in times)
        assert {row["backend"] for row in rows if row["started_at"]} >= {"rq", "bullmq", "sidekiq"}
        for library, (queue, job) in busy.items():
            there = f"{url}/queues/main/{library}/{_queue(url, library, queue)}/jobs/{quote(job)}"
            with urllib.request.urlopen(there, timeout=10) as page:
                shown = page.read().decode()
            assert "It is due in 9" in shown or "in 10" in shown, library
            assert "-1\u202fh" not in shown


def _queue(url: str, library: str, name: str) -> str:
    rows = get_json(f"{url}/api/v1/queues?backend={library}")["queues"]
    names = [row["name"] for row in rows]
    return quote(name if library != "sidekiq" else next(each for each in names if each != name), safe="")
