"""Alerts for pages and API: list, silence, acknowledge, test channels, resend; rules through its `editor`.

Works in every process, leader or not: everything goes through the store. Authorization and audit logging are up to the
caller. Raises BackendUnavailable and Forbidden as the store does; each method states its cost.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from ..clock import monotonic_s
from ..errors import ConfigurationError, Conflict, Forbidden, NotFound, Unsupported
from ..model import Snapshot
from ..sampling.leadership import has_other_settings
from ..sampling.recent_history import History
from ..settings import Settings
from ..sources.source import Reply
from ..store.packing import unpack
from ..store.redis_store import AHEAD_S, Store
from . import keys
from .delivery.channels.base import public_settings
from .delivery.outbox import DeliveryAttempt, Outbox
from .evaluation.checker_context import CheckerContext
from .evaluation.preview import RulePreview, preview_rules
from .evaluation.rule_history import RuleHistories
from .evaluation.state_machine import AlertLabels, AlertPhase, AlertState
from .notification import HistoryEntry, Notification, QueuedNotification
from .rule_editor import RuleEditor, build_ownership_conflict
from .rules.rule import Rule, Severity
from .rules.ruleset import Ruleset
from .runtime import build_channels, build_ruleset
from .silences import Acknowledgement, ActiveSilences, Silence, WeeklyWindow
from .store import AlertStore, CheckerBeat, TickInputs

# The checker is unhealthy after this many intervals without a completed evaluation.
LATE_INTERVALS = 3
MAX_ROWS = 500
MAX_TOGETHER = 200  # alerts acknowledged together
# Minimum time between two test notifications to one channel.
TEST_EVERY_S = 5
HISTORIES_TTL_S = 5.0

# KEYS silences. ARGV id, body, maximum number, "1" to replace only. Removes silences that ended over a day ago.
# Returns 1; 0 when the limit is reached or there is none to replace.
_STORE_SILENCE = """
local t = redis.call('TIME')
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ok, found = pcall(cjson.decode, all[i + 1])
  if not ok or type(found) ~= 'table' or (tonumber(found['until']) or 0) < tonumber(t[1]) - 86400 then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
local there = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
if ARGV[4] == '1' and not there then return 0 end
if not there and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""

# KEYS acks, alert. ARGV fp, body. Returns 1; 0 when there is no such alert.
_STORE_ACK = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""

# KEYS a key that exists while no other test is allowed. ARGV seconds.
_LIMIT_TESTS = """
begin(KEYS[1], ARGV[1] * 1000)
if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 1 end
return 0
"""
# KEYS acks. ARGV fp.
_WITHDRAW = "return redis.call('HDEL', KEYS[1], ARGV[1])"
# KEYS undelivered (given-up) messages. ARGV id. Returns 1; 0 when it is not among them.
_DISMISS = "return redis.call('ZREM', KEYS[1], ARGV[1])"


@dataclass(frozen=True, slots=True)
class Alert:
    """One firing or pending alert. `ack` and `silence` are what suppresses its notifications.

    `silenced_until`: seconds since 1970.
    """

    state: AlertState
    ack: Acknowledgement | None
    silence: Silence | None
    silenced_until: float | None


@dataclass(frozen=True, slots=True)
class AlertList:
    """All alerts as of `at` (the store's clock): worst severity first, then oldest first."""

    at: float
    firing: tuple[Alert, ...]
    pending: tuple[Alert, ...]

    @property
    def incidents(self) -> tuple[Alert, ...]:
        """Firing alerts without the warnings that a critical alert of the same rule and labels inhibits."""
        critical = {
            (alert.state.rule_id, alert.state.labels)
            for alert in self.firing
            if alert.state.severity is Severity.CRITICAL
        }
        return tuple(
            alert
            for alert in self.firing
            if alert.state.severity is Severity.CRITICAL or (alert.state.rule_id, alert.state.labels) not in critical
        )

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
class CheckerHealth:
    """Whether alerting works; `age_s` = since the last completed evaluation, None without one in the last day."""

    ok: bool
    age_s: float | None
    holder: str | None
    delivers: bool | None


@dataclass(frozen=True, slots=True)
class FailedNotification:
    """An undelivered notification that can be resent."""

    id: str
    channel: str
    note: Notification
    at: float


class AlertService:
    """The alerting operations behind pages and API. Thread-safe. Opens no connection of its own."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        rulebook: Ruleset | None = None,
        *,
        is_elsewhere: Callable[[], bool] = lambda: False,
        fingerprint: str = "",
    ) -> None:
        """`is_elsewhere`: whether a dashboard with other settings evaluates alerts on this store now. If so, its
        alerts, rules, silences and deliveries are not returned as ours, and every change raises Conflict.
        `fingerprint` of these settings: what others evaluated before they stopped is not ours either."""
        self._is_elsewhere = is_elsewhere
        self._fingerprint = fingerprint
        self._settings = settings
        self._store = store
        self._alert_store = AlertStore(store)
        self._outbox = Outbox(store)
        self._ruleset = rulebook or build_ruleset(settings)
        self._channels = tuple(build_channels(settings))
        self.editor = RuleEditor(store, self._ruleset, self._channels, is_elsewhere=is_elsewhere)
        self._histories: tuple[RuleHistories | None, float] = (
            None,
            float("-inf"),
        )  # and when it was read, monotonic
        self._sorted_cache: tuple[tuple[str, int], Sequence[AlertState]] | None = None

    @property
    def ownership_conflict(self) -> Conflict | None:
        """The Conflict while another dashboard owns the alerts of this store; None otherwise. Cost: none."""
        return build_ownership_conflict() if self._is_elsewhere() else None

    def _check_ownership(self) -> None:
        if (problem := self.ownership_conflict) is not None:
            raise problem

    # Current state

    def list_alerts(self) -> AlertList:
        """All alerts; none while they are evaluated elsewhere. Cost: 1 round trip, 2 more when anything has changed
        since the last call."""
        if self.ownership_conflict is not None:
            return AlertList(self._store.now_s(), (), ())
        tick_inputs = self._alert_store.read_tick_inputs()
        if tick_inputs.beat is not None and has_other_settings(tick_inputs.beat.holder, self._fingerprint):
            return AlertList(tick_inputs.now, (), ())
        rows = self._sorted_states(tick_inputs)
        alerts = [_build_alert(state, tick_inputs.mutes, tick_inputs.now) for state in rows]
        return AlertList(
            tick_inputs.now,
            tuple(alert for alert in alerts if alert.state.is_active),
            tuple(alert for alert in alerts if alert.state.phase is AlertPhase.PENDING),
        )

    def _sorted_states(self, tick_inputs: TickInputs) -> Sequence[AlertState]:
        """All stored states, worst first; cached until the store counts another change."""
        version = (tick_inputs.born, tick_inputs.changes)
        last = self._sorted_cache
        if not tick_inputs.born or last is None or last[0] != version:
            last = (version, sorted(self._alert_store.load_states().states.values(), key=_worst_first))
            self._sorted_cache = last
        return last[1]

    def find_alert(self, fingerprint: str) -> Alert:
        """One alert. Raises NotFound, Conflict. Cost: 3 round trips."""
        self._check_ownership()
        alert_list = self.list_alerts()
        for alert in (*alert_list.firing, *alert_list.pending):
            if alert.state.fp == fingerprint:
                return alert
        raise NotFound("This alert is no longer firing.")

    def list_past_incidents(self, most: int = 100) -> tuple[PastIncident, ...]:
        """Incidents, newest first. Cost: 1 round trip."""
        if self.ownership_conflict is not None:
            return ()
        (rows,) = self._store.read_keys(("XREVRANGE", keys.EPISODES, "+", "-", "COUNT", 2 * min(most, MAX_ROWS)))
        found: dict[str, dict[str, HistoryEntry]] = {}
        for raw in _stream_values(rows):
            entry = unpack(raw, HistoryEntry)
            if entry is not None:
                found.setdefault(entry.episode, {}).setdefault(entry.kind, entry)
        pasts = (PastIncident(kinds.get("firing"), kinds.get("resolved")) for kinds in found.values())
        return tuple(past for past in pasts if past.began or past.ended)[:most]

    def checker_health(self) -> CheckerHealth:
        """For `/healthz/checker`: healthy while the last completed evaluation is younger than three intervals, and not
        while a dashboard with other settings evaluates. Cost: 1 round trip."""
        if self.ownership_conflict is not None:
            return CheckerHealth(ok=False, age_s=None, holder=None, delivers=None)
        now, beat = self._alert_store.read_heartbeat()
        if beat is not None and has_other_settings(beat.holder, self._fingerprint):
            beat = None
        return health_from_beat(now, beat, self._settings.sample_interval_s)

    # Rules

    def preview_rules(
        self, snapshot: Snapshot, history: History, rules: Sequence[Rule] | None = None
    ) -> dict[str, RulePreview]:
        """By id: what the rules (by default all, including disabled ones) find in a sample. Writes nothing.

        Cost: 2 round trips, plus about 2 µs per rule and queue.
        """
        if self.ownership_conflict is not None:
            alone = CheckerContext(now=self._store.now_s(), channels=self._channels)
            rules = self._ruleset.list_rules() if rules is None else rules
            interval_s = self._settings.sample_interval_s
            return {
                rule.id: one for rule, one in preview_rules(snapshot, history, rules, alone, None, interval_s, None)
            }
        tick_inputs, (durations, sights) = (
            self._alert_store.read_tick_inputs(),
            self._alert_store.load_last_evaluation(),
        )
        situation = CheckerContext(
            now=tick_inputs.now,
            heartbeat_age_s=max(0.0, tick_inputs.now - tick_inputs.beat.at) if tick_inputs.beat else None,
            undelivered_s=tick_inputs.undelivered,
            dead_messages=tick_inputs.dead,
            channels=self._channels,
        )
        rules = self._ruleset.list_rules(tick_inputs.rules) if rules is None else rules
        interval_s = self._settings.sample_interval_s
        found = preview_rules(snapshot, history, rules, situation, durations, interval_s, sights)
        return {rule.id: preview for rule, preview in found}

    def rule_histories(self, now: float) -> RuleHistories | None:
        """The last hour of the checker's evaluations per rule; None when there is none. `now` by the store's clock.

        Cost: 1 round trip when the cached histories are older than their step, none within 5 s of the last read.
        """
        if self.ownership_conflict is not None:
            return None
        last, asked = self._histories
        if (last is None or now - last.at >= last.step_s) and monotonic_s() - asked >= HISTORIES_TTL_S:
            last = self._alert_store.load_histories()
            self._histories = last, monotonic_s()
        return last

    # Silences and acknowledgements

    def list_silences(self) -> tuple[Silence, ...]:
        """All silences and maintenance windows that have not ended, earliest end first. Cost: 1 round trip."""
        if self.ownership_conflict is not None:
            return ()
        tick_inputs = self._alert_store.read_tick_inputs()
        return tuple(silence for silence in tick_inputs.mutes.silences if silence.until > tick_inputs.now)

    def save_silence(self, silence: Silence) -> None:
        """Store a drafted silence. Raises Unsupported when the limit is reached, Conflict. Cost: 1 round trip."""
        self._check_ownership()
        if not self._store_silence(silence, replace=False):
            raise Unsupported(f"The limit of {keys.MAX_SILENCES} silences is reached. Expire some first.")

    def draft_silence(
        self,
        *,
        for_s: float,
        by: str,
        comment: str = "",
        starts_in_s: float = 0.0,
        weekly: WeeklyWindow | None = None,
        severity: Severity | None = None,
        **globs: str,
    ) -> Silence:
        """A new silence for alerts that match all globs (`rule`, `source`, `backend`, `queue`), validated, not stored.

        Raises ConfigurationError. Cost: 1 round trip.
        """
        unknown = set(globs) - {"rule", "source", "backend", "queue"}
        if unknown:
            raise ConfigurationError(f"silence: {min(unknown)}: expected rule, source, backend or queue")
        now = self._store_time()
        silence = Silence(
            id=secrets.token_hex(6),
            created_at=now,
            starts_at=now + starts_in_s,
            until=now + starts_in_s + for_s,
            by=by,
            comment=comment,
            severity=severity,
            weekly=weekly,
            **globs,
        )
        problem = silence.find_problem()
        if problem:
            raise ConfigurationError(f"silence: {problem}")
        return silence

    def expire_silence(self, silence_id: str) -> Silence:
        """End a silence now. Raises NotFound, Conflict. Cost: 2 round trips."""
        self._check_ownership()
        tick_inputs = self._alert_store.read_tick_inputs()
        for silence in tick_inputs.mutes.silences:
            if silence.id == silence_id and silence.until > tick_inputs.now:
                ended = msgspec.structs.replace(silence, until=tick_inputs.now)
                if self._store_silence(ended, replace=True):
                    return ended
        raise NotFound("This silence has already ended.")

    def _store_silence(self, silence: Silence, *, replace: bool) -> bool:
        body = msgspec.json.encode(silence)
        return bool(
            self._store.run_script(_STORE_SILENCE, (keys.SILENCES,), silence.id, body, keys.MAX_SILENCES, int(replace))
        )

    def acknowledge_alert(self, fingerprint: str, *, episode: str, by: str, comment: str = "") -> Alert:
        """Acknowledge an incident, which stops its reminders. Raises NotFound, Conflict when this incident has ended
        and another one is ongoing. Cost: 4 round trips."""
        alert = self.find_alert(fingerprint)
        if episode not in (alert.state.episode, alert.state.announced):
            raise Conflict(
                "That incident has ended; the alert is firing again. Reload the page and acknowledge the new one."
            )
        ack = Acknowledgement(episode=alert.state.episode, by=by[:300], at=self._store_time(), comment=comment[:300])
        if not self._store.run_script(
            _STORE_ACK, (keys.ACKS, keys.instance_key(fingerprint)), fingerprint, msgspec.json.encode(ack)
        ):
            raise NotFound("This alert is no longer firing.")
        return Alert(alert.state, ack, alert.silence, alert.silenced_until)

    def sibling_alerts(self, alert: Alert) -> tuple[Alert, ...]:
        """The other firing alerts of the same rule and severity that are unacknowledged, at most MAX_TOGETHER.

        Cost: 1 round trip.
        """
        found = (
            other
            for other in self.list_alerts().firing
            if other.ack is None
            and (other.state.rule_id, other.state.severity) == (alert.state.rule_id, alert.state.severity)
            and other.state.fp != alert.state.fp
        )
        return tuple(islice(found, MAX_TOGETHER))

    def acknowledge_all(self, episodes: Mapping[str, str], *, by: str, comment: str = "") -> tuple[str, ...]:
        """Acknowledge these incidents (episode by fingerprint), at most MAX_TOGETHER, and return the acknowledged
        fingerprints. Incidents that have ended or are new are skipped. Raises Conflict. Cost: 2 round trips, plus one
        per incident."""
        self._check_ownership()
        wanted = dict(islice(episodes.items(), MAX_TOGETHER))
        alert_list, noted = self.list_alerts(), []
        for alert in alert_list.firing:
            state = alert.state
            if state.fp in wanted and wanted[state.fp] == state.episode:
                ack = Acknowledgement(episode=state.episode, by=by[:300], at=alert_list.at, comment=comment[:300])
                if self._store.run_script(
                    _STORE_ACK, (keys.ACKS, keys.instance_key(state.fp)), state.fp, msgspec.json.encode(ack)
                ):
                    noted.append(state.fp)
        return tuple(noted)

    def withdraw_acknowledgement(self, fingerprint: str) -> None:
        """Withdraw an acknowledgement. Raises Conflict. Cost: 1 round trip."""
        self._check_ownership()
        self._store.run_script(_WITHDRAW, (keys.ACKS,), fingerprint)

    # Notifications

    def list_deliveries(self, most: int = 100) -> tuple[DeliveryAttempt, ...]:
        """Delivery attempts, newest first, with the provider's response. Cost: 1 round trip."""
        if self.ownership_conflict is not None:
            return ()
        found = []
        (rows,) = self._store.read_keys(("XREVRANGE", keys.SENT, "+", "-", "COUNT", min(most, MAX_ROWS)))
        for raw in _stream_values(rows):
            try:
                found.append(msgspec.json.decode(raw, type=DeliveryAttempt))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
        return tuple(found)

    def list_failed_notifications(self) -> tuple[FailedNotification, ...]:
        """Undelivered notifications, newest first. Cost: 2 round trips."""
        if self.ownership_conflict is not None:
            return ()
        (names,) = self._store.read_keys(("ZREVRANGE", keys.DEAD, 0, MAX_ROWS - 1, "WITHSCORES"))
        pairs = list(zip(names[::2], names[1::2], strict=False)) if names else []
        rows = self._store.read_keys(*(("HGET", keys.message_key(_decode_text(name)), "body") for name, _ in pairs))
        found = []
        for (name, score), body in zip(pairs, rows, strict=True):
            note = unpack(body, Notification)
            if note is not None:
                found.append(
                    FailedNotification(
                        _decode_text(name), _decode_text(name).rpartition(":")[2], note, float(score) / 1000
                    )
                )
        return tuple(found)

    def resend_failed(self, message_id: str) -> None:
        """Resend an undelivered notification under its old id. Raises NotFound, also when its channel no longer
        exists, Conflict. Cost: 2 round trips."""
        self._check_ownership()
        channel = message_id.rpartition(":")[2]
        if channel not in self._channels:
            raise NotFound(f"Channel {channel!r} no longer exists. Dismiss the notification instead.")
        (fingerprint,) = self._store.read_keys(("HGET", keys.message_key(message_id), "fp"))
        if not isinstance(fingerprint, bytes) or not self._outbox.requeue_failed(message_id, _decode_text(fingerprint)):
            raise NotFound("No undelivered notification has this id; it may have expired.")

    def dismiss_failed(self, message_id: str) -> None:
        """Dismiss an undelivered notification, so that it no longer counts. Raises NotFound, Conflict.

        Cost: 1 round trip.
        """
        self._check_ownership()
        if not self._store.run_script(_DISMISS, (keys.DEAD,), message_id):
            raise NotFound("No undelivered notification has this id.")

    def public_channels(self) -> tuple[dict[str, Any], ...]:
        """The channels of the settings without their secrets. Cost: none."""
        return tuple(public_settings(values) for values in self._settings.channels)

    def send_test(self, channel: str, *, by: str) -> str:
        """Queue a test notification in the outbox, regardless of silences, and return its id.

        The attempt appears in `list_deliveries`. Raises NotFound, Conflict, Forbidden when one was just sent.
        Cost: 3 round trips.
        """
        self._check_ownership()
        if channel not in self._channels:
            raise NotFound(f"Unknown channel {channel!r}.")
        if not self._store.run_script(_LIMIT_TESTS, (f"{keys.pace_key(channel)}:test",), TEST_EVERY_S):
            raise Forbidden(f"A test notification was just sent to this channel. Try again in {TEST_EVERY_S} s.")
        now = self._store_time()
        name = secrets.token_hex(6)
        note = Notification(
            kind="test",
            number=1,
            episode=f"test:{name}",
            fp=f"test-{name}",
            rule_id="test",
            rule_name="Test notification from Queuedeck",
            metric="queue.depth",
            severity=Severity.WARNING,
            at=now,
            labels=AlertLabels(),
            detail=f"Sent by {by[:100]}",
            started_at=now,
        )
        message = QueuedNotification(note=note, channel=channel, due_at=now)
        self._outbox.enqueue(message)
        return message.id

    def _store_time(self) -> float:
        return self._alert_store.read_heartbeat()[0]


def health_from_beat(now: float, beat: CheckerBeat | None, interval_s: float) -> CheckerHealth:
    """The health that a heartbeat shows at an instant of the store's clock."""
    if beat is None:
        return CheckerHealth(ok=False, age_s=None, holder=None, delivers=None)
    age_s = max(0.0, now - beat.at)
    if beat.at - now > AHEAD_S:  # not a time of this store, so its age is unknown
        return CheckerHealth(ok=False, age_s=None, holder=beat.holder, delivers=beat.delivers)
    return CheckerHealth(age_s <= LATE_INTERVALS * interval_s, age_s, beat.holder, beat.delivers)


def _build_alert(state: AlertState, mutes: ActiveSilences, now: float) -> Alert:
    ack = mutes.acks.get(state.fp) if mutes.is_acknowledged(state) else None
    silence = mutes.find_silence(state.rule_id, state.severity, state.labels, now)
    return Alert(state, ack, silence, silence.ends_at(now) if silence else None)


def _worst_first(state: AlertState) -> tuple[bool, float, str, str]:
    began = state.started_at or state.evaluated_at
    return state.severity is not Severity.CRITICAL, began, state.labels.queue or "", state.fp


def _stream_values(rows: Reply) -> Sequence[bytes]:
    found = []
    for row in rows if isinstance(rows, list) else ():
        fields = row[1]
        if isinstance(fields, list) and len(fields) >= 2:
            found.append(fields[1])
    return found


def _decode_text(raw: Reply) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
