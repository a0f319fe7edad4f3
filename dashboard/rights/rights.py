"""What one person may do: the rights of a role, or those of the grants that name the person. Pure."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from .grants import ALL_QUEUES, Grant, without_titles
from .right import ACTING, FOR_ALL_QUEUES, Right

# Decided queues that are remembered, about 200 bytes each.
MAX_DECIDED = 20_000


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a right is given, and the grants, or the role, that decide it: how pages name them."""

    is_allowed: bool
    because: tuple[str, ...]


class Rights:
    """The rights of one person. Thread-safe.

    Several people have equal rights if their `digest` is equal.
    """

    def __init__(self, grants: Iterable[Grant]) -> None:
        """`grants`: those that name the person; a role is a grant for all queues."""
        self.grants = tuple(grants)
        self._decided: dict[tuple[str, str, str], frozenset[Right]] = {}
        self._lock = threading.Lock()

    @cached_property
    def digest(self) -> str:
        """Equal for equal rights."""
        return hashlib.sha256(repr(sorted(without_titles(self.grants))).encode()).hexdigest()[:24]

    @cached_property
    def sees_all(self) -> bool:
        """Whether all queues are visible, whichever there are."""
        return self.may_everywhere(Right.VIEW)

    @cached_property
    def is_restricted(self) -> bool:
        """Whether they differ from those of a role: between queues, or by some of the rights to act but not all."""
        acting = self._held & ACTING
        is_part = bool(acting) and acting != ACTING
        return is_part or not self.sees_all or not all(grant.is_for_all for grant in self.grants)

    def may(self, right: Right, source: str, backend: str, queue: str) -> bool:
        """Whether the person has that right on a queue. Cost: mostly a lookup, else as the globs of all grants."""
        if right in FOR_ALL_QUEUES:
            return self.has(right)
        if queue == ALL_QUEUES:
            return self.may_all_of(right, source, backend)
        place = (source, backend, queue)
        found = self._decided.get(place)
        if found is None:
            found = frozenset(each for each in Right if self._decide(each, *place))
            with self._lock:
                if len(self._decided) >= MAX_DECIDED:
                    self._decided.clear()
                self._decided[place] = found
        return right in found

    def sees(self, source: str | None, backend: str | None, queue: str | None) -> bool:
        """Whether the person sees what is about that queue; None: it is about all of them, of a library or a source."""
        if self.sees_all:
            return True
        if source is None:
            return False
        if backend is None:
            return self.may_all_on(Right.VIEW, source)
        return self.may(Right.VIEW, source, backend, ALL_QUEUES if queue is None else queue)

    def may_all_of(self, right: Right, source: str, backend: str) -> bool:
        """Whether the person has that right on all queues of a library on a source, whatever their names.

        What concerns them together, such as a set of the dead jobs of all queues, needs this.
        """
        if any(grant.denies(right) and grant.covers_library(source, backend) for grant in self.grants):
            return False
        return any(grant.allows(right) and grant.covers_all_of(source, backend) for grant in self.grants)

    def may_all_on(self, right: Right, source: str) -> bool:
        """Whether the person has that right on all queues of a source, of whichever library."""
        if any(grant.denies(right) and grant.covers_source(source) for grant in self.grants):
            return False
        return any(grant.allows(right) and grant.is_for_all_on(source) for grant in self.grants)

    def may_know_source(self, source: str) -> bool:
        """Whether some queue on that source could be visible, so that the source itself is."""
        return any(grant.allows(Right.VIEW) and grant.covers_source(source) for grant in self.grants)

    def may_know_library(self, source: str, backend: str) -> bool:
        """Whether some queue of that library on that source could be visible."""
        return any(grant.allows(Right.VIEW) and grant.covers_library(source, backend) for grant in self.grants)

    @cached_property
    def _held(self) -> frozenset[Right]:
        return frozenset(right for right in Right if self._find_anywhere(right))

    def has(self, right: Right) -> bool:
        """Whether the person has that right somewhere; of rights for the whole dashboard, whether on all of it."""
        return right in self._held

    def _find_anywhere(self, right: Right) -> bool:
        if right in FOR_ALL_QUEUES:
            return self.sees_all and self.may_everywhere(right)
        return any(
            grant.allows(right) and not any(other.is_for_all and other.denies(right) for other in self.grants)
            for grant in self.grants
        )

    def may_everywhere(self, right: Right) -> bool:
        """Whether the person has that right on all queues, whichever there are."""
        return any(grant.is_for_all and grant.allows(right) for grant in self.grants) and not any(
            grant.denies(right) for grant in self.grants
        )

    def may_act(self) -> bool:
        """Whether the person may change something somewhere."""
        return not self._held.isdisjoint(ACTING)

    def explain(self, right: Right, source: str, backend: str, queue: str) -> Decision:
        """Whether the person has that right on a queue, and what decides it."""
        covering = [grant for grant in self.grants if grant.covers(source, backend, queue)]
        if queue == ALL_QUEUES:
            covering = [grant for grant in self.grants if grant.covers_library(source, backend)]
        denying = tuple(grant.title for grant in covering if grant.denies(right))
        if denying:
            return Decision(False, denying)
        giving = tuple(grant.title for grant in covering if grant.allows(right))
        return Decision(self.may(right, source, backend, queue), giving)

    def _decide(self, right: Right, source: str, backend: str, queue: str) -> bool:
        covering = [grant for grant in self.grants if grant.covers(source, backend, queue)]
        return not any(grant.denies(right) for grant in covering) and any(grant.allows(right) for grant in covering)
