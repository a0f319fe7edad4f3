"""Grants: which rights someone has, or is denied, on which queues. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

from ..errors import ConfigurationError
from ..globs import EXPECTED, glob_matches, is_glob
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

    def __post_init__(self) -> None:
        """Accept names of rights, and lists, as applications write them. Raises ConfigurationError for other values."""
        globs: object = self.queues
        if not are_texts(globs) or not all(map(is_glob, globs)):
            raise ConfigurationError(f"Grant: queues: expected a tuple of {EXPECTED}")
        if not is_glob(self.source) or not is_glob(self.backend):
            raise ConfigurationError(f"Grant: source, backend: expected {EXPECTED}")
        object.__setattr__(self, "queues", tuple(globs))
        for field in ("allow", "deny"):
            object.__setattr__(self, field, _rights_in(field, getattr(self, field)))

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


def are_texts(value: object) -> TypeGuard[Iterable[str]]:
    """Whether `value` is several texts, rather than one."""
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(each, str) for each in value)


def _rights_in(field: str, names: object) -> frozenset[Right]:
    if are_texts(names):
        with contextlib.suppress(ValueError):
            return frozenset(map(Right, names))
    raise ConfigurationError(f"Grant: {field}: expected a set of {', '.join(Right)}")


def without_titles(grants: Iterable[Grant]) -> tuple[tuple[object, ...], ...]:
    """What the grants say, without how they are named: equal for those that give the same rights."""
    return tuple((g.source, g.backend, g.queues, tuple(sorted(g.allow)), tuple(sorted(g.deny))) for g in grants)
