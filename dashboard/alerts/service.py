"""Everything that pages and API do with alerts, put together for one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..history.history_reader import HistoryReader
from ..settings import Settings
from ..slos.slo_report import SloStatus
from ..store.redis_store import Store
from .counters import AlertCounters
from .delivery.channels.base import public_settings
from .management.acknowledgements import Acknowledgements
from .management.alert_reader import AlertReader
from .management.checker_health import CheckerMonitor
from .management.notifications import NotificationLog
from .management.ownership import AlertOwnership
from .management.past_alerts import PastAlertReader
from .management.rule_editor import RuleEditor
from .management.rule_previews import ReadGroups, ReadSchedules, RulePreviews
from .management.silence_editor import SilenceEditor
from .management.week_backtests import WeekBacktests
from .rules.ruleset import Ruleset
from .runtime import build_channels, build_ruleset
from .store import AlertStore


@dataclass(frozen=True, slots=True)
class AlertService:
    """The parts of alerting for pages and API. `channels` are those of the settings, without their secrets."""

    ownership: AlertOwnership
    alerts: AlertReader
    past_alerts: PastAlertReader
    acknowledgements: Acknowledgements
    silences: SilenceEditor
    rules: RuleEditor
    previews: RulePreviews
    backtests: WeekBacktests
    notifications: NotificationLog
    checker: CheckerMonitor
    counters: AlertCounters
    channels: tuple[dict[str, Any], ...]


def build_alert_service(
    settings: Settings,
    store: Store,
    ownership: AlertOwnership | None = None,
    *,
    ruleset: Ruleset | None = None,
    error_groups: ReadGroups = lambda: None,
    schedules: ReadSchedules = lambda: None,
    slos: Callable[[], Sequence[SloStatus]] = tuple,
) -> AlertService:
    """The alert service of these settings on this store. Opens no connection. Raises ConfigurationError.

    `ownership` None: no other dashboard uses this store. `ruleset` None: the rules of the settings.
    `error_groups`, `schedules`, `slos`: read them, for previews.
    """
    ownership = ownership or AlertOwnership()
    alert_store = AlertStore(store)
    ruleset = ruleset or build_ruleset(settings)
    channels = tuple(build_channels(settings))
    interval_s = settings.sample_interval_s
    alerts = AlertReader(alert_store, ownership, ruleset, interval_s)
    return AlertService(
        ownership=ownership,
        alerts=alerts,
        past_alerts=PastAlertReader(alert_store, alerts, ownership),
        acknowledgements=Acknowledgements(alert_store, alerts, ownership),
        silences=SilenceEditor(alert_store, ownership),
        rules=RuleEditor(alert_store, ruleset, channels, ownership),
        previews=RulePreviews(alert_store, ruleset, channels, interval_s, ownership, error_groups, schedules, slos),
        backtests=WeekBacktests(HistoryReader(store)),
        notifications=NotificationLog(alert_store, channels, ownership),
        checker=CheckerMonitor(alert_store, interval_s, ownership),
        counters=AlertCounters(store, channels),
        channels=tuple(public_settings(values) for values in settings.channels),
    )
