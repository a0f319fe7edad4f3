"""What a process knows of the alert states in the store, to write only changes and to restore what the store loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..clock import monotonic_s
from ..redact import masked_logger
from .evaluation.evaluation_run import Transition
from .evaluation.state_machine import AlertState
from .notification import QueuedNotification, build_history_entry
from .store import AlertStore
from .stored_values import EvaluationInputs, StoredStates

log = masked_logger(__name__)

# A state of which only the value changes is written this often; significant changes are written immediately.
WRITE_EVERY_S = 10.0
MAX_UNCONFIRMED = 5000


class KnownStates:
    """The states as last read or written, and the notifications that may not have been delivered yet."""

    def __init__(self, store: AlertStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._written: dict[str, float] = {}  # monotonic, by fingerprint
        self.stored: StoredStates | None = None
        self.unconfirmed: dict[str, QueuedNotification] = {}

    @property
    def states(self) -> Mapping[str, AlertState]:
        """The last known states, by fingerprint."""
        return self.stored.states if self.stored else {}

    def forget_writes(self) -> None:
        """Write every state again at its next evaluation."""
        self._written.clear()

    def forget_confirmed(self, inputs: EvaluationInputs) -> None:
        """Drop notifications that are no longer unsent: they were delivered or given up."""
        if self.unconfirmed and len(inputs.unsent) < 1000:
            self.unconfirmed = {name: queued for name, queued in self.unconfirmed.items() if name in inputs.unsent}

    def write_transitions(
        self, lead: str, transitions: Sequence[Transition], queued_notifications: Sequence[QueuedNotification]
    ) -> None:
        """Write what the transitions of an evaluation changed, and their notifications.

        Raises StaleRevision, DataGone, LostLead. Cost: 1 round trip per 200 alerts that change, none without changes.
        """
        known = self.stored
        assert known is not None
        now = monotonic_s()
        states: dict[str, tuple[AlertState | None, int]] = {}
        entries = []
        for transition in transitions:
            fingerprint = transition.after.fingerprint
            entries += [build_history_entry(transition.after, change) for change in transition.changes]
            if (
                transition.is_significant
                or not transition.after.is_worth_storing
                or now - self._written.get(fingerprint, -1e9) >= WRITE_EVERY_S
            ):
                stored = transition.after if transition.after.is_worth_storing else None
                if stored is not None or fingerprint in known.revisions:
                    states[fingerprint] = (
                        stored,
                        known.revisions.get(fingerprint, known.unreadable.get(fingerprint, 0)),
                    )
        for fingerprint, revision in known.unreadable.items():
            states.setdefault(fingerprint, (None, revision))
        if states or queued_notifications or entries:
            self._store.commit_states(lead, known.born, states, entries, queued_notifications)
        if known.unreadable:
            names = sorted(known.unreadable)
            log.warning("reset %d unreadable alert states: %s", len(names), ", ".join(names[:10]))
            known.unreadable.clear()
        self._update_known(transitions, states, queued_notifications, now)

    def _update_known(
        self,
        transitions: Sequence[Transition],
        written: Mapping[str, tuple[AlertState | None, int]],
        queued_notifications: Sequence[QueuedNotification],
        now: float,
    ) -> None:
        known = self.stored
        assert known is not None
        for transition in transitions:
            if transition.after.is_worth_storing:
                known.states[transition.after.fingerprint] = transition.after
            else:
                known.states.pop(transition.after.fingerprint, None)
                known.revisions.pop(transition.after.fingerprint, None)
                self._written.pop(transition.after.fingerprint, None)
        for fingerprint, (state, revision) in written.items():
            if state is not None:
                known.revisions[fingerprint] = revision + 1
                self._written[fingerprint] = now
        for queued in queued_notifications:
            if len(self.unconfirmed) < MAX_UNCONFIRMED:
                self.unconfirmed[queued.id] = queued
        if queued_notifications:
            self._wake()
