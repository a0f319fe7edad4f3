"""Where a job in a dead-letter queue came from, as far as its data tells. Pure.

No library keeps that: a handler of failures puts a copy into another queue, and mostly notes in its payload out of
which. The words below are those in use. What is found is only text of the job's: whoever acts on it asks whether there
is such a queue.
"""

from __future__ import annotations

import json
import re

from ..model import Job

WORDS = ("original", "origin", "source", "from", "failed")
MAX_NAME = 200
_NAMES = rf"(?:(?:{'|'.join(WORDS)})_?queue(?:_?name)?|queue_?name)"
# As JSON writes it, and as Python writes an argument of a call.
_NOTED = re.compile(
    rf"""["']?\b{_NAMES}["']?\s*[:=]\s*(?:("(?:[^"\\]|\\.){{1,{MAX_NAME}}}")|'([^'\\]{{1,{MAX_NAME}}})')""",
    re.IGNORECASE,
)


def home_of(job: Job, text: str, queue: str) -> str | None:
    """The name of the queue out of which `job` came into `queue`; None when nothing tells it.

    `text` = of its payload, as a search looks through it. Time: linear in its length.
    """
    # A job that was put there as it was, by its id, still says to which queue it belongs.
    if job.queue and job.queue != queue:
        return job.queue
    for found in _NOTED.finditer(text):
        try:
            name = found[2] or json.loads(found[1])
        except ValueError:
            continue
        if isinstance(name, str) and name != queue:
            return name
    return None
