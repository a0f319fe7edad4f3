"""Lists bulk operations by state and user, a page at a time. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .bulk.operation import ENDED, BulkOperation
from .bulk.store import MAX_OPEN, MAX_OPERATIONS, BulkStore

# States that stand for several phases.
UNFINISHED, FINISHED = "unfinished", "finished"


@dataclass(frozen=True, slots=True)
class BulkFilter:
    """Which operations to list; None = any. `state`: a phase, UNFINISHED or FINISHED; `who`: a whole name."""

    state: str | None = None
    who: str | None = None

    def matches(self, operation: BulkOperation) -> bool:
        """Whether the operation is listed."""
        ended = operation.phase in ENDED
        states = (None, operation.phase.value, FINISHED if ended else UNFINISHED)
        return self.state in states and self.who in (None, operation.request.actor.name)

    @property
    def narrows(self) -> bool:
        """Whether it excludes anything."""
        return self != BulkFilter()


class BulkPage(NamedTuple):
    """A page of operations. `matching` and `unfinished` are of all pages of the filter, `total` of all operations.

    `people`: who started the stored operations, sorted.
    """

    operations: tuple[BulkOperation, ...]
    matching: int
    unfinished: int
    total: int
    people: tuple[str, ...]


def list_page(
    store: BulkStore, wanted: BulkFilter, *, page: int = 1, per_page: int, unfinished_first: bool = False
) -> BulkPage:
    """One page of operations, newest first; those that are not finished before the others if asked for.

    Raises BackendUnavailable. Cost: 2 round trips, of at most MAX_OPERATIONS + MAX_OPEN records of about 1 kB.
    """
    stored = store.list_newest(MAX_OPERATIONS + MAX_OPEN)
    found = [operation for operation in stored if wanted.matches(operation)]
    if unfinished_first:
        found.sort(key=lambda operation: operation.phase in ENDED)  # stable: newest first within both
    first = (page - 1) * per_page
    return BulkPage(
        operations=tuple(found[first : first + per_page]),
        matching=len(found),
        unfinished=sum(operation.phase not in ENDED for operation in found),
        total=len(stored),
        people=tuple(sorted({operation.request.actor.name for operation in stored})),
    )
