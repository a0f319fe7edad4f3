"""Actions on jobs of BullMQ 4 to 6 and Bull 4, with Queuedeck's own scripts, which check the queue's release.

No published package is safe with both BullMQ 5 and 6: the way one of them pauses queues and fills lists loses jobs in
the other. Layout: bullmq 4.18, 5.81 and 6.7 `src/commands/` (reprocessJob, promote, pause, removeJob, addStandardJob),
bull 4.16 `lib/commands/`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model import QueueRef, State
from ....sources.source import Reply, Source, raw_bytes, text
from ...actions import Action, ActionOptions, ActionResult, JobRef, Outcome, refused_result
from ...lua_writes import JobCall
from .duplicate import copy_jobs
from .scripts import WRITES

# A waiting job that is moved to another queue is searched for among this many jobs next to run.
SEARCHED = 200_000
_NOT_NEXT = f"not among the next {SEARCHED:,} jobs to run; a worker may have picked it up, or it is further back"
_SET_WORDS = {State.DEAD: "failed", State.COMPLETED: "completed", State.SCHEDULED: "delayed"}


def act_on_jobs(
    source: Source, ref: QueueRef, action: Action, state: State, job_refs: Sequence[JobRef], options: ActionOptions
) -> list[ActionResult]:
    """See `Backend.act_on_jobs`. Cost: 1 round trip; 2 for copies."""
    if action in (Action.DUPLICATE, Action.EDIT):
        return copy_jobs(source, ref, _SET_WORDS.get(state), job_refs, options)
    if action is Action.MOVE:
        return _move_waiting(source, ref, job_refs, options.target or "")
    base = f"{ref.key}:"
    if state is State.ACTIVE:
        calls = [JobCall((raw_bytes(base + job_ref.id),), (raw_bytes(job_ref.id),)) for job_ref in job_refs]
        return WRITES.results_from_replies(job_refs, WRITES.run_for_each(source, "putback", calls, arguments=(base,)))
    word = _SET_WORDS[state]
    again = "1" if options.reset_attempts else "0"
    calls = [
        JobCall((raw_bytes(base + job_ref.id),), (raw_bytes(job_ref.id), job_ref.version or "")) for job_ref in job_refs
    ]
    arguments = (base, action.value, word, int(source.now_s() * 1000), again)
    replies = WRITES.run_for_each(source, "retry_or_promote", calls, keys=(f"{base}{word}",), arguments=arguments)
    return WRITES.results_from_replies(job_refs, replies)


def _move_waiting(source: Source, ref: QueueRef, job_refs: Sequence[JobRef], target: str) -> list[ActionResult]:
    """Move waiting jobs to another queue. `target` includes the prefix if two queues have the same name."""
    prefix = ref.key.rpartition(":")[0]
    other = target if ":" in target else f"{prefix}:{target}"
    if not target or target == "*":
        return [refused_result(job_ref.id, "no destination queue given") for job_ref in job_refs]
    base = f"{ref.key}:"
    calls = [JobCall((raw_bytes(base + job_ref.id),), (raw_bytes(job_ref.id),)) for job_ref in job_refs]
    arguments = (base, raw_bytes(f"{other}:"), SEARCHED)
    replies = WRITES.run_for_each(source, "move_to_queue", calls, arguments=arguments)
    return [_result_of_move(job_ref.id, reply) for job_ref, reply in zip(job_refs, replies, strict=True)]


def _result_of_move(job_id: str, reply: Reply) -> ActionResult:
    if isinstance(reply, list):
        return ActionResult(id=job_id, outcome=Outcome.DONE, new_id=text(reply[0]))
    if reply == b"far":
        return ActionResult(id=job_id, outcome=Outcome.CHANGED, detail=_NOT_NEXT)
    return WRITES.result_from_reply(job_id, reply)
