"""All services of a process for someone with some rights: they share its connections, threads and store."""

from __future__ import annotations

from dataclasses import replace

from ..actions.dead_letter_jobs import DeadLetterJobs
from ..model import Capability
from ..rights.rights import Rights
from ..sampling.live_lists import LiveList
from ..schedules.schedule_watch import list_schedules
from ..search.job_reader import JobReader
from ..services import Services, list_workers
from .snapshots import RestrictedSnapshots
from .sources import restrict_sources


def restrict_services(whole: Services, rights: Rights) -> Services:
    """`whole` for someone with these rights: what may not be seen does not exist, and actions need their right.

    Opens no connection and starts no thread.
    """
    interval_s = whole.settings.sample_interval_s
    snapshots = RestrictedSnapshots(whole.snapshots, rights)
    queues = snapshots.current_queues
    sources = restrict_sources(whole.sources, rights, whole.snapshots.current_refs)
    job_reader = JobReader(sources, queues)
    return replace(
        whole,
        sources=sources,
        snapshots=snapshots,
        job_reader=job_reader,
        workers=LiveList(
            sources, Capability.WORKERS, list_workers, queues, interval_s, seen=job_reader.names.add_workers
        ),
        schedules=LiveList(sources, Capability.SCHEDULES, list_schedules, queues, interval_s),
        dead_letter_jobs=DeadLetterJobs(whole.dead_letter_service, queues, whole.settings.bulk_max_jobs),
        action_service=whole.action_service.with_backends(sources.backend),
        checker=None,
    )
