"""The origin queue of a job in a dead-letter queue, if the job's data names one. Pure.

No library records it: a failure handler adds a copy to another queue, and usually writes the name of the first one into
its payload. WORDS are the names in common use. The result is only text from the job: before acting on it, check that
such a queue exists.
"""

from __future__ import annotations

import json
import re

from ..model import Job

WORDS = ("original", "origin", "source", "from", "failed")
MAX_NAME = 200
_NAMES = rf"(?:(?:{'|'.join(WORDS)})_?queue(?:_?name)?|queue_?name)"
# As in JSON, and as in the keyword argument of a Python call.
_NOTED = re.compile(
    rf"""["']?\b{_NAMES}["']?\s*[:=]\s*(?:("(?:[^"\\]|\\.){{1,{MAX_NAME}}}")|'([^'\\]{{1,{MAX_NAME}}})')""",
    re.IGNORECASE,
)


def find_origin_queue(job: Job, text: str, queue: str) -> str | None:
    """The name of the queue from which `job` came into the dead-letter queue `queue`; None if nothing names it.

    `text` = its payload in the form used by search. Time: linear in its length.
    """
    # A job that was moved unchanged, by its id, still names the queue to which it belongs.
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
