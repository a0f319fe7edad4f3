"""The jobs that workers counted, compared with the records in the registries: do finished jobs leave records?

Workers count the jobs that they ran, including those that leave no record (`result_ttl` 0), but for all queues of a
worker together. For each set of queues that share workers, the workers' counts are therefore compared with the records.
If the set is a single queue, the difference belongs to it; otherwise the rates of its queues are unknown, but not their
sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....model import Quality, QueueFlow, State
from ...base import FLOW_WINDOW_S
from ...class_tally import ClassTally
from ...completion_balance import BALANCED
from ..consumers import LiveWorker
from .findings import TTLS_S, FlowCursor, FlowFindings, QueueMemory

BY_WORKERS = "Counted by the workers, because successful jobs leave no record here (result_ttl is 0)."
HIDDEN = {
    (State.COMPLETED,): (
        "Successful jobs leave no record here (result_ttl is 0). The workers count them for several queues together."
    ),
    (State.DEAD,): "Failed jobs leave no record here (failure_ttl is short).",
    (State.COMPLETED, State.DEAD): "Finished jobs leave no record here (result_ttl and failure_ttl are short).",
}
BRIEF = "Finished jobs are removed within seconds here (result_ttl or failure_ttl is short)."
TOGETHER = "Counted by the workers, for several queues together."
NO_LOOK_BACK = "Finished jobs here do not have RQ's default times to live. Rates start with the second sample."
NOTHING_SEEN = "No successful job of the last minutes is listed. Rates start with the second sample."
NO_PROOF = (
    "No worker here has been running for five minutes, so the records may not go back that far. "
    "Rates start with the second sample."
)


@dataclass(slots=True)
class SharedWorkers:
    """Queues that share workers, and what these workers did since the last sample."""

    queues: list[FlowFindings]
    completed: int = 0
    failed: int = 0
    workers: int = 0
    long_running: int = 0  # of the workers, those that have been running for as long as the first sample reaches back


def balance_flows(
    found: Mapping[str, FlowFindings], workers: Mapping[str, LiveWorker], before: FlowCursor, anchor: float, now: float
) -> tuple[dict[str, QueueMemory], dict[str, QueueFlow], QueueFlow | None]:
    """Return the memory and the flow of each queue, and the flow of those that can only be counted together."""
    seen: dict[str, QueueMemory] = {}
    flows: dict[str, QueueFlow] = {}
    together: list[int] = []
    for crew in _find_shared_workers(found, workers, before, now):
        ended = _balance_crew(crew, before, anchor, now, seen, flows)
        if ended is not None:
            together.append(ended)
    if not together:
        return seen, flows, None
    total = QueueFlow(
        key="",
        completed=sum(together),
        dead=0,
        span_s=max(now - before.at, 0.001),
        quality=Quality.ESTIMATED,
        reason=TOGETHER,
    )
    return seen, flows, total


def _balance_crew(
    crew: SharedWorkers,
    before: FlowCursor,
    anchor: float,
    now: float,
    seen: dict[str, QueueMemory],
    flows: dict[str, QueueFlow],
) -> int | None:
    """Add the memory and the flow of each queue of `crew`. Returns how many jobs finished in all of them, if that can
    only be counted together."""
    several = len(crew.queues) > 1
    records = {state: sum([answer.came[state] for answer in crew.queues]) for state in TTLS_S}
    disturbed = {state for answer in crew.queues for state in answer.disturbed}
    # Records that a user removed do not count as jobs without a record.
    completed = min(crew.completed, records[State.COMPLETED]) if State.COMPLETED in disturbed else crew.completed
    failed = min(crew.failed, records[State.DEAD]) if State.DEAD in disturbed else crew.failed
    last = [before.queues.get(answer.queue.queue) for answer in crew.queues]
    retried_at = _last_retry(crew, last, now)
    lost: tuple[State, ...] = ()
    quiet = not (completed or failed or disturbed or any(records.values()))
    # The first sample finds records of jobs for which there are no workers' counts to compare.
    first = any(answer.first for answer in crew.queues)
    for answer, known in zip(crew.queues, last, strict=True):
        key = answer.queue.queue
        if known is not None and quiet and _as_before(answer, known, anchor, retried_at):
            seen[key], flows[key] = known, _quiet_flow(answer)
            continue
        old = known or QueueMemory(anchor, answer.counts, busy=False, newest=0.0)
        each = seen[key] = QueueMemory(
            anchor=anchor,
            counts=answer.counts,
            busy=any(answer.came.values()),
            newest=answer.newest,
            completed=old.completed if first else old.completed.add(now, completed, records[State.COMPLETED]),
            failed=old.failed if first else old.failed.add(now, failed, records[State.DEAD]),
            brief={**old.brief, **{state: now for state, count in answer.brief.items() if count}},
            retried_at=retried_at,
            next_job=answer.next_job,
            uncounted_at=now if _has_untraced_job(answer, old, crew) else old.uncounted_at,
        )
        if not several:
            # A worker cut off before it updated its counters counts nothing: the larger of both numbers is right.
            answer.came[State.COMPLETED] += each.completed.growth_since(old.completed)
        # A queue that appears after the first sample of all is new: all of its records are more recent.
        proven = crew.long_running > 0 or before.at < now
        flows[key] = _build_flow(answer, each, now, several=several, served=crew.workers > 0, proven=proven)
        lost = max(lost, flows[key].hidden, key=len)
    if not several or State.COMPLETED not in lost:
        return None
    return max(completed, records[State.COMPLETED]) + (crew.failed if State.DEAD in lost else records[State.DEAD])


def _last_retry(crew: SharedWorkers, last: Sequence[QueueMemory | None], now: float) -> float:
    """When a job that can be retried was last seen in the queues of `crew`; 0.0 if never."""
    if any(answer.retries for answer in crew.queues):
        return now
    return max([each.retried_at for each in last if each], default=0.0)


def _quiet_flow(answer: FlowFindings) -> QueueFlow:
    return QueueFlow(
        key=answer.queue.queue,
        completed=0,
        dead=0,
        span_s=answer.span_s,
        quality=Quality.ESTIMATED,
        reason=answer.reason,
    )


def _find_shared_workers(
    found: Mapping[str, FlowFindings], workers: Mapping[str, LiveWorker], before: FlowCursor, now: float
) -> list[SharedWorkers]:
    crews = {key: SharedWorkers([answer]) for key, answer in found.items()}
    for worker in workers.values():
        prefix = worker.key.partition(":worker:")[0]
        shared = {
            id(crew): crew
            for name in {*worker.queues.split(","), worker.queues}  # a name can contain commas
            if (crew := crews.get(f"{prefix}:queue:{name}"))
        }
        if not shared:
            continue
        first, *others = shared.values()
        for other in others:
            first.queues += other.queues
            first.completed += other.completed
            first.failed += other.failed
            first.workers += other.workers
            first.long_running += other.long_running
            crews.update((answer.queue.queue, first) for answer in other.queues)
        completed, failed = _finished_since(worker, before)
        first.completed += completed
        first.failed += failed
        first.workers += 1
        first.long_running += worker.born_before(now - FLOW_WINDOW_S)
    return list({id(crew): crew for crew in crews.values()}.values())


def _finished_since(worker: LiveWorker, before: FlowCursor) -> tuple[int, int]:
    """Return how many jobs `worker` completed since `before`, and how many attempts failed."""
    known = before.workers.get(worker.key)
    if known is not None and known.birth == worker.birth:
        # Fewer than before: Redis was emptied again, and the worker started counting from zero.
        completed = worker.completed - (known.completed if worker.completed >= known.completed else 0)
        return completed, worker.failed - (known.failed if worker.failed >= known.failed else 0)
    if (known is not None and worker.birth is None) or (before.queues and worker.born_after(before.at)):
        return worker.completed, worker.failed
    return 0, 0


def _as_before(answer: FlowFindings, known: QueueMemory, anchor: float, retried_at: float) -> bool:
    """Whether `balance_flows` would return the known memory unchanged for a queue in which nothing finished."""
    return (
        answer.counts is known.counts
        and answer.next_job == known.next_job
        and (known.anchor, known.retried_at, known.newest) == (anchor, retried_at, answer.newest)
        and known.completed is BALANCED
        and known.failed is BALANCED
        and not (known.busy or known.brief or known.uncounted_at or answer.brief)
    )


def _has_untraced_job(answer: FlowFindings, before: QueueMemory, crew: SharedWorkers) -> bool:
    """Whether a job that leaves no record was picked up without a live worker to count it: the worker started and
    stopped since, or Redis no longer knows it."""
    if not crew.workers and not answer.first and answer.traceless and any(answer.came.values()):
        return True
    if before.next_job is None or crew.workers or any(answer.came.values()):
        return False
    same = answer.next_job is not None and answer.next_job.id == before.next_job.id
    return before.next_job.leaves_nothing and not same


def _build_flow(
    found: FlowFindings, seen: QueueMemory, now: float, *, several: bool, served: bool, proven: bool
) -> QueueFlow:
    """`served`: a worker serves the queue; `proven`: its records are known to reach back as far as the first sample."""
    nothing_good = not found.came[State.COMPLETED] and (served or found.came[State.DEAD] > 0)
    # A FLUSHALL removes both the records and the workers' own entries.
    no_proof = not proven and any(found.came.values())
    if found.first and (found.other_ttls or nothing_good or no_proof):
        why = NO_LOOK_BACK if found.other_ttls else NOTHING_SEEN if nothing_good else NO_PROOF
        return QueueFlow.unknown(found.queue.queue, why)
    unrecorded = seen.completed.hides_jobs(now)
    # A failed attempt that is retried leaves no record either.
    lost = seen.failed.hides_jobs(now) and now - seen.retried_at >= FLOW_WINDOW_S
    uncounted = now - seen.uncounted_at < FLOW_WINDOW_S
    hidden: tuple[State, ...] = ()
    unlisted: tuple[State, ...] = ()
    reason = found.reason
    if unrecorded or lost or uncounted or seen.brief:
        brief = {state for state, at in seen.brief.items() if now - at < FLOW_WINDOW_S}
        hides = ((State.COMPLETED, (several and unrecorded) or uncounted), (State.DEAD, lost))
        drops = ((State.COMPLETED, unrecorded or uncounted), (State.DEAD, lost))
        hidden = tuple(state for state, is_hidden in hides if is_hidden)
        unlisted = tuple(state for state, dropped in drops if dropped or state in brief)
        reason = HIDDEN.get(hidden) or (BY_WORKERS if unrecorded else BRIEF if unlisted else found.reason)
    # Jobs without a record cannot be looked at, and those with one do not stand for them.
    tally = found.classes if found.classes and not (hidden or unlisted) else ClassTally()
    classes = tally.classes_of(found.came[State.COMPLETED], found.came[State.DEAD], reason)
    return QueueFlow(
        key=found.queue.queue,
        completed=found.came[State.COMPLETED],
        dead=found.came[State.DEAD],
        span_s=found.span_s,
        quality=Quality.ESTIMATED,
        reason=reason,
        runtimes_s=tuple(found.runtimes[:200]),
        hidden=hidden,
        unlisted=unlisted,
        unlisted_reason=reason if unlisted else None,
        incomplete_start=found.other_ttls or bool(unlisted),
        waits_s=tuple(found.waits[:200]),
        classes=classes.classes,
        classes_quality=classes.quality,
        classes_reason=reason if unlisted else classes.reason,
    )
