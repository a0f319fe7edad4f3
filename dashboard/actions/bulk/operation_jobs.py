"""The lists of jobs of bulk operations in Redis: the jobs to process, and where each batch of a delete starts."""

from __future__ import annotations

from collections.abc import Sequence

from ...backends.actions import ActionResult, JobRef, Outcome
from ...store.packing import pack, unpack
from ...store.redis_store import Store
from . import scripts
from .keys import KEEP_S, batch_starts_key, canary_key, job_refs_key, lease_key


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
        (listed,) = self._store.read_keys(("LRANGE", job_refs_key(bulk_id), at, at + count - 1))
        return [_decode_job_ref(raw) for raw in listed or ()]

    def list_canary(self, bulk_id: str, count: int) -> list[tuple[int, JobRef, ActionResult]]:
        """The first `count` jobs of the list, each with the recorded result: `done` if there is none.

        Cost: 1 round trip.
        """
        listed, flat = self._store.read_keys(
            ("LRANGE", job_refs_key(bulk_id), 0, count - 1), ("HGETALL", canary_key(bulk_id))
        )
        results = dict(zip((flat or ())[::2], (flat or ())[1::2], strict=True))
        found = []
        for position, raw in enumerate(listed or ()):
            number, job_ref = _decode_job_ref(raw)
            outcome, new_id = unpack(results.get(b"%d" % position), tuple[Outcome, str | None]) or (Outcome.DONE, None)
            found.append((number, job_ref, ActionResult(id=job_ref.id, outcome=outcome, new_id=new_id)))
        return found


def encode_canary_results(position: int, results: Sequence[ActionResult], repeats_to: int) -> dict[int, bytes]:
    """What `list_canary` needs of the results of the jobs from number `position` on, for `BulkStore.write_progress`.

    A job before number `repeats_to` that is gone or changed counts as done: its batch may have run without a record,
    and then it is this operation that moved the job.
    """
    return {
        number: pack([result.outcome.value, result.new_id])
        for number, result in enumerate(results, position)
        if (result.outcome is not Outcome.DONE or result.new_id is not None)
        and not (number < repeats_to and result.outcome in (Outcome.GONE, Outcome.CHANGED))
    }


def _decode_job_ref(raw: bytes) -> tuple[int, JobRef]:
    number, job_id, version = unpack(raw, tuple[int, str, str | None]) or (-1, "", None)
    return number, JobRef(id=job_id, version=version)
