"""Jobs that stand in none of RQ's lists: taken out of the line by a worker that never started them, or of lists that
something else emptied. RQ forgets those; of a worker that serves one queue alone they stand in `<queue>:intermediate`,
from where its maintenance fails them (rq 3.0, intermediate_queue.py), within some ten minutes.

A worker that is just taking a job has it in no list for some milliseconds, too. Where one that serves the queue lives,
a job must therefore be missing at two looks, a minute apart; the first is noted among our own keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model import State
from ....sources.source import Reply, Source
from ...actions import ActionResult, JobRef
from ..keys import QueueKeys
from . import scripts
from .descriptions import ENDED, STATUSES
from .scripts import JobCall


def put_back(source: Source, queue: QueueKeys, state: State, picks: Sequence[JobRef]) -> list[ActionResult]:
    """What came of putting jobs back in line, one Acted each: those that waited go to its front, others to its end.

    Cost: 1 round trip.
    """
    replies = _run_script(source, queue, state, "do", picks)
    return [scripts.result_from_reply(pick.id, reply) for pick, reply in zip(picks, replies, strict=True)]


def check_missing(source: Source, queue: QueueKeys, state: State, picks: Sequence[JobRef]) -> list[Reply]:
    """`done` for each job that stands in no list, else why not. Cost: 1 round trip."""
    return _run_script(source, queue, state, "look", picks)


def _run_script(source: Source, queue: QueueKeys, state: State, verb: str, picks: Sequence[JobRef]) -> list[Reply]:
    steps = [JobCall((queue.job(pick.id),), (pick.id, pick.stamp or "")) for pick in picks]
    fixed = (verb, STATUSES[state], "1" if state in ENDED else "")
    return scripts.run_for_each(source, "putback", queue, steps, first_keys=(queue.queue,), fixed=fixed)
