"""A job with the values that are masked elsewhere: checked, recorded, then shown once."""

from __future__ import annotations

from dataclasses import dataclass

from ....actions.audit_log import build_event
from ....backends.actions import Outcome
from ....model import Job, QueueStats
from ...access.security import current_actor
from ...context import app_services
from ...rights.revealing import check_may_reveal
from ...views.jobs.masked_parts import masked_parts

ACTION = "reveal"


@dataclass(frozen=True, slots=True)
class RevealedJob:
    """A job as it is stored; `parts`: where values were masked. Without any, nothing was revealed or recorded."""

    job: Job
    parts: tuple[str, ...]


def reveal_job(queue: QueueStats, job_id: str, reason: str | None) -> RevealedJob:
    """The job with its masked values, after the audit log has who saw them. Never cached, never logged.

    Raises RightMissing, NotFound, and BackendUnavailable also if the audit log cannot be written. Cost: twice that of
    Backend.read_job, and 1 round trip.
    """
    check_may_reveal(queue.ref)
    services = app_services()
    masked = services.job_reader.read_job(queue, job_id)
    check_may_reveal(queue.ref, masked)
    parts = masked_parts(masked)
    if not parts:
        return RevealedJob(masked, ())
    job = services.job_reader.reveal_job(queue, job_id)
    check_may_reveal(queue.ref, job)  # it may have moved since
    event = build_event(
        current_actor(),
        ACTION,
        ids=[job_id],
        source=queue.source,
        backend=queue.backend,
        queue=queue.name,
        state=job.state.value if job.state else None,
        outcomes={Outcome.DONE.value: 1},
        reason=reason,
        detail=", ".join(parts),
    )
    services.action_service.audit_log.require_event(event)
    return RevealedJob(job, parts)
