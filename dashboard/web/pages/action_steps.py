"""One action of a user in several steps, such as one per list: a step that fails keeps the results of those before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ...actions.service import ActionReport
from ...backends.actions import Action, ActionResult, JobRef, Outcome, refused_result
from ...errors import BackendUnavailable, NotFound, OutcomeUnknown, QueuedeckError
from ..views.flash import ActionFlash

# Redis refused the command: then nothing was done.
_REFUSALS = frozenset({"forbidden", "readonly", "full"})


@dataclass(slots=True)
class ActionSteps:
    """The results so far, and the undo batches. `unknown`: jobs whose outcome is unknown; `untried`: jobs of later
    steps on a Redis that no longer responds, which were left as they are."""

    results: list[ActionResult] = field(default_factory=list)
    undo_batches: list[str] = field(default_factory=list)
    unknown: int = 0
    untried: int = 0
    _down: set[str] = field(default_factory=set)

    def run(self, source: str, job_refs: Sequence[JobRef], act: Callable[[], ActionReport]) -> None:
        """Act on these jobs of a source, and keep the results.

        Raises the error of `act` while no job has changed: then nothing is lost by it.
        """
        if source in self._down:
            self.untried += len(job_refs)
            return
        try:
            report = act()
        except NotFound:  # the queue was deleted meanwhile
            self.results += [ActionResult(id=job_ref.id, outcome=Outcome.GONE) for job_ref in job_refs]
        except QueuedeckError as exc:
            if not any(each.outcome is Outcome.DONE for each in self.results):
                raise
            self._keep_failure(job_refs, exc)
        else:
            self.results += report.results
            if report.undo_batch is not None:
                self.undo_batches.append(report.undo_batch)

    def _keep_failure(self, job_refs: Sequence[JobRef], exc: QueuedeckError) -> None:
        if not isinstance(exc, BackendUnavailable) or exc.reason in _REFUSALS:
            self.results += [refused_result(job_ref.id, exc.message) for job_ref in job_refs]
            return
        self.unknown += len(job_refs)
        self._down.add(exc.source)
        if isinstance(exc, OutcomeUnknown):
            self.undo_batches.append(exc.undo_batch)

    def refuse(self, job_refs: Sequence[JobRef], outcome: Outcome, why: str | None = None) -> None:
        """Note jobs on which the action is not tried at all."""
        self.results += [ActionResult(id=job_ref.id, outcome=outcome, detail=why) for job_ref in job_refs]

    def bulk_flash(self, action: Action) -> ActionFlash:
        """The result of all steps, in the words of an action on many jobs."""
        return replace(self.flash(action), verb="redrive" if action is Action.MOVE else action.value)

    def flash(self, action: Action) -> ActionFlash:
        """The result of all steps."""
        return ActionFlash.of(action, self.results, *self.undo_batches, unknown=self.unknown, untried=self.untried)
