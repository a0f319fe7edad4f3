"""All rules with what they find in the newest sample, computed once per sample for all viewers of a process."""

from __future__ import annotations

from dataclasses import dataclass

from ...alerts.evaluation.preview import RulePreview
from ...alerts.evaluation.rule_history import RuleHistories
from ...alerts.rules.ruleset import RuleInForce
from ...alerts.service import AlertService
from ...sampling.snapshot_reader import SnapshotReader


@dataclass(frozen=True, slots=True)
class RuleOverview:
    """All rules, with the preview of each by id for the sample `version` and the hour before; none before the first."""

    version: str
    entries: tuple[RuleInForce, ...]
    previews: dict[str, RulePreview]
    hours: RuleHistories | None


class LatestRuleOverview:
    """Caches the overview of the last sample."""

    def __init__(self, alert_service: AlertService, snapshots: SnapshotReader) -> None:
        self._alert_service = alert_service
        self._snapshots = snapshots
        self._last: RuleOverview | None = None

    def current(self) -> RuleOverview:
        """All rules with their previews in the newest sample.

        Cost: 1 round trip, 2 more per sample, 1 more per minute; see RulePreviews.preview_rules and rule_histories.
        """
        alert_service, current = self._alert_service, self._snapshots.current()
        entries, last = alert_service.rules.rules_in_force(), self._last
        if last is not None and last.entries is entries and last.version == current.version:
            return last
        seen = alert_service.previews.preview_rules(current.snapshot, current.history) if current.snapshot else {}
        histories = alert_service.previews.rule_histories(current.snapshot.sampled_at) if current.snapshot else None
        self._last = RuleOverview(current.version, entries, seen, histories)
        return self._last
