"""A child of the demo ends with it: its standard input is a pipe that closes when the demo is gone, however it went."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

import redis


def end_with_parent(action: Callable[[], object]) -> None:
    """Have `action` called, in a thread, as soon as the process that holds the other end of our input is gone."""

    def watch_parent() -> None:
        with contextlib.suppress(OSError):
            # The raw descriptor: a thread inside a buffered read would hold its lock when the interpreter ends.
            while os.read(sys.stdin.fileno(), 1024):
                pass
        action()

    threading.Thread(target=watch_parent, name="guard", daemon=True).start()


def build_exit_action(redis_url: str) -> Callable[[], None]:
    """An action that ends the embedded Redis, where the kernel did not do it for us, and then this process."""

    def end_process() -> None:
        with contextlib.suppress(redis.RedisError, OSError), redis.Redis.from_url(redis_url) as client:
            client.shutdown(nosave=True)
        os._exit(0)

    return end_process
