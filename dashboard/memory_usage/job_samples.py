"""Samples of jobs: which ones are measured, and how much memory each of them takes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from redis.exceptions import NoPermissionError

from ..backends.lua_reads import Scripts, read_scripts
from ..model import QueueStorage, StoredKey
from ..sources.source import Command, Reply
from .limited_reader import LimitedReader

# Fields of a hash whose size is measured: most jobs have fewer, and are measured exactly.
FIELDS = 64
# Indexes in the middle of a long list take Redis the longest: few of them in one batch.
FAR_BATCH = 10
# Bytes of Redis around a member, by the type of its key.
OVERHEAD = {"list": 8, "zset": 90, "hash": 70}
_PACKAGE = __package__.rpartition(".")[0] + ".backends"


class JobSize(NamedTuple):
    """A job of a sample; `job_id` is "" if it is not known."""

    job_id: str
    size_bytes: int


def sample_places(size: int, count: int) -> list[int]:
    """At most `count` random indexes below `size`, in order."""
    return list(range(size)) if size <= count else sorted(random.sample(range(size), count))


def measure_by_id(
    reader: LimitedReader, storage: QueueStorage, stored: StoredKey, size: int, count: int
) -> list[JobSize] | None:
    """`count` random jobs of a key whose members are ids; None if the budget did not suffice.

    A job whose keys are all missing has a size of 0. Raises the errors of `LimitedReader.read`.
    """
    word = "LRANGE" if stored.kind == "list" else "ZRANGE"
    members = reader.read([(word, stored.key, at, at) for at in sample_places(size, count)], FAR_BATCH)
    found = [storage.id_of(stored, reply[0]) for reply in members if isinstance(reply, list) and reply]
    ids = [job_id for job_id in found if job_id]
    keys = [storage.job_keys(job_id) for job_id in ids]
    commands: list[Command] = [("MEMORY", "USAGE", key, "SAMPLES", FIELDS) for each in keys for key in each]
    replies = iter(reader.read(commands))
    sizes = [
        JobSize(job_id, sum(_bytes_of(next(replies)) for _ in each)) for job_id, each in zip(ids, keys, strict=True)
    ]
    return None if reader.is_spent else sizes


def measure_whole_jobs(
    reader: LimitedReader, scripts: Scripts, storage: QueueStorage, stored: StoredKey, size: int, count: int
) -> list[JobSize] | None:
    """`count` random jobs of a key whose members are whole jobs, with what Redis needs around them.

    None if the budget did not suffice or scripts are not permitted. Raises the errors of `LimitedReader.read`.
    """
    if scripts.are_refused:
        return None
    places = sample_places(size, count)
    calls: list[Sequence[int]] = (
        [(len(places),)]
        if stored.kind == "hash"
        else [places[start : start + FAR_BATCH] for start in range(0, len(places), FAR_BATCH)]
    )
    script = read_scripts(_PACKAGE, "member_sizes")
    found: list[JobSize] = []
    for call in calls:
        if reader.is_spent:
            return None
        reader.commands += 1
        answered = scripts.run(script, [(stored.key, stored.kind, storage.id_pattern, *call)])
        if answered is None or isinstance(answered[0][0], NoPermissionError):
            return None
        found += _job_sizes(answered[0][0], OVERHEAD.get(stored.kind, 0))
    return found


def _job_sizes(reply: Reply, overhead: int) -> list[JobSize]:
    if not isinstance(reply, list):
        return []
    pairs = zip(reply[::2], reply[1::2], strict=True)
    return [JobSize(job_id.decode("utf-8", "surrogateescape"), length + overhead) for length, job_id in pairs]


def _bytes_of(reply: Reply) -> int:
    return reply if isinstance(reply, int) else 0
