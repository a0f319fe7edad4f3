"""The alerts that fire or are pending now, and the incidents of the past."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from ...clock import monotonic_s
from ...errors import BackendUnavailable, Forbidden, NotFound
from ...store.packing import unpack
from .. import keys
from ..evaluation.state_machine import AlertLabels, AlertPhase, AlertState
from ..notification import HistoryEntry
from ..rules.rule import Severity
from ..rules.ruleset import RuleInForce, Ruleset
from ..silences import Acknowledgement, ActiveSilences, Silence
from ..store import MAX_EPISODES, AlertStore
from ..stored_values import EvaluationInputs, stream_values
from .checker_health import CheckerHealth, health_from_beat
from .ownership import AlertOwnership
from .visible_alerts import VisibleAlerts

MAX_INCIDENTS = 500
MAX_CHANGES = 1000
RECORDED_WITHIN_S = 60.0  # of when it happened, the change of an alert is in the history
MAX_TOGETHER = 200  # alerts acknowledged together
FOLD_WITHIN_S = 120.0  # between two incidents of one entry of the history


@dataclass(frozen=True, slots=True)
class Alert:
    """One firing or pending alert. `ack` and `silence` are what suppresses its notifications.

    `silenced_until`: seconds since 1970.
    """

    state: AlertState
    ack: Acknowledgement | None
    silence: Silence | None
    silenced_until: float | None


_Firing = TypeVar("_Firing")


def without_inhibited(
    alerts: Sequence[_Firing], facts_of: Callable[[_Firing], AlertState | HistoryEntry]
) -> tuple[_Firing, ...]:
    """The alerts without the warnings that a critical alert of the same rule and labels inhibits, in their order."""
    facts = [facts_of(alert) for alert in alerts]
    critical = {(each.rule_id, each.labels) for each in facts if each.severity is Severity.CRITICAL}
    return tuple(
        alert
        for alert, each in zip(alerts, facts, strict=True)
        if each.severity is Severity.CRITICAL or (each.rule_id, each.labels) not in critical
    )


@dataclass(frozen=True, slots=True)
class AlertList:
    """All alerts as of `at` (the store's clock): worst severity first, then oldest first.

    `rules`: all rules in force then, and `silences`: those stored, ended ones too; `health` is None while another
    dashboard evaluates them. `problem` None: just read; otherwise why the store cannot be read, and the list is what it
    was `age_s` seconds ago. `revision` changes with every alert that begins, changes or ends.
    """

    at: float
    firing: tuple[Alert, ...]
    pending: tuple[Alert, ...]
    rules: tuple[RuleInForce, ...] = ()
    silences: tuple[Silence, ...] = ()
    health: CheckerHealth | None = None
    problem: BackendUnavailable | Forbidden | None = None
    age_s: float = 0.0
    revision: str = ""

    @property
    def incidents(self) -> tuple[Alert, ...]:
        """Firing alerts without the warnings that a critical alert of the same rule and labels inhibits."""
        return without_inhibited(self.firing, lambda alert: alert.state)

    @property
    def worst(self) -> Severity | None:
        """The worst firing severity; None when no alert is firing."""
        return min((alert.state.severity for alert in self.firing), key=list(Severity)[::-1].index, default=None)


@dataclass(frozen=True, slots=True)
class PastIncident:
    """One incident of the history. `ended` None: it is ongoing, or its end is no longer in the history."""

    began: HistoryEntry | None
    ended: HistoryEntry | None

    @property
    def known(self) -> HistoryEntry:
        """The end of the incident if it is known, otherwise its beginning."""
        found = self.ended or self.began
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class FoldedIncidents:
    """Incidents of one rule on one library that ended, or began, at about the same time; at least one, newest first."""

    incidents: tuple[PastIncident, ...]

    @property
    def newest(self) -> PastIncident:
        """The newest one."""
        return self.incidents[0]

    @property
    def longest_s(self) -> float:
        """How long the longest one lasted."""
        return max(past.known.lasted_s for past in self.incidents)


class AlertReader:
    """Reads alerts and incidents."""

    def __init__(
        self,
        alert_store: AlertStore,
        ownership: AlertOwnership,
        ruleset: Ruleset,
        sample_interval_s: float,
        visible: VisibleAlerts | None = None,
    ) -> None:
        """`visible` None: all of them."""
        self._visible = visible
        self._alert_store = alert_store
        self._store = alert_store.store
        self._ownership = ownership
        self._ruleset = ruleset
        self._sample_interval_s = sample_interval_s
        self._last_list: tuple[float, AlertList] | None = None  # when it was read (monotonic)
        self._sorted_cache: tuple[tuple[str, int], Sequence[AlertState]] | None = None

    def restricted_to(self, visible: VisibleAlerts) -> AlertReader:
        """A reader of the alerts that `visible` shows, and of the rules and silences of these."""
        return AlertReader(self._alert_store, self._ownership, self._ruleset, self._sample_interval_s, visible)

    def list_alerts(self) -> AlertList:
        """All alerts; none while they are evaluated elsewhere. Cost: 1 round trip, 2 more when anything has changed
        since the last call."""
        if self._ownership.conflict is not None:
            return AlertList(self._store.now_s(), (), ())
        inputs = self._alert_store.read_inputs()
        if self._ownership.is_foreign(inputs.beat):
            return AlertList(inputs.now, (), ())
        rows = self._sorted_states(inputs)
        alerts = [_build_alert(state, inputs.active_silences, inputs.now) for state in rows]
        found = AlertList(
            inputs.now,
            tuple(alert for alert in alerts if alert.state.is_active),
            tuple(alert for alert in alerts if alert.state.phase is AlertPhase.PENDING),
            self._ruleset.rules_in_force(inputs.rules),
            inputs.active_silences.silences,
            health_from_beat(inputs.now, inputs.beat, self._sample_interval_s),
            revision=f"{inputs.born}:{inputs.changes}",
        )
        if self._visible is not None:
            rules, silences = self._visible.rules_of(found.rules), self._visible.silences_of(found.silences)
            found = replace(found, rules=rules, silences=silences)
        self._last_list = monotonic_s(), found
        return found

    def list_or_recall(self) -> AlertList:
        """As `list_alerts`; while the store cannot be read, what this process read last, with `problem` set.

        Raises BackendUnavailable, Forbidden when it has not read any yet.
        """
        try:
            return self.list_alerts()
        except (BackendUnavailable, Forbidden) as exc:
            if self._last_list is None:
                raise
            read_at, last = self._last_list
            return replace(last, problem=exc, age_s=monotonic_s() - read_at)

    def _sorted_states(self, inputs: EvaluationInputs) -> Sequence[AlertState]:
        """All stored states, worst first; cached until the store counts another change."""
        version = (inputs.born, inputs.changes)
        last = self._sorted_cache
        if not inputs.born or last is None or last[0] != version:
            states = self._alert_store.load_states().states.values()
            last = (version, sorted((state for state in states if self._sees(state.labels)), key=_worst_first))
            self._sorted_cache = last
        return last[1]

    def _sees(self, labels: AlertLabels) -> bool:
        return self._visible is None or self._visible.sees(labels)

    def find_alert(self, fingerprint: str) -> Alert:
        """One alert. Raises NotFound, Conflict. Cost: 3 round trips."""
        self._ownership.check()
        alert_list = self.list_alerts()
        for alert in (*alert_list.firing, *alert_list.pending):
            if alert.state.fingerprint == fingerprint:
                return alert
        raise NotFound("This alert is no longer firing.")

    def sibling_alerts(self, alert: Alert) -> tuple[Alert, ...]:
        """The other firing alerts of the same rule and severity that are unacknowledged, at most MAX_TOGETHER.

        Cost: 1 round trip.
        """
        found = (
            other
            for other in self.list_alerts().firing
            if other.ack is None
            and (other.state.rule_id, other.state.severity) == (alert.state.rule_id, alert.state.severity)
            and other.state.fingerprint != alert.state.fingerprint
        )
        return tuple(islice(found, MAX_TOGETHER))

    def history_begins_at(self) -> float | None:
        """When the oldest change of an alert that is still stored happened, in seconds since 1970; None while none was
        dropped. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        count, rows = self._store.read_keys(("XLEN", keys.EPISODES), ("XRANGE", keys.EPISODES, "-", "+", "COUNT", 1))
        oldest = next((unpack(raw, HistoryEntry) for raw in stream_values(rows)), None)
        return oldest.at if oldest is not None and (count or 0) >= MAX_EPISODES else None

    def list_history(self, firing: Iterable[Alert], most: int) -> tuple[FoldedIncidents, ...]:
        """Incidents, newest first, without those in `firing`, and with the ends and beginnings of many queues at about
        the same time as one entry. Cost: 1 round trip, 1 more while most of the newest ones are left out."""
        known = {alert.state.episode for alert in firing}
        for count in (4 * most, 2 * MAX_INCIDENTS):
            pasts, is_all = self._read_incidents(count)
            folded = fold_incidents(past for past in pasts if past.ended or past.known.episode not in known)
            if is_all or len(folded) > most:
                break
        return folded[:most]

    def list_changes(self, start_s: float, end_s: float) -> tuple[HistoryEntry, ...]:
        """The incidents that began or ended between two times, newest first, at most MAX_CHANGES; none while alerts
        are evaluated elsewhere. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        return self.read_changes(start_s, end_s)[0]

    def read_changes(self, start_s: float, end_s: float) -> tuple[tuple[HistoryEntry, ...], bool]:
        """(the same as `list_changes`, whether these are all). Raises and costs the same."""
        if self._ownership.conflict is not None:
            return (), True
        first, last = (str(max(0, int(at * 1000))) for at in (start_s, end_s + RECORDED_WITHIN_S))
        (rows,) = self._store.read_keys(("XREVRANGE", keys.EPISODES, last, first, "COUNT", MAX_CHANGES))
        entries = (unpack(raw, HistoryEntry) for raw in stream_values(rows))
        found = tuple(
            entry
            for entry in entries
            if entry is not None and start_s <= entry.at <= end_s and self._sees(entry.labels)
        )
        return found, len(rows or ()) < MAX_CHANGES

    def _read_incidents(self, count: int) -> tuple[tuple[PastIncident, ...], bool]:
        """(the incidents in the newest `count` entries of the history, whether these are all)."""
        if self._ownership.conflict is not None:
            return (), True
        (rows,) = self._store.read_keys(("XREVRANGE", keys.EPISODES, "+", "-", "COUNT", count))
        found: dict[str, dict[str, HistoryEntry]] = {}
        for raw in stream_values(rows):
            entry = unpack(raw, HistoryEntry)
            if entry is not None and self._sees(entry.labels):
                found.setdefault(entry.episode, {}).setdefault(entry.kind, entry)
        pasts = (PastIncident(kinds.get("firing"), kinds.get("resolved")) for kinds in found.values())
        return tuple(past for past in pasts if past.began or past.ended), len(rows or ()) < count


def fold_incidents(pasts: Iterable[PastIncident]) -> tuple[FoldedIncidents, ...]:
    """Incidents, newest first, in entries: of one rule on one library, with the same result, shortly after each other.

    Those of other rules may lie between: what ends a large incident ends alerts of several rules.
    """
    entries: list[list[PastIncident]] = []
    open_entries: dict[tuple[object, ...], list[PastIncident]] = {}
    for past in pasts:
        known = past.known
        kind = (
            known.rule_id,
            known.severity,
            known.labels.source,
            known.labels.backend,
            known.reason,
            past.ended is None,
        )
        entry = open_entries.get(kind)
        if entry is None or abs(entry[-1].known.at - known.at) > FOLD_WITHIN_S:
            entry = open_entries[kind] = []
            entries.append(entry)
        entry.append(past)
    return tuple(FoldedIncidents(tuple(entry)) for entry in entries)


def _build_alert(state: AlertState, active_silences: ActiveSilences, now: float) -> Alert:
    ack = active_silences.acks.get(state.fingerprint) if active_silences.is_acknowledged(state) else None
    silence = active_silences.find_silence(state.rule_id, state.severity, state.labels, now)
    return Alert(state, ack, silence, silence.ends_at(now) if silence else None)


def _worst_first(state: AlertState) -> tuple[bool, float, str, str]:
    began = state.started_at or state.evaluated_at
    return state.severity is not Severity.CRITICAL, began, state.labels.queue or "", state.fingerprint
