"""Storage: which keys hold the jobs of a queue, for estimates of their memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .base import State


class StoredKey(NamedTuple):
    """A key of a queue. `kind` is its Redis type.

    `state`: that of the jobs in it; None if its members are no jobs. `by_id`: its members are ids of jobs that have
    keys of their own; otherwise they are whole jobs.
    """

    key: bytes
    kind: str
    state: State | None = None
    by_id: bool = False


class QueueStorage(NamedTuple):
    """The keys of a queue: those of the queue itself, and those of each of its jobs.

    `id_of`: the id of a job from its member of a key. `job_keys`: the keys that a job with this id can have.
    `id_pattern`: a pattern of Lua with one group, the id within a whole job; "" if whole jobs are not stored.
    `scattered`: how further keys begin that no key of the queue names, such as results.
    """

    keys: tuple[StoredKey, ...]
    id_of: Callable[[StoredKey, bytes], str]
    job_keys: Callable[[str], tuple[bytes, ...]]
    id_pattern: str = ""
    scattered: tuple[bytes, ...] = ()


def no_job_keys(job_id: str) -> tuple[bytes, ...]:
    """The keys of a job that is stored only as a member: none."""
    del job_id
    return ()


def no_id(stored: StoredKey, member: bytes) -> str:
    """The id of a job whose member is all of it: unknown, see `id_pattern`."""
    del stored, member
    return ""
