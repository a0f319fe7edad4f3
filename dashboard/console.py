"""Lines for people and scripts on standard output, whose reader may go away, as `head -1` does."""

from __future__ import annotations

import os
import select
import sys
from typing import TextIO


def say(text: str) -> None:
    """Print `text` at once; nothing where nobody reads any more. For commands whose exit status is the answer."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        if not hush():
            raise


def hush() -> bool:
    """Have what is still printed go nowhere, so that no later word of it fails; False when somebody reads all of it."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _is_gone(stream)]
    for stream in gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return bool(gone)


def _is_gone(stream: TextIO | None) -> bool:
    """Whether a stream leads into a pipe or socket that nobody reads."""
    try:
        number = stream.fileno() if stream is not None else -1
    except (OSError, ValueError):  # of a test or of an app that embeds us
        return False
    if number < 0:
        return False
    asked = select.poll()
    asked.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
