"""The headline of the wall board: never calmer than what is known."""

from __future__ import annotations

from dashboard.sampling.recent_history import History
from dashboard.sampling.snapshot_reader import CurrentSnapshot
from dashboard.units import format_duration
from dashboard.web.views.overview.wall_board import Headline, build_headline, round_age
from dashboard.web.views.problems.problem import Problem, ProblemKind, ProblemLevel, ReportedAlert

CALM = "No problems in 3 queues."


def problem(level: ProblemLevel, *, handled: bool = False) -> Problem:
    alert = ReportedAlert(fingerprint="f", since=1.0, threshold=None, status=None, handled=handled)
    return Problem(level=level, rank=(0.0, 0.0), kind=ProblemKind.LATENCY, describe=str, figure="", alert=alert)


CRITICAL, WARNING = problem(ProblemLevel.CRITICAL), problem(ProblemLevel.WARNING)
TAKEN = problem(ProblemLevel.CRITICAL, handled=True)


def headline(*problems: Problem, stale: bool = False, down: str | None = None, calm: str | None = None) -> Headline:
    return build_headline(CurrentSnapshot(None, History(), 1.0, stale), problems, down, calm)


def test_the_headline_counts_what_is_open() -> None:
    assert headline(calm=CALM) == Headline("ok", CALM)
    assert headline(CRITICAL) == Headline("critical", "1 critical problem")
    assert headline(WARNING, WARNING) == Headline("warning", "2 warnings")
    mixed = headline(*[CRITICAL] * 2, WARNING, TAKEN)
    assert mixed == Headline("critical", "2 critical problems, 1 warning", "1 acknowledged or silenced")
    assert headline(TAKEN) == Headline("handled", "1 problem, acknowledged or silenced")
    assert headline(TAKEN, TAKEN) == Headline("handled", "2 problems, all acknowledged or silenced")


def test_what_is_not_known_is_not_calm() -> None:
    assert headline(stale=True, calm=CALM) == Headline("unknown", "No new data")
    assert headline(down="Redis", calm=CALM) == Headline("critical", "Redis down")
    assert headline() == Headline("unknown", "No queues yet")


def test_ages_are_short_enough_for_their_column() -> None:
    ages = (None, 0, 59.5, 938, 35_999, 45_100, 400_000)
    assert [format_duration(round_age(age)) for age in ages] == [
        *("–", "0 s", "1 m", "15 m", "9 h 59 m", "12 h", "4 d 15 h"),
    ]
