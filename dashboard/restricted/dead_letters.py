"""The dead letters as someone with some rights sees them: those of queues that may be seen, grouped again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from msgspec.structs import replace as replace_value

from ..actions.bulk.operation import JobListRef
from ..dead_letters.annotations import NOTHING_KNOWN, TEXTS, Annotation
from ..dead_letters.group_jobs import GroupJobRef
from ..dead_letters.groups import ErrorGroup, GroupMember, only_lists
from ..dead_letters.lists import BackendOf, DeadListRef, UnreadList, find_lists, find_uncounted
from ..dead_letters.service import DeadLetterService, GroupList
from ..errors import RightMissing
from ..model import QueueRef, QueueStats, State
from ..rights.right import Right
from ..rights.rights import Rights
from ..store.cache import SingleFlightCache

NO_TEXTS = "You need the right 'alerts' on a queue with jobs of this error."
NO_STATUS = "The status of an error is for all its jobs: you need the right 'alerts' on all queues where it occurs."


class RestrictedDeadLetters(DeadLetterService):
    """Reads what `inner` has read for everyone, and leaves out what may not be seen. Thread-safe.

    What users wrote about a group is shown to all who see one of its jobs. The status of a group is that of all its
    jobs, and decides about alerts: only those set it who have the right `alerts` on all queues with its jobs.
    """

    def __init__(
        self,
        inner: DeadLetterService,
        rights: Rights,
        backend_of: BackendOf,
        current_queues: Callable[[], Sequence[QueueStats]],
    ) -> None:
        """`backend_of` and `current_queues`: those that may be seen."""
        self._inner = inner
        self._rights = rights
        self._visible_backend = backend_of
        self._visible_queues = current_queues
        self.annotation_store = inner.annotation_store
        self.dlq_globs = inner.dlq_globs
        self._views: SingleFlightCache[GroupList] = SingleFlightCache()

    def current_groups(self) -> GroupList:
        """As DeadLetterService.current_groups."""
        return self._restrict(self._inner.current_groups())

    def read_groups(self, queues: Sequence[QueueStats]) -> GroupList:  # noqa: ARG002
        """The groups that were read last: reading is for everyone."""
        return self.current_groups()

    def cached_groups(self) -> GroupList | None:
        """As DeadLetterService.cached_groups."""
        found = self._inner.cached_groups()
        return None if found is None else self._restrict(found)

    def remove_jobs(self, ref: QueueRef, state: State, ids: Collection[str]) -> None:
        """As DeadLetterService.remove_jobs."""
        self._inner.remove_jobs(ref, state, ids)

    def invalidate(self) -> None:
        """As DeadLetterService.invalidate."""
        self._inner.invalidate()

    def read_annotation(self, fingerprint: str) -> Annotation:
        """As DeadLetterService.read_annotation; an empty one of a group without a job that may be seen."""
        if self._rights.sees_all:
            return self._inner.read_annotation(fingerprint)
        return self.current_groups().annotations.of(fingerprint)

    def may_annotate(self, fingerprint: str, names: Collection[str]) -> bool:
        """As DeadLetterService.may_annotate. Cost: see current_groups."""
        group = self._inner.current_groups().grouped.find(fingerprint)
        if group is None:
            return self._rights.may_everywhere(Right.ALERTS)
        allowed = (
            self._rights.may(Right.ALERTS, member.ref.source, member.ref.backend, member.ref.name)
            for member in group.members
        )
        return any(allowed) if TEXTS.issuperset(names) else all(allowed)

    def update_annotation(self, fingerprint: str, fields: Mapping[str, str | float | None]) -> bool:
        """As DeadLetterService.update_annotation. False for a group without a job that may be seen. Raises RightMissing
        without the right `alerts`."""
        if not self._rights.sees_all and self.current_groups().grouped.find(fingerprint) is None:
            return False
        if not self.may_annotate(fingerprint, fields):
            raise RightMissing(NO_TEXTS if TEXTS.issuperset(fields) else NO_STATUS)
        return self._inner.update_annotation(fingerprint, fields)

    def list_group_jobs(
        self,
        fingerprint: str | None,
        most: int,
        rows_per_list: int,
        only: Collection[DeadListRef] | None = None,
    ) -> Iterator[GroupJobRef | UnreadList]:
        """As DeadLetterService.list_group_jobs, of lists that may be seen."""
        visible = self._list_refs()
        wanted = set(visible) if only is None else {each for each in only if each in visible}
        return self._inner.list_group_jobs(fingerprint, most, rows_per_list, wanted)

    def lists_of(self, fingerprint: str) -> tuple[JobListRef, ...]:
        """The lists of the known jobs of a group that may be seen."""
        group = self.current_groups().grouped.find(fingerprint)
        found = {(member.ref, member.state) for member in group.members} if group is not None else set()
        return tuple(JobListRef(ref=ref, state=state) for ref, state in sorted(found, key=str))

    def _list_refs(self) -> dict[DeadListRef, int]:
        """The lists that may be seen, with their numbers of jobs in the newest snapshot."""
        queues = self._visible_queues()
        lists = find_lists(queues, self._visible_backend, self.dlq_globs)
        return {dead_list.list_ref: dead_list.count for dead_list in lists}

    def _restrict(self, whole: GroupList) -> GroupList:
        def build() -> GroupList:
            queues = self._visible_queues()
            grouped = only_lists(whole.grouped, self._list_refs())
            uncounted = find_uncounted(queues, self._visible_backend, self.dlq_globs)
            # Jobs beyond the limit of groups can be of any queue.
            at_least = bool(grouped.unread_lists or uncounted or whole.grouped.beyond)
            at_least = at_least or any(queue.at_least for queue in queues)
            counts = {group.error.fingerprint: group.count for group in whole.grouped.groups}
            annotations = {
                (fingerprint := group.error.fingerprint): self._restrict_annotation(
                    whole.annotations.of(fingerprint), group, counts[fingerprint]
                )
                for group in grouped.groups
            }
            return replace(
                whole,
                grouped=replace(grouped, groups=tuple(map(self._hide_origins, grouped.groups)), at_least=at_least),
                annotations=replace(whole.annotations, by_fingerprint=annotations),
            )

        return self._views.get("", build, _Identity(whole))

    def _restrict_annotation(self, whole: Annotation, group: ErrorGroup, count: int) -> Annotation:
        """`whole` with the times of the jobs that may be seen, and without a number of jobs among all `count`."""
        if self._rights.sees_all or whole == NOTHING_KNOWN:
            return whole
        above = whole.ignored_above if count == group.count else None
        return replace_value(whole, first_at=group.first_at, newest_at=group.last_at, back_at=None, ignored_above=above)

    def _hide_origins(self, group: ErrorGroup) -> ErrorGroup:
        """`group` without the names of hidden queues from which jobs came to a dead-letter queue."""

        def hide(member: GroupMember) -> GroupMember:
            ref, origin = member.ref, member.dead_letter.origin_queue
            if origin is None or self._rights.may(Right.VIEW, ref.source, ref.backend, origin):
                return member
            return replace(member, dead_letter=replace(member.dead_letter, origin_queue=None))

        return replace(group, members=tuple(map(hide, group.members))) if group.is_dlq else group


class _Identity:
    """Equal for the same reading of the groups only; keeps it alive, so that no other one takes its place."""

    def __init__(self, whole: GroupList) -> None:
        self._whole = whole

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other._whole is self._whole

    __hash__ = None  # type: ignore[assignment]
