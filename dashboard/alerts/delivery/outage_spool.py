"""The store outage that a host notifies about: its record on disk, and the lock of the process that sends it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Container
from pathlib import Path

import msgspec

from ...model import Value
from ...redact import masked_logger
from ..notification import Notification

log = masked_logger(__name__)

MAX_SPOOL_BYTES = 65_536


class OutageRecord(Value, frozen=True, kw_only=True):
    """One outage as stored on disk.

    `notified` = channels that got the firing notification, `resolved_notified` = those that also got the resolved one.
    """

    notification: Notification
    channels: tuple[str, ...]
    notified: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    ended: Notification | None = None
    resolved_notified: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether no channel is left to notify."""
        return self.ended is not None and set(self.channels) <= {*self.resolved_notified, *self.given_up}

    def is_waiting(self, channel: str) -> bool:
        """Whether a channel still needs the firing or the resolved notification."""
        if channel in self.given_up or channel in self.resolved_notified:
            return False
        return channel not in self.notified or self.ended is not None

    def pending_notifications(self, channel: str) -> list[Notification]:
        """What a channel still needs, oldest first."""
        if not self.is_waiting(channel):
            return []
        notifications = [] if channel in self.notified else [self.notification]
        return notifications if self.ended is None else [*notifications, self.ended]

    def end(self, now: float) -> OutageRecord:
        """The outage with its end; itself when it has ended already."""
        if self.ended is not None:
            return self
        ended = msgspec.structs.replace(
            self.notification, kind="resolved", number=2, at=now, ended_at=now, spark=(), detail=None
        )
        return msgspec.structs.replace(self, ended=ended)

    def reopen(self) -> OutageRecord:
        """The outage without its end; itself once a channel got the resolved notification."""
        if self.ended is None or self.resolved_notified:
            return self
        return msgspec.structs.replace(self, ended=None)

    def give_up(self, channel: str) -> OutageRecord:
        """The outage after a channel has permanently rejected a notification."""
        return msgspec.structs.replace(self, given_up=(*self.given_up, channel))

    def confirm(self, channel: str, *, resolved: bool) -> OutageRecord:
        """The outage after a channel got its notifications; `resolved` = the end was one of them."""
        notified = tuple(dict.fromkeys((*self.notified, channel)))
        if not resolved:
            return msgspec.structs.replace(self, notified=notified)
        if self.ended is None:  # failed again while the end was being sent: start a new outage there
            return msgspec.structs.replace(self, notified=tuple(other for other in notified if other != channel))
        return msgspec.structs.replace(self, notified=notified, resolved_notified=(*self.resolved_notified, channel))


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


class OutageSpool:
    """The spool file of a store on this host. The process that holds its lock sends. Changes are thread-safe."""

    def __init__(self, folder: Path, address: str) -> None:
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        self.file = folder / f"{name}.spool"
        self._lock_file = folder / f"{name}.lock"
        self._lock_descriptor: int | None = None
        self._change_lock = threading.Lock()
        self.is_locked = False  # by this process
        self.outage: OutageRecord | None = None

    def try_lock(self) -> bool:
        """Take the lock; False when another process of this host has it."""
        if self.is_locked:
            return True
        try:
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            log.warning("cannot open the spool lock; this process sends the alert: %s", exc.strerror)
            self.is_locked = True
            return True  # fail open: a duplicate is better than no alert
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock_descriptor, self.is_locked = descriptor, True
        return True

    def unlock(self) -> None:
        """Let another process of this host send; the file stays."""
        self.is_locked = False
        descriptor, self._lock_descriptor = self._lock_descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def load_outage(self, channels: Container[str]) -> bool:
        """Read the outage that another process has left, limited to `channels`; False when none is unfinished."""
        outage = _read_outage(self.file)
        if outage is None:
            return False
        if outage.is_finished:
            self.file.unlink(missing_ok=True)
            return False
        with self._change_lock:
            known = tuple(name for name in outage.channels if name in channels)
            self.outage = msgspec.structs.replace(outage, channels=known)
        return True

    def begin_outage(self, outage: OutageRecord) -> None:
        """Save a new outage."""
        with self._change_lock:
            self._save_outage(outage)

    def update_outage(self, change: Callable[[OutageRecord], OutageRecord]) -> bool:
        """Save what `change` returns for the outage; False when there is no outage or it returns the same object."""
        with self._change_lock:
            before = self.outage
            after = None if before is None else change(before)
            if after is None or after is before:
                return False
            self._save_outage(after)
            return True

    def finish_outage(self, finished: OutageRecord) -> bool:
        """Delete the outage and release the lock; False if it has changed since: the store failed again."""
        with self._change_lock:
            if self.outage is not finished:
                return False
            self.outage = None
            with contextlib.suppress(OSError):
                self.file.unlink(missing_ok=True)
        self.unlock()
        return True

    def _save_outage(self, outage: OutageRecord) -> None:
        """Save the outage, on disk first, so that the next process never reads an older state than this one had.

        A full disk loses only the file, not the alert.
        """
        try:
            _write_outage(self.file, outage)
        except OSError as exc:
            log.warning("cannot write the spool file: %s", exc.strerror)
        self.outage = outage


def _read_outage(file: Path) -> OutageRecord | None:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(MAX_SPOOL_BYTES), type=OutageRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_outage(file: Path, outage: OutageRecord) -> None:
    """Replace the file atomically, so that a crash leaves either the old one or the new one."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(msgspec.json.encode(outage))
            opened.flush()
            os.fsync(opened.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
