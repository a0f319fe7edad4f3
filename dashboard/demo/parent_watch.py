"""Makes a child exit with the demo: its standard input is a pipe that closes when the demo exits, for any reason."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

import redis


def end_with_parent(action: Callable[[], object]) -> None:
    """Call `action` in a thread as soon as the process at the other end of our standard input exits."""

    def watch_parent() -> None:
        with contextlib.suppress(OSError):
            # The raw descriptor: a thread inside a buffered read would hold its lock when the interpreter exits.
            while os.read(sys.stdin.fileno(), 1024):
                pass
        action()

    threading.Thread(target=watch_parent, name="guard", daemon=True).start()


def build_exit_action(redis_url: str) -> Callable[[], None]:
    """Return an action that stops the embedded Redis, if the kernel has not done so, and then exits this process."""

    def end_process() -> None:
        with contextlib.suppress(redis.RedisError, OSError), redis.Redis.from_url(redis_url) as client:
            client.shutdown(nosave=True)
        os._exit(0)

    return end_process
