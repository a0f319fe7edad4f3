"""Leader election: the process that holds a lease in the store samples, and its epoch guards every write.

The lease is a hint, the epoch is the guard: `SnapshotStore.publish_snapshot` checks it inside Redis, so a leader that
slept past the end of its lease changes nothing.
"""

from __future__ import annotations

import os
import secrets
import socket

from ..clock import monotonic_s
from ..errors import QueuedeckError
from ..redact import masked_logger
from ..store.redis_store import Lease, Store

log = masked_logger(__name__)

LEASE_S = 15.0
RENEW_EVERY_S = 5.0
RIGHTS_EVERY_S = 60.0


def holder_name(settings_digest: str = "") -> str:
    """A unique name for this process: host, process id and a random part, then the digest of its settings.

    The lease stores it, so that other processes can see which settings the leader uses.
    """
    host = socket.gethostname().split(".")[0][:40].replace(":", "-")
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}" + (f".{settings_digest[:8]}" if settings_digest else "")


def has_other_settings(holder: str, settings_digest: str) -> bool:
    """Whether a `holder_name` belongs to a process with other settings; False if either side has no digest."""
    _, dot, theirs = holder.rpartition(".")
    return bool(dot and settings_digest) and theirs != settings_digest[:8]


class Leadership:
    """This process's side of the lease. One thread calls `renew_lease`; any thread can read the properties."""

    def __init__(self, store: Store, holder: str) -> None:
        self._store = store
        self.holder = holder
        self._epoch: int | None = None
        self._others_lead = False  # as of the last renewal
        self._until = 0.0  # monotonic
        self._check_at = 0.0  # monotonic: when to check the write permissions again
        self._refused: tuple[str, ...] = ()
        self.problem: str | None = None  # why the store cannot be read or written
        self.fault: QueuedeckError | None = None  # the same, as the exception

    @property
    def epoch(self) -> int | None:
        """Our fencing epoch while we lead and the lease has not expired; otherwise None."""
        return self._epoch if monotonic_s() < self._until else None

    def renew_lease(self) -> int | None:
        """Acquire or renew the lease; returns the epoch if we hold it. Never raises. Cost: 1 round trip."""
        asked = monotonic_s()
        try:
            self._check_rights()
            lease = self._store.acquire_lease(self.holder, LEASE_S)
        except QueuedeckError as exc:
            if self.problem != exc.message:
                log.warning("could not take or renew the lease: %s", exc.message)
            self.problem, self.fault = exc.message, exc
            return self.epoch
        self.problem = self.fault = None
        if lease.epoch != self._epoch:
            log.info("leading with epoch %s" if lease.epoch else "following %s", lease.epoch or lease.holder)
        self._note_others(lease)
        self._epoch, self._until = lease.epoch, asked + LEASE_S
        return self.epoch

    def _note_others(self, lease: Lease) -> None:
        """Log one line when a process with other settings becomes leader."""
        _, _, own = self.holder.rpartition(".")
        others = lease.epoch is None and "." in self.holder and has_other_settings(lease.holder.partition(":")[0], own)
        if others and not self._others_lead:
            log.warning(
                "%s leads with other settings on the same store: this process does not evaluate its rules. Give one of "
                "the two another store_prefix, or stop one.",
                lease.holder,
            )
        self._others_lead = others

    def _check_rights(self) -> None:
        """Raise Forbidden for a Redis user who can acquire the lease, but lacks permission for some write of a leader.

        Partial permissions would be worse than none: alerts would be stored and never sent. Cost: 1 round trip, once a
        minute while permissions are missing, otherwise only once.
        """
        if monotonic_s() >= self._check_at:
            self._refused = self._store.refused_writes()
            self._check_at = monotonic_s() + RIGHTS_EVERY_S if self._refused else float("inf")
        if self._refused:
            raise self._store.not_writable(self._refused)

    def note_loss(self) -> None:
        """Stop leading because the store refused our epoch."""
        self._epoch = None

    def release_lease(self) -> None:
        """Release the lease, if we hold it, so that another process does not have to wait until it expires."""
        epoch, self._epoch = self.epoch, None
        if epoch is not None:
            try:
                self._store.release_lease(self.holder, epoch)
            except QueuedeckError as exc:
                log.info("could not release the lease: %s", exc.message)
