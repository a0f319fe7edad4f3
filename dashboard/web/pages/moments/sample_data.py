"""Whether a page shows the sample data of a demo."""

from __future__ import annotations

from collections.abc import Iterable

from ....alerts.management.alert_reader import FoldedIncidents
from ...context import app_context


def sample_end_after(begin_s: float) -> int | None:
    """When the sample data ends that a page shows whose figures begin at `begin_s`; both in seconds since 1970.

    None if it shows none, or while that cannot be read. Cost: as PageCaches.sample_end.
    """
    end_s = app_context().caches.sample_end()
    return end_s if end_s is not None and end_s > begin_s else None


def sample_end_of(history: Iterable[FoldedIncidents]) -> int | None:
    """As `sample_end_after`, for a page that lists incidents; None without any."""
    oldest_s = min((entry.newest.known.at for entry in history), default=None)
    return None if oldest_s is None else sample_end_after(oldest_s)
