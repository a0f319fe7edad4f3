"""A real Sidekiq process of its own, and payloads as Ruby writes them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

APP = Path(__file__).parent.parent / "workloads" / "sidekiq" / "app.rb"
QUEUES = ("work", "other")


@contextmanager
def worker(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves QUEUES and polls the sets, ended afterwards."""
    command = shutil.which("sidekiq")
    if command is None:
        pytest.fail("Ruby with Sidekiq is missing: run the tests with `make test`")
    queues = [part for queue in QUEUES for part in ("-q", queue)]
    with subprocess.Popen(
        [command, "-r", str(APP), *queues, "-c", "5", "-t", "2"],
        env={**os.environ, "REDIS_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Return when `condition` holds; fail when it does not in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def payload(name: str = "one", **fields: Any) -> str:
    """A payload of Mark as Ruby writes it; fields with None are left out."""
    job = {
        "class": "Mark",
        "args": [name],
        "retry": True,
        "queue": "work",
        "jid": jid(name),
        "created_at": time.time() - 60,
        "enqueued_at": time.time() - 30,
        **fields,
    }
    kept = {field: value for field, value in job.items() if value is not None}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False)


def failed(name: str = "one", **fields: Any) -> str:
    """A payload of a job that has failed for the last time."""
    failure = {"error_message": "no", "error_class": "ArgumentError", "failed_at": time.time(), "retry_count": 24}
    return payload(name, **{**failure, **fields})


def jid(name: str) -> str:
    """The id of the job of that name."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:24]
