"""A real Sidekiq process of its own, and payloads as Ruby writes them."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Child, child

APP = Path(__file__).parent.parent / "workloads" / "sidekiq" / "app.rb"
QUEUES = ("work", "other")


@contextmanager
def running_sidekiq(url: str, *, concurrency: int = 5, held: bool = False) -> Iterator[Child]:
    """A process that serves QUEUES and polls the sets, ended afterwards. Where a proxy holds it, it does not poll."""
    command = shutil.which("sidekiq")
    if command is None:
        pytest.fail("Ruby with Sidekiq is missing: run the tests with `make test`")
    queues = [part for queue in QUEUES for part in ("-q", queue)]
    arguments = [command, "-r", APP, *queues, "-c", str(concurrency), "-t", "2"]
    environ = {"REDIS_URL": url, **({"HELD": "1"} if held else {})}
    with child(arguments, name="sidekiq", environ=environ, gently=False) as process:
        yield process


@contextmanager
def running_poller(url: str) -> Iterator[Child]:
    """A process of Sidekiq's own poller, which does one round for each line that it is given."""
    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.fail("Ruby with Sidekiq is missing: run the tests with `make test`")
    with child([ruby, APP.with_name("poll.rb"), url], name="sidekiq-poller", pipes=True, gently=False) as process:
        yield process


def payload(name: str = "one", **fields: Any) -> str:
    """A payload of Mark as Ruby writes it; fields with None are left out."""
    job = {
        "class": "Mark",
        "args": [name],
        "retry": True,
        "queue": "work",
        "jid": jid_of(name),
        "created_at": time.time() - 60,
        "enqueued_at": time.time() - 30,
        **fields,
    }
    kept = {field: value for field, value in job.items() if value is not None}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False)


def failed_payload(name: str = "one", **fields: Any) -> str:
    """A payload of a job that has failed for the last time."""
    failure = {"error_message": "no", "error_class": "ArgumentError", "failed_at": time.time(), "retry_count": 24}
    return payload(name, **{**failure, **fields})


def jid_of(name: str) -> str:
    """The id of the job of that name."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:24]
