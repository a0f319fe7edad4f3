"""The alerts as of a moment in the past, from the stored history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...store.cache import SingleFlightCache
from ...store.packing import unpack
from .. import keys
from ..evaluation.state_machine import AlertState, StateChange
from ..notification import HistoryEntry, build_history_entry
from ..rules.rule import Severity
from ..store import MAX_EPISODES, AlertStore
from ..stored_values import stream_values
from .alert_reader import AlertReader, FoldedIncidents, PastIncident, fold_incidents, without_inhibited
from .ownership import AlertOwnership
from .visible_alerts import VisibleAlerts

ENTRIES_AT_ONCE = 1000  # of the history, in a round trip: about 300 kB
# Redis removes the oldest entries of a stream some at a time: it can hold a few more than its limit.
MAX_ENTRIES = MAX_EPISODES + ENTRIES_AT_ONCE
KEPT_S = 60.0  # unless alerts change: what happened while the store was unavailable is added without a change
RESOLVED_WITHIN_S = 3600.0  # before the moment
MAX_HISTORY = 20


@dataclass(frozen=True, slots=True)
class PastAlert:
    """An alert that was firing at a moment. `ended_at` None: it is still firing, or its end is not recorded.

    Seconds since 1970. `entry`: its beginning, or its end if only that is still in the history.
    """

    entry: HistoryEntry
    started_at: float
    ended_at: float | None
    is_firing_now: bool


@dataclass(frozen=True, slots=True)
class PastAlerts:
    """The alerts as of `at`, in seconds since 1970.

    `firing`: worst severity first, then oldest first; `resolved`: those that ended in the hour before, `history`: all
    that ended before, both newest first. `goes_back_to`: since when the history is complete; None if nothing was
    removed from it yet. `is_ours` False: nothing is known, since a checker with other settings evaluates the rules or
    was the last to do so. Who had acknowledged or silenced an alert then is not recorded, nor which were pending.
    """

    at: float
    firing: tuple[PastAlert, ...] = ()
    resolved: tuple[PastIncident, ...] = ()
    history: tuple[FoldedIncidents, ...] = ()
    goes_back_to: float | None = None
    is_ours: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether the history goes back to the moment; otherwise other alerts may have been firing."""
        return self.is_ours and (self.goes_back_to is None or self.goes_back_to <= self.at)

    @property
    def incidents(self) -> tuple[PastAlert, ...]:
        """Firing alerts without the warnings that a critical alert of the same rule and labels inhibits."""
        return without_inhibited(self.firing, lambda alert: alert.entry)


@dataclass(frozen=True, slots=True)
class _History:
    """All incidents, newest first. `firing_now`: the episodes that are not over."""

    incidents: tuple[PastIncident, ...] = ()
    firing_now: frozenset[str] = frozenset()
    goes_back_to: float | None = None


class PastAlertReader:
    """Reads the alerts as of a moment; thread-safe. One reading of the history serves all moments."""

    def __init__(
        self,
        alert_store: AlertStore,
        alerts: AlertReader,
        ownership: AlertOwnership,
        visible: VisibleAlerts | None = None,
    ) -> None:
        """`visible` None: all of them; otherwise those that it and `alerts` show."""
        self._visible = visible
        self._alert_store = alert_store
        self._store = alert_store.store
        self._alerts = alerts
        self._ownership = ownership
        self._histories: SingleFlightCache[_History] = SingleFlightCache(KEPT_S)

    def restricted_to(self, visible: VisibleAlerts, alerts: AlertReader) -> PastAlertReader:
        """A reader of the alerts that `visible` shows; `alerts` is such a reader of those of now."""
        return PastAlertReader(self._alert_store, alerts, self._ownership, visible)

    def firing_at(self, at_s: float) -> PastAlerts:
        """The alerts as of `at_s`, in seconds since 1970; none are known while they are evaluated elsewhere, and none
        of a checker with other settings.

        Raises BackendUnavailable, Forbidden. Cost: 1 round trip; when alerts changed, and every KEPT_S, about 2 and 1
        for each ENTRIES_AT_ONCE of at most MAX_ENTRIES.
        """
        if self._ownership.conflict is not None:
            return PastAlerts(at_s, is_ours=False)
        alert_list = self._alerts.list_alerts()
        if alert_list.health is None:  # a checker with other settings was the last one
            return PastAlerts(at_s, is_ours=False)
        firing = [alert.state for alert in alert_list.firing]
        history = self._histories.get("", lambda: self._read_history(firing), alert_list.revision)
        return alerts_as_of(at_s, history.incidents, history.firing_now, history.goes_back_to)

    def _read_history(self, firing: Sequence[AlertState]) -> _History:
        entries, is_all = self._read_entries()
        return _History(
            incidents=join_incidents(entries, firing),
            firing_now=frozenset(state.episode for state in firing),
            goes_back_to=None if is_all else min((entry.at for entry in entries), default=None),
        )

    def _read_entries(self) -> tuple[list[HistoryEntry], bool]:
        """(the entries of the history, newest first, whether none was ever removed)."""
        found: list[bytes] = []
        last = "+"
        while len(found) < MAX_ENTRIES:
            (rows,) = self._store.read_keys(("XREVRANGE", keys.EPISODES, last, "-", "COUNT", ENTRIES_AT_ONCE))
            found += stream_values(rows if last == "+" else (rows or [])[1:])  # the first one was read before
            if not rows or len(rows) < ENTRIES_AT_ONCE:
                break
            last = rows[-1][0].decode()
        entries = (unpack(raw, HistoryEntry) for raw in found)
        visible = self._visible
        shown = [entry for entry in entries if entry is not None and (visible is None or visible.sees(entry.labels))]
        return shown, len(found) < MAX_EPISODES


def join_incidents(entries: Iterable[HistoryEntry], firing: Iterable[AlertState]) -> tuple[PastIncident, ...]:
    """The incidents of the history, in its order, and those of `firing` alerts whose beginning it has no longer."""
    found: dict[str, dict[str, HistoryEntry]] = {}
    for entry in entries:
        found.setdefault(entry.episode, {}).setdefault(entry.kind, entry)
    for state in firing:
        if state.episode not in found and state.started_at is not None:
            began = StateChange("firing", state.episode, state.started_at, state.started_at, peak=state.peak)
            found[state.episode] = {"firing": build_history_entry(state, began)}
    pasts = (PastIncident(kinds.get("firing"), kinds.get("resolved")) for kinds in found.values())
    return tuple(past for past in pasts if past.began or past.ended)


def alerts_as_of(
    at_s: float, incidents: Sequence[PastIncident], firing_now: frozenset[str], goes_back_to: float | None
) -> PastAlerts:
    """The alerts as of `at_s`, from the incidents of the history, newest first. An incident without a recorded end is
    over once the same alert fired again."""
    firing: list[PastAlert] = []
    over: list[PastIncident] = []
    fired_again: set[str] = set()
    for past in incidents:
        began = started_at(past)
        if began > at_s:
            continue
        if past.ended is not None:
            is_over = past.ended.at <= at_s
        else:
            is_over = past.known.episode not in firing_now and past.known.fingerprint in fired_again
        if is_over:
            over.append(past)
        else:
            ended_at = past.ended.at if past.ended else None
            entry = past.began or past.known
            firing.append(PastAlert(entry, began, ended_at, past.known.episode in firing_now))
        if past.began:
            fired_again.add(past.known.fingerprint)
    firing.sort(key=_worst_first)
    over.sort(key=lambda past: -past.known.at)
    recent = (past for past in over if past.ended and past.ended.at > at_s - RESOLVED_WITHIN_S)
    return PastAlerts(at_s, tuple(firing), tuple(recent), fold_incidents(over)[:MAX_HISTORY], goes_back_to)


def started_at(past: PastIncident) -> float:
    """When an incident began, in seconds since 1970; if its beginning is not in the history, as its end says."""
    if past.began is not None:
        return past.began.at
    known = past.known
    return known.at - known.lasted_s if known.started_at is None else known.started_at


def _worst_first(alert: PastAlert) -> tuple[bool, float, str, str]:
    entry = alert.entry
    return entry.severity is not Severity.CRITICAL, alert.started_at, entry.labels.queue or "", entry.fingerprint
