"""The scripts that change Sidekiq's jobs: how many jobs each call gets, and what their replies mean."""

from __future__ import annotations

from collections.abc import Sequence

from ....sources.source import Argument, Reply, Source
from ...actions import ActionResult
from ...lua_writes import JobCall, WriteScripts, split_calls
from ..keys import load_writing_script

# Many jobs per script, but few enough that no script blocks Redis for long.
JOBS_PER_SCRIPT, BYTES_PER_SCRIPT = 100, 256 * 1024
CHANGED = "the job changed or moved; refresh and retry"

WRITES = WriteScripts("Sidekiq", load_writing_script)


def run_for_each(
    source: Source,
    name: str,
    keys: Sequence[Argument],
    arguments: Sequence[Argument],
    calls: Sequence[JobCall],
    *,
    counted: bool = False,
) -> list[Reply]:
    """Return the reply of a script for each of `calls`, see `WriteScripts.run_for_each`. Cost: 1 round trip."""
    portions = split_calls(calls, most=JOBS_PER_SCRIPT, size_bytes=BYTES_PER_SCRIPT)
    return WRITES.run_for_each(source, name, *portions, keys=keys, arguments=arguments, counted=counted)


def result_from_reply(job_id: str, reply: Reply, new_id: str | None = None) -> ActionResult:
    """Return the result of one job."""
    return WRITES.result_from_reply(job_id, reply, new_id=new_id, changed=CHANGED)
