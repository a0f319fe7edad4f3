"""The error groups of one queue, from what this process has read already. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ....dead_letters.fingerprint import error_title
from ....dead_letters.groups import ErrorGroup, GroupMember
from ....dead_letters.service import GroupList
from ....model import QueueRef, QueueStats
from ..group_table import QUIET

SHOWN = 3


@dataclass(frozen=True, slots=True)
class QueueErrorGroup:
    """A group with `count` jobs of the queue; `title`: the error of the newest of them. `final`: no more are unread."""

    fingerprint: str
    title: str
    count: int
    final: bool


@dataclass(frozen=True, slots=True)
class QueueErrorGroups:
    """The SHOWN groups with the most jobs of the queue, of `total`; `name`: how the list of groups knows the queue."""

    groups: tuple[QueueErrorGroup, ...]
    total: int
    name: str | None


def list_shared_entries(queue: QueueStats, queues: Iterable[QueueStats]) -> Iterator[QueueStats]:
    """The entries of `queues` with the lists that its library keeps for all its queues; none for such an entry."""
    if queue.shared:
        return
    where = queue.source, queue.backend, queue.prefix
    yield from (each for each in queues if each.shared and (each.source, each.backend, each.prefix) == where)


class QueueDeadLists:
    """The lists with the dead letters of one queue: its own, and those that its library keeps for all queues."""

    def __init__(self, queue: QueueStats, queues: Iterable[QueueStats]) -> None:
        self._own = queue.ref
        self._shared = {other.ref for other in list_shared_entries(queue, queues)}
        # In a shared list, jobs are known by the name of their queue without its prefix.
        self.name = queue.name.removeprefix(f"{queue.prefix}:") if queue.prefix else queue.name

    def holds(self, ref: QueueRef, name: str) -> bool:
        """Whether a dead letter of the queue `name` in the list of `ref` is one of this queue."""
        return ref == self._own or (ref in self._shared and name == self.name)


def list_error_groups(
    queue: QueueStats, queues: Iterable[QueueStats], group_list: GroupList | None, now: float
) -> QueueErrorGroups | None:
    """The open groups of `queue`, most of its jobs first; None if no groups have been read. `queues`: those of the
    sample. Cost: one step per group."""
    if group_list is None:
        return None
    lists = QueueDeadLists(queue, queues)
    counted = [
        (count, group)
        for group in group_list.grouped.groups
        if (count := sum(each.count for each in group.queues if lists.holds(each.ref, each.name)))
        and not QUIET & set(group_list.annotations.of(group.error.fingerprint).statuses(group, now))
    ]
    counted.sort(key=lambda each: -each[0])
    found = tuple(
        QueueErrorGroup(
            fingerprint=group.error.fingerprint,
            title=error_title(group.error.error_class, _newest_message(group, lists)),
            count=count,
            final=group_list.grouped.is_final(group),
        )
        for count, group in counted[:SHOWN]
    )
    return QueueErrorGroups(found, len(counted), None if queue.shared else lists.name)


def _newest_message(group: ErrorGroup, lists: QueueDeadLists) -> str | None:
    def is_ours(member: GroupMember) -> bool:
        return lists.holds(member.ref, member.dead_letter.queue)

    messages = (member.dead_letter.message for member in group.members if is_ours(member))
    return next((message for message in messages if message), group.newest_message)
