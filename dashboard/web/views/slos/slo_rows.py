"""The objectives as pages show them: a level, figures as text, and why a figure is unknown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ....globs import is_glob, is_plain
from ....history.tiers import DAY_S
from ....model import QueueStats
from ....settings import SloSettings
from ....settings.slos import covers_queue
from ....slos.slo_report import SloStatus
from ....slos.wording import describe_lacking
from ....units import format_duration, format_number
from ..problems.problem import ProblemLevel

# Below this share of the budget, the page says so.
LOW_BUDGET = 0.25
MAX_QUEUES = 12


@dataclass(frozen=True, slots=True)
class SloRow:
    """One objective. `why`: why its figures are unknown, or what they leave out; "" if there is nothing to say."""

    status: SloStatus
    level: ProblemLevel | None  # None: unknown
    state: str
    why: str

    @property
    def slo(self) -> SloSettings:
        """Its definition."""
        return self.status.slo

    @property
    def budget_bar(self) -> float:
        """How much of the bar of the budget is filled, 0 to 1."""
        return min(1.0, max(0.0, self.status.budget_left_ratio or 0.0))


def build_rows(statuses: Iterable[SloStatus], titles: Mapping[str, str], now_s: float) -> list[SloRow]:
    """The rows, the worst first, then in the order of the settings. `titles`: of libraries, by name."""
    rows = [build_row(status, titles, now_s) for status in statuses]
    return sorted(rows, key=lambda row: -(row.level or 0))


def build_row(status: SloStatus, titles: Mapping[str, str], now_s: float) -> SloRow:
    """One objective as a row."""
    left = status.budget_left_ratio
    if left is None:
        return SloRow(status, None, "unknown" if status.is_unknown else "no figures", explain_unknown(status, titles))
    why = " ".join(
        filter(None, (_explain_age(status, now_s), _explain_short(status), explain_left_out(status, titles)))
    )
    if left <= 0:
        return SloRow(status, ProblemLevel.CRITICAL, "missed", why)
    burns = any((status.burn_rate(window) or 0) > 1 for window in ("6h", "3d"))
    if left < LOW_BUDGET or burns:
        return SloRow(status, ProblemLevel.WARNING, "at risk", why)
    return SloRow(status, ProblemLevel.OK, "met", why)


def explain_unknown(status: SloStatus, titles: Mapping[str, str]) -> str:
    """Why nothing is known of an objective."""
    if status.report is None:
        return "Not counted yet: the checker that leads counts its jobs, first those of the history."
    if status.is_unknown:
        return f"Unknown for these queues: {_lacking_text(status, titles)}."
    return f"No jobs in the last {format_duration(status.slo.window_s)}."


def explain_left_out(status: SloStatus, titles: Mapping[str, str]) -> str:
    """Which queues are not counted although the objective covers them; "" if all are."""
    report = status.report
    if report is None or not report.unknown_count:
        return ""
    count = f"{format_number(report.unknown_count)} queue{'' if report.unknown_count == 1 else 's'}"
    return f"Without {count}: {_lacking_text(status, titles)}."


def _lacking_text(status: SloStatus, titles: Mapping[str, str]) -> str:
    report = status.report
    backends = dict.fromkeys(queue.backend for queue in report.unknown) if report is not None else {}
    names = " and ".join(titles.get(name, name) for name in backends) or "the library"
    verb = "does" if len(backends) < 2 else "do"
    return f"{names} {verb} not report {describe_lacking(status.slo)}"


def _explain_age(status: SloStatus, now_s: float) -> str:
    if status.report is None or status.is_current(now_s):
        return ""
    return f"Counted {format_duration(max(0.0, now_s - status.report.at))} ago: no checker counts now."


def _explain_short(status: SloStatus) -> str:
    """How far back its jobs go, if that is less than the window."""
    report = status.report
    if report is None or report.since_s is None:
        return ""
    known_s = report.at - report.since_s
    if status.slo.window_s - known_s < DAY_S / 4:
        return ""
    return f"Counts {format_duration(known_s)} so far."


def covered_queues(slo: SloSettings, queues: Sequence[QueueStats]) -> list[QueueStats]:
    """The queues of a sample that an objective is about."""
    return [queue for queue in queues if covers_queue(slo, queue.source, queue.backend, queue.name)]


def plain_queue(slo: SloSettings) -> str | None:
    """The only queue that an objective names; None if it covers several."""
    only = slo.queues[0] if len(slo.queues) == 1 else ""
    return only if only and is_glob(only) and is_plain(only) else None
