"""Reads everything that is known about a range of time. One report at a time: each decodes much stored history."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from ..actions.audit_filter import AuditFilter
from ..actions.audit_log import AuditEvent, AuditLog
from ..actions.pauses import PauseLog, PauseRecord
from ..alerts.evaluation.state_machine import AlertLabels, AlertState
from ..alerts.management.alert_reader import MAX_CHANGES, AlertReader
from ..alerts.notification import HistoryEntry
from ..dead_letters.service import DeadLetterService
from ..errors import BackendUnavailable, Forbidden, QueuedeckError, join_hint
from ..history.columns import QUEUE, SOURCE
from ..history.history_reader import HistoryRange, HistoryReader, choose_range
from ..history.series_keys import SeriesKey
from ..history.slots import Slot
from ..marks.mark_reader import MarkList, MarkReader
from ..model import QueueStats
from .affected_queues import AffectedQueues, rank_queues
from .error_groups import IncidentGroups, list_groups
from .scope import IncidentScope

MAX_SOURCES = 4  # with a chart of their memory
MAX_EVENTS = 300  # of the audit log
# Queues are compared by about so many slots of the range. So many queues, and records of all of them, are decoded at
# most: one to three seconds of work if all of them are busy.
AFFECTED_SLOTS, MOST_QUEUES, MOST_RECORDS = 30, 200, 40_000
LEAST_QUEUES = 20
WAIT_S = 15.0
# Parts of a report, in the sentences about what could not be read.
ALERTS, MARKS, AUDIT_LOG, AFFECTED = "Alerts", "Marks", "The audit log", "Affected queues"


class IncidentPause(NamedTuple):
    """A pause that lasts until now, of a queue; "" is all queues of the library."""

    source: str
    backend: str
    queue: str
    record: PauseRecord


@dataclass(slots=True)
class IncidentRecords:
    """What is known of a range, in seconds since 1970; everything is newest first, except slots.

    `changes`: alerts that fired or resolved in the range, `ended_later`: those that resolved after it, `firing`: those
    that fire now. `events`: None where the user may not see the audit log. `missing`: sentences about what could not be
    read, or not completely; `unread`: these parts. `is_final`: whether reading it all again would find the same.
    """

    scope: IncidentScope
    start_s: float
    end_s: float
    read_at_s: float
    slots: HistoryRange
    series: dict[SeriesKey, list[Slot]] = field(default_factory=dict)
    changes: tuple[HistoryEntry, ...] = ()
    ended_later: tuple[HistoryEntry, ...] = ()
    firing: tuple[AlertState, ...] = ()
    marks: MarkList = field(default_factory=lambda: MarkList(()))
    events: tuple[AuditEvent, ...] | None = None
    pauses: tuple[IncidentPause, ...] = ()
    groups: IncidentGroups = field(default_factory=IncidentGroups)
    affected: AffectedQueues = field(default_factory=AffectedQueues)
    sample_end_s: int | None = None
    missing: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    is_final: bool = True

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Note in `missing` that a part of the report could not be read, instead of failing."""
        try:
            yield
        except (BackendUnavailable, Forbidden) as exc:
            self.missing.append(f"{name} could not be read: {join_hint(exc.message, exc.hint)}")
            self.unread.add(name)
            self.is_final = False


class IncidentReader:
    """Reads the records of incidents. Thread-safe."""

    def __init__(
        self,
        history: HistoryReader,
        alerts: AlertReader,
        marks: MarkReader,
        audit_log: AuditLog,
        pauses: PauseLog,
        dead_letters: DeadLetterService,
        current_queues: Callable[[], Sequence[QueueStats]],
    ) -> None:
        self._history = history
        self._alerts = alerts
        self._marks = marks
        self._audit_log = audit_log
        self._pauses = pauses
        self._dead_letters = dead_letters
        self._current_queues = current_queues
        self._turn = threading.Lock()

    def read_records(
        self, scope: IncidentScope, start_s: float, end_s: float, now_s: float, *, sources: Iterable[str], audited: bool
    ) -> IncidentRecords:
        """Everything about `scope` between two times. `sources`: those whose memory is of interest. `audited`: with
        the audit log. What cannot be read is named in `missing`.

        Raises BackendUnavailable if other reports take longer than WAIT_S. Cost: about 15 round trips, and that of
        `DeadLetterService.current_groups`; at most MOST_RECORDS stored records of queues are decoded.
        """
        if not self._turn.acquire(timeout=WAIT_S):
            raise BackendUnavailable(
                "Other incident reports are being prepared.",
                source=scope.source,
                reason="busy",
                hint="Try again in a moment.",
            )
        try:
            slots = choose_range(QUEUE, start_s, end_s, now_s)
            found = IncidentRecords(scope, start_s, end_s, now_s, slots)
            with found.part("The history"):
                self._read_series(found, sources)
            with found.part(ALERTS):
                self._read_alerts(found)
            with found.part(MARKS):
                found.marks = self._marks.list_marks(start_s, end_s)
            if audited:
                with found.part(AUDIT_LOG):
                    wanted = AuditFilter(since_s=start_s, until_s=end_s)
                    page = self._audit_log.list_page(wanted, count=MAX_EVENTS)
                    found.events = page.events
                    if page.next_before is not None:
                        found.missing.append(f"Of the audit log, only the newest {MAX_EVENTS} actions are included.")
            with found.part("Pauses"):
                self._read_pauses(found)
            with found.part(AFFECTED):
                self._read_affected(found)
            self._read_groups(found)
            return found
        finally:
            self._turn.release()

    def _read_series(self, found: IncidentRecords, sources: Iterable[str]) -> None:
        names = list(sources)
        keys = [found.scope.series, *(SeriesKey(SOURCE, name) for name in names[:MAX_SOURCES])]
        if len(names) > MAX_SOURCES:
            found.missing.append(f"The memory of {len(names) - MAX_SOURCES} more Redis servers is not included.")
        found.series = self._history.read_slots(keys, found.slots, found.read_at_s)
        found.sample_end_s = self._history.read_sample_end()

    def _read_alerts(self, found: IncidentRecords) -> None:
        found.changes, is_all = self._alerts.read_changes(found.start_s, found.end_s)
        if not is_all:
            found.missing.append(f"Of the alerts, only the newest {MAX_CHANGES:,} changes in the range are included.")
            found.unread.add(ALERTS)
        begun = (alert.state for alert in self._alerts.list_alerts().firing)
        found.firing = tuple(state for state in begun if (state.started_at or 0.0) <= found.end_s)
        if found.end_s < found.read_at_s:
            later, is_all = self._alerts.read_changes(found.end_s, found.read_at_s)
            found.ended_later = tuple(
                entry for entry in later if entry.kind == "resolved" and (entry.started_at or entry.at) <= found.end_s
            )
            if not is_all:
                found.missing.append("Some alerts that were firing throughout the range may be missing.")
                found.unread.add(ALERTS)
        begins_at = self._alerts.history_begins_at()
        if begins_at is not None and begins_at > found.start_s:
            found.missing.append(
                "The alert history begins after the beginning of the range: earlier alerts are missing."
            )
            found.unread.add(ALERTS)

    def _read_pauses(self, found: IncidentRecords) -> None:
        pauses = (IncidentPause(*each) for each in self._pauses.list_pauses().list_begun(found.start_s, found.end_s))
        found.pauses = tuple(
            each for each in pauses if found.scope.covers(each.source, each.backend, each.queue or found.scope.queue)
        )[::-1]

    def _read_affected(self, found: IncidentRecords) -> None:
        keys = self._candidates(found)
        least_step_s = (found.end_s - found.start_s) / AFFECTED_SLOTS
        wanted = choose_range(QUEUE, found.start_s, found.end_s, found.read_at_s, max(60.0, least_step_s))
        tier_step_s = 900 if wanted.step_s % 900 == 0 else 60
        records_each = max(1, (wanted.end_s - wanted.start_s) // tier_step_s)
        most = min(MOST_QUEUES, max(LEAST_QUEUES, MOST_RECORDS // records_each))
        slots = self._history.read_slots(keys[:most], wanted, found.read_at_s, coarse=True)
        found.affected = rank_queues(slots, wanted.step_s, len(keys))

    def _candidates(self, found: IncidentRecords) -> list[SeriesKey]:
        """The queues of the scope: first those that alerts were about, then those with the most jobs now."""
        named = (entry.labels for entry in (*found.changes, *found.ended_later))
        labels = [*named, *(state.labels for state in found.firing)]
        queues = [queue for queue in self._current_queues() if not queue.shared]
        queues.sort(key=lambda queue: -((queue.depth or 0) + (queue.counts.dead or 0)))
        places = [place for each in labels if (place := _place_of(each)) is not None]
        places += [(queue.source, queue.backend, queue.name) for queue in queues]
        if found.scope.queue:
            places.append((found.scope.source, found.scope.backend, found.scope.queue))
        return [SeriesKey(QUEUE, *place) for place in dict.fromkeys(places) if found.scope.covers(*place)]

    def _read_groups(self, found: IncidentRecords) -> None:
        try:
            group_list = self._dead_letters.current_groups()
        except QueuedeckError as exc:
            found.missing.append(f"Error groups could not be read: {join_hint(exc.message, exc.hint)}")
            found.is_final = False
            return
        found.is_final = found.is_final and not group_list.grouped.reading
        found.groups = list_groups(group_list, found.scope, found.start_s, found.end_s)
        for unread in group_list.grouped.unread_lists:
            if found.scope.covers_ref(unread.ref):
                found.missing.append(f"Dead letters of {unread.ref.name} could not be read: {unread.why}")


def _place_of(labels: AlertLabels) -> tuple[str, str, str] | None:
    if labels.source is None or labels.backend is None or labels.queue in (None, "*"):
        return None
    return labels.source, labels.backend, labels.queue or ""
