"""Actions on messages that workers hold unacknowledged: revoke, stop, promote.

A worker keeps such a job in memory. Redis only has the safety copy that restores the job after a crash, so a broadcast
asks the workers to act. Only workers that are up receive it: if none does, nothing happens and the job is refused. For
a job with an ETA, the same script also removes the safety copy. Otherwise the job would return after a restart, when
the revocation is no longer known.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model import QueueRef, State
from ....sources.source import Source
from ...actions import ActionResult, JobRef, Outcome, refused_result
from ...lua_reads import Scripts
from ...lua_writes import JobCall, split_by_cost
from .. import keys, protocol
from ..job_decoding import decode_unacked, headers_of, parse_time, state_of
from ..messages import lookup
from ..messages.lookup import LocatedMessage
from ..routes import UNROUTED, QueueRoutes
from .duplicate import UNREAD
from .scripts import WRITES
from .worker_control import UNHEARD, WorkerControl, result_of_command

JOBS_PER_SCRIPT = 100
# A job due within this time may start before the worker receives the revocation.
TOO_LATE_S = 5.0
NOT_TIMED = (State.WAITING, State.ACTIVE)
NO_MESSAGE = "it is not a Celery message"
CHORD = "it is part of a group or chord, which counts it by its id"


class UnackedActions:
    """Acts on the unacknowledged messages of one source."""

    def __init__(self, broker: Source, scripts: Scripts, names: keys.UnackedKeys) -> None:
        self._broker = broker
        self._scripts = scripts
        self._names = names

    def promote_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[ActionResult]:
        """Revoke jobs with an ETA and send each again under a new id, to run next."""
        return self._withdraw_jobs(ref, state, job_refs, again=True)

    def cancel_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[ActionResult]:
        """Revoke jobs that have not started."""
        if state in NOT_TIMED:
            return self.revoke_messages(keys.location_of(ref), self._find_unacked(ref, state, job_refs))
        return self._withdraw_jobs(ref, state, job_refs, again=False)

    def stop_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[ActionResult]:
        """Terminate the processes that run the jobs."""
        return self.revoke_messages(keys.location_of(ref), self._find_unacked(ref, state, job_refs), terminate=True)

    def revoke_messages(
        self, place: keys.QueueLocation, found: Sequence[LocatedMessage | ActionResult], **more: object
    ) -> list[ActionResult]:
        """Revoke the ids of the messages found, in one broadcast."""
        ids = [one.job_ref.id for one in found if isinstance(one, LocatedMessage)]
        arguments = {"task_id": ids, "terminate": False, "signal": "SIGTERM", **more}
        reply = WorkerControl(self._broker, place).send_command("revoke", arguments) if ids else None
        return [one if isinstance(one, ActionResult) else result_of_command(one.job_ref.id, reply) for one in found]

    def _find_unacked(
        self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]
    ) -> list[LocatedMessage | ActionResult]:
        found = lookup.find_unacked(self._broker, self._scripts, self._names, keys.location_of(ref).prefix, job_refs)
        return [_of_state(one, state) for one in found]

    def _withdraw_jobs(
        self, ref: QueueRef, state: State, job_refs: Sequence[JobRef], *, again: bool
    ) -> list[ActionResult]:
        prefix = keys.location_of(ref).prefix
        answers: dict[int, ActionResult] = {}
        work: list[tuple[int, LocatedMessage, bytes, bytes, str | None]] = []
        held = self._find_unacked(ref, state, job_refs)
        routes = QueueRoutes(self._broker, prefix)
        if again:
            routes.look_up(decode_unacked(one.raw)[1] for one in held if isinstance(one, LocatedMessage))
        for n, one in enumerate(held):
            plan = (
                one
                if isinstance(one, ActionResult)
                else _plan_replacement(prefix, one, self._broker.now_s(), routes, again=again)
            )
            if isinstance(plan, ActionResult):
                answers[n] = plan
            elif isinstance(one, LocatedMessage):
                work.append((n, one, *plan))
        channel = protocol.channel(prefix, self._broker.database)
        names = self._names.keys(prefix)
        for portion in split_by_cost(((job, len(job[1].raw)) for job in work), most=JOBS_PER_SCRIPT, cost=1_000_000):
            calls = [
                JobCall((target,), (one.tag, one.raw, _revocation_of(one), message))
                for _, one, target, message, _ in portion
            ]
            replies = WRITES.run_for_each(self._broker, "withdraw", calls, keys=names, arguments=(channel,))
            for (n, one, _, _, new_id), reply in zip(portion, replies, strict=True):
                answers[n] = (
                    refused_result(one.job_ref.id, UNHEARD)
                    if reply == b"unheard"
                    else WRITES.result_from_reply(one.job_ref.id, reply, new_id=new_id)
                )
        return [answers[n] for n in range(len(job_refs))]


def _revocation_of(one: LocatedMessage) -> bytes | str:
    return protocol.broadcast("revoke", {"task_id": [one.job_ref.id], "terminate": False, "signal": "SIGTERM"})


def _of_state(one: LocatedMessage | ActionResult, state: State) -> LocatedMessage | ActionResult:
    if isinstance(one, ActionResult):
        return one
    message = decode_unacked(one.raw)[0]
    if not headers_of(message):
        return refused_result(one.job_ref.id, NO_MESSAGE)
    # A message does not record whether it is running; the action is the same either way.
    wanted = NOT_TIMED if state in NOT_TIMED else (state,)
    return one if state_of(headers_of(message)) in wanted else ActionResult(id=one.job_ref.id, outcome=Outcome.CHANGED)


def _plan_replacement(
    prefix: str, one: LocatedMessage, now: float, routes: QueueRoutes, *, again: bool
) -> tuple[bytes, bytes, str | None] | ActionResult:
    """Return (list, message, new id) of the replacement for a revoked job; an ActionResult if there can be none."""
    message, route = decode_unacked(one.raw)
    if message is None:
        return refused_result(one.job_ref.id, NO_MESSAGE)
    queue = routes.queue_of(route)
    if not again:
        return keys.QueueLocation(prefix, queue or "").list_keys()[0], b"", None
    if queue is None:
        return refused_result(one.job_ref.id, UNROUTED)
    base = keys.QueueLocation(prefix, queue).list_keys()[0]
    if protocol.in_a_chord(message):
        return refused_result(one.job_ref.id, CHORD)
    due = parse_time(headers_of(message).get("eta"))
    if due is not None and due.timestamp() - now < TOO_LATE_S:
        return refused_result(one.job_ref.id, "it is due within seconds and will run automatically")
    new_id = protocol.new_id()
    changed = protocol.copied(message, new_id, queue)
    return refused_result(one.job_ref.id, UNREAD) if changed is None else (base, changed, new_id)
