"""The keys of bulk operations: names, types and lifetimes."""

from __future__ import annotations

from ...store.redis_store import PREFIX

ALL = f"{PREFIX}:bulks"  # sorted set: id -> created, seconds since 1970; at most MAX_OPERATIONS, plus unfinished ones
OPEN = f"{PREFIX}:bulks:open"  # set of ids of unfinished operations; at most MAX_OPEN
KEEP_S = 7 * 86_400
LEASE_MS = 10_000


def record_key(bulk_id: str) -> str:
    """The key of the record of an operation."""
    return f"{PREFIX}:bulk:{bulk_id}"  # hash, about 1 kB, expires KEEP_S after the last write


def lease_key(bulk_id: str) -> str:
    """The key of the lease of the process that runs an operation."""
    return f"{PREFIX}:bulk:{bulk_id}:lease"  # string, expires after LEASE_MS


def batch_starts_key(bulk_id: str) -> str:
    """The key of the numbers of the first job of each batch of a delete."""
    return f"{PREFIX}:bulk:{bulk_id}:rounds"  # list of numbers, one per batch of a delete; expires with the record


def canary_key(bulk_id: str) -> str:
    """The key of the results of a canary that cannot be seen at its jobs: of those that were skipped, or copied."""
    # hash: number of the job -> about 50 bytes, at most as many as the canary has jobs; expires with the record
    return f"{PREFIX}:bulk:{bulk_id}:canary"


def undo_key(name: str) -> str:
    """The key of the undo of an operation, or of a batch in the trash."""
    return f"{PREFIX}:bulk:{name}:undo"  # string: the id of its last undo, expires after KEEP_S


def job_refs_key(bulk_id: str) -> str:
    """The key of the list of jobs of an operation."""
    # list, about 60 bytes per job, at most bulk_max_jobs; expires with the record
    return f"{PREFIX}:bulk:{bulk_id}:picks"
