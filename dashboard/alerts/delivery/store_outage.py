"""Alerts while the store itself is unavailable or refuses writes, so that they cannot be stored.

Each process tracks how long the outage has lasted. Then one process per host sends the alert: the one that gets the
lock of the spool file, with a head start for the last leader. The spool records what was sent to which channel, so that
a restarted process continues from it, and so that the channels that got the firing notification also get the resolved
one. Two hosts can both send: their ids are the same, and two messages are better than none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import re
import secrets
import stat
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from ...clock import monotonic_s, now_s
from ...errors import BackendUnavailable, Forbidden, QueuedeckError
from ...globs import glob_matches
from ...model import Value
from ...redact import masked_logger
from ..evaluation.state_machine import AlertLabels
from ..notification import LOCAL, HistoryEntry, Notification
from ..rules.rule import Rule, Severity
from ..silences import ActiveSilences
from .channels.base import Channel
from .message import PageLinks, build_message
from .sender import DEADLINE_S, LONGEST_RETRY_AFTER_S, back_off_s

log = masked_logger(__name__)

FOLLOWER_WAIT_S = 30.0
MAX_TICK_S = 10.0  # the most that one failed tick adds: it waits for connect and read timeouts
MAX_SPOOL_BYTES = 65_536
UNREACHABLE = "redis.unreachable_s"
REFUSED = "redis.writes_refused"
# The server responds but refuses writes; every other reason means that it does not respond correctly.
_REFUSING = frozenset({"full", "readonly", "forbidden"})
_REFUSAL = re.compile(r"MISCONF|NOREPLICAS|OOM|READONLY|NOPERM")


class OutageRecord(Value, frozen=True, kw_only=True):
    """One outage as stored on disk.

    `notified` = channels that got the firing notification, `resolved_notified` = those that also got the resolved one.
    """

    note: Notification
    channels: tuple[str, ...]
    notified: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    ended: Notification | None = None
    resolved_notified: tuple[str, ...] = ()
    recorded: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether no channel is left to notify."""
        return self.ended is not None and set(self.channels) <= {*self.resolved_notified, *self.given_up}


def spool_folder(configured: str | None) -> Path:
    """The folder of spool files, owned by this user; created if it does not exist.

    Raises OSError, and PermissionError when another user can write to it.
    """
    folder = Path(configured) if configured else Path(tempfile.gettempdir()) / f"queuedeck-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat(follow_symlinks=False)
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to another user or is writable by others")
    return folder


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
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        self._source = source
        self._interval_s = interval_s
        self._channels = channels
        self._links = links
        self._file = folder / f"{name}.spool"
        self._lock_file = folder / f"{name}.lock"
        self._record_history = record
        self._lock_descriptor: int | None = None
        self._notifies = False
        self._failing_s = 0.0
        self._metric: str | None = None
        self._last_tick = monotonic_s()
        self._began_at = 0.0
        self._outage: OutageRecord | None = None
        self._was_usable = False  # whether the store has ever been usable
        self._outage_lock = threading.Lock()
        self._change = threading.Event()
        self._stop = threading.Event()
        self._sender_thread: threading.Thread | None = None

    @property
    def is_notifying(self) -> bool:
        """Whether this process is the one that sends for its host."""
        return self._notifies

    def record_failure(
        self, problem: QueuedeckError, rules: tuple[Rule, ...], mutes: ActiveSilences, *, led: bool, epoch: int
    ) -> None:
        """Record a tick that could not use the store; `led` = this process was the last leader, `epoch` = its last
        known epoch.

        `rules` and `mutes` as last read from the store: planned downtime within a maintenance window must not page.
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
            self._reopen_outage()
            return
        rule = find_rule(rules, self._metric, self._source)
        if rule is not None and self._failing_s >= _minimum_outage_s(rule) + (0.0 if led else FOLLOWER_WAIT_S):
            labels = AlertLabels(source=self._source)
            # By the clock of this host, because the store's clock is unavailable.
            if mutes.find_silence(rule.id, rule.severities[0], labels, now_s()) is None:
                self._announce_outage(rule, problem, epoch)

    def record_success(self) -> None:
        """Record a tick that used the store successfully."""
        self._metric, self._failing_s, self._last_tick = None, 0.0, monotonic_s()
        self._was_usable = True
        if not self.is_notifying and self._file.exists() and self._take_lock():
            self._resume_outage()
        with self._outage_lock:
            spool = self._outage
            if spool is None or spool.ended is not None:
                return
            note = msgspec.structs.replace(
                spool.note, kind="resolved", number=2, at=now_s(), ended_at=now_s(), spark=(), detail=None
            )
            self._save_outage(msgspec.structs.replace(spool, ended=note))
        self._change.set()

    def stop(self) -> None:
        """Stop sending; the spool stays for the next process."""
        self._stop.set()
        self._change.set()
        if self._sender_thread is not None and self._sender_thread.is_alive():
            self._sender_thread.join(DEADLINE_S + 1)
        self._release_lock()

    def _reopen_outage(self) -> None:
        """Cancel the end of the outage when the store failed again before any channel got the resolved notification."""
        with self._outage_lock:
            if self._outage is not None and self._outage.ended is not None and not self._outage.resolved_notified:
                self._save_outage(msgspec.structs.replace(self._outage, ended=None))

    def _announce_outage(self, rule: Rule, problem: QueuedeckError, epoch: int) -> None:
        if not self._take_lock():
            return
        self._resume_outage()
        if self._outage is not None:
            return
        severity = rule.severities[0]
        names = tuple(name for name in rule.severity_channels(severity) or self._channels if name in self._channels)
        episode = LOCAL + hashlib.sha256(f"{self._source}|{rule.metric}|{epoch}".encode()).hexdigest()[:16]
        note = Notification(
            kind="firing",
            number=1,
            episode=episode,
            fp=episode,
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
            detail=f"{problem.message}. No rules can be evaluated until the store recovers",
            runbook_url=rule.runbook_url,
        )
        log.error("the store is unavailable; sending the alert directly from this process: %s", problem.message)
        with self._outage_lock:
            self._save_outage(OutageRecord(note=note, channels=names))
        self._start_sender()

    def _resume_outage(self) -> None:
        """Continue an outage that another process of this host has started to send."""
        spool = _read_outage(self._file)
        if spool is None or spool.is_finished:
            if spool is not None:
                self._file.unlink(missing_ok=True)
            if self._metric is None:
                self._release_lock()
            return
        with self._outage_lock:
            self._outage = msgspec.structs.replace(
                spool, channels=tuple(name for name in spool.channels if name in self._channels)
            )
        self._start_sender()

    def _start_sender(self) -> None:
        self._change.set()
        if self._sender_thread is None or not self._sender_thread.is_alive():
            self._sender_thread = threading.Thread(target=self._send_all, name="queuedeck-local", daemon=True)
            self._sender_thread.start()

    def _send_all(self) -> None:
        """Send to all channels in parallel until the outage has ended and every notification is sent."""
        dice = random.Random(secrets.randbits(64))  # noqa: S311 jitter, not a secret
        attempts: dict[str, int] = {}
        due: dict[str, float] = {}
        sending: dict[str, Future[float]] = {}
        # A hanging channel must not block the others.
        senders = ThreadPoolExecutor(max_workers=max(1, len(self._channels)), thread_name_prefix="queuedeck-local")
        try:
            while not self._stop.is_set():
                self._change.clear()
                for name in [name for name, future in sending.items() if future.done()]:
                    wait_s = sending.pop(name).result()
                    attempts[name] = attempts.get(name, 0) + 1 if wait_s else 0
                    due[name] = monotonic_s() + wait_s
                with self._outage_lock:
                    spool = self._outage
                if spool is None or self._finish_outage(spool):
                    return
                for name in spool.channels:
                    if name not in sending and monotonic_s() >= due.get(name, 0.0) and self._is_waiting(spool, name):
                        future = senders.submit(self._send_pending, name, attempts.get(name, 0) + 1, dice)
                        future.add_done_callback(lambda _: self._change.set())
                        sending[name] = future
                self._change.wait(0.5)
        finally:
            senders.shutdown()  # waits until each current send is recorded

    @staticmethod
    def _is_waiting(spool: OutageRecord, name: str) -> bool:
        """Whether a channel still needs the firing or the resolved notification."""
        if name in spool.given_up or name in spool.resolved_notified:
            return False
        return name not in spool.notified or spool.ended is not None

    def _send_pending(self, name: str, attempt: int, dice: random.Random) -> float:
        """Send one channel its pending notifications; returns the seconds to wait before the next attempt."""
        with self._outage_lock:
            spool = self._outage
        if spool is None or not self._is_waiting(spool, name):
            return 0.0
        begun = name in spool.notified
        notes = [spool.note] if not begun else []
        if spool.ended is not None:
            notes.append(spool.ended)
        kind = "both" if len(notes) == 2 else notes[0].kind
        message = build_message(notes[0].channel_message_id(name), kind, notes, self._links, name)
        delivered = self._channels[name].send(message, DEADLINE_S)
        if not delivered.ok and not delivered.permanent:
            asked = delivered.retry_after_s or None
            return back_off_s(attempt, dice) if asked is None else min(max(asked, 1.0), LONGEST_RETRY_AFTER_S)
        with self._outage_lock:
            assert self._outage is not None
            changes: dict[str, tuple[str, ...]] = {}
            if not delivered.ok:
                changes["given_up"] = (*self._outage.given_up, name)
            else:
                notified = tuple(dict.fromkeys((*self._outage.notified, name)))
                if spool.ended is None:
                    changes["notified"] = notified
                elif self._outage.ended is None:  # failed again while the end was being sent: start a new outage there
                    changes["notified"] = tuple(other for other in notified if other != name)
                else:
                    changes["notified"] = notified
                    changes["resolved_notified"] = (*self._outage.resolved_notified, name)
            self._save_outage(msgspec.structs.replace(self._outage, **changes))
        return 0.0

    def _finish_outage(self, spool: OutageRecord) -> bool:
        """Write a finished outage to the history and release it; False while anything is left to do."""
        if not spool.is_finished or spool.ended is None:
            return False
        try:
            for note in (spool.note, spool.ended) if not spool.recorded else ():
                self._record_history(_build_history_entry(note))
        except QueuedeckError as exc:
            log.info("could not write the outage to the alert history yet: %s", exc.message)
            self._stop.wait(1.0)
            return False
        with self._outage_lock:
            self._outage = None
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
        self._release_lock()
        return True

    def _save_outage(self, spool: OutageRecord) -> None:
        """Save the outage, on disk first, so that the next process never reads an older state than this one had.

        A full disk loses only the file, not the alert.
        """
        try:
            _write_outage(self._file, spool)
        except OSError as exc:
            log.warning("cannot write the spool file: %s", exc.strerror)
        self._outage = spool

    def _take_lock(self) -> bool:
        if self._notifies:
            return True
        try:
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            log.warning("cannot open the spool lock; this process sends the alert: %s", exc.strerror)
            self._notifies = True
            return True  # fail open: a duplicate is better than no alert
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock_descriptor, self._notifies = descriptor, True
        return True

    def _release_lock(self) -> None:
        self._notifies = False
        descriptor, self._lock_descriptor = self._lock_descriptor, None
        if descriptor is not None:
            os.close(descriptor)


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


def _build_history_entry(note: Notification) -> HistoryEntry:
    lasted_s = max(0.0, note.ended_at - note.started_at) if note.ended_at and note.started_at else 0.0
    return HistoryEntry(
        kind=note.kind,
        episode=note.episode,
        at=note.at,
        rule_id=note.rule_id,
        rule_name=note.rule_name,
        metric=note.metric,
        severity=Severity(note.severity),
        labels=note.labels,
        threshold=note.threshold,
        value=note.value,
        started_at=note.started_at,
        lasted_s=lasted_s,
        reason="sent directly: the store was unavailable",
        fp=note.fp,
    )


def _read_outage(file: Path) -> OutageRecord | None:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(MAX_SPOOL_BYTES), type=OutageRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_outage(file: Path, spool: OutageRecord) -> None:
    """Replace the file atomically, so that a crash leaves either the old one or the new one."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(msgspec.json.encode(spool))
            opened.flush()
            os.fsync(opened.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
