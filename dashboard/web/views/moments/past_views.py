"""What was recorded as of a moment: read once for all viewers of a process, since the past does not change."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple

from ....alerts.management.past_alerts import PastAlert, PastAlerts
from ....errors import BackendUnavailable, Forbidden
from ....history.past.past_reader import KnownNow, PastReader, PastView, Place
from ....history.past.past_window import PastWindow, choose_window
from ....history.series_keys import SeriesKey
from ....history.tiers import written_within_s
from ....services import Services
from ....store.cache import SingleFlightCache
from ..charts.chart_marks import concerns
from ..overview.overview_data import OverviewData
from ..problems.problem_list import AlertFacts
from ..problems.thresholds import Thresholds
from .moment import Moment

# An overview of a thousand queues takes about 1 MB.
MAX_VIEWS = 8
# Queues that were deleted meanwhile are named within this time.
KEPT_S = 300.0
# The last slots can still become complete, as long as that after their end.
COMPLETE_AFTER_S = 60.0
RENEWED_S = 5.0
WAIT_S = 15.0
NOT_OURS = "a dashboard with other settings evaluates the rules."


class FiringThen(NamedTuple):
    """The alerts that were firing at a moment, worst first; `problem`: why they cannot be read."""

    alerts: tuple[PastAlert, ...] = ()
    goes_back_to: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class PastOverview:
    """What was recorded of all queues as of a moment, and the figures of the overview made from it. The levels are
    those of the thresholds of now."""

    view: PastView
    overview: OverviewData


class PastViews:
    """The past, as the pages of one process show it. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._within_s = written_within_s(services.settings.sample_interval_s)
        self._reader = PastReader(services.store, self._within_s)
        self._views: SingleFlightCache[PastOverview] = SingleFlightCache(KEPT_S, max_entries=MAX_VIEWS)
        self._turn = threading.Lock()  # one moment is read at a time: others would only slow it and the checker down

    def window_of(self, moment: Moment) -> PastWindow:
        """The slots that show the moment."""
        return choose_window(moment.at_s, moment.now_s, self._within_s)

    def overview(self, moment: Moment, thresholds: Thresholds) -> PastOverview:
        """All queues as of the moment. Raises Forbidden, BackendUnavailable, also if others take longer than WAIT_S.

        Cost: mostly none, else as PastReader.read_view.
        """
        window = self.window_of(moment)

        def read() -> PastOverview:
            if not self._turn.acquire(timeout=WAIT_S):
                message, hint = "Other moments are being read.", "Try again in a moment."
                raise BackendUnavailable(message, source="", reason="busy", hint=hint)
            try:
                view = self._reader.read_view(moment.at_s, moment.now_s, self._known_now())
                return PastOverview(view, OverviewData(view.snapshot, view.history, AlertFacts(thresholds)))
            finally:
                self._turn.release()

        version = _version_of(window, moment.now_s, self._services.settings.sample_interval_s)
        return self._views.get(window, read, (version, id(thresholds)))

    def queue(self, place: Place, moment: Moment) -> PastView:
        """One queue as of the moment. Raises BackendUnavailable, Forbidden. Cost: as PastReader.read_queue."""
        return self._reader.read_queue(place, moment.at_s, moment.now_s, self._known_now())

    def firing(self, moment: Moment, about: SeriesKey | None = None) -> FiringThen:
        """The alerts that were firing at the moment; with `about`, those about a queue, its library or its Redis.

        Cost: as PastAlertReader.firing_at.
        """
        try:
            found: PastAlerts = self._services.alert_service.past_alerts.firing_at(moment.at_s)
        except (BackendUnavailable, Forbidden) as exc:
            return FiringThen(problem=exc.message)
        if not found.is_ours:
            return FiringThen(problem=NOT_OURS)
        shown = (alert for alert in found.incidents if about is None or concerns(alert.entry.labels, about))
        return FiringThen(tuple(shown), None if found.is_complete else found.goes_back_to)

    def _known_now(self) -> KnownNow:
        sources, snapshot = self._services.sources, self._services.snapshots.current().snapshot
        return KnownNow(
            addresses={name: source.address for name, source in sources.sources.items()},
            libraries={(name, backend.name) for name, group in sources.backends.items() for backend in group},
            queues={(each.source, each.backend, each.name): each for each in snapshot.queues} if snapshot else {},
        )


def _version_of(window: PastWindow, now_s: float, interval_s: float) -> int:
    """0 once the slots of the window are complete; until then it changes every RENEWED_S."""
    complete_after_s = max(COMPLETE_AFTER_S, 2 * interval_s)  # they are stored with the next sample
    return 0 if now_s - window.end_s > complete_after_s else int(now_s // RENEWED_S)
