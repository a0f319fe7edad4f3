"""The alerting of one process: it evaluates while it leads and tracks the leader's state while it follows."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from ..actions.pauses import PauseLog
from ..clock import monotonic_s
from ..dead_letters.group_watch import WatchedGroup
from ..errors import QueuedeckError
from ..history.activity.activities import NO_ACTIVITIES, Activities
from ..history.run_times import RunTimes
from ..history.series_keys import SeriesKey
from ..model import Mark, Snapshot
from ..redact import masked_logger
from ..sampling.recent_history import History
from ..schedules.schedule_watch import WatchedSchedules
from ..settings.queue_directory import QueueDirectory
from ..slos.slo_report import SloStatus
from .evaluation.checker_context import CheckerContext
from .evaluation.due_notifications import DueNotification
from .evaluation.evaluator import Evaluator
from .evaluation.preview import build_observations
from .evaluation.state_machine import AlertState
from .known_states import KnownStates
from .notification import QueuedNotification, build_notification, queue_notifications
from .notification_builder import ErrorsOf, NotificationBuilder, no_errors
from .rules.metrics import METRICS
from .rules.rule import Rule
from .rules.ruleset import Ruleset
from .silences import ActiveSilences
from .store import AlertStore, DataGone, LostLead, StaleRevision
from .stored_values import EvaluationInputs

log = masked_logger(__name__)

PERSIST_EVERY_S = 10.0
FOLLOW_EVERY_S = 5.0
MAINTAIN_EVERY_S = 60.0
# A clock set back by less than this delays nothing for too long; two readings can differ by rounding.
CLOCK_STEP_S = 1.0
# After the store has lost its data, firing notifications younger than this are sent again under their old ids,
# because it is unknown whether they were delivered.
MAX_REPEAT_AGE_S = 600.0

# The error groups of a sample; None while it is unknown which of them are new.
GroupsOf = Callable[[Snapshot], Sequence[WatchedGroup] | None]

# How late the schedules of a sample are; None before the first reading.
SchedulesOf = Callable[[Snapshot], WatchedSchedules | None]


def no_schedules(snapshot: Snapshot) -> WatchedSchedules | None:
    """Unknown; the default where schedules are not read."""
    del snapshot
    return None


def no_groups(snapshot: Snapshot) -> Sequence[WatchedGroup] | None:
    """Unknown; the default where errors are not grouped."""
    del snapshot
    return None


class AlertEngine:
    """Called by the checker's tick only; not thread-safe."""

    def __init__(
        self,
        store: AlertStore,
        ruleset: Ruleset,
        interval_s: float,
        holder: str,
        channels: Sequence[str],
        *,
        errors_of: ErrorsOf = no_errors,
        wake: Callable[[], None] = lambda: None,
        delivers: Callable[[], bool] = lambda: True,
        tidy: Callable[[float], object] = lambda _now: None,
        pauses: PauseLog | None = None,
        directory: QueueDirectory | None = None,
        run_times: Callable[[], Mapping[SeriesKey, RunTimes]] = dict,
        activities: Callable[[], Activities] = lambda: NO_ACTIVITIES,
        marks: Callable[[], Sequence[Mark]] = tuple,
        groups_of: GroupsOf = no_groups,
        schedules_of: SchedulesOf = no_schedules,
        slos: Callable[[], Sequence[SloStatus]] = tuple,
    ) -> None:
        """`wake` is called when there is something to deliver, `tidy` every minute with the store's time. `pauses`:
        who paused a queue, and `directory`: who owns it, for its notifications. `run_times`, `activities`: of queues
        and classes. `marks`: newest first. `groups_of` a sample: its error groups, if there is a rule on them;
        `schedules_of`: likewise its schedules. `slos`: objectives with what is counted of them."""
        self._store = store
        self._ruleset = ruleset
        self._interval_s = interval_s
        self._holder = holder
        self._own_channels = tuple(channels)
        self._channels = self._own_channels  # plus the channels that other processes deliver to
        self._channels_synced_at = float("-inf")
        self._wake = wake
        self._is_delivering = delivers
        self._maintain = tidy
        self._maintained_at = float("-inf")
        self._evaluator = Evaluator(interval_s)
        self._pauses = pauses
        self._run_times = run_times
        self._slos = slos
        self._activities = activities
        self._builder = NotificationBuilder(
            self._evaluator.history_recorder, errors_of, pauses, directory, run_times, marks, slos, activities
        )
        self._known = KnownStates(store, wake)
        self._groups_of = groups_of
        self._schedules_of = schedules_of
        self._fresh = False  # whether the known states match the store
        self._epoch: int | None = None
        self._persisted_at = float("-inf")
        self._histories_sent = 0.0  # end of the newest stored minute
        self._followed_at = float("-inf")
        self._changes = 0  # the store's write count as last seen: it only falls when an older copy is restored
        self.rules: tuple[Rule, ...] = ruleset.list_rules()  # as last read from the store
        self.active_silences = ActiveSilences()  # likewise
        self._stored_rules = b""  # likewise, in their stored form
        self.last_epoch = 0  # the highest leader epoch that this process has seen

    @property
    def states(self) -> Mapping[str, AlertState]:
        """The last known states, by fingerprint."""
        return self._known.states

    def settle_queues(self, former: Snapshot) -> None:
        """Skip the settling time for the queues of the previous leader's sample."""
        grace_s = max((rule.new_instance_grace_s for rule in self.rules), default=0.0)
        self._evaluator.settle_queues(former, grace_s)

    def evaluate_as_leader(self, epoch: int, snapshot: Snapshot, history: History) -> bool:
        """Evaluate one sample as the leader; False when another process leads and nothing was written.

        Raises BackendUnavailable, Forbidden. Cost: 3 round trips, plus one per 200 alerts that change, plus one every
        FOLLOW_EVERY_S, plus a few every MAINTAIN_EVERY_S. The rule histories that pages show are written with the
        third, once a minute.
        """
        lead = f"{self._holder}:{epoch}"
        self.last_epoch = max(self.last_epoch, epoch)
        inputs = self._store.read_inputs()
        try:
            if epoch != self._epoch:
                self._take_over(lead, inputs)
                self._epoch = epoch
            if self._sync_states(lead, inputs):
                inputs = self._store.read_inputs()
            self._sync_channels()
            if not self._evaluate_sample(lead, inputs, snapshot, history):
                return False
        except LostLead:
            self._epoch = None
            return False
        except BaseException:
            self._fresh = False  # unknown what was written: read it from the store
            raise
        return True

    def follow_leader(self) -> None:
        """Track what the leader knows, in case the store loses it. Raises BackendUnavailable.

        Cost: 2 round trips every FOLLOW_EVERY_S, 2 more when something changed.
        """
        self._epoch = None
        if monotonic_s() - self._followed_at < FOLLOW_EVERY_S:
            return
        inputs = self._store.read_inputs()
        self._followed_at = monotonic_s()
        self._sync_channels()
        # Otherwise the store has lost rules, silences and acknowledgements.
        if inputs.born or not self._known.stored:
            self._update_settings(inputs)
        if inputs.beat is not None:
            self.last_epoch = max(self.last_epoch, inputs.beat.epoch)
        known = self._known.stored
        self._changes = max(self._changes, inputs.changes) if known and inputs.born == known.born else 0
        if inputs.born and (known is None or (known.born, known.changes) != (inputs.born, inputs.changes)):
            self._known.stored = self._store.load_states()
        self._fresh = False

    def _sync_channels(self) -> None:
        """Read the channels of all processes: the leader can be one without channels while another has some."""
        if monotonic_s() - self._channels_synced_at < FOLLOW_EVERY_S:
            return
        self._channels_synced_at = monotonic_s()
        try:
            met = self._store.register_channels(self._own_channels)
        except QueuedeckError as exc:  # a store that refuses writes is reported elsewhere
            log.debug("could not read the channels of other processes: %s", exc.message)
            return
        self._channels = (*self._own_channels, *(name for name in met if name not in self._own_channels))

    def _take_over(self, lead: str, inputs: EvaluationInputs) -> None:
        durations, _ = self._store.load_last_evaluation()
        if durations is not None:
            self._evaluator.durations.restore_durations(durations)
        histories = self._store.load_histories()
        if histories is not None:
            self._evaluator.history_recorder.restore_histories(
                histories, self._ruleset.list_rules(inputs.rules), inputs.now
            )
        self._fresh = False
        log.info("evaluating alerts as %s; %d stored alerts", lead, len(self.states))

    def _update_settings(self, inputs: EvaluationInputs) -> None:
        self.rules, self.active_silences, self._stored_rules = (
            self._ruleset.list_rules(inputs.rules),
            inputs.active_silences,
            inputs.rules,
        )

    def _sync_states(self, lead: str, inputs: EvaluationInputs) -> bool:
        """Make the known states match the store, and restore what it has lost; whether it had lost anything."""
        lost = not inputs.born
        back = inputs.changes < self._changes
        former = self._known.stored
        if self._fresh and not lost and not back and former is not None and inputs.born == former.born:
            self._changes = inputs.changes
            self._known.forget_confirmed(inputs)
            return False
        known = self._store.load_states()
        same = former is not None and former.born == known.born
        if not known.born:
            self._store.restore_settings(lead, self._stored_rules, self._unexpired_silences(inputs.now))
            self._restore_states(lead, secrets.token_hex(8), inputs.now)
        elif same and known.changes < self._changes:  # an older copy of the data was restored
            self._restore_states(lead, known.born, inputs.now)
        else:
            if not same:
                self._known.unconfirmed.clear()
            self._known.stored = known
        self._changes = 0
        self._known.forget_writes()
        self._fresh = True
        return not known.born

    def _unexpired_silences(self, now: float) -> ActiveSilences:
        """The last known acknowledgements and the silences that have not ended."""
        return ActiveSilences(
            silences=tuple(each for each in self.active_silences.silences if each.until > now),
            acks=self.active_silences.acks,
        )

    def _restore_states(self, lead: str, born: str, now: float) -> None:
        """Write what this process knows to a store that has lost data; on the very first start that is nothing."""
        states = dict(self.states)
        if states:
            log.warning("the store lost its data; restoring %d alerts, rules and silences", len(states))
        queued_notifications = {queued.id: queued for queued in self._known.unconfirmed.values()}
        for state in states.values():
            for queued in self._repeat_notifications(state, now):
                queued_notifications.setdefault(queued.id, queued)
        wanted: dict[str, tuple[AlertState | None, int]] = {
            fingerprint: (state, 0) for fingerprint, state in states.items()
        }
        self._store.commit_states(lead, born, wanted, (), list(queued_notifications.values()), force=True)
        self._known.stored = self._store.load_states()
        self._histories_sent = 0.0
        self._wake()

    def _repeat_notifications(self, state: AlertState, now: float) -> Sequence[QueuedNotification]:
        young = state.announced_started_at is not None and 0 <= now - state.announced_started_at <= MAX_REPEAT_AGE_S
        if not state.announced or not young:
            return ()
        rule = next((rule for rule in self.rules if rule.id == state.rule_id), None)
        due = DueNotification("firing", state.announced, 1, state.announced_to, state.announced_started_at)
        info = self._builder.describe_queue(state)
        return queue_notifications(build_notification(state, due, rule, now, info=info), due, rule)

    def _build_checker_context(self, inputs: EvaluationInputs, snapshot: Snapshot) -> CheckerContext:
        watched = {METRICS[rule.metric].subject for rule in self.rules if rule.enabled}
        return CheckerContext(
            now=inputs.now,
            active_silences=inputs.active_silences,
            heartbeat_age_s=max(0.0, inputs.now - inputs.beat.at) if inputs.beat else None,
            undelivered_s=inputs.undelivered,
            dead_messages=inputs.dead,
            channels=self._channels,
            run_times=self._run_times(),
            activities=self._activities(),
            error_groups=self._groups_of(snapshot) if "error" in watched else None,
            schedules=self._schedules_of(snapshot) if "schedule" in watched else None,
            slos=self._slos(),
        )

    def _evaluate_sample(self, lead: str, inputs: EvaluationInputs, snapshot: Snapshot, history: History) -> bool:
        self._update_settings(inputs)
        checker_context = self._build_checker_context(inputs, snapshot)
        self._builder.error_groups = {group.fingerprint: group for group in checker_context.error_groups or ()}
        read = checker_context.schedules
        self._builder.schedules = {each.key: each for each in read.schedules} if read is not None else {}
        transitions = self._evaluator.evaluate_rules(snapshot, history, self.rules, self.states, checker_context)
        queued_notifications = [
            each
            for transition in transitions
            for each in self._builder.build_notifications(transition, history, snapshot)
        ]
        try:
            self._known.write_transitions(lead, transitions, queued_notifications)
        except (StaleRevision, DataGone) as exc:
            log.info("alert states in the store differ from those of this leader (%s); reading them again", exc)
            self._fresh = False
            return True
        now = monotonic_s()
        # The store's clock was set back since: its messages are scheduled far in the future.
        set_back = inputs.beat is not None and inputs.beat.at > inputs.now + CLOCK_STEP_S
        if set_back or now - self._maintained_at >= MAINTAIN_EVERY_S:
            self._maintained_at = now
            self._maintain(inputs.now)
            if self._pauses is not None:
                self._pauses.forget_ended(snapshot.queues, inputs.now)
        durations, observations = None, None
        if now - self._persisted_at >= PERSIST_EVERY_S:
            durations = self._evaluator.durations.export_durations()
            observations = build_observations(self._evaluator, self.rules, inputs.now)
        ended = self._evaluator.history_recorder.at
        histories = self._evaluator.history_recorder.export_histories() if ended != self._histories_sent else None
        if not self._store.record_beat(
            lead,
            self._holder,
            delivers=self._is_delivering(),
            durations=durations,
            observations=observations,
            hour=histories,
        ):
            return False
        self._histories_sent = ended
        if durations is not None:
            self._persisted_at = now
        return True
