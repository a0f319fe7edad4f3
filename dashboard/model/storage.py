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

    `id_of`: the id of a job from its member of a key, "" for a member that is no job. `job_keys`: the keys that a job
    with this id can have.
    `id_pattern`: a pattern of Lua with one group, the id within a whole job; "" if whole jobs are not stored.
    `scattered`: how further keys begin that no key of the queue names, such as results. `private`: how the keys begin
    in which workers keep the jobs that they have fetched; each contains `<host>:<pid>:` of its worker.

    The hash of a job has the key `job_prefix` and its id, unless that is one of `not_ids`. If several queues share the
    prefix, the field `owner_field` of the hash has the `owner`.
    """

    keys: tuple[StoredKey, ...]
    id_of: Callable[[StoredKey, bytes], str]
    job_keys: Callable[[str], tuple[bytes, ...]]
    id_pattern: str = ""
    scattered: tuple[bytes, ...] = ()
    private: tuple[bytes, ...] = ()
    job_prefix: bytes | None = None
    not_ids: frozenset[str] = frozenset()
    owner_field: str = ""
    owner: bytes = b""


def no_job_keys(job_id: str) -> tuple[bytes, ...]:
    """The keys of a job that is stored only as a member: none."""
    del job_id
    return ()


def no_id(stored: StoredKey, member: bytes) -> str:
    """The id of a job whose member is all of it: unknown, see `id_pattern`."""
    del stored, member
    return ""
