"""Grants: which rights someone has, or is denied, on which queues. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..globs import glob_matches
from .right import Right

ALL_QUEUES = "*"  # also the name of the entry for the sets that a library stores for all queues together


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Rights on the queues that match: those in `allow` are given, those in `deny` are taken away, whatever else gives
    them. Without `view`, there are no other rights: any right given includes it, and denying it denies all.

    `source` and `backend` are globs, `queues` a tuple of globs. `title`: how pages name this grant.
    """

    source: str = "*"
    backend: str = "*"
    queues: tuple[str, ...] = (ALL_QUEUES,)
    allow: frozenset[Right] = frozenset()
    deny: frozenset[Right] = frozenset()
    title: str = ""

    @property
    def is_for_all(self) -> bool:
        """Whether it is about all queues of all libraries on all sources."""
        return self.source == "*" and self.backend == "*" and ALL_QUEUES in self.queues

    def allows(self, right: Right) -> bool:
        """Whether it gives that right, on the queues that it covers."""
        return right in self.allow or (right is Right.VIEW and bool(self.allow))

    def denies(self, right: Right) -> bool:
        """Whether it takes that right away, on the queues that it covers."""
        return right in self.deny or Right.VIEW in self.deny

    def covers_source(self, source: str) -> bool:
        """Whether it is about queues on that source."""
        return glob_matches(self.source, source)

    def covers_library(self, source: str, backend: str) -> bool:
        """Whether it is about queues of that library on that source."""
        return self.covers_source(source) and glob_matches(self.backend, backend)

    def covers(self, source: str, backend: str, queue: str) -> bool:
        """Whether it is about that queue. Queue names come from Redis: see `glob_matches` for the time it takes."""
        return self.covers_library(source, backend) and any(glob_matches(glob, queue) for glob in self.queues)

    def covers_all_of(self, source: str, backend: str) -> bool:
        """Whether it is about all queues of that library on that source, whatever their names."""
        return self.covers_library(source, backend) and ALL_QUEUES in self.queues

    def is_for_all_on(self, source: str) -> bool:
        """Whether it is about all queues on that source, of whichever library."""
        return self.covers_source(source) and self.backend == "*" and ALL_QUEUES in self.queues


def without_titles(grants: Iterable[Grant]) -> tuple[tuple[object, ...], ...]:
    """What the grants say, without how they are named: equal for those that give the same rights."""
    return tuple((g.source, g.backend, g.queues, tuple(sorted(g.allow)), tuple(sorted(g.deny))) for g in grants)
