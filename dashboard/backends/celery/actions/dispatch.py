"""Actions on Celery's jobs: picks the implementation by action and state.

Nothing here imports Celery: messages and broadcasts are written as kombu writes them (`protocol.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model import QueueRef, State
from ....sources.source import Source
from ...actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, invalid_result
from ...lua_reads import Scripts
from ...payloads.editing import InvalidPayload
from .. import keys
from ..messages import lookup
from ..messages.lookup import LocatedMessage
from . import duplicate
from .queued import QueuedActions
from .result_deletion import ResultDeletion
from .result_retry import ResultRetry, edited_call
from .unacked import UnackedActions


class JobActions:
    """Acts on the jobs of one source: `broker` holds the messages, `results` the records, `own` our index of them."""

    def __init__(
        self, broker: Source, scripts: Scripts, results: Source, own: Source | None, name: str, names: keys.UnackedKeys
    ) -> None:
        self._broker = broker
        self._scripts = scripts
        self._names = names
        self._name = name
        self._resending = ResultRetry(broker, results, own, name)
        self._records = ResultDeletion(results, own, name)
        self._waiting = QueuedActions(broker, scripts, own, name)
        self._taken = UnackedActions(broker, scripts, names)

    def act_on_jobs(
        self, ref: QueueRef, action: Action, state: State, job_refs: Sequence[JobRef], options: ActionOptions
    ) -> list[ActionResult]:
        """Implement `Backend.act_on_jobs` for an action that is offered in that state."""
        if action is Action.EDIT:
            try:
                edited_call(options.payload)
            except InvalidPayload as exc:
                return [invalid_result(job_ref.id, str(exc)) for job_ref in job_refs]
        if state in keys.ENDED:
            return self._resending.resend_tasks(ref, action, state, job_refs, options)
        if action in (Action.DUPLICATE, Action.EDIT):
            return duplicate.copy_messages(
                self._broker, self._name, ref, action, self._find_messages(ref, state, job_refs), options
            )
        if action is Action.MOVE:
            return self._waiting.move_messages(ref, job_refs, options)
        if action is Action.STOP:
            return self._taken.stop_jobs(ref, state, job_refs)
        if state is State.WAITING and not ref.shared:
            return (
                self._waiting.promote_messages(ref, job_refs)
                if action is Action.PROMOTE
                else self._revoke_jobs(ref, job_refs)
            )
        if action is Action.PROMOTE:
            return self._taken.promote_jobs(ref, state, job_refs)
        return self._taken.cancel_jobs(ref, state, job_refs)

    def _find_messages(
        self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]
    ) -> list[LocatedMessage | ActionResult]:
        place = keys.location_of(ref)
        if state is State.WAITING and not ref.shared:
            return lookup.find_waiting(self._broker, self._scripts, place, job_refs)
        return lookup.find_unacked(self._broker, self._scripts, self._names, place.prefix, job_refs)

    def _revoke_jobs(self, ref: QueueRef, job_refs: Sequence[JobRef]) -> list[ActionResult]:
        return self._taken.revoke_messages(keys.location_of(ref), self._find_messages(ref, State.WAITING, job_refs))

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """Implement `Backend.backup_jobs`."""
        if state is State.WAITING:
            return self._waiting.backup_messages(ref, job_refs)
        return self._records.backup_records(keys.location_of(ref).prefix, state, job_refs)

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Implement `Backend.delete_jobs`."""
        if state is State.WAITING:
            return self._waiting.delete_messages(ref, backups)
        return self._records.delete_records(keys.location_of(ref).prefix, state, backups)

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Implement `Backend.restore_jobs`."""
        if state is State.WAITING:
            return self._waiting.restore_messages(ref, backups)
        return self._records.restore_records(keys.location_of(ref).prefix, state, backups)
