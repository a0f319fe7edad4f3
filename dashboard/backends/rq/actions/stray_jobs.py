"""Jobs that are in none of RQ's lists: a worker removed them from the queue and never started them, or something else
emptied their list. RQ loses track of them. If the worker serves only one queue, they are in `<queue>:intermediate`,
and RQ's maintenance marks them as failed within about ten minutes (rq 3.0, intermediate_queue.py).

A job that a worker is just picking up is also in no list for some milliseconds. While a worker that serves the queue is
alive, a job must therefore be missing in two checks, a minute apart; Queuedeck's own keys record the first one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model import State
from ....sources.source import Reply, Source
from ...actions import ActionResult, JobRef
from ...lua_writes import JobCall
from ..keys import QueueKeys
from . import scripts
from .descriptions import ENDED, STATUSES


def put_back(source: Source, queue: QueueKeys, state: State, job_refs: Sequence[JobRef]) -> list[ActionResult]:
    """Enqueue jobs again, one result each: jobs that were waiting go to the front of the queue, others to the end.

    Cost: 1 round trip.
    """
    replies = _run_script(source, queue, state, "do", job_refs)
    return scripts.stray_results(job_refs, replies)


def check_missing(source: Source, queue: QueueKeys, state: State, job_refs: Sequence[JobRef]) -> list[Reply]:
    """Return `done` for each job that is in no list, `scripts.UNSURE`, or why it is not. Cost: 1 round trip."""
    return _run_script(source, queue, state, "look", job_refs)


def _run_script(source: Source, queue: QueueKeys, state: State, verb: str, job_refs: Sequence[JobRef]) -> list[Reply]:
    calls = [JobCall((queue.job(job_ref.id),), (job_ref.id, job_ref.version or "")) for job_ref in job_refs]
    fixed = (verb, STATUSES[state], "1" if state in ENDED else "")
    return scripts.run_for_each(source, "putback", queue, calls, keys=(queue.queue,), arguments=fixed)
