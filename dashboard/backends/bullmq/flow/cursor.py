"""What is remembered of each queue between two samples."""

from __future__ import annotations

import math
from typing import NamedTuple

from ....model import State
from ...completion_balance import BALANCED, CompletionBalance

ENDS = (State.COMPLETED, State.DEAD)
NOTHING_GONE = (False, False)


class JobName(NamedTuple):
    """The name of a job that has not finished, and when it was added, if it could start then."""

    name: bytes
    added_ms: int | None


class EventCursor(NamedTuple):
    """What is remembered of one queue until the next sample; pairs are in the order of ENDS."""

    last_id: bytes  # of the events stream; b"" when it was empty
    at_ms: int  # the server's clock
    started: dict[bytes, int]  # job id -> ms
    gone: tuple[bool, bool] = (False, False)  # whether completed jobs are removed immediately, and failed ones
    balance: CompletionBalance = BALANCED  # of finished jobs, if there are no events
    left: int | None = None  # jobs ever added, less those that have not finished
    listed: int = 0  # finished jobs that were retained at that time
    unsplit_at: float = -math.inf  # seconds; when the number of failed among finished jobs was last unknown
    unknown_at: float = -math.inf  # and the number of finished jobs
    # When a completed job was last removed immediately, and a failed one.
    gone_at: tuple[float, float] = (-math.inf, -math.inf)
    # Of jobs that have not finished, by id; None while finished jobs stay, and so do their names.
    names: dict[bytes, JobName] | None = None
