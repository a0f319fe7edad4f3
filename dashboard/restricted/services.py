"""All services of a process for someone with some rights: they share its connections, threads and store."""

from __future__ import annotations

from dataclasses import replace

from ..actions.dead_letter_jobs import DeadLetterJobs
from ..actions.trash import DeletedBatch
from ..marks.mark_reader import MarkReader
from ..model import Capability
from ..rights.rights import Rights
from ..sampling.live_lists import LiveList
from ..schedules.schedule_watch import list_schedules
from ..search.job_reader import JobReader
from ..services import Services, list_workers
from ..slos.slo_store import SloReader
from .alerts import restrict_alerts
from .backend import decisive_queue
from .bulk import RestrictedBulk
from .dead_letters import RestrictedDeadLetters
from .history import RestrictedHistory
from .snapshots import RestrictedSnapshots
from .sources import restrict_sources


def restrict_services(whole: Services, rights: Rights) -> Services:
    """`whole` for someone with these rights: what may not be seen does not exist, and actions need their right.

    Opens no connection and starts no thread.
    """
    interval_s = whole.settings.sample_interval_s
    snapshots = RestrictedSnapshots(whole.snapshots, rights)
    queues = snapshots.current_queues
    sources = restrict_sources(whole.sources, rights, whole.snapshots.current_queues)
    job_reader = JobReader(sources, queues)
    dead_letters = RestrictedDeadLetters(whole.dead_letter_service, rights, sources.backend, queues)

    def sees(about: DeletedBatch) -> bool:
        ref = about.ref
        name = ref.name if about.schedule is not None else decisive_queue(sources.backend, ref, about.state)
        return rights.sees(ref.source, ref.backend, name or None)

    return replace(
        whole,
        sources=sources,
        snapshots=snapshots,
        job_reader=job_reader,
        workers=LiveList(
            sources, Capability.WORKERS, list_workers, queues, interval_s, seen=job_reader.names.add_workers
        ),
        schedules=LiveList(sources, Capability.SCHEDULES, list_schedules, queues, interval_s),
        dead_letter_service=dead_letters,
        dead_letter_jobs=DeadLetterJobs(dead_letters, queues, whole.settings.bulk_max_jobs),
        trash_listing=whole.trash_listing.restricted_to(sees),
        bulk_store=RestrictedBulk(whole.bulk_store, rights, sources.backend, dead_letters.lists_of),
        history=RestrictedHistory(whole.store, rights),
        marks=MarkReader(whole.marks.mark_store, sources, queues),
        slos=whole.slos if rights.sees_all else SloReader((), whole.store),
        alert_service=restrict_alerts(whole.alert_service, rights, queues),
        action_service=whole.action_service.restricted_to(
            sources.backend, whole.action_service.trash.restricted_to(sees)
        ),
    )
