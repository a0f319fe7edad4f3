"""Which actions a second person has to approve: those after which many jobs do not run any more. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.actions import Action
from ..errors import Conflict

# After these, jobs do not run any more.
DESTRUCTIVE = frozenset({Action.DELETE, Action.KILL, Action.CANCEL, Action.OBLITERATE})
# How long a bulk operation waits for approval.
APPROVAL_S = 86_400.0


class ApprovalNeeded(Conflict):
    """An action that only a bulk operation can do, since a second person has to approve it."""


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """`over`: destructive actions on more jobs than this need approval; None: none do."""

    over: int | None = None

    def needs(self, action: Action, jobs: int | None) -> bool:
        """Whether an action on so many jobs needs approval; None: on an unknown number."""
        return self.over is not None and action in DESTRUCTIVE and (jobs is None or jobs > self.over)

    def check(self, action: Action, jobs: int | None) -> None:
        """Raise ApprovalNeeded if it does."""
        if not self.needs(action, jobs):
            return
        if action is Action.OBLITERATE:
            raise ApprovalNeeded(
                f"A queue with more than {self.over:,} jobs is not deleted without the approval of a second person.",
                hint="Delete its jobs with bulk operations, which wait for the approval, and then the queue.",
            )
        raise ApprovalNeeded(
            f"More than {self.over:,} jobs need the approval of a second person for this.",
            hint="Start a bulk operation, which waits for the approval.",
        )
