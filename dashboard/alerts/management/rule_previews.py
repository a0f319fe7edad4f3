"""What the rules find in a sample, and what they found in the last hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...clock import monotonic_s
from ...dead_letters.group_watch import WatchedGroup
from ...model import Snapshot
from ...sampling.recent_history import History
from ...schedules.schedule_watch import WatchedSchedules
from ...slos.slo_report import SloStatus
from ..evaluation.checker_context import CheckerContext
from ..evaluation.preview import RulePreview, preview_rules
from ..evaluation.rule_history import RuleHistories
from ..rules.metrics import METRICS
from ..rules.rule import Rule
from ..rules.ruleset import Ruleset
from ..store import AlertStore
from .ownership import AlertOwnership

HISTORIES_TTL_S = 5.0
# Returns the error groups; None while it is unknown which of them are new.
ReadGroups = Callable[[], Sequence[WatchedGroup] | None]
# Returns how late the schedules are; None if that is unknown.
ReadSchedules = Callable[[], WatchedSchedules | None]


class RulePreviews:
    """Evaluates rules without effect, and reads the results of the checker."""

    def __init__(
        self,
        alert_store: AlertStore,
        ruleset: Ruleset,
        channels: Sequence[str],
        sample_interval_s: float,
        ownership: AlertOwnership,
        error_groups: ReadGroups = lambda: None,
        schedules: ReadSchedules = lambda: None,
        slos: Callable[[], Sequence[SloStatus]] = tuple,
    ) -> None:
        self._alert_store = alert_store
        self._ruleset = ruleset
        self._channels = tuple(channels)
        self._sample_interval_s = sample_interval_s
        self._ownership = ownership
        self._error_groups = error_groups
        self._schedules = schedules
        self._slos = slos
        self._histories: RuleHistories | None = None
        self._histories_read_at = float("-inf")  # monotonic

    def preview_rules(
        self, snapshot: Snapshot, history: History, rules: Sequence[Rule] | None = None
    ) -> dict[str, RulePreview]:
        """By id: what the rules (by default all, including disabled ones) find in a sample. Writes nothing.

        Cost: 2 round trips, plus about 2 µs per rule and queue; and that of the error groups or the schedules, if an
        enabled rule or one of `rules` is about them.
        """
        if self._ownership.conflict is not None:
            alone = CheckerContext(now=self._alert_store.store.now_s(), channels=self._channels)
            rules = self._ruleset.list_rules() if rules is None else rules
            found = preview_rules(snapshot, history, rules, alone, None, self._sample_interval_s, None)
            return {rule.id: preview for rule, preview in found}
        inputs = self._alert_store.read_inputs()
        durations, observations = self._alert_store.load_last_evaluation()
        asked = rules is not None
        rules = self._ruleset.list_rules(inputs.rules) if rules is None else rules
        watched = {METRICS[rule.metric].subject for rule in rules if asked or rule.enabled}
        checker_context = CheckerContext(
            now=inputs.now,
            heartbeat_age_s=max(0.0, inputs.now - inputs.beat.at) if inputs.beat else None,
            undelivered_s=inputs.undelivered,
            dead_messages=inputs.dead,
            channels=self._channels,
            error_groups=self._error_groups() if "error" in watched else None,
            schedules=self._schedules() if "schedule" in watched else None,
            slos=self._slos(),
        )
        found = preview_rules(
            snapshot, history, rules, checker_context, durations, self._sample_interval_s, observations
        )
        return {rule.id: preview for rule, preview in found}

    def rule_histories(self, now: float) -> RuleHistories | None:
        """The last hour of the checker's evaluations per rule; None when there is none. `now` by the store's clock.

        Cost: 1 round trip when the cached histories are older than their step, none within 5 s of the last read.
        """
        if self._ownership.conflict is not None:
            return None
        last = self._histories
        if (
            last is None or now - last.at >= last.step_s
        ) and monotonic_s() - self._histories_read_at >= HISTORIES_TTL_S:
            last = self._histories = self._alert_store.load_histories()
            self._histories_read_at = monotonic_s()
        return last
