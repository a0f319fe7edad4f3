"""Output for users and scripts on standard output, whose reader can close it early, as `head -1` does."""

from __future__ import annotations

import os
import select
import sys
from typing import TextIO


def say(text: str) -> None:
    """Print `text` and flush; do nothing if the reader has closed the pipe. For commands whose result is the status."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        if not hush():
            raise


def hush() -> bool:
    """Redirect remaining output to /dev/null, so that printing no longer fails. False if all output is still read."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _is_gone(stream)]
    for stream in gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return bool(gone)


def _is_gone(stream: TextIO | None) -> bool:
    """Whether a stream is a pipe or socket whose reader has closed it."""
    try:
        number = stream.fileno() if stream is not None else -1
    except (OSError, ValueError):  # a stream of a test, or of an app that embeds Queuedeck
        return False
    if number < 0:
        return False
    asked = select.poll()
    asked.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
