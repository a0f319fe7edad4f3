"""A job as the value of a tick box: its id, which may hold any byte, and the stamp under which it was seen."""

from __future__ import annotations

import base64
import binascii

from dashboard.acts.wire import pack, unpack
from dashboard.backends.acting import Pick
from dashboard.errors import Conflict
from dashboard.model import Job


def pick_token(job: Job) -> str:
    """The value of the tick box of a job."""
    return base64.urlsafe_b64encode(pack([job.id, job.stamp])).decode("ascii")


def read_pick(token: str) -> Pick:
    """The job of a tick box. Raises Conflict for a value that is none of ours."""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raw = b""
    parts = unpack(raw, tuple[str, str | None])
    if parts is None:
        raise Conflict("This is no job of a list here.", hint="Reload the page and tick the jobs again.")
    return Pick(id=parts[0], stamp=parts[1])
