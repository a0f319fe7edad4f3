"""Whether the alerts of a store are those of this dashboard's settings."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import Conflict
from ...sampling.leadership import has_other_settings
from ..stored_values import CheckerBeat


def build_ownership_conflict() -> Conflict:
    """The Conflict raised while a dashboard with other settings leads on the same store: these alerts are not ours."""
    return Conflict(
        "Another dashboard with other settings evaluates the rules.",
        hint="Give one of them its own store_prefix, or give both the same settings.",
    )


class AlertOwnership:
    """Whether a dashboard with other settings evaluates alerts on the same store.

    Its alerts, rules, silences and deliveries are then not returned as ours, and every change raises Conflict.
    """

    def __init__(self, is_elsewhere: Callable[[], bool] = lambda: False, settings_digest: str = "") -> None:
        """`is_elsewhere`: whether it does so now. `settings_digest` of this process: what a dashboard with other
        settings evaluated before it stopped is not ours either."""
        self._is_elsewhere = is_elsewhere
        self._settings_digest = settings_digest

    @property
    def conflict(self) -> Conflict | None:
        """The Conflict while another dashboard owns the alerts of this store; None otherwise. Cost: none."""
        return build_ownership_conflict() if self._is_elsewhere() else None

    def check(self) -> None:
        """Raise Conflict while another dashboard owns the alerts."""
        if (problem := self.conflict) is not None:
            raise problem

    def is_foreign(self, beat: CheckerBeat | None) -> bool:
        """Whether this heartbeat is that of a checker with other settings."""
        return beat is not None and has_other_settings(beat.holder, self._settings_digest)
