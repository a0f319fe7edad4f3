"""Actions on RQ jobs, without RQ's own code, which unpickles what it loads.

The scripts in `lua/` do what `Registry.requeue`, `Job.cancel` and `Queue.enqueue_job` of rq 3.0 do. Each job changes in
one step, and only if it is unchanged since it was seen; `data` and `meta` are never read. Layout: rq 1.16 to 3.0.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence

from ....model import State
from ....sources.source import Argument, Reply, Source
from ...actions import Action, ActionOptions, ActionResult, JobRef, refused_result
from ...list_positions import ListPosition, ListPositions, locate_jobs
from ...lua_writes import JobCall
from .. import keys
from ..keys import QueueKeys
from . import scripts
from .descriptions import ENDED, STATUSES

LARGEST_COPY_BYTES = 4 * 1024 * 1024
LONGEST_NAME = 200
# How often a job is searched for in a queue that moves.
LOOKS = 3
NOWHERE = ListPosition(-1, b"")
_COPIES = uuid.UUID("5d0f1f5c-7c3b-5f4e-9d55-0c7a3b1f6f1e")  # the UUID namespace for the ids of copies


def act_on_jobs(
    source: Source, queue: QueueKeys, action: Action, state: State, job_refs: Sequence[JobRef], options: ActionOptions
) -> list[ActionResult]:
    """Implement `Backend.act_on_jobs`; `action` is one of JOB_ACTIONS except DELETE.

    Cost: 1 round trip; for waiting jobs that of `locate_jobs` in addition, and both again if the queue moved since.
    """
    if action is Action.STOP:
        return _stop_jobs(source, queue, state, job_refs)
    if action is Action.DUPLICATE:
        return _copy_jobs(source, queue, state, job_refs)
    target = ""
    if action is Action.MOVE:
        target, why = _target_queue(queue, options.target)
        if why:
            return [refused_result(job_ref.id, why) for job_ref in job_refs]
    fixed = (
        *(
            "cancel" if action is Action.CANCEL else "enqueue",
            key_kind(state),
            STATUSES[state],
            script_flag(state in ENDED),
        ),
        *(target, script_flag(options.reset_attempts and action is Action.RETRY)),
    )

    def move(asked: Sequence[JobRef], places: Sequence[int]) -> list[Reply]:
        calls = [
            JobCall((queue.job(job_ref.id),), (job_ref.id, job_ref.version or "", at if state is State.WAITING else ""))
            for job_ref, at in zip(asked, places, strict=True)
        ]
        return scripts.run_for_each(
            source, "move", queue, calls, keys=(queue.list_of(state),), arguments=fixed, counted=True
        )

    if state is not State.WAITING:
        replies = move(job_refs, [0] * len(job_refs))
    else:
        replies = in_line(source, queue, job_refs, [None] * len(job_refs), move)
    return scripts.WRITES.results_from_replies(job_refs, replies)


def in_line(
    source: Source,
    queue: QueueKeys,
    job_refs: Sequence[JobRef],
    places: Sequence[int | None],
    work: Callable[[Sequence[JobRef], Sequence[int]], list[Reply]],
) -> list[Reply]:
    """Call `work` with waiting jobs, front first, and their positions. Return its replies in the order of `job_refs`.

    `places`: the positions at which the jobs were seen; None to locate them first. Jobs that are not found there are
    searched for up to LOOKS times.
    """
    replies: list[Reply] = [scripts.LOST] * len(job_refs)
    left = list(range(len(job_refs)))
    why = ListPositions().missing_reason
    for look in range(LOOKS):
        seen = {n: place for n in left if look == 0 and (place := places[n]) is not None}
        if len(seen) < len(left):
            found = locate_jobs(source, queue.queue, [job_refs[n].id for n in left])
            seen = {n: found.get(job_refs[n].id, NOWHERE).at for n in left}
            why = found.missing_reason
        order = sorted(left, key=seen.__getitem__)
        for n, reply in zip(order, work([job_refs[n] for n in order], [seen[n] for n in order]), strict=True):
            replies[n] = reply
        left = [n for n in left if replies[n] == scripts.LOST and (look == 0 or seen[n] != NOWHERE.at)]
        if not left:
            break
    taken = f"changed|{why}".encode()
    return [taken if reply == scripts.LOST else reply for reply in replies]


def key_kind(state: State) -> str:
    """Return the type of the key that lists the jobs of a state, in the form that the scripts expect."""
    return "list" if state is State.WAITING else "zset"


def script_flag(value: bool) -> str:
    """Return `value` in the form that the scripts expect."""
    return "1" if value else ""


def _target_queue(queue: QueueKeys, target: str | None) -> tuple[str, str | None]:
    """Return (RQ's own name of the destination queue, why it cannot be used or None).

    In Queuedeck the name of a queue includes its prefix unless that is RQ's default.
    """
    name = target or ""
    if queue.prefix != keys.DEFAULT_PREFIX:
        name = name.removeprefix(f"{queue.prefix}:")
    if not name:
        return name, "no destination queue given"
    if len(name) > LONGEST_NAME or not name.isprintable():
        return name, "this is not a valid queue name"
    return name, "it is already in that queue" if name == queue.name else None


def _copy_jobs(source: Source, queue: QueueKeys, state: State, job_refs: Sequence[JobRef]) -> list[ActionResult]:
    new = [_copy_id(queue, job_ref) for job_ref in job_refs]
    calls = [
        JobCall((queue.job(job_ref.id), queue.job(new_id)), (job_ref.id, job_ref.version or "", new_id))
        for job_ref, new_id in zip(job_refs, new, strict=True)
    ]
    fixed = (STATUSES[state], script_flag(state in ENDED), LARGEST_COPY_BYTES)
    replies = scripts.run_for_each(source, "copy", queue, calls, arguments=fixed)
    return [
        scripts.WRITES.result_from_reply(job_ref.id, reply, new_id=new_id)
        for job_ref, reply, new_id in zip(job_refs, replies, new, strict=True)
    ]


def _copy_id(queue: QueueKeys, job_ref: JobRef) -> str:
    """Return the id of a job's copy: always the same for the same stamp, so that no copy is created twice."""
    if job_ref.version is None:
        return str(uuid.uuid4())
    seed = "\0".join((queue.prefix, queue.name, job_ref.id, job_ref.version))
    return str(uuid.uuid5(_COPIES, seed.encode("utf-8", "surrogateescape").hex()))


def _stop_jobs(source: Source, queue: QueueKeys, state: State, job_refs: Sequence[JobRef]) -> list[ActionResult]:
    """Send a stop command to the workers that run the jobs; DONE: a worker received it. Source: rq 3.0, command.py."""
    calls = []
    for job_ref in job_refs:
        order: Argument = json.dumps({"command": "stop-job", "job_id": job_ref.id})
        calls.append(JobCall((queue.job(job_ref.id),), (job_ref.id, job_ref.version or "", order)))
    replies = scripts.run_for_each(source, "stop", queue, calls, arguments=(STATUSES[state],))
    return scripts.WRITES.results_from_replies(job_refs, replies)
