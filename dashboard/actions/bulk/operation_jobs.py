"""The lists of jobs of bulk operations in Redis: the jobs to process, and where each batch of a delete starts."""

from __future__ import annotations

from collections.abc import Sequence

from ...backends.actions import JobRef
from ...store.packing import pack, unpack
from ...store.redis_store import Store
from . import scripts
from .keys import KEEP_S, batch_starts_key, job_refs_key, lease_key


class OperationJobs:
    """The lists of jobs of the bulk operations of one store, thread-safe. All methods raise BackendUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def clear_job_refs(self, bulk_id: str) -> None:
        """Delete the list of jobs."""
        self._store.source.execute("DEL", job_refs_key(bulk_id))

    def store_job_refs(self, bulk_id: str, holder: str, job_refs: Sequence[tuple[int, JobRef]]) -> bool:
        """Append jobs, each with the number of its list; False if the lease is lost. Cost: 1 round trip per 1,000."""
        for start in range(0, len(job_refs), 1000):
            values = [pack([number, job_ref.id, job_ref.version]) for number, job_ref in job_refs[start : start + 1000]]
            if not self._store.run_script(
                scripts.STORE_JOB_REFS, (job_refs_key(bulk_id), lease_key(bulk_id)), holder, KEEP_S, *values
            ):
                return False
        return True

    def list_batch_starts(self, bulk_id: str) -> list[int]:
        """The number of the first job of each batch of a delete, ascending. Cost: 1 round trip per 5,000."""
        numbers: set[int] = set()
        at, page = 0, 5_000
        while True:
            (found,) = self._store.read_keys(("LRANGE", batch_starts_key(bulk_id), at, at + page - 1))
            found = found or []
            numbers.update(int(raw) for raw in found if raw.isdigit() and len(raw) <= 15)
            if len(found) < page:
                return sorted(numbers)
            at += page

    def list_job_refs(self, bulk_id: str, at: int, count: int) -> list[tuple[int, JobRef]]:
        """At most `count` jobs of the list, from number `at`. Cost: 1 round trip."""
        found = []
        (listed,) = self._store.read_keys(("LRANGE", job_refs_key(bulk_id), at, at + count - 1))
        for raw in listed or ():
            number, job_id, version = unpack(raw, tuple[int, str, str | None]) or (-1, "", None)
            found.append((number, JobRef(id=job_id, version=version)))
        return found
