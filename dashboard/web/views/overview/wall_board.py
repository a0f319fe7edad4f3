"""The wall board's headline: whether it is bad, in words that can be read across a room. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....sampling.snapshot_reader import CurrentSnapshot
from ....units import format_count, format_number
from ..problems.problem import Problem, ProblemLevel

MAX_PROBLEMS = 5
# More than fit on a large screen: those that do not fit are cut off.
MAX_QUEUES = 24


@dataclass(frozen=True, slots=True)
class Headline:
    """`level`: critical, warning, handled (all problems acknowledged or silenced), ok, or unknown. `note`: in smaller
    type, how many other problems are handled."""

    level: str
    text: str
    note: str = ""


def build_headline(
    current: CurrentSnapshot, problems: Sequence[Problem], down: str | None, calm_text: str | None
) -> Headline:
    """The headline; `down` names the Redis that cannot be read, `calm_text` says that there are no problems."""
    if current.stale:
        return Headline("unknown", "No new data")
    if down is not None:
        return Headline("critical", f"{down} down")
    if not problems:
        return Headline("ok", calm_text) if calm_text is not None else Headline("unknown", "No queues yet")
    unhandled = [problem for problem in problems if problem.alert is None or not problem.alert.handled]
    if not unhandled:
        count = len(problems)
        every = "all " if count > 1 else ""
        return Headline("handled", f"{format_count(count, 'problem')}, {every}acknowledged or silenced")
    critical = sum(problem.level is ProblemLevel.CRITICAL for problem in unhandled)
    warnings = len(unhandled) - critical
    parts = [format_count(critical, "critical problem")] if critical else []
    parts += [format_count(warnings, "warning")] if warnings else []
    handled = len(problems) - len(unhandled)
    note = f"{format_number(handled)} acknowledged or silenced" if handled else ""
    return Headline("critical" if critical else "warning", ", ".join(parts), note)


def round_age(seconds: float | None) -> float | None:
    """An age for the narrow column of the wall board: from a minute on in whole minutes, from ten hours on in whole
    hours."""
    if seconds is None or seconds < 60:
        return seconds
    step_s = 60 if seconds < 36_000 else 3600
    return seconds // step_s * step_s
