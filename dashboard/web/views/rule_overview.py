"""All rules with what they find in the newest sample."""

from __future__ import annotations

from dataclasses import dataclass

from ...alerts.evaluation.preview import RulePreview
from ...alerts.evaluation.rule_history import RuleHistories
from ...alerts.management.rule_previews import RulePreviews
from ...alerts.rules.ruleset import RuleInForce
from ...sampling.snapshot_reader import CurrentSnapshot


@dataclass(frozen=True, slots=True)
class RuleOverview:
    """All rules, with the preview of each by id and the last hour; no previews before the first sample."""

    entries: tuple[RuleInForce, ...]
    previews: dict[str, RulePreview]
    hours: RuleHistories | None


def preview_all(rules: tuple[RuleInForce, ...], previews: RulePreviews, current: CurrentSnapshot) -> RuleOverview:
    """The overview of `rules` in the current snapshot. Cost: 2 round trips, 1 more per minute."""
    if current.snapshot is None:
        return RuleOverview(rules, {}, None)
    found = previews.preview_rules(current.snapshot, current.history)
    return RuleOverview(rules, found, previews.rule_histories(current.snapshot.sampled_at))
