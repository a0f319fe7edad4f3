"""What surrounds a queue: its owner, the rules that watch it, what silences its alerts, the errors of its dead letters.

Pure: all of it is in memory already, so a poll costs no command for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....alerts.management.alert_reader import Alert
from ....alerts.management.checker_health import CheckerHealth
from ....alerts.silences import Silence
from ....dead_letters.service import GroupList
from ....model import QueueStats
from ....settings.queue_directory import QueueInfo
from ....units import format_count
from ..problems.problem_list import LATE_AFTER_S, AlertFacts
from .error_groups import QueueErrorGroups, list_error_groups
from .watching_rules import WatchingRule, list_own_alerts, list_watching_rules


@dataclass(frozen=True, slots=True)
class CoveringSilence:
    """A silence that covers alerts of the queue; `active` False: it is scheduled, or between its weekly windows.

    `ends_at`: when it ends, or for a weekly one its current window; seconds since 1970 by the store's clock.
    """

    silence: Silence
    active: bool
    ends_at: float


@dataclass(frozen=True, slots=True)
class QueueContext:
    """`evaluated`: whether rules are being evaluated now. `error_groups` None: none have been read by this process."""

    info: QueueInfo
    rules: tuple[WatchingRule, ...]
    evaluated: bool
    alerts: tuple[Alert, ...]  # about this queue alone, firing or pending
    silences: tuple[CoveringSilence, ...]
    rule_titles: dict[str, str]  # of all rules, by id
    error_groups: QueueErrorGroups | None

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The alerts about this queue alone that fire."""
        return tuple(alert for alert in self.alerts if alert.state.is_active)

    @property
    def summary(self) -> str:
        """What there is, with numbers: 12 rules, 1 silence, 2 error groups."""
        parts = [format_count(len(self.rules), "rule")]
        parts += [format_count(len(self.silences), "silence")] if self.silences else []
        if self.error_groups is not None and self.error_groups.total:
            parts.append(format_count(self.error_groups.total, "error group"))
        return ", ".join(parts)


def build_context(
    queue: QueueStats, queues: Sequence[QueueStats], info: QueueInfo, facts: AlertFacts, group_list: GroupList | None
) -> QueueContext:
    """The context of `queue`, one of `queues`; `info`: what the settings say about it. Cost: none."""
    return QueueContext(
        info=info,
        rules=list_watching_rules(queue, facts),
        evaluated=is_evaluated(facts.health),
        alerts=tuple(list_own_alerts(queue, facts)),
        silences=list_silences(queue, facts),
        rule_titles={entry.rule.id: entry.rule.title for entry in facts.rules},
        error_groups=list_error_groups(queue, queues, group_list, facts.at or 0.0),
    )


def is_evaluated(health: CheckerHealth | None) -> bool:
    """Whether rules are being evaluated; a checker that is late for some seconds still counts."""
    return health is not None and (health.ok or (health.age_s is not None and health.age_s < LATE_AFTER_S))


def list_silences(queue: QueueStats, facts: AlertFacts) -> tuple[CoveringSilence, ...]:
    """The active and scheduled silences that cover alerts of `queue`, active ones first, then the earliest end."""
    now = facts.at
    if now is None:
        return ()
    found = []
    for silence in facts.silences:
        if now < silence.until and silence.covers_queue(queue.source, queue.backend, queue.name):
            active = silence.is_active(now)
            found.append(CoveringSilence(silence, active, silence.ends_at(now) if active else silence.until))
    return tuple(sorted(found, key=lambda each: (not each.active, each.ends_at)))
