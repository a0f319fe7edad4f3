"""The Redis user with the fewest rights, as `queuedeck doctor --acl` prints it."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from dashboard.backends.base import Backend
from dashboard.doctor import acl
from dashboard.model import QueueRef

PASSWORD = "of-the-test"


def run_command(client: redis.Redis, line: str) -> None:
    """Run a line as redis-cli would."""
    client.execute_command(*line.replace(">PASSWORD", f">{PASSWORD}").split(" "))


def create_least_user(client: redis.Redis, backend: Backend, refs: Sequence[QueueRef], *, acts: bool = True) -> None:
    """Create the user of the printed lines: it reads everything, and acts on these queues with `acts`."""
    client.acl_log_reset()
    version = acl.parse_version(str(client.info("server")["redis_version"]))
    run_command(client, acl.publishing_line(version))
    listening = acl.subscribe_grants(backend)
    if listening:
        run_command(client, listening)
    if acts:
        run_command(client, acl.acting_line(backend, refs, version))


def as_least_user(url: str) -> str:
    """The address with that user."""
    return url.replace("redis://", f"redis://{acl.NAME}:{PASSWORD}@")
