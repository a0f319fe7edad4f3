"""Why no history is recorded at the moment, as pages say it. Pure."""

from __future__ import annotations

from ....model import HistoryProblem, Snapshot
from ....settings import Settings

NO_CHECKER = HistoryProblem(
    message="No checker is running.", hint='Run "queuedeck checker", or set checker = "auto" for the web processes.'
)


def find_recording_problem(snapshot: Snapshot | None, settings: Settings) -> HistoryProblem | None:
    """Why what `snapshot` has is not recorded; None if it is, if the settings say so, or if there is no sample yet."""
    if snapshot is None or not settings.history_max_bytes:
        return None
    if snapshot.samples_total is None and settings.checker == "off":
        return NO_CHECKER
    return snapshot.history_problem
