"""The error groups of all dead letters, read once for all viewers of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..clock import monotonic_s
from ..model import QueueRef, QueueStats, State
from ..sources.metering import Meter, measure_cost
from . import groups
from .annotations import Annotation, Annotations, AnnotationStore
from .group_jobs import GroupJobRef, list_group_jobs
from .groups import GroupedDeadLetters
from .index import DeadLetterIndex
from .lists import BackendOf, DeadListRef, UnreadList, find_lists, find_uncounted, is_dlq

# Reading takes at most a sixth of the time: groups that took one second to read are cached for five.
REST_FACTOR = 5
# Jobs that actions removed from lists, kept until the next read; about 100 bytes each.
MAX_REMOVED = 50_000
TITLE_LIMIT = 200


@dataclass(frozen=True, slots=True)
class GroupList:
    """One reading of the groups, their annotations, and the cost of both."""

    grouped: GroupedDeadLetters
    annotations: Annotations
    seconds: float
    cost: Meter


class DeadLetterService:
    """Caches the last groups; one thread reads new ones while the others get the cached ones. Thread-safe."""

    def __init__(
        self,
        backend_of: BackendOf,
        dlq_globs: Sequence[str],
        annotation_store: AnnotationStore,
        current_queues: Callable[[], Sequence[QueueStats]],
        keep_s: float,
    ) -> None:
        """`current_queues` returns the queues whose dead letters are grouped."""
        self.annotation_store = annotation_store
        self._current_queues = current_queues
        self._backend_of = backend_of
        self.dlq_globs = tuple(dlq_globs)
        self._keep_s = keep_s
        self._index = DeadLetterIndex(backend_of, dlq_globs)
        self._lock = threading.Lock()  # also guards the rows
        self._group_list: GroupList | None = None
        # Jobs that actions removed from lists since the last read began, which may still have seen them; the first
        # `_applied` entries are already removed from the cached groups.
        self._removed: list[tuple[float, DeadListRef, frozenset[str]]] = []
        self._applied = 0
        self._removed_lock = threading.Lock()
        self._next_read = 0.0  # monotonic

    def current_groups(self) -> GroupList:
        """All groups, at most an interval old, or REST_FACTOR times as old as reading takes. Never raises.

        Cost: usually none; see DeadLetterIndex.read_lists and AnnotationStore.sync_groups.
        """
        queues = self._current_queues()
        group_list = self._group_list
        if group_list is not None and (monotonic_s() < self._next_read or not self._lock.acquire(blocking=False)):
            return self._without_removed(group_list)
        if group_list is None:
            self._lock.acquire()
        try:
            group_list = self._group_list
            if group_list is None or monotonic_s() >= self._next_read:
                group_list = self._refresh_groups(queues)
            return self._without_removed(group_list)
        finally:
            self._lock.release()

    def read_groups(self, queues: Sequence[QueueStats]) -> GroupList:
        """All groups of these queues, read now, also for all viewers. Never raises.

        Cost: see DeadLetterIndex.read_lists and AnnotationStore.sync_groups.
        """
        with self._lock:
            return self._without_removed(self._refresh_groups(queues))

    def _refresh_groups(self, queues: Sequence[QueueStats]) -> GroupList:
        started = monotonic_s()
        group_list = self._read_groups(queues)
        with self._removed_lock:
            self._group_list, self._applied = group_list, 0
            self._removed = [each for each in self._removed if each[0] >= started]
        self._next_read = monotonic_s() + max(self._keep_s, REST_FACTOR * group_list.seconds)
        return group_list

    def cached_groups(self) -> GroupList | None:
        """The groups as they were read last, however long ago; None if this process has not read any. Cost: none."""
        group_list = self._group_list
        return None if group_list is None else self._without_removed(group_list)

    def find_title(self, fingerprint: str | None) -> str | None:
        """The error of a group in one line of at most TITLE_LIMIT characters; None if none of its jobs is known.

        Cost: see current_groups.
        """
        group = self.current_groups().grouped.find(fingerprint) if fingerprint is not None else None
        return group.title[:TITLE_LIMIT] if group is not None else None

    def remove_jobs(self, ref: QueueRef, state: State, ids: Collection[str]) -> None:
        """Hide jobs that an action removed from a list from all viewers of this process immediately. Cost: none."""
        with self._removed_lock:
            self._removed.append((monotonic_s(), (ref, state), frozenset(ids)))
            if sum(len(each[2]) for each in self._removed) > MAX_REMOVED:  # the next viewer waits for a new read
                self._removed, self._applied, self._group_list = [], 0, None

    def invalidate(self) -> None:
        """Discard the cached groups, after an undo that restored jobs, or after a queue was deleted with its jobs."""
        with self._lock, self._removed_lock:
            self._group_list = None

    def _without_removed(self, group_list: GroupList) -> GroupList:
        """The newest groups without the jobs that were removed since they were read."""
        with self._removed_lock:
            newest = self._group_list or group_list
            if self._applied == len(self._removed):
                return newest
            removed: dict[DeadListRef, set[str]] = {}
            for _, list_ref, ids in self._removed[self._applied :]:
                removed.setdefault(list_ref, set()).update(ids)
            remaining = replace(newest, grouped=groups.without_jobs(newest.grouped, removed))
            if self._group_list is not None:
                self._group_list, self._applied = remaining, len(self._removed)
            return remaining

    def read_annotation(self, fingerprint: str) -> Annotation:
        """The annotation of a group, with or without jobs. Raises and costs as AnnotationStore.read_annotation."""
        return self.annotation_store.read_annotation(fingerprint)

    def may_annotate(self, fingerprint: str, names: Collection[str]) -> bool:  # noqa: ARG002
        """Whether those who use this service have the right to set these values of a group. Cost: none."""
        return True

    def update_annotation(self, fingerprint: str, fields: Mapping[str, str | float | None]) -> bool:
        """Store a user's annotation of a group; all viewers see it immediately. Cost: a few round trips.

        Returns and raises as AnnotationStore.update_annotation. A currently listed group is stored again if the store
        no longer has it (FLUSHALL, failover, MAX_KEPT).
        """
        known = self.annotation_store.update_annotation(fingerprint, fields)
        group_list = self._group_list
        group = group_list.grouped.find(fingerprint) if group_list is not None else None
        if not known and group is not None:
            self.annotation_store.sync_groups((group,))
            known = self.annotation_store.update_annotation(fingerprint, fields)
        with self._lock, self._removed_lock:
            if self._group_list is not None:
                self._group_list = replace(
                    self._group_list, annotations=self.annotation_store.sync_groups(self._group_list.grouped.groups)
                )
        return known

    def list_group_jobs(
        self,
        fingerprint: str | None,
        most: int,
        rows_per_list: int,
        only: Collection[DeadListRef] | None = None,
    ) -> Iterator[GroupJobRef | UnreadList]:
        """The current jobs of a group, limited to the lists in `only` if given. Cost: see group_jobs.list_group_jobs.

        The queues for which it is unknown whether they have dead letters follow as UnreadList.
        """
        queues = self._current_queues()
        every_list = find_lists(queues, self._backend_of, self.dlq_globs)
        lists = [dead_list for dead_list in every_list if only is None or dead_list.list_ref in only]
        grouped = self.current_groups().grouped
        yield from list_group_jobs(lists, self._backend_of, grouped, fingerprint, most, rows_per_list)
        for unread in find_uncounted(queues, self._backend_of, self.dlq_globs):
            if only is None or any(ref == unread.ref for ref, _ in only):
                yield unread

    def is_dlq(self, queue: QueueStats) -> bool:
        """Whether the settings define the queue as a dead-letter queue."""
        return is_dlq(queue, self.dlq_globs)

    def _read_groups(self, queues: Sequence[QueueStats]) -> GroupList:
        started = monotonic_s()
        with measure_cost() as meter:
            lists, unread_lists = self._index.read_lists(queues)
            grouped = groups.group_dead_letters(lists, unread_lists, self.annotation_store.now_s())
            annotations = self.annotation_store.sync_groups(grouped.groups)
        return GroupList(grouped, annotations, monotonic_s() - started, meter)
