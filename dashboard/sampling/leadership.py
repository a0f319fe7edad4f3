"""Who samples: one process holds a lease in the store, and its epoch guards every write.

The lease is a hint, the epoch is the guard: `Store.publish` checks it inside Redis, so a leader that slept through its
lease changes nothing.
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


def holder_name(fingerprint: str = "") -> str:
    """A name for this process that no other has: host, process id and a random part, then of what settings it is.

    The lease holds it, so that it tells by which settings the leader goes.
    """
    host = socket.gethostname().split(".")[0][:40].replace(":", "-")
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}" + (f".{fingerprint[:8]}" if fingerprint else "")


def is_of_others(holder: str, fingerprint: str) -> bool:
    """Whether a `holder_name` is that of a process with other settings; not where one of the two has no fingerprint."""
    _, dot, theirs = holder.rpartition(".")
    return bool(dot and fingerprint) and theirs != fingerprint[:8]


class Leadership:
    """This process's side of the lease. `renew_lease` is called by one thread, the properties may be read by any."""

    def __init__(self, store: Store, holder: str) -> None:
        self._store = store
        self.holder = holder
        self._epoch: int | None = None
        self._others_lead = False  # as the last renewal told
        self._until = 0.0  # monotonic
        self._check_at = 0.0  # monotonic: when to see again what the user may write
        self._refused: tuple[str, ...] = ()
        self.problem: str | None = None  # why the store cannot be asked or written
        self.fault: QueuedeckError | None = None  # the same as it was raised

    @property
    def epoch(self) -> int | None:
        """Our fencing epoch while we lead and the lease has not run out; else None."""
        return self._epoch if monotonic_s() < self._until else None

    def renew_lease(self) -> int | None:
        """Take or renew the lead; the epoch when we have it. Never raises. Cost: 1 round trip."""
        asked = monotonic_s()
        try:
            self._check_rights()
            lease = self._store.take_lease(self.holder, LEASE_S)
        except QueuedeckError as exc:
            if self.problem != exc.message:
                log.warning("cannot ask for the lead: %s", exc.message)
            self.problem, self.fault = exc.message, exc
            return self.epoch
        self.problem = self.fault = None
        if lease.epoch != self._epoch:
            log.info("leading with epoch %s" if lease.epoch else "following %s", lease.epoch or lease.holder)
        self._note_others(lease)
        self._epoch, self._until = lease.epoch, asked + LEASE_S
        return self.epoch

    def _note_others(self, lease: Lease) -> None:
        """One line in the log when a process with other settings takes the lead."""
        _, _, own = self.holder.rpartition(".")
        others = lease.epoch is None and "." in self.holder and is_of_others(lease.holder.partition(":")[0], own)
        if others and not self._others_lead:
            log.warning(
                "%s leads with other settings on the same store: the rules of this process are not evaluated. Set "
                "another store_prefix for one of the two, or stop one.",
                lease.holder,
            )
        self._others_lead = others

    def _check_rights(self) -> None:
        """Raises Forbidden for a user who may take the lead, but not do all that a leader writes.

        Half of it would be worse than nothing: alerts that are stored and never sent. Cost: 1 round trip, once a minute
        while it is so, and once when not.
        """
        if monotonic_s() >= self._check_at:
            self._refused = self._store.refused_writes()
            self._check_at = monotonic_s() + RIGHTS_EVERY_S if self._refused else float("inf")
        if self._refused:
            raise self._store.not_writable(self._refused)

    def note_loss(self) -> None:
        """Note that the store refused our epoch."""
        self._epoch = None

    def release_lease(self) -> None:
        """Give the lead back, if we have it, so that another one need not wait for the lease to run out."""
        epoch, self._epoch = self.epoch, None
        if epoch is not None:
            try:
                self._store.release_lease(self.holder, epoch)
            except QueuedeckError as exc:
                log.info("the lead could not be given back: %s", exc.message)
