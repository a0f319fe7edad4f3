"""Whether the checker evaluates alerts."""

from __future__ import annotations

from dataclasses import dataclass

from ...store.redis_store import AHEAD_S
from ..store import AlertStore
from ..stored_values import CheckerBeat
from .ownership import AlertOwnership

# The checker is unhealthy after this many intervals without a completed evaluation.
LATE_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class CheckerHealth:
    """Whether alerting works; `age_s` = since the last completed evaluation, None without one in the last day."""

    ok: bool
    age_s: float | None
    holder: str | None
    delivers: bool | None


class CheckerMonitor:
    """Reads the heartbeat of the checker."""

    def __init__(self, alert_store: AlertStore, sample_interval_s: float, ownership: AlertOwnership) -> None:
        self._alert_store = alert_store
        self._sample_interval_s = sample_interval_s
        self._ownership = ownership

    def read_health(self) -> CheckerHealth:
        """For `/healthz/checker`: healthy while the last completed evaluation is younger than three intervals, and not
        while a dashboard with other settings evaluates. Cost: 1 round trip."""
        if self._ownership.conflict is not None:
            return CheckerHealth(ok=False, age_s=None, holder=None, delivers=None)
        now, beat = self._alert_store.read_heartbeat()
        if self._ownership.is_foreign(beat):
            beat = None
        return health_from_beat(now, beat, self._sample_interval_s)


def health_from_beat(now: float, beat: CheckerBeat | None, interval_s: float) -> CheckerHealth:
    """The health that a heartbeat shows at an instant of the store's clock."""
    if beat is None:
        return CheckerHealth(ok=False, age_s=None, holder=None, delivers=None)
    age_s = max(0.0, now - beat.at)
    if beat.at - now > AHEAD_S:  # not a time of this store, so its age is unknown
        return CheckerHealth(ok=False, age_s=None, holder=beat.holder, delivers=beat.delivers)
    return CheckerHealth(age_s <= LATE_INTERVALS * interval_s, age_s, beat.holder, beat.delivers)
