"""Who may see the masked values of which jobs."""

from __future__ import annotations

from flask import g

from ...errors import RightMissing
from ...model import Job, QueueRef
from ...restricted.backend import decisive_queue
from ...rights.grants import ALL_QUEUES
from ...rights.right import Right
from ...rights.rights import Rights
from ..context import app_services


def may_reveal(ref: QueueRef, job: Job | None = None) -> bool:
    """Whether the user may see the masked values of the jobs of a queue; with `job`, of this job that was read there.

    An id can find a job of another queue, and a job in a set of all queues: then all of these count. Cost: none.
    """
    rights: Rights | None = g.get("rights")
    if rights is None:
        return False
    queues = {ref.name}
    if job is not None:
        queues.add(job.queue or ALL_QUEUES)
        if rights.is_restricted:
            queues.add(decisive_queue(app_services().sources.backend, ref, job.state))
    return all(rights.may(Right.PAYLOAD, ref.source, ref.backend, queue) for queue in queues)


def check_may_reveal(ref: QueueRef, job: Job | None = None) -> None:
    """Raise RightMissing, which is recorded, unless `may_reveal`."""
    if not may_reveal(ref, job):
        raise RightMissing(
            f"You need the right {Right.PAYLOAD.value!r} on {ref.name} for this.",
            hint="Administrators have it, and those to whom a grant gives it.",
        )
