"""Alerts while the store itself is unavailable or refuses writes, so that they cannot be stored.

Each process tracks how long the outage has lasted. Then one process per host sends the alert: the one that gets the
lock of the spool file, with a head start for the last leader. The spool records what was sent to which channel, so that
a restarted process continues from it, and so that the channels that got the firing notification also get the resolved
one. Two hosts can both send: their ids are the same, and two messages are better than none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ...clock import monotonic_s, now_s
from ...errors import BackendUnavailable, Forbidden, QueuedeckError
from ...globs import glob_matches
from ...redact import masked_logger
from ..evaluation.state_machine import AlertLabels
from ..notification import LOCAL, HistoryEntry, Notification
from ..rules.rule import Rule
from ..silences import ActiveSilences
from .channels.base import Channel
from .message import PageLinks
from .outage_sender import OutageSender
from .outage_spool import OutageRecord, OutageSpool

log = masked_logger(__name__)

FOLLOWER_WAIT_S = 30.0
MAX_TICK_S = 10.0  # the most that one failed tick adds: it waits for connect and read timeouts
UNREACHABLE = "redis.unreachable_s"
REFUSED = "redis.writes_refused"
# The server responds but refuses writes; every other reason means that it does not respond correctly.
_REFUSING = frozenset({"full", "readonly", "forbidden"})
_REFUSAL = re.compile(r"MISCONF|NOREPLICAS|OOM|READONLY|NOPERM")


class StoreOutageNotifier:
    """Sends alerts about store outages. One thread calls `record_…` after each tick with the state of the store."""

    def __init__(
        self,
        address: str,
        source: str,
        interval_s: float,
        channels: Mapping[str, Channel],
        links: PageLinks,
        folder: Path,
        record: Callable[[HistoryEntry], None],
    ) -> None:
        self._source = source
        self._interval_s = interval_s
        self._channels = channels
        self._spool = OutageSpool(folder, address)
        self._sender = OutageSender(self._spool, channels, links, record)
        self._failing_s = 0.0
        self._metric: str | None = None
        self._last_tick = monotonic_s()
        self._began_at = 0.0
        self._was_usable = False  # whether the store has ever been usable

    @property
    def is_notifying(self) -> bool:
        """Whether this process is the one that sends for its host."""
        return self._spool.is_locked

    @property
    def announced_outage(self) -> OutageRecord | None:
        """The outage that this process has announced and that is not over; None without one."""
        outage = self._spool.outage if self.is_notifying else None
        return None if outage is None or outage.ended is not None else outage

    def record_failure(
        self,
        problem: QueuedeckError,
        rules: tuple[Rule, ...],
        active_silences: ActiveSilences,
        *,
        led: bool,
        epoch: int,
    ) -> None:
        """Record a tick that could not use the store; `led` = this process was the last leader, `epoch` = its last
        known epoch.

        `rules` and `active_silences` as last read from the store: planned downtime within a maintenance window must not
        page.
        """
        if isinstance(problem, Forbidden) and not self._was_usable:
            return  # a read-only user is intentional: the pages and `queuedeck checker` list the missing permissions
        metric = metric_from_problem(problem)
        passed, self._last_tick = monotonic_s() - self._last_tick, monotonic_s()
        if self._metric is None:
            self._began_at, self._failing_s = now_s(), 0.0
        else:
            self._failing_s += min(max(passed, 0.0), max(2 * self._interval_s, MAX_TICK_S))
        self._metric = self._metric or metric
        if metric == UNREACHABLE:  # a server that refuses and then dies is the worse of the two
            self._metric = metric
        if self.is_notifying:
            self._spool.update_outage(OutageRecord.reopen)
            return
        rule = find_rule(rules, self._metric, self._source)
        if rule is not None and self._failing_s >= _minimum_outage_s(rule) + (0.0 if led else FOLLOWER_WAIT_S):
            labels = AlertLabels(source=self._source)
            # By the clock of this host, because the store's clock is unavailable.
            if active_silences.find_silence(rule.id, rule.severities[0], labels, now_s()) is None:
                self._announce_outage(rule, problem, epoch)

    def record_success(self) -> None:
        """Record a tick that used the store successfully."""
        self._metric, self._failing_s, self._last_tick = None, 0.0, monotonic_s()
        self._was_usable = True
        if not self.is_notifying and self._spool.file.exists() and self._spool.try_lock():
            self._resume_outage()
        if self._spool.update_outage(lambda outage: outage.end(now_s())):
            self._sender.wake()

    def stop(self) -> None:
        """Stop sending; the spool stays for the next process."""
        self._sender.stop()
        self._spool.unlock()

    def _announce_outage(self, rule: Rule, problem: QueuedeckError, epoch: int) -> None:
        if not self._spool.try_lock():
            return
        self._resume_outage()
        if self._spool.outage is not None:
            return
        severity = rule.severities[0]
        names = tuple(name for name in rule.severity_channels(severity) or self._channels if name in self._channels)
        episode = LOCAL + hashlib.sha256(f"{self._source}|{rule.metric}|{epoch}".encode()).hexdigest()[:16]
        notification = Notification(
            kind="firing",
            number=1,
            episode=episode,
            fingerprint=episode,
            rule_id=rule.id,
            rule_name=rule.title,
            metric=rule.metric,
            severity=severity,
            at=now_s(),
            labels=AlertLabels(source=self._source),
            op=rule.op,
            threshold=rule.threshold(severity),
            value=round(self._failing_s, 1) if rule.metric == UNREACHABLE else 1.0,
            started_at=self._began_at,
            detail=f"{problem.message.rstrip('.')}; no rules are evaluated in the meantime",
            runbook_url=rule.runbook_url,
        )
        log.error("the store is unavailable; sending the alert directly from this process: %s", problem.message)
        self._spool.begin_outage(OutageRecord(notification=notification, channels=names))
        self._sender.start()

    def _resume_outage(self) -> None:
        """Continue an outage that another process of this host has started to send."""
        if self._spool.load_outage(self._channels):
            self._sender.start()
        elif self._metric is None:
            self._spool.unlock()


def metric_from_problem(problem: QueuedeckError) -> str:
    """The metric that a failure of the store belongs to."""
    if isinstance(problem, BackendUnavailable):
        refusing = problem.reason in _REFUSING or _REFUSAL.search(problem.message) is not None
        return REFUSED if refusing else UNREACHABLE
    return REFUSED


def find_rule(rules: tuple[Rule, ...], metric: str, source: str) -> Rule | None:
    """The enabled rule for that metric and source; None when there is none."""
    for rule in rules:
        if rule.enabled and rule.metric == metric and glob_matches(rule.source, source):
            return rule
    return None


def _minimum_outage_s(rule: Rule) -> float:
    """How long the outage must last, in seconds: with redis.unreachable_s, the threshold is part of it."""
    threshold = rule.threshold(rule.severities[0])
    return rule.for_s + (threshold if rule.metric == UNREACHABLE else 0.0)
