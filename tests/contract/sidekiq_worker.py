"""A real Sidekiq process of its own, and payloads as Ruby writes them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import child
from tests.waiting import wait_until

APP = Path(__file__).parent.parent / "workloads" / "sidekiq" / "app.rb"
QUEUES = ("work", "other")


@contextmanager
def worker(url: str, *, threads: int = 5, poll_s: float = 0.2) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves QUEUES with so many threads and polls the sets, ended afterwards."""
    command = shutil.which("sidekiq")
    if command is None:
        pytest.fail("Ruby with Sidekiq is missing: run the tests with `make test`")
    queues = [part for queue in QUEUES for part in ("-q", queue)]
    with child(
        [command, "-r", APP, *queues, "-c", str(threads), "-t", "2"],
        name="sidekiq",
        environ={"REDIS_URL": url, "POLL_S": str(poll_s)},
        gently=False,
    ) as started:
        yield started.process


def until(condition: Callable[[], object], what: str = "the process of Sidekiq") -> None:
    """Return when `condition` holds."""
    wait_until(condition, what=what)


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
