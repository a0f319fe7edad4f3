"""Whether a page in the past shows the sample data of a demo."""

from __future__ import annotations

from ....errors import BackendUnavailable, Forbidden
from ...context import app_services
from ...views.moments.moment import Moment


def sample_end_after(moment: Moment) -> int | None:
    """When the sample data ends that the page shows, in seconds since 1970; None if it shows none, or while that cannot
    be read. Cost: 1 round trip."""
    try:
        end_s = app_services().history.read_sample_end()
    except (BackendUnavailable, Forbidden):
        return None  # the page says so
    return end_s if end_s is not None and end_s > moment.at_s else None
