"""The words of the class list: how a class changed, why a figure is unknown, and links. Pure."""

from __future__ import annotations

from ....history.classes.changes import MIN_JOBS, ClassChange, ClassFigures, Regression
from ....history.classes.ranking import ClassKey
from ....history.classes.windows import CLASS_RANGES
from ....history.tiers import DAY_S
from ....units import format_percent

# A bucket of a stored run time is 10% wide: smaller changes cannot be distinguished.
SAME_RATIO = 1.15
RANGE_TITLES = {"1h": "1 hour", "24h": "24 hours"} | {
    name: f"{seconds // DAY_S} days" for name, seconds in CLASS_RANGES.items() if seconds > DAY_S
}


def class_range_title(name: str) -> str:
    """The words of a range of the class list."""
    return RANGE_TITLES[name]


def class_period(name: str) -> str:
    """A range of the class list in a sentence: "the last hour", "the 7 days before"."""
    return RANGE_TITLES[name].removeprefix("1 ")


def speed_text(change: ClassChange) -> str:
    """How the run time changed, such as "3.1x slower"; "" where that is not known."""
    ratio = change.slower_ratio
    if ratio is None:
        return ""
    if 1 / SAME_RATIO < ratio < SAME_RATIO:
        return "same"
    return f"{_times(ratio)}x slower" if ratio > 1 else f"{_times(1 / ratio)}x faster"


def errors_text(change: ClassChange) -> str:
    """How the error ratio changed, such as "+12 % errors", if the class fails more; "" otherwise."""
    if Regression.FAILING not in change.regressions or change.error_increase is None:
        return ""
    return f"errors +{format_percent(change.error_increase)}"


def why_no_change(now: ClassFigures | None, earlier: ClassFigures | None, *, is_stored: bool) -> str:
    """Why a change of run times is not known. `is_stored`: whether the earlier period is stored at all."""
    if not is_stored:
        return "the period before is not stored"
    for figures, period in ((now, "this period"), (earlier, "the period before")):
        if figures is None or not figures.finished:
            return f"no jobs in {period}"
        if not figures.timed:
            return f"no run times in {period}"
        if figures.timed < MIN_JOBS:
            return f"fewer than {MIN_JOBS} jobs in {period}"
    return "unknown"


def failed_jobs_query(key: ClassKey) -> str | None:
    """The search for the failed jobs of a class; None if its name cannot be part of a search."""
    names = [key.job_class, key.source, key.backend, *([key.queue] if key.queue not in (None, "*") else [])]
    if key.job_class.startswith("(") or not all(name and name.isprintable() and '"' not in name for name in names):
        return None
    queue = "" if key.queue in (None, "*") else f' queue:"{key.queue}"'
    return f'name:"{key.job_class}" state:dead library:"{key.backend}" source:"{key.source}"{queue}'


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
