"""Jobs read live for pages and API: a page of a list, one job, a search, recent runs by job class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from ..backends.monitored_sources import MonitoredSources
from ..backends.unreadable_data import data_errors_foreseen
from ..errors import QueuedeckError
from ..model import Capability, ClassBoard, Job, JobLink, JobPage, JobQuery, QueueStats
from ..redact import masks_lifted
from ..store.cache import SingleFlightCache
from .job_search import SearchResult, search_jobs
from .name_suggestions import NameSuggestions
from .query import SearchQuery

# The interval at which Sidekiq aggregates them.
CLASSES_KEPT_S = 10.0


class JobReader:
    """Reads the jobs of one process, and remembers their names as suggestions for the search box. Thread-safe."""

    def __init__(self, sources: MonitoredSources, current_queues: Callable[[], Sequence[QueueStats]]) -> None:
        self.names = NameSuggestions()
        self._sources = sources
        self._current_queues = current_queues
        self._classes: SingleFlightCache[ClassBoard | None] = SingleFlightCache(CLASSES_KEPT_S, stale_s=CLASSES_KEPT_S)

    def list_jobs(self, queue: QueueStats, query: JobQuery) -> JobPage:
        """One page of a list. Raises as Backend.list_jobs."""
        with data_errors_foreseen(f"The {query.state.value} jobs of {queue.name!r}"):
            page = self._sources.backend(queue.source, queue.backend).list_jobs(queue.ref, query)
        self.names.add_jobs(page.jobs)
        return page

    def read_job(self, queue: QueueStats, job_id: str) -> Job:
        """One job, with links to queues that are watched here. Raises NotFound, BackendUnavailable."""
        return with_addresses(self._read_job(queue, job_id), self._current_queues())

    def reveal_job(self, queue: QueueStats, job_id: str) -> Job:
        """As read_job, with the values that are masked there: only for someone who may see them. Raises as read_job."""
        with masks_lifted():  # not around the queues, which this thread may have to sample for all users
            job = self._read_job(queue, job_id)
        return with_addresses(job, self._current_queues())

    def _read_job(self, queue: QueueStats, job_id: str) -> Job:
        with data_errors_foreseen(f"Job {job_id[:200]!r} of {queue.name!r}"):
            return self._sources.backend(queue.source, queue.backend).read_job(queue.ref, job_id)

    def search_jobs(self, query: SearchQuery, queues: Sequence[QueueStats], cursor: str | None) -> SearchResult:
        """Search the lists of `queues` for jobs, within the limits of a search."""
        return search_jobs(
            query, queues, lambda queue: self._sources.backend(queue.source, queue.backend), cursor, self.names.add_jobs
        )

    def class_stats(self, queue: QueueStats) -> ClassBoard | None:
        """Recent runs by job class of a queue's library, at most CLASSES_KEPT_S old. Never raises.

        Cost: at most 2 round trips, for all viewers of this process and all queues of a library and prefix.
        """
        backend = self._sources.backend(queue.source, queue.backend)
        if Capability.CLASSES not in backend.capabilities:
            return None

        def read_stats() -> ClassBoard | None:
            try:
                return backend.read_class_stats(queue.ref)
            except QueuedeckError:
                return None

        return self._classes.get((queue.source, queue.backend, queue.prefix), read_stats)


def with_addresses(job: Job, queues: Sequence[QueueStats]) -> Job:
    """`job` with each link to a parent or child under the name that its queue has here, or without an address.

    A backend knows the key of a linked queue, but not whether its name includes the prefix here, as it does when two
    queues have the same name.
    """
    if job.parent is None and not job.children:
        return job
    names = {(queue.source, queue.backend, queue.key): queue.ref for queue in queues}

    def found(link: JobLink) -> JobLink:
        if link.ref is None:
            return link
        ref = names.get((link.ref.source, link.ref.backend, link.ref.key))
        # An id can contain colons: then the key of the queue is shorter than the part that was read as the key.
        key, job_id = link.ref.key, link.id
        while ref is None and ":" in key:
            key, _, head = key.rpartition(":")
            job_id = f"{head}:{job_id}"
            ref = names.get((link.ref.source, link.ref.backend, key))
        if ref is None:
            return replace(link, ref=None)
        return replace(link, ref=ref, queue=ref.name, id=job_id)

    return replace(
        job, parent=found(job.parent) if job.parent else None, children=tuple(found(child) for child in job.children)
    )
