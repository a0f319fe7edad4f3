"""Sampling, alerting and delivery combined: as part of a process, and as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .alerts.evaluation.state_machine import AlertLabels
from .alerts.runtime import AlertRuntime, check_settings
from .backends.monitored_sources import MonitoredSources, open_sources
from .dead_letters.top_errors import TopErrors
from .errors import Forbidden, QueuedeckError
from .model import Snapshot
from .redact import masked_logger
from .sampling.checker import Checker
from .sampling.leadership import Leadership, holder_name
from .sampling.sampler import Sampler
from .sampling.snapshot_store import SnapshotStore
from .settings import Settings
from .settings.redis_urls import redact_url

log = masked_logger(__name__)

EXIT_HUNG = 70  # EX_SOFTWARE: the supervisor should restart the process


@dataclass(frozen=True, slots=True)
class RunningChecker:
    """A started checker with its alerts."""

    checker: Checker
    alerts: AlertRuntime | None
    top: TopErrors

    def stop(self) -> None:
        """Accept no new work, finish the notification being sent, release the lease."""
        self.checker.stop()
        if self.alerts is not None:
            self.alerts.stop()
        self.top.stop()


def start_checker(
    settings: Settings,
    sources: MonitoredSources,
    store: SnapshotStore,
    holder: str,
    *,
    on_hung: Callable[[], None] | None = None,
) -> RunningChecker:
    """Start sampling (while this process leads), alerting and delivery. Call once per process, after any fork.

    Raises ConfigurationError.
    """
    top = TopErrors(sources.backend)

    def top_errors(labels: AlertLabels, snapshot: Snapshot) -> Sequence[str]:
        return top.top_errors_of(labels.source or "", labels.backend or "", labels.queue or "", snapshot.queues)

    alerts = AlertRuntime(settings, store, holder, errors_of=top_errors) if settings.alerts == "on" else None
    leadership = Leadership(store, holder)
    sampler = Sampler(sources, settings.sample_interval_s, holder, clock=store.now_s)
    checker = Checker(store, sampler, leadership, settings.sample_interval_s, listener=alerts, on_hung=on_hung)
    if alerts is not None:
        alerts.start()
    checker.start()
    return RunningChecker(checker, alerts, top)


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
    check_settings(settings)
    sources = open_sources(settings)
    assert sources.own is not None
    forbidden = _find_write_refusal(SnapshotStore(sources.own))
    if forbidden is not None:
        print(f"queuedeck: {forbidden.message}. {forbidden.hint or ''}".rstrip(), file=sys.stderr)
        sources.close()
        return 1
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    watched = ", ".join(f"{source.name} ({redact_url(source.url)})" for source in settings.effective_sources())
    if settings.alerts == "off":
        log.warning('sampling %s; rules are not evaluated and no alerts are sent because alerts = "off"', watched)
    else:
        log.info("checking %s; %d channels", watched, len(settings.channels))
    work = start_checker(
        settings,
        sources,
        SnapshotStore(sources.own),
        holder_name(sources.fingerprint),
        on_hung=lambda: os._exit(EXIT_HUNG),
    )
    stopped.wait()
    work.stop()
    sources.close()
    return 0
