"""The alerts of one process: built from the settings and called by the checker on every tick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..actions.pauses import PauseLog
from ..backends.monitored_sources import known_names
from ..errors import ConfigurationError, QueuedeckError
from ..history.activity.activities import NO_ACTIVITIES, Activities
from ..history.run_times import RunTimes
from ..history.series_keys import SeriesKey
from ..model import Mark, Snapshot
from ..redact import masked_logger
from ..sampling.recent_history import History
from ..settings import Settings
from ..settings.queue_directory import QueueDirectory
from ..slos.slo_report import SloStatus
from ..store.redis_store import Store
from .delivery.channels.base import Channel, build_channel
from .delivery.dead_mans_switch import DeadMansSwitch
from .delivery.message import PageLinks
from .delivery.outage_spool import OutageRecord, spool_folder
from .delivery.outbox import Outbox
from .delivery.outbox_claims import OutboxClaims
from .delivery.sender import NotificationSender
from .delivery.store_outage import StoreOutageNotifier
from .engine import AlertEngine, GroupsOf, SchedulesOf, no_groups, no_schedules
from .notification_builder import ErrorsOf, no_errors
from .rules.ruleset import Ruleset
from .store import AlertStore

log = masked_logger(__name__)

# A delivery loop that has not polled its outbox for this long counts as unable to deliver.
DELIVERS_WITHIN_S = 60.0


def build_ruleset(settings: Settings) -> Ruleset:
    """The rules of the settings and the default ones. Raises ConfigurationError."""
    ruleset = Ruleset(settings.rules, settings.sample_interval_s, known_names(settings))
    ruleset.check_names([str(channel.get("id")) for channel in settings.channels])
    return ruleset


def build_channels(settings: Settings) -> dict[str, Channel]:
    """The channels by id, in the order of the settings. Raises ConfigurationError."""
    found: dict[str, Channel] = {}
    for values in settings.channels:
        channel = build_channel(values, allow_private=settings.allow_private_webhooks)
        if channel.id in found:
            raise ConfigurationError(f"channel {channel.id}: id: expected a unique id for each channel")
        found[channel.id] = channel
    return found


def check_alert_settings(settings: Settings) -> None:
    """Check rules, channels, ping URL and spool folder, which is created. Raises ConfigurationError.

    Opens no connection.
    """
    build_ruleset(settings)
    build_channels(settings)
    if settings.ping_url is not None:
        DeadMansSwitch(settings.ping_url, allow_private=settings.allow_private_webhooks)
    if settings.spool_dir is not None:
        _open_spool_folder(settings)


class AlertRuntime:
    """The checker's entry points and the delivery threads. Start it once per process, after any fork."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        holder: str,
        *,
        errors_of: ErrorsOf = no_errors,
        run_times: Callable[[], Mapping[SeriesKey, RunTimes]] = dict,
        activities: Callable[[], Activities] = lambda: NO_ACTIVITIES,
        marks: Callable[[], Sequence[Mark]] = tuple,
        groups_of: GroupsOf = no_groups,
        schedules_of: SchedulesOf = no_schedules,
        slos: Callable[[], Sequence[SloStatus]] = tuple,
    ) -> None:
        """`errors_of` returns the top error groups of a queue, for its notifications, and `groups_of` all of them, for
        rules about them; `schedules_of` how late schedules are; `run_times` and `activities`: of queues and job
        classes, with what is usual; `marks`: of deployments, newest first; `slos`: the objectives. Raises
        ConfigurationError."""
        links = PageLinks(settings.public_url)
        channels = build_channels(settings)
        alerts = AlertStore(store)
        self.ruleset = build_ruleset(settings)
        self.notification_sender = NotificationSender(OutboxClaims(store), channels, links)
        self._engine = AlertEngine(
            alerts,
            self.ruleset,
            settings.sample_interval_s,
            holder,
            tuple(channels),
            errors_of=errors_of,
            wake=self.notification_sender.wake,
            delivers=self._is_delivering,
            tidy=Outbox(store).maintain,
            pauses=PauseLog(store),
            directory=QueueDirectory(settings.queues),
            run_times=run_times,
            activities=activities,
            marks=marks,
            groups_of=groups_of,
            schedules_of=schedules_of,
            slos=slos,
        )
        self._outage_notifier = StoreOutageNotifier(
            store.source.address,
            store_source_name(settings),
            settings.sample_interval_s,
            channels,
            links,
            _open_spool_folder(settings),
            alerts.append_history,
        )
        allow_private = settings.allow_private_webhooks
        self._dead_mans_switch = (
            DeadMansSwitch(settings.ping_url, allow_private=allow_private) if settings.ping_url else None
        )
        self._was_leader = False

    def start(self) -> None:
        """Start delivery."""
        self.notification_sender.start()

    def stop(self) -> None:
        """Stop after the current send, within 15 s."""
        self.notification_sender.stop()
        self._outage_notifier.stop()

    def on_takeover(self, former: Snapshot | None) -> None:
        """Continue from what the last leader published, if that is fresh."""
        if former is not None and former.epoch:
            self._engine.settle_queues(former)

    def on_sample(self, epoch: int, snapshot: Snapshot, history: History) -> bool:
        """Evaluate a sample; False when another process leads now."""
        self._was_leader = True
        leads = self._engine.evaluate_as_leader(epoch, snapshot, history)
        if leads and self._dead_mans_switch is not None and self._is_delivering():
            self._dead_mans_switch.ping_if_due()
        return leads

    def on_follow(self) -> None:
        """Track the leader's state."""
        self._engine.follow_leader()
        self._was_leader = False

    @property
    def announced_outage(self) -> OutageRecord | None:
        """The store outage that this process has announced and that is not over; None without one."""
        return self._outage_notifier.announced_outage

    def on_success(self) -> None:
        """Record that the store is usable."""
        self._outage_notifier.record_success()

    def on_failure(self, problem: QueuedeckError) -> None:
        """Record that the store is not usable."""
        engine = self._engine
        self._outage_notifier.record_failure(
            problem, engine.rules, engine.active_silences, led=self._was_leader, epoch=engine.last_epoch
        )

    def _is_delivering(self) -> bool:
        return self.notification_sender.is_delivering(DELIVERS_WITHIN_S)


def store_source_name(settings: Settings) -> str:
    """The name of the source that is also the store, or `store`."""
    sources = settings.effective_sources()
    if settings.store_url is None:
        return sources[0].name
    return next((source.name for source in sources if source.redis_url == settings.store_url), "store")


def _open_spool_folder(settings: Settings) -> Path:
    try:
        return spool_folder(settings.spool_dir)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        if settings.spool_dir is not None:
            raise ConfigurationError(
                f"spool_dir: expected a folder that only this user can write to: {reason}"
            ) from None
        log.warning(
            "no folder for the alert spool: %s; each process on this host sends its own store outage alerts", reason
        )
        return Path("/nonexistent")
