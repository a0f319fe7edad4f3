"""The alerts of one process: made from the settings, told of every tick by the checker."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigurationError, QueuedeckError
from ..model import Snapshot
from ..redact import masked_logger
from ..sampling.recent_history import History
from ..settings import Settings
from ..store.redis_store import Store
from .delivery.channels.base import Channel, make
from .delivery.dead_mans_switch import DeadMansSwitch
from .delivery.message import PageLinks
from .delivery.outbox import Outbox
from .delivery.sender import NotificationSender
from .delivery.store_outage import StoreOutageNotifier, spool_folder
from .engine import AlertEngine, ErrorsOf, no_errors
from .rules.ruleset import Ruleset
from .store import AlertStore

log = masked_logger(__name__)

# A loop of delivery that has not asked its outbox for so long counts as unable to deliver.
DELIVERS_WITHIN_S = 60.0


def make_rulebook(settings: Settings) -> Ruleset:
    """The rules that the settings bring. Raises ConfigurationError."""
    book = Ruleset(settings.rules, settings.sample_interval_s)
    book.check_names([str(channel.get("id")) for channel in settings.channels])
    return book


def make_channels(settings: Settings) -> dict[str, Channel]:
    """The channels by id, in the order of the settings. Raises ConfigurationError."""
    found: dict[str, Channel] = {}
    for values in settings.channels:
        channel = make(values, allow_private=settings.allow_private_webhooks)
        if channel.id in found:
            raise ConfigurationError(f"channel {channel.id}: id: expected a unique id for each channel")
        found[channel.id] = channel
    return found


def check(settings: Settings) -> None:
    """Raises ConfigurationError for anything wrong with rules, channels, ping URL and spool folder, which is made.

    Opens no connection.
    """
    make_rulebook(settings)
    make_channels(settings)
    if settings.ping_url is not None:
        DeadMansSwitch(settings.ping_url, allow_private=settings.allow_private_webhooks)
    if settings.spool_dir is not None:
        _folder(settings)


class AlertRuntime:
    """What the checker calls, and the threads that deliver. Start it once per process, after any fork."""

    def __init__(self, settings: Settings, store: Store, holder: str, *, errors_of: ErrorsOf = no_errors) -> None:
        """`errors_of` tells the top error groups of a queue, for its messages. Raises ConfigurationError."""
        links = PageLinks(settings.public_url)
        channels = make_channels(settings)
        alerts = AlertStore(store)
        self.rulebook = make_rulebook(settings)
        outbox = Outbox(store)
        self.notifier = NotificationSender(outbox, channels, links)
        self._engine = AlertEngine(
            alerts,
            self.rulebook,
            settings.sample_interval_s,
            holder,
            tuple(channels),
            errors_of=errors_of,
            wake=self.notifier.wake,
            delivers=self._delivers,
            tidy=outbox.tidy,
        )
        self._local = StoreOutageNotifier(
            store.source.address,
            source_name(settings),
            settings.sample_interval_s,
            channels,
            links,
            _folder(settings),
            alerts.record,
        )
        allow_private = settings.allow_private_webhooks
        self._ping = DeadMansSwitch(settings.ping_url, allow_private=allow_private) if settings.ping_url else None
        self._led = False

    def start(self) -> None:
        """Begin to deliver."""
        self.notifier.start()

    def stop(self) -> None:
        """Finish the send in hand and stop, after 15 s at the latest."""
        self.notifier.stop()
        self._local.stop()

    def taken_over(self, former: Snapshot | None) -> None:
        """Go on from what the last leader published, if that is fresh."""
        if former is not None and former.epoch:
            self._engine.settle(former)

    def sampled(self, epoch: int, snapshot: Snapshot, history: History) -> bool:
        """Evaluate a sample; False when another one leads by now."""
        self._led = True
        leads = self._engine.lead(epoch, snapshot, history)
        if leads and self._ping is not None and self._delivers():
            self._ping.all_is_well()
        return leads

    def followed(self) -> None:
        """Keep up with the leader."""
        self._engine.follow()
        self._led = False

    def well(self) -> None:
        """The store is in use."""
        self._local.well()

    def failed(self, problem: QueuedeckError) -> None:
        """The store is not."""
        engine = self._engine
        self._local.failed(problem, engine.rules, engine.mutes, led=self._led, epoch=engine.last_epoch)

    def _delivers(self) -> bool:
        return self.notifier.delivers(DELIVERS_WITHIN_S)


def source_name(settings: Settings) -> str:
    """The name of the source that the store is, or `store`."""
    sources = settings.effective_sources()
    if settings.store_url is None:
        return sources[0].name
    return next((source.name for source in sources if source.url == settings.store_url), "store")


def _folder(settings: Settings) -> Path:
    try:
        return spool_folder(settings.spool_dir)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        if settings.spool_dir is not None:
            raise ConfigurationError(
                f"spool_dir: expected a folder that only this user can write to: {reason}"
            ) from None
        log.warning(
            "no folder for the alert spool: %s; each process on this host sends store outage alerts by itself", reason
        )
        return Path("/nonexistent")
