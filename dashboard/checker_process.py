"""The command `queuedeck checker`: sampling, alerting and delivery as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading

from .alerts.runtime import check_alert_settings
from .errors import Forbidden, QueuedeckError
from .redact import masked_logger
from .sampling.snapshot_store import SnapshotStore
from .services import build_services
from .settings import Settings
from .settings.redis_urls import redact_url

log = masked_logger(__name__)

EXIT_HUNG = 70  # EX_SOFTWARE: the supervisor should restart the process


def _find_write_refusal(store: SnapshotStore) -> Forbidden | None:
    """Why the store's Redis user can never run the checker; None if it can, or if unknown. Cost: 1 round trip."""
    try:
        refused = store.refused_writes()
    except Forbidden as exc:
        return exc
    except QueuedeckError:
        return None
    return store.not_writable(refused) if refused else None


def run_checker(settings: Settings) -> int:
    """Run the checker until SIGTERM or SIGINT. Returns the exit status: 1 if the Redis user lacks the write permissions
    that alerting needs.

    Raises ConfigurationError. Waits for a Redis that does not respond.
    """
    check_alert_settings(settings)
    services = build_services(settings, checks=True, on_hung=lambda: os._exit(EXIT_HUNG))
    forbidden = _find_write_refusal(services.store)
    if forbidden is not None:
        print(f"queuedeck: {forbidden.message}. {forbidden.hint or ''}".rstrip(), file=sys.stderr)
        services.sources.close()
        return 1
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    watched = ", ".join(f"{source.name} ({redact_url(source.redis_url)})" for source in settings.effective_sources())
    if settings.alerts == "off":
        log.warning('sampling %s; rules are not evaluated and no alerts are sent because alerts = "off"', watched)
    else:
        log.info("checking %s; %d channels", watched, len(settings.channels))
    services.start(runs_bulk=False)
    stopped.wait()
    services.stop()
    return 0
