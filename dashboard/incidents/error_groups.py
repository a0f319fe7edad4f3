"""The error groups that had deaths in a range of time, from the dead letters that are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..dead_letters.groups import ErrorGroup, GroupMember
from ..dead_letters.service import GroupList
from ..model import QueueRef
from .scope import IncidentScope

MOST_GROUPS = 30
MOST_QUEUES = 3


@dataclass(frozen=True, slots=True)
class IncidentGroup:
    """One error group in a range. Times in seconds since 1970, None if unknown; `queues`: most jobs first.

    `count`: the jobs of the range that are still dead letters, `later` those after it. `message`: that of the newest
    job in the range, as the pages show it. `began`: whether the group was first seen in the range.
    """

    fingerprint: str
    error_class: str | None
    message: str | None
    frame: str | None
    count: int
    later: int
    first_at: float | None
    last_at: float | None
    first_seen_at: float | None
    began: bool
    queues: tuple[tuple[QueueRef, str, int], ...]


@dataclass(frozen=True, slots=True)
class IncidentGroups:
    """The groups of a range, most jobs first; `hidden` more are left out.

    `undated`: jobs without a time of death, which belong to no range. `scanned` of `total` dead letters were read.
    """

    groups: tuple[IncidentGroup, ...] = ()
    hidden: int = 0
    undated: int = 0
    scanned: int = 0
    total: int = 0
    is_truncated: bool = False


def list_groups(group_list: GroupList, scope: IncidentScope, start_s: float, end_s: float) -> IncidentGroups:
    """The groups with a death between two times, or first seen then. Linear in the jobs that are known."""
    found: list[IncidentGroup] = []
    undated = 0
    for group in group_list.grouped.groups:
        members = [member for member in group.members if _belongs(member, scope)]
        undated += sum(member.dead_letter.at is None for member in members)
        inside = [member for member in members if _is_within(member.dead_letter.at, start_s, end_s)]
        noticed_at = group_list.annotations.of(group.error.fingerprint).first_at
        first_at = min((at for at in (group.first_at, noticed_at) if at is not None), default=None)
        began = _is_within(first_at, start_s, end_s)
        if inside or (began and members):
            later = sum((member.dead_letter.at or 0.0) > end_s for member in members)
            found.append(_describe(group, inside, later, first_at, began=began))
    found.sort(key=lambda each: (-each.count, each.first_at or 0.0))
    grouped = group_list.grouped
    return IncidentGroups(
        tuple(found[:MOST_GROUPS]),
        max(0, len(found) - MOST_GROUPS),
        undated,
        grouped.scanned,
        grouped.total,
        grouped.truncated or grouped.reading,
    )


def _describe(
    group: ErrorGroup, inside: Sequence[GroupMember], later: int, first_seen_at: float | None, *, began: bool
) -> IncidentGroup:
    deaths = [member.dead_letter.at for member in inside if member.dead_letter.at is not None]
    queues = Counter((member.ref, member.dead_letter.queue) for member in inside)
    return IncidentGroup(
        fingerprint=group.error.fingerprint,
        error_class=group.error.error_class,
        message=next((each.dead_letter.message for each in inside if each.dead_letter.message), group.error.message),
        frame=group.error.frames[0] if group.error.frames else None,
        count=len(inside),
        later=later,
        first_at=min(deaths, default=None),
        last_at=max(deaths, default=None),
        first_seen_at=first_seen_at,
        began=began,
        queues=tuple((ref, name, count) for (ref, name), count in queues.most_common(MOST_QUEUES)),
    )


def _belongs(member: GroupMember, scope: IncidentScope) -> bool:
    """Whether a dead letter is of a queue of the scope; in a list of all queues, its own queue counts."""
    return scope.covers(member.ref.source, member.ref.backend, member.dead_letter.queue) or (
        not member.ref.shared and scope.covers_ref(member.ref)
    )


def _is_within(at: float | None, start_s: float, end_s: float) -> bool:
    return at is not None and start_s <= at <= end_s
