"""Calls of the scripts that act on jobs: many jobs per script, but few enough not to block Redis; one round trip."""

from __future__ import annotations

from collections.abc import Sequence

from ....clock import EPOCH, instant
from ....sources.source import Argument, Reply, Source
from ...actions import ActionResult, JobRef, refused_result
from ...lua_writes import JobCall, WriteScripts, split_calls
from ..keys import QueueKeys, load_writing_script

# A script for this many jobs takes 1 to 3 ms. Fewer would not shorten the wait of other clients: Redis runs all scripts
# that it receives in one read of 16 KiB before it serves another client. The size of the caller's batch limits that.
JOBS_PER_SCRIPT = 50
BYTES_PER_SCRIPT = 512 * 1024
LOST, LATER = b"lost", b"later"
# Instead of an outcome: the job is in no list, perhaps because a worker is picking it up.
UNSURE = b"unsure"
ASK_AGAIN = "a worker may be picking it up right now; try again in a minute"


WRITES = WriteScripts("RQ", load_writing_script)


def run_for_each(
    source: Source,
    name: str,
    queue: QueueKeys,
    calls: Sequence[JobCall],
    *,
    keys: Sequence[Argument] = (),
    arguments: Sequence[Argument] = (),
    counted: bool = False,
    per_script: int = JOBS_PER_SCRIPT,
) -> list[Reply]:
    """Return the reply of a script for each of `calls`, see `WriteScripts.run_for_each`. Cost: 1 round trip."""
    portions = split_calls(calls, most=per_script, size_bytes=BYTES_PER_SCRIPT)
    own = (*common_arguments(source, queue), *arguments)
    return WRITES.run_for_each(source, name, *portions, keys=keys, arguments=own, counted=counted)


def stray_results(job_refs: Sequence[JobRef], replies: Sequence[Reply]) -> list[ActionResult]:
    """Return the results of an action on jobs in no list, from the replies; UNSURE is refused."""
    return [
        refused_result(job_ref.id, ASK_AGAIN) if reply == UNSURE else WRITES.result_from_reply(job_ref.id, reply)
        for job_ref, reply in zip(job_refs, replies, strict=True)
    ]


def common_arguments(source: Source, queue: QueueKeys) -> tuple[Argument, ...]:
    """Return the ARGV with which every script begins. Time in RQ's format: rq 3.0, utils.py, utcformat."""
    now = instant(source.now_s()) or EPOCH
    return queue.prefix, queue.name, now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), int(now.timestamp())
