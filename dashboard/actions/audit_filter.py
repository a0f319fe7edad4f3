"""Which events of the audit log to list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..globs import glob_matches

if TYPE_CHECKING:
    from .audit_log import AuditEvent

# An outcome that is not recorded: part of the action was not done, or all of it.
NOT_DONE = "not_done"
_DONE = "done"


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events to list; None = any. `who` and `queue` are names or globs, those of people in any case.

    `outcome`: events with at least one such result, or NOT_DONE. `since_s` and `until_s`: seconds since 1970, both
    included.
    """

    who: str | None = None
    action: str | None = None
    source: str | None = None
    queue: str | None = None
    outcome: str | None = None
    bulk_id: str | None = None
    since_s: float | None = None
    until_s: float | None = None

    def matches(self, event: AuditEvent) -> bool:
        """Whether the event is listed."""
        return (
            (self.who is None or glob_matches(self.who.casefold(), event.who.casefold()))
            and self.action in (None, event.action)
            and self.source in (None, event.source)
            and (self.queue is None or (event.queue is not None and glob_matches(self.queue, event.queue)))
            and (self.outcome is None or _has_outcome(event, self.outcome))
            and self.bulk_id in (None, event.bulk_id)
            and (self.since_s is None or event.at >= self.since_s)
            and (self.until_s is None or event.at <= self.until_s)
        )

    @property
    def narrows(self) -> bool:
        """Whether it excludes anything."""
        return self != AuditFilter()


def _has_outcome(event: AuditEvent, wanted: str) -> bool:
    """Whether an event has this outcome. None: nothing is counted (an edited rule), so it was done; {}: it was not."""
    outcomes = {_DONE: 1} if event.outcomes is None else event.outcomes
    if wanted == NOT_DONE:
        return not outcomes or any(count for kind, count in outcomes.items() if kind != _DONE)
    return outcomes.get(wanted, 0) > 0
