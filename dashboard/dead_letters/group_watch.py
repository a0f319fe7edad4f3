"""Which error groups are new or have regressed, for alerts: read in a thread whenever dead letters change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..background_reads import BackgroundReads
from ..clock import monotonic_s
from ..model import QueueStats, Snapshot
from ..redact import mask_text, masked_logger
from ..units import shorten_text
from .annotations import Annotation
from .fingerprint import error_title
from .groups import ErrorGroup
from .service import DeadLetterService, GroupList

log = masked_logger(__name__)

# Annotations can change without the dead letters: someone resolves a group, a day passes.
LOOK_EVERY_S = 15.0
# A group is new if it was first seen this soon after its first death: what had failed long before is not.
NEW_WITHIN_S = 900.0
WAIT_S = 0.2
MAX_TITLE = 120
MAX_DETAIL = 250
MAX_NAME = 60


@dataclass(frozen=True, slots=True)
class WatchedGroup:
    """One error group. `title`: its error without variable parts, which stays the same; `detail`: where its jobs are,
    and the message of the newest one. `places`: (source, library, queue) of its jobs, most jobs first."""

    fingerprint: str
    title: str
    count: int
    is_new: bool
    is_regressed: bool
    places: tuple[tuple[str, str, str], ...]
    owner: str | None
    detail: str


def watched_groups(group_list: GroupList, now: float) -> tuple[WatchedGroup, ...] | None:
    """The groups of one reading; None while it is unknown which of them are new. Pure."""
    if group_list.annotations.problem is not None or group_list.grouped.reading:
        return None
    return tuple(
        _watched_group(group, group_list.annotations.of(group.error.fingerprint), now)
        for group in group_list.grouped.groups
    )


def _watched_group(group: ErrorGroup, annotation: Annotation, now: float) -> WatchedGroup:
    statuses = annotation.statuses(group, now)
    open_now = not annotation.is_ignored(group.count, now)
    places = tuple((queue.ref.source, queue.ref.backend, queue.name) for queue in group.queues)
    more = f" and {len(places) - 1} more queue{'s' if len(places) > 2 else ''}" if len(places) > 1 else ""
    where = f"in {shorten_text(places[0][2], MAX_NAME)}{more}: " if places else ""
    return WatchedGroup(
        fingerprint=group.error.fingerprint,
        title=shorten_text(error_title(group.error.error_class, group.error.message), MAX_TITLE),
        count=group.count,
        is_new=open_now and "new" in statuses and _began_now(group, annotation),
        is_regressed=open_now and "regressed" in statuses,
        places=places,
        owner=annotation.owner,
        detail=shorten_text(where + mask_text(group.title), MAX_DETAIL),
    )


def _began_now(group: ErrorGroup, annotation: Annotation) -> bool:
    """Whether the group was seen soon after its first death; not if the library records no time of death."""
    if group.first_at is None or annotation.first_at is None:
        return False
    return annotation.first_at - group.first_at <= NEW_WITHIN_S


class GroupWatch:
    """Reads the groups for the caller of `look`, who waits at most WAIT_S. Call `look` from one thread only."""

    def __init__(self, service: DeadLetterService, now_s: Callable[[], float]) -> None:
        """`now_s`: seconds since 1970 by the clock of the store."""
        self._service = service
        self._now_s = now_s
        self._groups: tuple[WatchedGroup, ...] | None = None
        self._queues: Sequence[QueueStats] = ()
        self._reads = BackgroundReads("queuedeck-error-groups", self._read_groups)
        self._seen: object = None  # the dead letters as of the last reading that was asked for
        self._looked_at = float("-inf")  # monotonic

    def look(self, snapshot: Snapshot) -> tuple[WatchedGroup, ...] | None:
        """The groups as they were read last; None before the first reading, and while it is unknown which are new.

        Cost: none for the caller; if dead letters changed, and every LOOK_EVERY_S, a reading in the thread. The caller
        waits for it for a moment: most readings are short, and the groups are then those of this sample.
        """
        seen = [
            (queue.source, queue.backend, queue.key, queue.counts.dead, queue.counts.waiting, queue.failed_total)
            for queue in snapshot.queues
            if queue.counts.dead or self._service.is_dlq(queue)
        ]
        if seen != self._seen or monotonic_s() - self._looked_at >= LOOK_EVERY_S:
            self._seen, self._looked_at, self._queues = seen, monotonic_s(), snapshot.queues
            self._reads.request(WAIT_S)
        return self._groups

    def stop(self) -> None:
        """Stop the thread; one that is reading does not block the exit."""
        self._reads.stop()

    def _read_groups(self) -> None:
        try:
            group_list = self._service.read_groups(self._queues)
            self._groups = watched_groups(group_list, self._now_s())
            if group_list.grouped.reading:
                self._reads.request()
        except Exception:
            log.exception("the error groups could not be read; rules on them are not evaluated")
            self._groups = None
